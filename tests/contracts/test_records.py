"""The contract of the ledger: what the use cases rely on, on every adapter."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.memory.ledger import MemoryLedger
from tests.records.ledgers import KINDS, Ledger, opened
from tests.uploads.samples import NOW, QUARTER, completed, requested

from assetlane_server.composition.app import new_id
from assetlane_server.local import StackAddress
from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.errors import UploadNotFound
from assetlane_server.model.progress import progress_of
from assetlane_server.model.upload import WORK_LEASE, Asset, Details, Failure, LedgerTime, Notice, Status, Upload


@pytest.fixture(params=KINDS)
async def records(request: pytest.FixtureRequest, stack: StackAddress, database_name: str) -> AsyncIterator[Ledger]:
    """Each adapter there is, open and empty."""
    async with opened(request.param, stack, database_name) as ledger:
        yield ledger


def initialized(**changes: Any) -> Upload:
    """Returns a fresh INITIALIZED upload with an id of its own."""
    return replace(requested(**changes), upload_id=new_id()).initialized(NOW, QUARTER)


async def asset_in(records: Ledger, partition: str = "user/7f3a", **changes: Any) -> Asset:
    """Returns a fresh asset that is in the ledger."""
    upload = await records.insert_upload(initialized(request_id="", asset_partition=partition, **changes))
    done = completed(upload)
    assert await records.advance_upload(done, after_revision=upload.revision)
    assert done.asset is not None
    return done.asset


async def with_progress(records: Ledger) -> set[str]:
    """Returns the ids of uploads whose progress is stored."""
    if isinstance(records, MemoryLedger):
        return set(records.progress)
    return set(await records._progress.distinct("_id"))


async def test_what_was_inserted_comes_back(records: Ledger) -> None:
    """Every field, to the millisecond."""
    upload = initialized()
    assert await records.insert_upload(upload) == upload
    assert await records.find_upload(upload.upload_id) == upload
    assert await records.find_upload("missing") is None


async def test_of_sixteen_with_one_request_id_one_is_stored_and_all_get_it(records: Ledger) -> None:
    """Unique per owner; without a request id every upload is new."""
    uploads = [initialized(request_id="same") for _ in range(16)]
    stored = await asyncio.gather(*(records.insert_upload(upload) for upload in uploads))
    assert len({upload.upload_id for upload in stored}) == 1
    others = [initialized(request_id="same", uid="other"), initialized(request_id=""), initialized(request_id="")]
    for other in others:
        assert await records.insert_upload(other) == other


async def test_of_sixteen_advances_from_one_revision_one_wins(records: Ledger) -> None:
    """Losing changes nothing, and the history has every change once."""
    upload = await records.insert_upload(initialized())
    attempts = [upload.cancelled(NOW) if i % 2 else upload.uploaded(NOW) for i in range(16)]
    won = await asyncio.gather(*(records.advance_upload(attempt) for attempt in attempts))
    assert won.count(True) == 1
    assert await records.find_upload(upload.upload_id) == attempts[won.index(True)]


async def test_a_failure_is_kept(records: Ledger) -> None:
    """Reason and sentence."""
    upload = await records.insert_upload(initialized())
    failed = upload.failed(NOW, Failure("SIZE_MISMATCH", "too long"))
    assert await records.advance_upload(failed)
    assert await records.find_upload(upload.upload_id) == failed


async def test_renewal_needs_the_revision_and_never_goes_back(records: Ledger) -> None:
    """It is no status change: the revision stays."""
    upload = await records.insert_upload(initialized())
    later, earlier = upload.renewed(NOW + timedelta(minutes=5), QUARTER), replace(upload, targets_signed_at=NOW)
    assert await records.renew_targets(later)
    assert await records.renew_targets(earlier)
    assert await records.find_upload(upload.upload_id) == later
    await records.advance_upload(later.cancelled(NOW))
    assert not await records.renew_targets(later)


@pytest.mark.parametrize("is_completed", [False, True])
async def test_a_status_change_keeps_targets_that_were_renewed_meanwhile(records: Ledger, is_completed: bool) -> None:
    """The server that makes it has read the upload before: a URL that was handed out since lives longer."""
    upload = await records.insert_upload(initialized())
    renewed = upload.renewed(NOW + timedelta(minutes=5), QUARTER)
    assert await records.renew_targets(renewed)
    ended = completed(upload) if is_completed else upload.cancelled(NOW)
    assert await records.advance_upload(ended, after_revision=upload.revision)
    stored = await records.find_upload(upload.upload_id)
    assert stored is not None
    assert (stored.targets_signed_at, stored.write_end) == (renewed.targets_signed_at, renewed.write_end)


async def test_uploads_are_listed_by_descending_id_below_a_bound(records: Ledger) -> None:
    """Filters add up; an empty one lets everything through."""
    uploads = [await records.insert_upload(initialized(request_id="", session_id=s)) for s in ("a", "b", "a", "")]
    await records.advance_upload(uploads[0].cancelled(NOW))
    ids = sorted((upload.upload_id for upload in uploads), reverse=True)

    async def listed(uid: str = "", session: str = "", statuses: tuple[Status, ...] = (), below: str = "") -> set[str]:
        found = await records.list_uploads(uid=uid, session_id=session, statuses=statuses, before_id=below, limit=10)
        found_ids = [upload.upload_id for upload in found]
        assert found_ids == sorted(found_ids, reverse=True)
        return set(found_ids)

    assert await listed() == set(ids)
    assert await listed(below=ids[1]) == set(ids[2:])
    assert await listed(uid="7f3a", session="a", statuses=(Status.INITIALIZED,)) == {uploads[2].upload_id}
    assert await listed(uid="other") == set()
    limited = await records.list_uploads(uid="", session_id="", statuses=(), before_id="", limit=2)
    assert [upload.upload_id for upload in limited] == ids[:2]


async def test_uploads_are_scanned_by_ascending_id_above_a_bound(records: Ledger) -> None:
    """Page by page to the end, with the same filters."""
    uploads = [await records.insert_upload(initialized(request_id="", session_id=s)) for s in ("a", "b", "a", "a")]
    await records.advance_upload(uploads[0].cancelled(NOW))
    uploads[0] = uploads[0].cancelled(NOW)
    of_session = sorted((one for one in uploads if one.session_id == "a"), key=lambda one: one.upload_id)

    async def scanned(session: str = "", statuses: tuple[Status, ...] = (), above: str = "") -> list[Upload]:
        return await records.scan_uploads(uid="", session_id=session, statuses=statuses, after_id=above, limit=2)

    assert await scanned("a") == of_session[:2]
    assert await scanned("a", above=of_session[1].upload_id) == of_session[2:]
    assert await scanned("a", (Status.CANCELLED,)) == [uploads[0]]
    assert await scanned(above=of_session[2].upload_id) == []


@pytest.mark.parametrize("is_ascending", [True, False])
async def test_every_page_of_many_is_complete_and_in_order(records: Ledger, is_ascending: bool) -> None:
    """Across marks and windows: pages of any size follow each other without a gap or a repeat, in every listing."""
    uploads = []
    for group in range(15):
        batch = [initialized(request_id="", session_id="s", asset_partition=f"p/{number % 3}") for number in range(14)]
        uploads += await asyncio.gather(*(records.insert_upload(upload) for upload in batch))
        if group % 2:
            done = [completed(upload) for upload in batch]
            await asyncio.gather(*(records.advance_upload(one, after_revision=2) for one in done))
            uploads[-len(done) :] = done
    order = sorted(uploads, key=lambda one: one.upload_id, reverse=not is_ascending)

    async def read(size: int, uid: str = "", session: str = "", statuses: tuple[Status, ...] = ()) -> list[str]:
        ids: list[str] = []
        while True:
            filters: dict[str, Any] = {"uid": uid, "session_id": session, "statuses": statuses, "limit": size}
            page = (
                await records.scan_uploads(**filters, after_id=ids[-1] if ids else "")
                if is_ascending
                else await records.list_uploads(**filters, before_id=ids[-1] if ids else "")
            )
            ids += [upload.upload_id for upload in page]
            if len(page) < size:
                return ids

    everything = [one.upload_id for one in order]
    assert await read(7) == everything
    assert await read(100, uid="7f3a") == everything
    assert await read(64, uid="7f3a", session="s") == everything
    assert await read(33, session="s", statuses=(Status.COMPLETED,)) == [
        one.upload_id for one in order if one.status is Status.COMPLETED
    ]
    if not is_ascending:
        listed: list[str] = []
        while page := await records.list_assets(partition="p/1", before_id=listed[-1] if listed else "", limit=9):
            listed += [asset.asset_id for asset in page]
        assert listed == [one.upload_id for one in order if one.asset and one.asset.partition == "p/1"]


async def test_uploads_are_found_by_their_ids(records: Ledger) -> None:
    """Those that exist, in whichever status they are."""
    open_one = await records.insert_upload(initialized(request_id=""))
    other = await records.insert_upload(initialized(request_id=""))
    await records.advance_upload(other.cancelled(NOW))
    found = await records.find_uploads([open_one.upload_id, other.upload_id, "missing"])
    assert found == {open_one.upload_id: open_one, other.upload_id: other.cancelled(NOW)}
    assert await records.find_uploads([]) == {}


async def test_the_request_of_an_owner_is_found(records: Ledger) -> None:
    """By owner and request id, both of them."""
    upload = await records.insert_upload(initialized(request_id="r"))
    await records.insert_upload(initialized(request_id="r", uid="other"))
    assert await records.find_requested("7f3a", "r") == upload
    assert await records.find_requested("7f3a", "s") is None


async def test_the_asset_appears_with_completed_in_the_same_write(records: Ledger) -> None:
    """Both status changes are in the history; before, there is no asset, and a lost race leaves none."""
    upload = await records.insert_upload(initialized())
    done = completed(upload)
    assert await records.find_assets([upload.upload_id]) == {}
    assert await records.advance_upload(done, after_revision=upload.revision)
    assert await records.find_upload(upload.upload_id) == done
    assert await records.find_assets([upload.upload_id, "missing"]) == {upload.upload_id: done.asset}
    assert [change.status for change in done.history[2:]] == [Status.UPLOADED, Status.COMPLETED]

    given_up = await records.insert_upload(initialized(request_id=""))
    await records.advance_upload(given_up.cancelled(NOW))
    assert not await records.advance_upload(completed(given_up), after_revision=given_up.revision)
    assert await records.find_assets([given_up.upload_id]) == {}


async def test_of_sixteen_asset_changes_from_one_revision_one_wins(records: Ledger) -> None:
    """Refreshes and deletions race as status changes do; losing changes nothing, and the upload's revision stays."""
    one = await asset_in(records)
    later = NOW + timedelta(minutes=1)
    attempts = [one.deleted(later) if i % 2 else one.refreshed(later) for i in range(16)]
    won = await asyncio.gather(*(records.advance_asset(attempt) for attempt in attempts))
    assert won.count(True) == 1
    assert (await records.find_assets([one.asset_id]))[one.asset_id] == attempts[won.index(True)]
    upload = await records.find_upload(one.asset_id)
    assert upload is not None
    assert upload.revision == 4


