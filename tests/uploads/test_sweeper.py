"""The sweeper on the ledger and the store in memory: it settles everything, and spins on nothing."""

import asyncio
import gc
import warnings
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from tests.memory.ledger import MemoryLedger
from tests.memory.server import BYTES, SECOND, MemoryServer
from tests.uploads.samples import NOW, QUARTER

from assetlane_server.model.admission import Terms
from assetlane_server.model.cut_plan import CutPlan, CutSize
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.upload import (
    DELETED_KEPT_FOR,
    LONGEST_PUT,
    SWEEP_MARGIN,
    WORK_LEASE,
    Details,
    Status,
    Upload,
)
from assetlane_server.uploads import sweeper
from assetlane_server.uploads.access import UNRESTRICTED

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


async def test_what_clients_leave_behind_is_settled() -> None:
    """An upload is completed where its bytes are in the store and expires where they are not, each at its time."""
    server = MemoryServer()
    left, vanished = await server.uploaded(), (await server.request())[0]
    await server.sweep_after(QUARTER - MINUTE)
    assert await server.stored(left) == left
    await server.sweep_after(MINUTE + 2 * SWEEP_MARGIN)
    ends = [await server.stored(one) for one in (left, vanished)]
    assert [one and one.status for one in ends] == [Status.COMPLETED, Status.INITIALIZED]
    await server.sweep_after(DAY)
    ended = await server.stored(vanished)
    assert ended is not None
    assert ended.status is Status.EXPIRED


async def test_strays_of_an_upload_that_ended_just_after_a_renewal_are_deleted_when_the_new_urls_end() -> None:
    """The server that ended it did not know of them."""
    server = MemoryServer()
    upload, _ = await server.request(request_id="r")
    server.now_is += 10 * MINUTE
    _, targets = await server.request(request_id="r")
    assert await server.records.advance_upload(upload.cancelled(server.now_is))
    await server.sweep_after(QUARTER - 10 * MINUTE + 2 * SWEEP_MARGIN)
    assert await server.put(targets[0]) == 200
    await server.sweep_after(10 * MINUTE)
    assert not server.holds(upload)


async def test_cuts_that_another_server_stored_beside_an_asset_without_cuts_are_deleted() -> None:
    """It had time for them, and lost the race to the server that had none."""
    server = MemoryServer(terms=Terms(can_cut=lambda content_type: True))
    plan = CutPlan(sizes=(CutSize("small", 300),))
    upload = await server.uploaded(cut_plan=plan)
    done = await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert done.asset is not None
    assert done.cut_plan is not None
    assert [variant.name for variant in done.asset.variants] == ["original"]
    server.store.store(done.cut_plan.key("small", "image/jpeg"), b"a cut", {})
    await server.sweep_after(QUARTER + LONGEST_PUT + SECOND)
    assert list(server.store.objects) == [done.asset.variants[0].key]
    swept = await server.stored(done)
    assert swept is not None
    assert (swept.status, swept.sweep_time) == (Status.COMPLETED, None)


async def test_a_deleted_asset_leaves_nothing_step_by_step() -> None:
    """Its words at once, its places with the last sweep of its objects, its record after 8 days."""
    server = MemoryServer()
    done = await server.completed(details=Details(title="a title"), file_path="a/secret.txt")
    await server.assets.delete_asset(done.upload_id, UNRESTRICTED)
    deleted = await server.stored(done)
    assert deleted is not None
    assert (deleted.details, deleted.file_path) == (Details(), "a/secret.txt")
    await server.sweep_after(WORK_LEASE + SECOND)
    await server.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    swept = await server.stored(done)
    assert swept is not None
    assert not swept.is_swept
    await server.sweep_after(DAY)
    erased = await server.stored(done)
    assert erased is not None
    assert (erased.file_path, erased.is_swept, erased.sweep_time) == ("", True, erased.purge_time)
    assert "secret" not in str(erased)
    # A repeat has nothing left to delete, and asks the store for nothing.
    server.store.is_down = True
    await server.assets.delete_asset(done.upload_id, UNRESTRICTED)
    server.store.is_down = False
    await server.sweep_after(DELETED_KEPT_FOR - DAY - QUARTER - 3 * MINUTE)
    assert await server.stored(done) is not None
    await server.sweep_after(5 * MINUTE)
    assert await server.stored(done) is None


async def test_what_comes_back_through_a_url_that_still_lived_is_deleted_again() -> None:
    """The last sweep finds what a late PUT stored: it may begin just before its URL's end and last a day."""
    server = MemoryServer()
    upload, (target,) = await server.request()
    assert await server.put(target) == 200
    await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    await server.assets.delete_asset(upload.upload_id, UNRESTRICTED)
    assert await server.put(target) == 200
    await server.sweep_after(WORK_LEASE + SECOND)
    assert not server.holds(upload)
    assert await server.put(target) == 200
    await server.sweep_after(QUARTER + DAY)
    assert not server.holds(upload)


