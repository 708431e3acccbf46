"""The hub on a real change stream: nothing is missed, whatever happens to the stream."""

import asyncio
from datetime import timedelta

import pytest
from tests.records.hubs import LIMIT, initialized, running, snapshot_of, status_of_next
from tests.uploads.samples import NOW

from assetlane_server.records.mailbox import HubMailbox
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.errors import ShuttingDown
from assetlane_server.uploads.ports import Snapshot
from assetlane_server.uploads.progress import Progress
from assetlane_server.uploads.upload import Status, Upload


def put(box: HubMailbox[Snapshot | Progress], upload: Upload) -> None:
    """Puts an upload's snapshot, as the hub does."""
    box.put(upload.upload_id, upload.revision, Snapshot(upload))


async def test_a_change_wakes_its_watchers_and_no_others(records: MongoRecords) -> None:
    """By upload and by session; a stranger's mailbox stays empty."""
    upload, other = await records.insert_upload(initialized()), await records.insert_upload(initialized("tablet"))
    async with (
        running(records) as hub,
        hub.watch_upload(upload.upload_id) as mine,
        hub.watch_session("phone", "") as session,
        hub.watch_upload(other.upload_id) as stranger,
    ):
        await records.advance_upload(upload.cancelled(NOW))
        assert await status_of_next(mine) is Status.CANCELLED
        assert await status_of_next(session) is Status.CANCELLED
        await records.advance_upload(other.cancelled(NOW))
        assert snapshot_of((await stranger.next(LIMIT))[0]).upload.upload_id == other.upload_id


async def test_a_slow_reader_of_an_upload_holds_one_snapshot(records: MongoRecords) -> None:
    """What it missed is in the history of the newest."""
    upload = await records.insert_upload(initialized())
    async with (
        running(records) as hub,
        hub.watch_upload(upload.upload_id) as slow,
        hub.watch_session("phone", "") as quick,
    ):
        for step in (upload.uploaded(NOW), upload.uploaded(NOW).completed(NOW)):
            await records.advance_upload(step)
            while (await status_of_next(quick)) is not step.status:
                continue
        (news,) = await slow.next(LIMIT)
        snapshot = snapshot_of(news)
        assert [change.status for change in snapshot.upload.history][2:] == [Status.UPLOADED, Status.COMPLETED]


async def test_a_full_mailbox_reads_its_session_again(records: MongoRecords) -> None:
    """More uploads than slots: none is lost, memory is bounded."""
    uploads = [await records.insert_upload(initialized()) for _ in range(5)]
    box: HubMailbox[Snapshot | Progress] = HubMailbox(2, lambda: records.read_sessions([("phone", "")]), lambda: NOW)
    for upload in uploads:
        put(box, upload)
    assert {snapshot_of(one).upload.upload_id for one in await box.next(LIMIT)} == {one.upload_id for one in uploads}
    assert await box.next(timedelta(milliseconds=1)) == ()
    put(box, uploads[0])
    assert await box.next(LIMIT) == (Snapshot(uploads[0]),)


async def test_an_older_snapshot_never_replaces_a_newer(records: MongoRecords) -> None:
    """Two reads may come back in any order."""
    upload = initialized()
    box: HubMailbox[Snapshot | Progress] = HubMailbox(1, lambda: records.read_uploads([]), lambda: NOW)
    put(box, upload.uploaded(NOW))
    put(box, upload)
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
