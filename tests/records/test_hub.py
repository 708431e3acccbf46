"""The hub on the change stream of every adapter: nothing is missed, whatever happens to the stream."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.memory.ledger import MemoryLedger
from tests.records.hubs import LIMIT, initialized, running, status_of_next, upload_of
from tests.records.ledgers import Ledger, opened
from tests.uploads.samples import NOW, completed

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import ShuttingDown
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import LedgerTime, Status, Upload
from assetlane_server.records.mailbox import HubMailbox

MOMENT = timedelta(milliseconds=1)


@pytest.fixture(params=["MongoDB, ordered pages", "memory"])
async def records(request: pytest.FixtureRequest, stack: StackAddress, database_name: str) -> AsyncIterator[Ledger]:
    """Each adapter there is, open and empty."""
    async with opened(request.param, stack, database_name) as ledger:
        yield ledger


def put(box: HubMailbox[Upload | Progress], upload: Upload) -> None:
    """Puts an upload, as the hub does."""
    box.put(upload.upload_id, upload.revision, upload)


class Clock:
    """Until when a hub has delivered."""

    def __init__(self) -> None:
        self.time = LedgerTime(1)

    def __call__(self) -> LedgerTime:
        """Returns the instant."""
        return self.time


async def test_a_change_wakes_its_watchers_and_no_others(records: Ledger) -> None:
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
        assert upload_of((await stranger.next(LIMIT)).news[0]).upload_id == other.upload_id


async def test_a_completion_wakes_the_watchers_of_the_upload_and_of_the_partition(records: Ledger) -> None:
    """One write is both; a refresh wakes the partition's watchers only."""
    upload = await records.insert_upload(initialized())
    done = completed(upload)
    assert done.asset is not None
    async with (
        running(records) as hub,
        hub.watch_upload(upload.upload_id) as mine,
        hub.watch_partition("user/7f3a") as partition,
        hub.watch_partition("user/other") as elsewhere,
    ):
        assert await records.advance_upload(done, after_revision=upload.revision)
        assert await status_of_next(mine) is Status.COMPLETED
        assert (await partition.next(LIMIT)).news == (done.asset,)
        refreshed = done.asset.refreshed(NOW + timedelta(hours=1))
        assert await records.advance_asset(refreshed)
        assert (await partition.next(LIMIT)).news == (refreshed,)
        assert (await mine.next(MOMENT)).news == ()
        assert (await elsewhere.next(MOMENT)).news == ()


async def test_what_a_delivery_reaches_until_covers_the_changes_in_it(records: Ledger) -> None:
    """A watch that resumes a minute before that instant misses nothing, and it goes on when nothing changes."""
    async with running(records) as hub, hub.watch_partition("user/7f3a") as box:
        until = box.opened_at
        for _ in range(3):
            upload = await records.insert_upload(initialized())
            await records.advance_upload(completed(upload), after_revision=upload.revision)
            delivery = await box.next(LIMIT)
            (asset,) = delivery.news
            assert asset.change_time is not None
            # A stamp is taken before its commit, and may be less fine than the stream's clock.
            assert delivery.until >> 32 >= asset.change_time >> 32
            assert delivery.until >= until
            until = delivery.until


async def test_a_slow_reader_of_an_upload_holds_one_state(records: Ledger) -> None:
    """What it missed is in the history of the newest."""
    upload = await records.insert_upload(initialized())
    async with (
        running(records) as hub,
        hub.watch_upload(upload.upload_id) as slow,
        hub.watch_session("phone", "") as quick,
    ):
        uploaded = upload.uploaded(NOW)
        for step in (uploaded, completed(uploaded)):
            await records.advance_upload(step)
            while (await status_of_next(quick)) is not step.status:
                continue
        (news,) = (await slow.next(LIMIT)).news
        assert [change.status for change in upload_of(news).history][2:] == [Status.UPLOADED, Status.COMPLETED]


async def test_a_full_mailbox_has_its_reader_read_again() -> None:
    """More uploads than slots: the reader learns since when, and memory is bounded."""
    clock = Clock()
    box: HubMailbox[Upload | Progress] = HubMailbox(2, clock)
    uploads = [initialized() for _ in range(5)]
    clock.time = LedgerTime(7)
    for upload in uploads:
        put(box, upload)
    delivery = await box.next(LIMIT)
    assert (delivery.news, delivery.missed_since, delivery.until) == ((), 1, 7)
    assert await box.next(MOMENT) == type(delivery)((), None, LedgerTime(7))
    put(box, uploads[0])
    assert (await box.next(LIMIT)).news == (uploads[0],)


async def test_every_wait_of_a_reader_has_its_whole_time() -> None:
    """A mailbox keeps its alarm when something comes: the next wait ends neither with that one nor too late."""
    upload = initialized()
    box: HubMailbox[Upload | Progress] = HubMailbox(1, Clock())
    other: HubMailbox[Upload | Progress] = HubMailbox(1, Clock())

    async def woken(timeout: timedelta) -> None:
        waiting = asyncio.create_task(box.next(timeout))
        await asyncio.sleep(0)
        put(box, upload)
        assert (await waiting).news == (upload,)

    await woken(MOMENT)  # the alarm is set for then
    longer = asyncio.create_task(box.next(2 * LIMIT))
    assert (await other.next(2 * MOMENT)).news == ()
    assert not longer.done()
    put(box, upload)
    assert (await longer).news == (upload,)
    async with asyncio.timeout(LIMIT.total_seconds()):  # the alarm is set for twice that
        assert (await box.next(MOMENT)).news == ()
    await woken(2 * MOMENT)
    assert (await box.next(MOMENT)).news == ()
    box.discard()


async def test_an_older_state_never_replaces_a_newer() -> None:
    """Two reads may come back in any order."""
    upload = initialized()
    box: HubMailbox[Upload | Progress] = HubMailbox(1, Clock())
    put(box, upload.uploaded(NOW))
    put(box, upload)
    assert await status_of_next(box) is Status.UPLOADED


async def test_a_session_of_too_many_uploads_is_left_to_its_watch(records: Ledger) -> None:
    """The hub answers that it did not read the session; another session of the same query is answered."""
    await asyncio.gather(*(records.insert_upload(initialized("busy")) for _ in range(501)))
    upload = await records.insert_upload(initialized("quiet"))
    async with running(records) as hub:
        await hub.opened()
        busy, quiet, mine, none = await asyncio.gather(
            hub.read_session("busy", ""),
            hub.read_session("quiet", ""),
            hub.read_session("quiet", "7f3a"),
            hub.read_session("quiet", "8"),
        )
    assert (busy, quiet, mine, none) == (None, [upload], [upload], [])


async def test_a_lost_stream_has_every_reader_read_again() -> None:
    """Each reader learns until when everything was delivered; an upload that is watched is read for its watchers."""
    ledger = MemoryLedger()
    upload = await ledger.insert_upload(initialized())
    async with (
        running(ledger) as hub,
        hub.watch_upload(upload.upload_id) as mine,
        hub.watch_session("phone", "") as session,
        hub.watch_partition("user/7f3a") as partition,
    ):
        known_until = partition.opened_at
        ledger.lose_streams()
        ledger.pass_time(100)
        await ledger.advance_upload(completed(upload), after_revision=upload.revision)
        assert await status_of_next(mine) is Status.COMPLETED
        for box in (session, partition):
            delivery = await box.next(LIMIT)
            assert delivery.missed_since == known_until
            assert delivery.until > known_until


async def test_closing_ends_every_watch_and_admits_no_new_one(records: Ledger) -> None:
    """Watchers are sent elsewhere, also one that waits already."""
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