async def test_a_deleted_asset_is_found_but_not_listed_and_its_words_are_erased(records: Ledger) -> None:
    """It stays in the ledger, marked; a reader of changes sees it."""
    kept, gone = await asset_in(records), await asset_in(records)
    changed = await records.changed_assets(partition="user/7f3a", since=LedgerTime(0), after=None, limit=10)
    assert changed == [kept, gone]
    later = NOW + timedelta(minutes=1)
    assert await records.advance_asset(gone.deleted(later))
    assert await records.list_assets(partition="user/7f3a", before_id="", limit=10) == [kept]
    assert await records.find_assets([gone.asset_id]) == {gone.asset_id: gone.deleted(later)}
    upload = await records.find_upload(gone.asset_id)
    assert upload is not None
    assert upload.details == Details()
    assert upload.sweep_time == later + WORK_LEASE
    assert upload.asset == gone.deleted(later)


async def test_what_changed_in_a_partition_is_paged_in_the_order_of_the_ledgers_clock(records: Ledger) -> None:
    """Inclusive of the instant, page by page without a gap or a repeat, also among changes of one instant."""
    assets = {one.asset_id: one for one in [await asset_in(records) for _ in range(7)]}
    await asset_in(records, "other")
    first = next(iter(assets.values()))
    assert await records.advance_asset(first.refreshed(NOW + timedelta(hours=1)))
    del assets[first.asset_id]
    assets[first.asset_id] = first.refreshed(NOW + timedelta(hours=1))
    pages: list[Asset] = []
    after = None
    while True:
        page = await records.changed_assets(partition="user/7f3a", since=LedgerTime(0), after=after, limit=2)
        pages += page
        if len(page) < 2:
            break
        assert page[-1].change_time is not None
        after = page[-1].change_time, page[-1].asset_id
    assert {asset.asset_id: asset for asset in pages} == assets
    assert len(pages) == len(assets)
    times = [asset.change_time or LedgerTime(0) for asset in pages]
    assert times == sorted(times)
    assert min(times) > 0
    since = times[3]
    found = await records.changed_assets(partition="user/7f3a", since=since, after=None, limit=10)
    assert found == [asset for asset, instant in zip(pages, times, strict=True) if instant >= since]
    assert await records.changed_assets(partition="none", since=LedgerTime(0), after=None, limit=10) == []