async def test_while_nothing_can_be_written_little_is_tried() -> None:
    """Reads work, writes fail, 1,000 uploads are due: each look is a few writes, and it looks ever more rarely."""
    server = MemoryServer()
    for _ in range(1000):
        await server.request()
    server.now_is += QUARTER + 2 * SWEEP_MARGIN
    server.records.is_writable = False
    doublings = []
    for _ in range(20):
        before = server.records.operations
        await server.sweeper.look()
        assert server.records.operations - before <= 1 + sweeper._AT_ONCE
        doublings.append(server.sweeper._doublings)
    assert doublings[:7] == [1, 2, 3, 4, 5, 5, 5]
    server.records.is_writable = True
    await server.sweeper.look()
    assert server.sweeper._doublings == 0
    server.now_is += timedelta(hours=1)
    await server.sweeper.look()
    ends = {upload.sweep_time for upload in server.records.uploads.values()}
    assert min(one for one in ends if one is not None) > server.now_is


async def test_while_nothing_can_be_read_it_looks_ever_more_rarely() -> None:
    """The pauses between looks grow while reads fail, and are as short as before once the ledger is back."""
    server = MemoryServer()
    server.records.is_readable = False
    await server.sweeper.look()
    await server.sweeper.look()
    assert server.sweeper._doublings == 2
    server.records.is_readable = True
    await server.sweeper.look()
    assert server.sweeper._doublings == 0


async def test_an_upload_that_cannot_be_settled_is_tried_ever_more_rarely_and_holds_up_no_other() -> None:
    """A thousand others behind it are settled; it is tried again after a minute, two, four."""
    server = MemoryServer()
    poisoned = await server.uploaded()
    tried: list[datetime] = []
    take = server.records.reschedule_upload

    async def refuse(upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        if upload.upload_id == poisoned.upload_id:
            tried.append(server.now_is)
            raise StoreUnavailable("It is broken.")
        return await take(upload, sweep_time, is_swept=is_swept)

    server.records.reschedule_upload = refuse  # type: ignore[method-assign]  # one record that fails
    others = [await server.uploaded() for _ in range(300)]
    server.now_is += QUARTER + 2 * SWEEP_MARGIN
    for _ in range(120):
        await server.sweep_after(timedelta(seconds=30))
    for other in others:
        ended = await server.stored(other)
        assert ended is not None
        assert ended.status is Status.COMPLETED
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert 4 < len(tried) < 9
    assert pauses[0] >= MINUTE


async def test_many_that_cannot_be_settled_do_not_keep_those_behind_them_waiting() -> None:
    """More uploads than a batch holds cannot be settled: the next batch begins behind them."""
    server = MemoryServer()
    broken = {(await server.uploaded()).upload_id for _ in range(150)}
    sound = [await server.uploaded() for _ in range(20)]
    take = server.records.reschedule_upload

    async def refuse(upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        if upload.upload_id in broken:
            raise StoreUnavailable("It is broken.")
        return await take(upload, sweep_time, is_swept=is_swept)

    server.records.reschedule_upload = refuse  # type: ignore[method-assign]  # a batch and a half that fails
    server.now_is += QUARTER + 2 * SWEEP_MARGIN
    for _ in range(3):
        await server.sweep_after(timedelta(seconds=1))
    ends = [await server.stored(one) for one in sound]
    assert {one and one.status for one in ends} == {Status.COMPLETED}


async def test_a_store_that_is_down_ends_no_sweep_and_loses_nothing() -> None:
    """What could not be deleted is deleted when it is back."""
    server = MemoryServer()
    upload = await server.uploaded()
    server.store.is_down = True
    await server.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert await server.stored(upload) is not None
    server.store.is_down = False
    await server.sweep_after(5 * MINUTE)
    ended = await server.stored(upload)
    assert ended is not None
    assert ended.status is Status.COMPLETED


class NeverEnding(MemoryLedger):
    """Taking an upload never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        self.taken += 1
        await asyncio.Event().wait()
        return True


async def test_a_sweep_that_is_cancelled_leaves_nothing_unawaited() -> None:
    """Most of a batch waits for its turn: it has not begun, and is not to be warned of."""
    records = NeverEnding()
    server = MemoryServer(records)
    for _ in range(100):
        await server.request(BYTES)
    server.now_is = NOW + DAY
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sweep = asyncio.create_task(server.sweeper.sweep())
        async with asyncio.timeout(30):
            while records.taken < sweeper._AT_ONCE:  # noqa: ASYNC110 - as many as are settled at the same time
                await asyncio.sleep(0)
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep
        del sweep
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
    assert records.taken == sweeper._AT_ONCE
