"""Refusals by the thousand: some have a line each, the others are counted."""

import asyncio
import logging

import grpc
import pytest

from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.line_budget import LINES, LineBudget
from assetlane_server.telemetry.metrics import Metrics

LOG = logging.getLogger("assetlane_server.calls")


async def test_what_is_left_out_is_counted_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """For each reason by itself; the next window begins again."""
    budget = LineBudget(LOG, lines=3, window_s=0.05)
    assert [budget.allows("A") for _ in range(5)] == [True] * 3 + [False] * 2
    assert budget.allows("B")
    async with asyncio.timeout(30):
        while "more calls" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (line,) = [record for record in caplog.records if "more calls" in record.getMessage()]
    assert line.getMessage() == "2 more calls ended with A within 0.05 s"
    assert (line.reason, line.count) == ("A", 2)  # type: ignore[attr-defined]
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
    lines = [record for record in caplog.records if record.getMessage() == "call ended"]
    assert len(lines) == (LINES if is_limited else 200)
    labels = {"method": "UploadService/GetUpload", "code": code.name}
    assert metrics.registry.get_sample_value("assetlane_calls_total", labels) == 200
