"""Refusals by the thousand: some have a line each, the others are counted."""

import logging

import grpc
import pytest
from tests.log_events import logged, seen
from tests.refusals import numbers_in

from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.line_budget import LINES, LineBudget
from assetlane_server.telemetry.metrics import Metrics

LOG = logging.getLogger("assetlane_server.calls")


async def test_what_is_left_out_is_counted_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """For each reason by itself; the next window begins again."""
    budget = LineBudget(LOG, lines=3, window_s=0.05)
    assert [budget.allows("A") for _ in range(5)] == [True] * 3 + [False] * 2
    assert budget.allows("B")
    await seen(caplog, "CALLS_NOT_LOGGED")
    (line,) = logged(caplog, "CALLS_NOT_LOGGED")
    assert (line.reason, line.count) == ("A", 2)
    assert numbers_in(line.getMessage()) == {2, 0.05}
    assert budget.allows("A")


@pytest.mark.parametrize(
    ("code", "is_limited"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, True),
        (grpc.StatusCode.UNAUTHENTICATED, True),
        (grpc.StatusCode.INTERNAL, False),
        (grpc.StatusCode.INVALID_ARGUMENT, False),
    ],
)
async def test_refusals_are_limited_in_the_log_and_all_counted(
    code: grpc.StatusCode, is_limited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What a stranger can cause without end does not fill the disk; faults all have their line."""
    metrics = Metrics()
    instruments = Instruments(metrics, None)
    caplog.set_level(logging.INFO)
    for _ in range(200):
        instruments.began("/assetlane.v1.UploadService/GetUpload", (), is_watch=False).ended(code, "WHY")
    lines = [record for record in caplog.records if getattr(record, "event_code", "") == "CALL_ENDED"]
    assert len(lines) == (LINES if is_limited else 200)
    labels = {"method": "UploadService/GetUpload", "code": code.name}
    assert metrics.registry.get_sample_value("assetlane_calls_total", labels) == 200
