"""`migrate`: a ledger that version 0.1.0 wrote becomes one of this version, and says the same."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from pymongo.errors import AutoReconnect
from tests.log_events import logged
from tests.records.hubs import LIMIT
from tests.records.old_ledger import Collections, Document, read, restore
from tests.records.stores import drop, mongo
from tests.refusals import raises

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import Advice, LedgerIsOld, NotReady, RecordNotReadable
from assetlane_server.model.upload import Details, LedgerTime, Status, Upload
from assetlane_server.records.documents import upload_of
from assetlane_server.records.migration import PAGE_SIZE, MigrationReport
from assetlane_server.records.mongo import MongoRecords

LATER: Final = datetime(2026, 12, 1, tzinfo=UTC)
ALL: Final = {"uploads": 19, "assets": 10, "rebuilt": 2, "finished": 1, "contradicted": 0, "lost": 1, "unreadable": 0}


@pytest.fixture
def old() -> Collections:
    """What version 0.1.0 wrote."""
    return read()


@pytest.fixture
async def ledger(stack: StackAddress, database_name: str) -> AsyncIterator[Any]:
    """A database with the old ledger and its indexes."""
    async with mongo(stack.mongo_uri) as client:
        await restore(client[database_name])
        yield client[database_name]
    await drop(stack.mongo_uri, database_name)


async def migrated(stack: StackAddress, database_name: str, page_size: int = PAGE_SIZE) -> MigrationReport:
    """Migrates to the end and returns the report."""
    runs = MongoRecords.migrate(stack.mongo_uri, database_name, call_timeout=LIMIT, now=LATER, page_size=page_size)
    return [report async for report in runs][-1]


async def stored(ledger: Any) -> dict[str, Upload]:
    """Returns every upload of the new form, read with time zones."""
    options = ledger.codec_options.with_options(tz_aware=True)
    documents = await ledger.get_collection("uploads", codec_options=options).find({}).to_list(None)
    return {document["_id"]: upload_of(document) for document in documents}


def by_request(uploads: Mapping[str, Upload], request_id: str) -> Upload:
    """Returns the upload of a request."""
    return next(upload for upload in uploads.values() if upload.request_id == request_id)


async def test_a_server_refuses_an_old_ledger_and_says_what_to_do(
    stack: StackAddress, database_name: str, ledger: Any
) -> None:
    """A ledger that has only the old uploads, or only the old assets, is refused as well."""
    for dropped in (None, "assets"):
        if dropped:
            await ledger.drop_collection(dropped)
        with raises(LedgerIsOld, reason="LEDGER_IS_OLD", names=["0.1.0", database_name]):
            async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
                pytest.fail("it opened")
    await ledger["meta"].insert_one({"_id": "ledger", "schema": 3})
    with raises(NotReady, reason="LEDGER_IS_NEWER", limits=[3, 2], names=[database_name]):
        async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
            pytest.fail("it opened")


async def test_every_record_says_what_it_said(
    stack: StackAddress, database_name: str, ledger: Any, old: Collections
) -> None:
    """Field by field, uploads and assets; then it serves, and a second run finds nothing to do."""
    report = await migrated(stack, database_name)
    assert vars(report) == ALL
    new = await stored(ledger)
    assets = {asset["_id"]: asset for asset in old["assets"]}
    uploads = {upload["_id"]: upload for upload in old["uploads"]}
    assert new.keys() == assets.keys() | uploads.keys()
    for upload_id, was in uploads.items():
        check_upload(new[upload_id], was, assets.get(upload_id))
    for asset_id, was in assets.items():
        check_asset(new[asset_id], was)
    assert "assets" not in await ledger.list_collection_names()
    assert await migrated(stack, database_name) == MigrationReport()
    assert await stored(ledger) == new
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT) as records:
        upload = by_request(new, "completed")
        assert await records.find_requested("ann", "completed") == upload
        listed = await records.list_assets(partition="user/ann", before_id="", limit=100)
        assert [asset.asset_id for asset in listed] == sorted(
            (one for one, was in assets.items() if was["partition"] == "user/ann" and "delete_time" not in was),
            reverse=True,
        )
        changed = await records.changed_assets(partition="user/ann", since=LedgerTime(0), after=None, limit=100)
        assert len(changed) == sum(was["partition"] == "user/ann" for was in assets.values())
    assert await ledger["quotas"].count_documents({}) == len(old["quotas"])


def check_upload(new: Upload, was: Document, asset: Document | None) -> None:
    """Compares an upload with its old document."""
    assert (new.uid, new.partition, new.asset_partition) == (was["uid"], was["partition"], was["asset_partition"])
    assert (new.request_id, new.session_id) == (was.get("request_id", ""), was.get("session_id", ""))
    assert (new.file_path, new.expiration_hours) == (was["file_path"], was["expiration_hours"])
    assert (new.create_time, new.expire_time) == (was["create_time"], was["expire_time"])
    assert new.kept_for == timedelta(seconds=was["kept_for_s"])
    history = [(one["revision"], one["status"], one["time"], one.get("reason", "")) for one in was["history"]]
    assert [(one.revision, one.status, one.time, one.reason) for one in new.history][: len(history)] == history
    assert [one.key for one in new.variants] == [one["key"] for one in was["variants"]]
    assert [one.size_bytes for one in new.variants] == [one.get("size_bytes", 0) for one in was["variants"]]
    assert dict(new.multipart_ids) == was.get("multipart_ids", {})
    assert new.is_swept is was.get("is_swept", False)
    failure = was.get("failure")
    assert (new.failure and new.failure.reason) == (failure and failure["reason"])
    assert bool(new.request_sha256) is bool(new.request_id)
    if asset is None:
        assert new.asset is None
        assert len(new.history) == len(history)
        assert new.sweep_time == (None if new.status is Status.COMPLETED else was["sweep_time"])
        check_details(new.details, was.get("details", {}))


def check_asset(new: Upload, was: Document) -> None:
    """Compares an asset with its old document."""
    asset = new.asset
    assert asset is not None
    assert new.status is Status.COMPLETED
    assert (asset.asset_id, asset.uid, asset.partition) == (was["_id"], was["uid"], was["partition"])
    assert (asset.file_path, asset.session_id) == (was["file_path"], was.get("session_id", ""))
    assert (asset.create_time, asset.refresh_time) == (was["create_time"], was["refresh_time"])
    assert (asset.revision, asset.delete_time) == (was["revision"], was.get("delete_time"))
    assert new.write_end >= was["write_expire_time"]
    for variant, then in zip(asset.variants, was["variants"], strict=True):
        for name in ("name", "key", "content_type", "size_bytes", "sha256", "etag", "version_id", "parts_sha256"):
            assert getattr(variant, name) == then.get(name, type(getattr(variant, name))())
    if asset.is_deleted:
        assert asset.details == new.details == Details()
        assert new.sweep_time is not None
    else:
        check_details(asset.details, was.get("details", {}))
        assert (new.sweep_time is None) is not new.is_multipart


def check_details(new: Details, was: Document) -> None:
    """Compares what people said."""
    duration = was.get("duration_us")
    assert (new.title, new.caption, new.color) == tuple(was.get(one, "") for one in ("title", "caption", "color"))
    assert new.duration == (None if duration is None else timedelta(microseconds=duration))
    assert new.extra == was.get("extra")


async def test_a_run_that_is_interrupted_anywhere_is_finished_by_the_next(
    stack: StackAddress, database_name: str, ledger: Any, old: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each write of either collection, with pages of three: what comes of it in the end is the same."""
    collection = type(ledger["uploads"])
    bulk_write = collection.bulk_write
    left = interruptions = 0

    async def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal left
        result = await bulk_write(self, *arguments, **named)
        left -= 1
        if left == 0:
            raise AutoReconnect("interrupted")
        return result

    report = None
    while report is None:
        left = interruptions + 1
        with monkeypatch.context() as patch:
            patch.setattr(collection, "bulk_write", failing)
            try:
                report = await migrated(stack, database_name, page_size=3)
            except NotReady as error:
                interruptions += 1
                reason = error.reason
        if report is None:
            assert reason == "MIGRATION_INTERRUPTED"
            with pytest.raises(LedgerIsOld):
                async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
                    pytest.fail("it opened")
    assert report.unreadable == 0
    new = await stored(ledger)
    assets = {asset["_id"]: asset for asset in old["assets"]}
    for was in old["uploads"]:
        check_upload(new[was["_id"]], was, assets.get(was["_id"]))
    for was in old["assets"]:
        check_asset(new[was["_id"]], was)
    assert len(new) == 21
    assert interruptions > 3


