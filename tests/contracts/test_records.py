"""The contract of UploadRecords and AssetRecords: what the heart relies on, on a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.records.stores import drop
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.app import new_id
from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.asset import Asset, StoredObject, asset_of
from assetlane_server.uploads.upload import Details, Failure, Status, Upload


@pytest.fixture(params=["mongo"])
async def records(
    request: pytest.FixtureRequest, stack: StackAddress, database_name: str
) -> AsyncIterator[MongoRecords]:
    """Each adapter there is, open and empty."""
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=timedelta(seconds=10)) as opened:
        yield opened
    await drop(stack.mongo_uri, database_name)


def initialized(**changes: Any) -> Upload:
    """Returns a fresh INITIALIZED upload with an id of its own."""
    return replace(requested(**changes), upload_id=new_id()).initialized(NOW, QUARTER)


def asset(**changes: object) -> Asset:
    """Returns a fresh asset with an id of its own."""
    upload = initialized()
    stored = [StoredObject(one.size_bytes, one.content_type, "etag", "v1", b"\x02" * 32) for one in upload.variants]
    return replace(asset_of(upload, stored, NOW), **changes)  # type: ignore[arg-type]  # a test's fields


async def test_what_was_inserted_comes_back(records: MongoRecords) -> None:
    """Every field, to the millisecond."""
    upload = initialized()
    assert await records.insert_upload(upload) == upload
    assert await records.find_upload(upload.upload_id) == upload
    assert await records.find_upload("missing") is None


async def test_of_sixteen_with_one_request_id_one_is_stored_and_all_get_it(records: MongoRecords) -> None:
    """Unique per owner; without a request id every upload is new."""
    uploads = [initialized(request_id="same") for _ in range(16)]
    stored = await asyncio.gather(*(records.insert_upload(upload) for upload in uploads))
    assert len({upload.upload_id for upload in stored}) == 1
    others = [initialized(request_id="same", uid="other"), initialized(request_id=""), initialized(request_id="")]
    for other in others:
        assert await records.insert_upload(other) == other


async def test_of_sixteen_advances_from_one_revision_one_wins(records: MongoRecords) -> None:
    """Losing changes nothing, and the history has every change once."""
    upload = await records.insert_upload(initialized())
    attempts = [upload.cancelled(NOW) if i % 2 else upload.uploaded(NOW) for i in range(16)]
    won = await asyncio.gather(*(records.advance_upload(attempt) for attempt in attempts))
    assert won.count(True) == 1
    assert await records.find_upload(upload.upload_id) == attempts[won.index(True)]


async def test_a_failure_is_kept(records: MongoRecords) -> None:
    """Reason and sentence."""
    upload = await records.insert_upload(initialized())
    failed = upload.failed(NOW, Failure("SIZE_MISMATCH", "too long"))
    assert await records.advance_upload(failed)
    assert await records.find_upload(upload.upload_id) == failed


async def test_renewal_needs_the_revision_and_never_goes_back(records: MongoRecords) -> None:
    """It is no status change: the revision stays."""
    upload = await records.insert_upload(initialized())
    later, earlier = upload.renewed(NOW + timedelta(minutes=5), QUARTER), replace(upload, targets_signed_at=NOW)
    assert await records.renew_targets(later)
    assert await records.renew_targets(earlier)
    assert await records.find_upload(upload.upload_id) == later
    await records.advance_upload(later.cancelled(NOW))
    assert not await records.renew_targets(later)


async def test_uploads_are_listed_by_descending_id_below_a_bound(records: MongoRecords) -> None:
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


async def test_uploads_are_found_by_their_ids(records: MongoRecords) -> None:
    """Those that exist, in whichever status they are."""
    open_one = await records.insert_upload(initialized(request_id=""))
    other = await records.insert_upload(initialized(request_id=""))
    await records.advance_upload(other.cancelled(NOW))
    found = await records.find_uploads([open_one.upload_id, other.upload_id, "missing"])
    assert found == {open_one.upload_id: open_one, other.upload_id: other.cancelled(NOW)}
    assert await records.find_uploads([]) == {}


async def test_assets_of_all_partitions_are_scanned_by_ascending_id(records: MongoRecords) -> None:
    """Page by page to the end, without the deleted ones."""
    assets = [await records.insert_asset(asset(partition=partition)) for partition in ("a", "b", "public", "a")]
    await records.advance_asset(assets[1].deleted(NOW))
    kept = sorted((one for one in assets if one is not assets[1]), key=lambda one: one.asset_id)
    first = await records.scan_assets(after_id="", limit=2)
    assert first == kept[:2]
    assert await records.scan_assets(after_id=first[-1].asset_id, limit=2) == kept[2:]
    assert await records.scan_assets(after_id=kept[-1].asset_id, limit=2) == []


async def test_an_asset_is_inserted_once(records: MongoRecords) -> None:
    """The second insert of an id returns the first."""
    first = asset()
    second = replace(first, create_time=NOW + timedelta(days=1))
    assert await records.insert_asset(first) == first
    assert await records.insert_asset(second) == first
    assert await records.find_assets([first.asset_id, "missing"]) == {first.asset_id: first}


async def test_of_sixteen_asset_changes_from_one_revision_one_wins(records: MongoRecords) -> None:
    """Refreshes and deletions race as status changes do; losing changes nothing."""
    one = await records.insert_asset(asset())
    later = NOW + timedelta(minutes=1)
    attempts = [one.deleted(later) if i % 2 else one.refreshed(later) for i in range(16)]
    won = await asyncio.gather(*(records.advance_asset(attempt) for attempt in attempts))
    assert won.count(True) == 1
    assert (await records.find_assets([one.asset_id]))[one.asset_id] == attempts[won.index(True)]


async def test_a_deleted_asset_is_found_and_changed_but_not_listed(records: MongoRecords) -> None:
    """It stays in the ledger, marked; whoever asks what changed is told."""
    kept, gone = await records.insert_asset(asset()), await records.insert_asset(asset())
    later = NOW + timedelta(minutes=1)
    assert await records.advance_asset(gone.deleted(later))
    partition = kept.partition
    assert await records.list_assets(partition=partition, before_id="", limit=10) == [kept]
    assert await records.changed_assets(partition=partition, since=NOW) == [kept, gone.deleted(later)]
    assert await records.changed_assets(partition=partition, since=later) == [gone.deleted(later)]
    assert await records.changed_assets(partition="other", since=NOW) == []


async def test_details_of_every_shape_survive(records: MongoRecords) -> None:
    """Names with dots and dollars, emptiness and absence are told apart."""
    for details in [
        Details(),
        Details(extra={}),
        Details(extra={"$where": {"a.b": [None, True, 0.5, "ü", {}]}, "": 1.0}),
        Details(title="t", caption="c", color="#000000", duration=timedelta(microseconds=1)),
    ]:
        upload = await records.insert_upload(initialized(request_id="", details=details))
        assert await records.find_upload(upload.upload_id) == upload