async def test_due_uploads_come_up_longest_waiting_first_and_are_taken_once(records: Ledger) -> None:
    """Nothing before its time; what has no time never."""
    uploads = [await records.insert_upload(initialized(request_id="")) for _ in range(3)]
    due = uploads[0].sweep_time
    assert due is not None
    assert await records.reschedule_upload(uploads[1], due + timedelta(minutes=1), is_swept=False)
    assert await records.reschedule_upload(uploads[2], None, is_swept=False)
    assert await records.uploads_to_sweep(until=due - timedelta(seconds=1), limit=10) == []
    later = await records.uploads_to_sweep(until=due + timedelta(days=1), limit=10)
    assert [one.upload_id for one in later] == [uploads[0].upload_id, uploads[1].upload_id]
    assert await records.uploads_to_sweep(until=due + timedelta(days=1), limit=1) == later[:1]
    lease = due + timedelta(minutes=2)
    taken = await asyncio.gather(*(records.reschedule_upload(uploads[0], lease, is_swept=True) for _ in range(8)))
    assert taken.count(True) == 1
    found = await records.find_upload(uploads[0].upload_id)
    assert found == replace(uploads[0], sweep_time=lease, is_swept=True)


async def test_a_record_is_purged_by_the_one_who_has_taken_it(records: Ledger) -> None:
    """The loser of the race removes nothing."""
    upload = await records.insert_upload(initialized())
    stale = replace(upload, sweep_time=NOW + timedelta(days=9))
    assert not await records.purge_upload(stale)
    assert await records.find_upload(upload.upload_id) == upload
    assert await records.purge_upload(upload)
    assert await records.find_upload(upload.upload_id) is None
    assert not await records.purge_upload(upload)


