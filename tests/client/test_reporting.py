"""How an upload reports its progress to others."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial

import grpc
import pytest
from tests.client.lane_server import Fault, LaneServer
from tests.client.object_store import ObjectStore

from assetlane import Client, PreconditionFailed, ProgressEvent, StatusEvent, Unavailable, UploadStatus, reporting
from assetlane.reporting import Reporter
from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import RequestUploadRequest

LIMIT_S = 60.0


pytestmark = pytest.mark.timeout(20)

BODY = b"hello"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets reports come at once."""
    monkeypatch.setattr(reporting, "QUIET", 0.0)
    monkeypatch.setattr(reporting, "INTERVAL", 0.0)


class ReportServer:
    """Takes reports when it is let to; `errors` holds what to answer with first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.reports: list[dict[str, int]] = []
        self.open = asyncio.Event()
        self.came = asyncio.Event()

    async def report_progress(self, upload_id: str, sent_bytes: Mapping[str, int]) -> None:
        """Keeps a report."""
        self.reports.append(dict(sent_bytes))
        self.came.set()
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)


async def next_report(report_server: ReportServer) -> dict[str, int]:
    """Waits for one more report."""
    async with asyncio.timeout(LIMIT_S):
        await report_server.came.wait()
    report_server.came.clear()
    return report_server.reports[-1]


@pytest.mark.usefixtures("eager")
async def test_of_many_steps_only_the_newest_is_reported() -> None:
    """While one report is on its way the others merge."""
    report_server = ReportServer()
    reporter = Reporter(partial(report_server.report_progress, "U1"), "U1")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reporter.run())
        reporter.sent("original", 1)
        assert await next_report(report_server) == {"original": 1}
        for sent_bytes in range(2, 100):
            reporter.sent("original", sent_bytes)
        reporter.sent("small", 7)
        report_server.open.set()
        assert await next_report(report_server) == {"original": 99, "small": 7}
        task.cancel()
    assert len(report_server.reports) == 2


@pytest.mark.usefixtures("eager")
async def test_a_report_that_fails_is_forgotten_and_a_refused_one_is_the_last() -> None:
    """Unavailable passes; what a repeat would only meet again ends the reports, and nothing else."""
    report_server = ReportServer(Unavailable("later"), PreconditionFailed("too late"))
    report_server.open.set()
    reporter = Reporter(partial(report_server.report_progress, "U1"), "U1")
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        group.create_task(reporter.run())
        for sent_bytes in (1, 2):
            reporter.sent("original", sent_bytes)
            assert await next_report(report_server) == {"original": sent_bytes}


@pytest.mark.usefixtures("eager")
async def test_other_watchers_see_what_an_upload_sends(lane: Client, server: LaneServer, store: ObjectStore) -> None:
    """Who asks for progress gets it between the statuses; who does not gets statuses alone."""
    store.stall, server.gate = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        uploading = group.create_task(lane.upload(BODY, file_path="a.txt"))
        async with server.changed:
            await server.changed.wait_for(lambda: server.uploads)
        upload_id = next(iter(server.uploads))
        async with aclosing(lane.watch_upload(upload_id, progress=True)) as events:
            received = [await anext(events) for _ in range(2)]
            server.gate.set()
            received.append(await anext(events))
            store.stall.set()
            received += [event async for event in events]
    assert uploading.result().asset_id == upload_id
    statuses = [event.upload.status for event in received if isinstance(event, StatusEvent)]
    progress = [event for event in received if isinstance(event, ProgressEvent)]
    assert [UploadStatus.Name(status) for status in statuses][-1] == "UPLOAD_STATUS_COMPLETED"
    assert len(statuses) == 4
    assert [(event.upload_id, event.sent_bytes) for event in progress] == [(upload_id, len(BODY))]
    assert server.called("ReportProgress")[0].sent_bytes == {"original": len(BODY)}
    plain = [event async for event in lane.watch_upload(upload_id)]
    assert [event.upload.revision for event in plain] == [1, 2, 3, 4]


async def test_an_upload_that_is_over_at_once_reports_nothing(
    lane: Client, server: LaneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A while passes before anything is reported, however slow the machine that runs this."""
    monkeypatch.setattr(reporting, "QUIET", 60.0)
    await lane.upload(BODY, file_path="a.txt")
    assert server.called("ReportProgress") == []


@pytest.mark.usefixtures("eager")
async def test_a_server_that_refuses_reports_is_no_obstacle(
    lane: Client, server: LaneServer, store: ObjectStore
) -> None:
    """The upload succeeds although every report fails."""
    store.stall = asyncio.Event()
    server.faults["ReportProgress"].append(Fault(grpc.StatusCode.UNIMPLEMENTED))
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        uploading = group.create_task(lane.upload(BODY, file_path="a.txt"))
        await store.reached.wait()
        async with server.changed:
            await server.changed.wait_for(lambda: server.called("ReportProgress"))
        store.stall.set()
    assert uploading.result().file_path == "a.txt"


@pytest.mark.usefixtures("eager")
async def test_progress_of_a_session_comes_with_its_statuses(lane: Client, server: LaneServer) -> None:
    """`watch_session` widens in the same way."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=len(BODY))
    request = RequestUploadRequest(file_path="a.txt", variants=[promise])
    upload_id = (await lane.request_upload(request)).upload.upload_id
    async with asyncio.timeout(LIMIT_S), aclosing(lane.watch_session(progress=True)) as events:
        received = [await anext(events) for _ in range(2)]
        await lane.report_progress(upload_id, {"original": 3})
        received.append(await anext(events))
        server.put(upload_id, BODY)
        await server.complete(upload_id)
        received += [await anext(events) for _ in range(2)]
    kinds = [type(event) for event in received]
    assert kinds == [StatusEvent, StatusEvent, ProgressEvent, StatusEvent, StatusEvent]
