"""The hub on a real change stream: nothing is missed, whatever happens to the stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.records.stores import drop, failing
from tests.uploads.samples import NOW, requested

from assetlane_server.app import new_id
from assetlane_server.local import StackAddress
from assetlane_server.records.hub import Hub, HubMailbox
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.errors import ShuttingDown
from assetlane_server.uploads.ports import Snapshot
from assetlane_server.uploads.upload import Status, Upload

LIMIT = timedelta(seconds=20)


@asynccontextmanager
async def running(records: MongoRecords) -> AsyncIterator[Hub]:
    """A hub that follows, in a task of its own."""
    hub = Hub(records)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        hub.close()
        await asyncio.wait_for(task, LIMIT.total_seconds())


def initialized(session_id: str = "phone") -> Upload:
    """Returns a fresh upload with an id of its own."""
    return replace(requested(session_id=session_id, request_id=""), upload_id=new_id()).initialized(NOW)


async def status_of_next(box: HubMailbox) -> Status:
    """Returns the status in the next snapshot."""
    news = await box.next(LIMIT)
    assert len(news) == 1, "no news within the limit"
    return news[0].upload.status


async def test_a_change_wakes_its_watchers_and_no_others(records: MongoRecords) -> None:
    """By upload and by session; a stranger's mailbox stays empty."""
    upload, other = await records.insert_upload(initialized()), await records.insert_upload(initialized("tablet"))
    async with (
        running(records) as hub,
        hub.watch_upload(upload.upload_id) as mine,
        hub.watch_session("phone") as session,
        hub.watch_upload(other.upload_id) as stranger,
    ):
        await records.advance_upload(upload.cancelled(NOW))
        assert await status_of_next(mine) is Status.CANCELLED
        assert await status_of_next(session) is Status.CANCELLED
        await records.advance_upload(other.cancelled(NOW))
        assert (await stranger.next(LIMIT))[0].upload.upload_id == other.upload_id


async def test_a_slow_reader_of_an_upload_holds_one_snapshot(records: MongoRecords) -> None:
    """What it missed is in the history of the newest."""
    upload = await records.insert_upload(initialized())
    async with running(records) as hub, hub.watch_upload(upload.upload_id) as slow, hub.watch_session("phone") as quick:
        for step in (upload.uploaded(NOW), upload.uploaded(NOW).completed(NOW)):
            await records.advance_upload(step)
            while (await status_of_next(quick)) is not step.status:
                continue
        (snapshot,) = await slow.next(LIMIT)
        assert [change.status for change in snapshot.upload.history][2:] == [Status.UPLOADED, Status.COMPLETED]


async def test_a_full_mailbox_reads_its_session_again(records: MongoRecords) -> None:
    """More uploads than slots: none is lost, memory is bounded."""
    uploads = [await records.insert_upload(initialized()) for _ in range(5)]
    box = HubMailbox(2, lambda: records.read_sessions(["phone"]))
    for upload in uploads:
        box.put(Snapshot(upload))
    assert {one.upload.upload_id for one in await box.next(LIMIT)} == {one.upload_id for one in uploads}
    assert await box.next(timedelta(milliseconds=1)) == ()
    box.put(Snapshot(uploads[0]))
    assert await box.next(LIMIT) == (Snapshot(uploads[0]),)


async def test_an_older_snapshot_never_replaces_a_newer(records: MongoRecords) -> None:
    """Two reads may come back in any order."""
    upload = initialized()
    box = HubMailbox(1, lambda: records.read_uploads([]))
    box.put(Snapshot(upload.uploaded(NOW)))
    box.put(Snapshot(upload))
    assert await status_of_next(box) is Status.UPLOADED


async def test_closing_ends_every_watch_and_admits_no_new_one(records: MongoRecords) -> None:
    """Watchers are told to go elsewhere, also one that waits already."""
    async with running(records) as hub:
        async with hub.watch_upload("x") as box:
            waiting = asyncio.create_task(box.next(LIMIT))
            await asyncio.sleep(0)
            hub.close()
            with pytest.raises(ShuttingDown):
                await waiting
        with pytest.raises(ShuttingDown):
            async with hub.watch_upload("x"):
                pytest.fail("admitted")


@pytest.mark.parametrize(
    "how",
    [{"errorCode": 286}, {"closeConnection": True}, {"errorCode": 10107}],
    ids=["history lost", "connection dropped", "not primary"],
)
async def test_what_changed_while_the_stream_was_lost_is_delivered(
    stack: StackAddress, database_name: str, how: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Opened anew first, then everything that is watched is read again."""
    app_name = f"hub-{database_name}"
    separator = "&" if "?" in stack.mongo_uri else "/?"
    uri = f"{stack.mongo_uri}{separator}appName={app_name}"
    opening = MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT)
    watching = MongoRecords.open(uri, database_name, call_timeout=LIMIT)
    async with opening as records, watching as watched, running(watched) as hub:
        upload = await records.insert_upload(initialized())
        async with hub.watch_upload(upload.upload_id) as box, hub.watch_session("phone") as session:
            async with failing(stack.mongo_uri, app_name, ["getMore", "aggregate"], **how):
                await records.advance_upload(upload.uploaded(NOW))
                late = await records.insert_upload(initialized())
                async with asyncio.timeout(LIMIT.total_seconds()):
                    while "opening it anew" not in caplog.text:  # noqa: ASYNC110 - the log is all that tells
                        await asyncio.sleep(0.01)
            assert await status_of_next(box) is Status.UPLOADED
            seen: set[str] = set()
            while late.upload_id not in seen:
                seen |= {one.upload.upload_id for one in await session.next(LIMIT)}
    await drop(stack.mongo_uri, database_name)
