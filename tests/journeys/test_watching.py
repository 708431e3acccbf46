"""What a watcher is promised, on bare stubs."""

import asyncio

import aiohttp
import grpc
import pytest
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, put, request_for
from tests.servers import served

from assetlane.v1.upload_pb2 import UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    ProgressStage,
    ReportProgressRequest,
    StatusEvent,
    WatchUploadRequest,
    WatchUploadResponse,
)
from assetlane_server.config.settings import Settings

LIMIT_S = 20.0


async def revisions(stubs: Stubs, upload_id: str, after_revision: int = 0) -> list[int]:
    """Watches one upload to its end."""
    watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id, after_revision=after_revision))
    return [event.status.upload.revision async for event in watch]


async def cancelled(stubs: Stubs) -> str:
    """Returns an upload that has gone through three revisions."""
    upload_id = (await stubs.uploads.RequestUpload(request_for())).upload.upload_id
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id))
    return upload_id


async def test_a_watch_after_the_end_sends_the_whole_history(stubs: Stubs) -> None:
    """Every change from the first, then OK."""
    assert await revisions(stubs, await cancelled(stubs)) == [1, 2, 3]


@pytest.mark.parametrize(("after_revision", "following"), [(1, [2, 3]), (2, [3]), (3, [])])
async def test_a_watch_resumes_after_what_was_seen(stubs: Stubs, after_revision: int, following: list[int]) -> None:
    """Nothing again, nothing left out; what saw the end ends at once."""
    assert await revisions(stubs, await cancelled(stubs), after_revision) == following


BAD = [
    (WatchUploadRequest(upload_id="missing"), grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND"),
    (WatchUploadRequest(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (WatchUploadRequest(upload_id=""), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (WatchUploadRequest(session_id=""), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (WatchUploadRequest(upload_id="x", after_revision=-1), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
]


@pytest.mark.parametrize(("request_", "code", "reason"), BAD)
async def test_a_bad_watch_gets_its_reason(
    stubs: Stubs, request_: WatchUploadRequest, code: grpc.StatusCode, reason: str
) -> None:
    """A watch that cannot be is refused at once."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.WatchUpload(request_).read()
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (code, reason)


async def test_a_revision_from_the_future_is_out_of_range(stubs: Stubs) -> None:
    """A caller that mixed up its uploads gets an error, it is not left waiting."""
    upload_id = (await stubs.uploads.RequestUpload(request_for())).upload.upload_id
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await revisions(stubs, upload_id, 3)
    assert RpcFailure(failed.value).reason == "REVISION_AHEAD"


async def next_status(watch: "grpc.aio.UnaryStreamCall[WatchUploadRequest, WatchUploadResponse]") -> StatusEvent:
    """Returns the next status event."""
    async with asyncio.timeout(LIMIT_S):
        async for event in watch:
            if event.HasField("status"):
                return event.status
    raise AssertionError("the watch ended")


async def test_a_session_watch_includes_uploads_requested_later(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Each upload's changes in order, before and after the watch began; other sessions never."""
    early = (await stubs.uploads.RequestUpload(request_for(session_id="phone"))).upload.upload_id
    await stubs.uploads.RequestUpload(request_for(session_id="tablet"))
    watch = stubs.uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
    seen = [await next_status(watch) for _ in range(2)]
    late = await stubs.uploads.RequestUpload(request_for(session_id="phone"))
    await put(web, late.write_targets[0])
    await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=late.upload.upload_id))
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=early))
    seen += [await next_status(watch) for _ in range(5)]
    watch.cancel()
    order = [(event.upload.upload_id, event.upload.revision) for event in seen]
    assert [revision for upload_id, revision in order if upload_id == early] == [1, 2, 3]
    assert [revision for upload_id, revision in order if upload_id == late.upload.upload_id] == [1, 2, 3, 4]

    resumed = stubs.uploads.WatchUpload(
        WatchUploadRequest(session_id="phone", after_revisions={early: 3, late.upload.upload_id: 3})
    )
    event = await next_status(resumed)
    assert (event.upload.upload_id, event.upload.revision) == (late.upload.upload_id, 4)
    resumed.cancel()


async def test_a_silent_watch_shows_that_it_is_alive(settings: Settings) -> None:
    """A heartbeat comes when nothing else does."""
    kinds: list[str | None] = []
    quick = settings.model_copy(update={"heartbeat_seconds": 0.1})
    async with served(quick) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        upload_id = (await stubs.uploads.RequestUpload(request_for())).upload.upload_id
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id, after_revision=2))
        async with asyncio.timeout(LIMIT_S):
            async for event in watch:
                kinds.append(event.WhichOneof("event"))
                if len(kinds) == 3:
                    break
        watch.cancel()
    assert kinds == ["heartbeat"] * 3


