"""`assetlane watch`, as a process of its own."""

import asyncio
import json
import os
import pty
import signal

import pytest
from tests.client.server_under_test import ServerUnderTest
from tests.commands import COMMAND, environment, finished, ran, started

from assetlane import (
    Asset,
    AssetChange,
    AssetVariant,
    Client,
    RequestUploadRequest,
    UploadFailed,
    VariantPromise,
    WatchAssetsResponse,
)
from assetlane.v1.asset_service_pb2 import AssetDeletedEvent, AssetEvent, SyncedEvent

pytestmark = pytest.mark.timeout(60)


async def test_a_watch_prints_each_status(server: ServerUnderTest, client: Client) -> None:
    """An upload is followed to its end, as lines or as JSON; the exit code says how it went."""
    asset = await client.upload(b"hello", file_path="a.txt")
    lines = (await ran(server.target, "watch", asset.asset_id)).lines
    assert [line.split("  ")[1:] for line in lines] == [
        [asset.asset_id, status] for status in ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED")
    ]
    as_json = await ran(server.target, "watch", asset.asset_id, "--json")
    events = [json.loads(line)["upload"] for line in as_json.lines]
    assert [(event["revision"], event["status"]) for event in events][-1] == (4, "UPLOAD_STATUS_COMPLETED")
    assert as_json.code == 0
    server.store.damages = True
    with pytest.raises(UploadFailed):
        await client.upload(b"hello", file_path="a.txt")
    failed = await ran(server.target, "watch", list(server.uploads)[-1])
    assert failed.code == 1
    assert failed.lines[-1].endswith("FAILED  CHECKSUM_MISMATCH  original: the SHA-256 is not the promised one.")


async def test_a_session_is_watched_until_ctrl_c(server: ServerUnderTest, client: Client) -> None:
    """The watch of a session goes on with new uploads, and ends cleanly when interrupted."""
    process = await started(server.target, "watch", "--session", client.session_id)
    async with asyncio.timeout(20):
        await server.watch_opened.wait()
        await client.upload(b"hello", file_path="a.txt")
        assert process.stdout is not None
        statuses = [(await process.stdout.readline()).decode().split()[-1] for _ in range(4)]
    assert statuses == ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]
    process.send_signal(signal.SIGINT)
    assert (await finished(process)).code == 130


@pytest.fixture
async def upload_id(client: Client) -> str:
    """Gives an upload of 2,000 bytes that is INITIALIZED."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=2000)
    request = RequestUploadRequest(file_path="beach.txt", variants=[promise])
    return (await client.request_upload(request)).upload.upload_id


async def finish(server: ServerUnderTest, upload_id: str) -> None:
    """Moves the upload to its end."""
    server.put(upload_id, bytes(2000))
    await server.complete(upload_id)


async def test_progress_is_a_line_in_a_pipe(server: ServerUnderTest, client: Client, upload_id: str) -> None:
    """Between the statuses, with the share that is sent; as JSON it is the event itself."""
    watches = [await started(server.target, "watch", upload_id, *options) for options in ([], ["--json"])]
    outputs = [watch.stdout for watch in watches if watch.stdout is not None]
    async with asyncio.timeout(30):
        for _ in range(2):  # the statuses: the watches are open
            for output in outputs:
                await output.readline()
        await client.report_progress(upload_id, {"original": 500})
        line, event = [(await output.readline()).decode().rstrip() for output in outputs]
    assert line.endswith(f"{upload_id}  UPLOADING  25 %  500 of 2000")
    assert json.loads(event)["sent_bytes"] == 500
    await finish(server, upload_id)
    for watch in watches:
        assert (await finished(watch)).code == 0


async def test_progress_is_a_live_line_on_a_terminal(server: ServerUnderTest, client: Client, upload_id: str) -> None:
    """The line carries the file's name and is gone in the end; the statuses stay."""
    terminal, end = pty.openpty()
    try:
        watch = await asyncio.create_subprocess_exec(
            *COMMAND, "watch", upload_id, stdout=end, stderr=end, env=environment(server.target)
        )
        drawn = ""
        async with asyncio.timeout(30):
            while "INITIALIZED" not in drawn:
                drawn += (await asyncio.to_thread(os.read, terminal, 65536)).decode()
            await client.report_progress(upload_id, {"original": 500})
            while "UPLOADING" not in drawn:
                drawn += (await asyncio.to_thread(os.read, terminal, 65536)).decode()
            await finish(server, upload_id)
            assert await watch.wait() == 0
        drawn += os.read(terminal, 65536).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert "INITIALIZED" in drawn
    assert "beach.txt" in drawn
    assert "\x1b[2K" in drawn.rpartition("beach.txt")[2]


async def test_a_partition_is_watched_until_ctrl_c(server: ServerUnderTest) -> None:
    """Each event is a line that begins with what happened; an asset's line says what it is."""
    original = AssetVariant(name="original", content_type="image/jpeg", size_bytes=2000)
    asset = Asset(asset_id="A1", file_path="a/b.jpg", revision=1, variants=[original])
    present = AssetEvent(change=AssetChange.ASSET_CHANGE_PRESENT, asset=asset)
    events = [
        WatchAssetsResponse(asset=present),
        WatchAssetsResponse(synced=SyncedEvent(), resume_token="t1"),
        WatchAssetsResponse(deleted=AssetDeletedEvent(asset_id="A1", revision=2), resume_token="t2"),
    ]
    server.asset_streams.extend([events, events])
    lines = await first_lines(server, 3, "watch", "--partition", "public")
    assert lines == ["PRESENT  A1  2000  image/jpeg  a/b.jpg", "SYNCED", "DELETED  A1"]
    as_json = await first_lines(server, 3, "watch", "--partition", "public", "--resume-token", "t0", "--json")
    parsed = [json.loads(line) for line in as_json]
    assert (parsed[0]["kind"], parsed[0]["change"]) == ("asset", "ASSET_CHANGE_PRESENT")
    assert [event["resume_token"] for event in parsed] == ["", "t1", "t2"]
    assert [request.resume_token for request in server.called("WatchAssets")] == ["", "t0"]


async def first_lines(server: ServerUnderTest, count: int, *arguments: str) -> list[str]:
    """Returns the first lines of a command that does not end by itself, and interrupts it."""
    process = await started(server.target, *arguments)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        lines = [(await process.stdout.readline()).decode().rstrip() for _ in range(count)]
    process.send_signal(signal.SIGINT)
    assert (await finished(process)).code == 130
    return lines