async def test_where_a_deleted_asset_was_filed_can_be_erased(records: Ledger) -> None:
    """Path and keys go, from the upload and from the asset; ids, owner and partition stay."""
    fresh = initialized(request_id="")
    place = fresh.variants[0].key.rpartition("/")[0] + "/"
    upload = await records.insert_upload(replace(fresh, cut_plan=CutPlan(place=place)))
    done = completed(upload)
    assert done.asset is not None
    await records.advance_upload(done, after_revision=upload.revision)
    await records.advance_asset(done.asset.deleted(NOW))
    taken = await records.find_upload(upload.upload_id)
    assert taken is not None
    gone_at = NOW + timedelta(days=8)
    assert not await records.erase_places(replace(taken, sweep_time=NOW), gone_at)
    assert await records.erase_places(taken, gone_at)
    found = await records.find_upload(upload.upload_id)
    assert found == replace(taken.without_places(), sweep_time=gone_at)
    assert found.asset is not None
    assert not [key for key in (*found.keys, *(one.key for one in found.asset.variants)) if upload.upload_id in key]
    assert (found.file_path, found.uid, found.asset.partition) == ("", "7f3a", "user/7f3a")


async def test_what_was_said_is_erased_at_its_revision(records: Ledger) -> None:
    """For a record without an asset; how long it is kept changes with it, nothing else does."""
    said = Details("title", "caption", "#102030", timedelta(seconds=3), {"who": "ann"})
    upload = await records.insert_upload(initialized(details=said, notices=(Notice("LEFT_OUT", "secret.heic"),)))
    ended = upload.failed(NOW, Failure("ERASED", "Erased."))
    assert await records.advance_upload(ended)
    stored = await records.find_upload(upload.upload_id)
    assert stored is not None
    shorter = replace(stored, kept_for=timedelta(minutes=20))
    assert not await records.erase_words(replace(upload, kept_for=timedelta(minutes=20)))
    assert await records.find_upload(upload.upload_id) == stored
    assert await records.erase_words(shorter)
    assert await records.find_upload(upload.upload_id) == shorter.without_words()
    assert await records.erase_words(shorter)  # once more changes nothing
    assert await records.find_upload(upload.upload_id) == shorter.without_words()


async def test_progress_of_an_owner_is_erased_and_of_nobody_else(records: Ledger) -> None:
    """Erased twice, or of an owner without any, is no error."""
    mine, others = initialized(uid="ann"), initialized(uid="bob")
    for upload in (mine, others):
        await records.put_progress(progress_of(upload, {}, NOW))
    assert await with_progress(records) == {mine.upload_id, others.upload_id}
    for uid in ("ann", "ann", "nobody"):
        await records.erase_progress(uid)
        assert await with_progress(records) == {others.upload_id}


async def test_cuts_without_time_are_counted(records: Ledger) -> None:
    """Each of many at once has a number of its own; the upload stays as it is."""
    upload = await records.insert_upload(initialized())
    counts = await asyncio.gather(*(records.count_cut_timeout(upload.upload_id) for _ in range(8)))
    assert sorted(counts) == list(range(1, 9))
    assert await records.find_upload(upload.upload_id) == upload
    with pytest.raises(UploadNotFound):
        await records.count_cut_timeout(new_id())


async def test_details_of_every_shape_survive(records: Ledger) -> None:
    """Names with dots and dollars, emptiness and absence are distinguished."""
    for details in [
        Details(),
        Details(extra={}),
        Details(extra={"$where": {"a.b": [None, True, 0.5, "ü", {}]}, "": 1.0}),
        Details(title="t", caption="c", color="#000000", duration=timedelta(microseconds=1)),
    ]:
        upload = await records.insert_upload(initialized(request_id="", details=details))
        assert await records.find_upload(upload.upload_id) == upload