async def test_a_change_made_at_one_server_reaches_a_watcher_of_another(settings: Settings, stubs: Stubs) -> None:
    """MongoDB is what servers share."""
    async with served(settings) as other, grpc.aio.insecure_channel(other) as channel:
        upload_id = (await stubs.uploads.RequestUpload(request_for())).upload.upload_id
        watch = Stubs.on(channel).uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id, after_revision=2))
        watching = asyncio.create_task(next_status(watch))
        await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id))
        assert (await watching).upload.status == UploadStatus.UPLOAD_STATUS_CANCELLED


async def test_a_draining_server_asks_its_watchers_to_reconnect(settings: Settings) -> None:
    """UNAVAILABLE, SHUTTING_DOWN; the watch goes on at the next server where it stopped."""
    async with served(settings) as target:
        channel = grpc.aio.insecure_channel(target)
        stubs = Stubs.on(channel)
        upload_id = (await stubs.uploads.RequestUpload(request_for())).upload.upload_id
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id))
        assert [(await next_status(watch)).upload.revision for _ in range(2)] == [1, 2]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await next_status(watch)
    await channel.close()
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id))
        assert await revisions(stubs, upload_id, after_revision=2) == [3]


async def test_progress_reaches_a_watcher_of_another_server(settings: Settings, stubs: Stubs) -> None:
    """Bytes per variant and overall, for upload and session; the status changes stay complete."""
    bodies = {"original": b"x" * 100, "small": b"x" * 10}
    upload = (await stubs.uploads.RequestUpload(request_for(bodies, session_id="phone"))).upload
    async with served(settings) as other, grpc.aio.insecure_channel(other) as channel:
        elsewhere = Stubs.on(channel).uploads
        for request in (
            WatchUploadRequest(upload_id=upload.upload_id, after_revision=2),
            WatchUploadRequest(session_id="phone", after_revisions={upload.upload_id: 2}),
        ):
            watch = elsewhere.WatchUpload(request)
            seen = []
            async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(report_until_cancelled(stubs, upload.upload_id))
                async for event in watch:
                    if event.HasField("progress"):
                        seen.append(event.progress)
                        break
                reporting.cancel()
            watch.cancel()
            assert [(one.variant, one.sent_bytes, one.size_bytes) for one in seen[0].variants] == [
                ("original", 40, 100),
                ("small", 0, 10),
            ]
            assert (seen[0].sent_bytes, seen[0].size_bytes) == (40, 110)
            assert seen[0].stage == ProgressStage.PROGRESS_STAGE_UPLOADING


async def report_until_cancelled(stubs: Stubs, upload_id: str) -> None:
    """Reports again and again: progress from before a watch began is not sent."""
    while True:
        await stubs.uploads.ReportProgress(ReportProgressRequest(upload_id=upload_id, sent_bytes={"original": 40}))


async def test_progress_of_an_upload_that_is_over_is_refused(stubs: Stubs) -> None:
    """And so is that of none."""
    upload_id = await cancelled(stubs)
    for wrong, reason in [(upload_id, "UPLOAD_CANCELLED"), ("missing", "UPLOAD_NOT_FOUND")]:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stubs.uploads.ReportProgress(ReportProgressRequest(upload_id=wrong))
        assert RpcFailure(failed.value).reason == reason