async def test_a_repeat_of_an_old_request_finds_its_upload(
    stack: StackAddress, database_name: str, ledger: Any
) -> None:
    """What was asked is compared by a digest that the old form did not have."""
    await migrated(stack, database_name)
    upload = by_request(await stored(ledger), "initialized")
    assert len(upload.request_sha256) == 32
    assert upload.details.extra == {"likes": 3.0, "tags": ["sea", None, {"deep": True}]}


async def test_damaged_uploads_are_left_and_counted(
    stack: StackAddress, database_name: str, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are migrated, and servers start: they skip what they cannot read."""
    damage: dict[str, Document] = {
        "cancelled": {"$unset": {"history": ""}},
        "initialized": {"$set": {"history": []}},
        "pending": {"$unset": {"variants": "", "request_id": ""}},
        "expired": {"$set": {"variants": [7]}, "$unset": {"request_id": ""}},
    }
    ids = set()
    for request_id, how in damage.items():
        ids.add((await ledger["uploads"].find_one_and_update({"request_id": request_id}, how))["_id"])
    report = await migrated(stack, database_name)
    assert report.unreadable == len(damage)
    assert {one.record.split()[-1] for one in logged(caplog, "RECORD_LEFT")} == ids
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT) as records:
        found = await records.list_uploads(uid="ann", session_id="", statuses=(), before_id="", limit=100)
        assert found
        assert not ids & {upload.upload_id for upload in found}
        with pytest.raises(RecordNotReadable) as refused:  # its id is taken
            await records.find_requested("ann", "cancelled")
        assert refused.value.record_id in ids
        assert refused.value.advice is Advice.UPDATE_SERVER


async def test_a_damaged_asset_waits_with_its_upload_until_it_is_repaired(
    stack: StackAddress, database_name: str, ledger: Any, old: Collections
) -> None:
    """Nothing of either is lost; until then no server starts, which would not know of the asset."""
    sound = next(asset for asset in old["assets"] if "delete_time" not in asset and asset["uid"] == "ann")
    upload = await ledger["uploads"].find_one({"_id": sound["_id"]})
    assert upload["status"] == "COMPLETED"
    await ledger["assets"].update_one({"_id": sound["_id"]}, {"$unset": {"variants": ""}})
    await ledger["assets"].insert_one({"_id": "0" * 26, "partition": "p"})  # of no upload
    assert (await migrated(stack, database_name)).unreadable == 2
    assert await ledger["uploads"].find_one({"_id": sound["_id"]}) == upload
    for left in (2, 1):
        with pytest.raises(LedgerIsOld):
            async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT):
                pytest.fail("it opened")
        assert (await migrated(stack, database_name)).unreadable == left
        await ledger["assets"].delete_one({"_id": "0" * 26})
    await ledger["assets"].replace_one({"_id": sound["_id"]}, sound)
    assert (await migrated(stack, database_name)).unreadable == 0
    check_asset((await stored(ledger))[sound["_id"]], sound)
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT) as records:
        assert sound["_id"] in await records.find_assets([sound["_id"]])


async def test_many_records_are_migrated_page_by_page(
    stack: StackAddress, database_name: str, ledger: Any, old: Collections
) -> None:
    """More than a page of each collection; the report grows from page to page."""
    template = next(asset for asset in old["assets"] if "delete_time" not in asset)
    upload = next(one for one in old["uploads"] if one["_id"] == template["_id"])
    ids = [f"01aaaaaaaaaaaaaaaaaaaa{number:04d}" for number in range(450)]
    await ledger["assets"].insert_many([{**template, "_id": one} for one in ids])
    await ledger["uploads"].insert_many([{**upload, "_id": one, "request_id": one} for one in ids[:300]])
    counts = []
    runs = MongoRecords.migrate(stack.mongo_uri, database_name, call_timeout=LIMIT, now=LATER)
    async for report in runs:
        counts.append(report.assets)
        await asyncio.sleep(0)
    assert counts[:3] == [200, 400, 460]
    assert counts[-1] == 460
    assert (report.uploads, report.rebuilt) == (19 + 300, 2 + 150)
    new = await stored(ledger)
    assert all(new[one].asset is not None for one in ids)
