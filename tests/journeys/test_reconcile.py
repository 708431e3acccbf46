"""Ledger and bucket compared on real stores: what was planted is found, exactly."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from tests.journeys.assets import AssetFactory
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put, request_for
from tests.refusals import raises

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import DeleteAssetRequest
from assetlane.v1.upload_service_pb2 import CancelUploadRequest, CompleteUploadRequest
from assetlane_server.command.reports import delete_orphans, report_discrepancies
from assetlane_server.composition.app import new_id, object_store, utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import NotReady
from assetlane_server.model.reconciliation import Kind
from assetlane_server.model.upload import Upload
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.reconciler import Reconciler

LIMIT_S = 90.0
AGE = timedelta(hours=48)


def ignore(_line: str) -> None:
    """Nobody reads this report."""


@dataclass
class Bench:
    """Both sides, and a clock of its own."""

    records: MongoRecords
    store: S3ObjectStore
    settings: Settings
    ahead: timedelta = timedelta(days=3)

    def reconciler(self, ahead: timedelta | None = None) -> Reconciler:
        """Returns one that lives so far ahead of time."""
        later = self.ahead if ahead is None else ahead

        def now() -> datetime:
            return utc_now() + later

        return Reconciler(
            uploads=self.records,
            assets=self.records,
            store=self.store,
            prefix=self.settings.key_prefix,
            now=now,
            page_size=2,
        )

    async def found(self, ahead: timedelta | None = None) -> set[tuple[Kind, str]]:
        """Returns what is found, by kind and key."""
        return {(one.kind, one.key) async for one in self.reconciler(ahead).discrepancies()}

    async def plant(self, key: str) -> str:
        """Stores an object behind Assetlane's back and returns its key."""
        whole = f"{self.settings.key_prefix}{key}"
        await self.store.connection.ask(
            lambda client, bucket: client.put_object(Bucket=bucket, Key=whole, Body=b"planted")
        )
        return whole

    async def keys(self) -> set[str]:
        """Returns all keys that are there."""
        return {one.key for one in (await self.store.list_keys(self.settings.key_prefix, "")).objects}


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    """Ledger and bucket of the test's server."""
    async with opened(settings) as bench:
        yield bench


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Bench]:
    """Opens both sides."""
    limit = timedelta(seconds=10)
    uri = settings.mongo_uri.get_secret_value()
    async with (
        MongoRecords.open(uri, settings.mongo_database, call_timeout=limit) as records,
        object_store(settings) as store,
    ):
        yield Bench(records, store, settings)


@pytest.fixture
def assets(stubs: Stubs, web: aiohttp.ClientSession) -> AssetFactory:
    """Brings assets in."""
    return AssetFactory(stubs, web)


def keys_of(bench: Bench, asset: Asset, all_keys: set[str]) -> set[str]:
    """Returns the keys of an asset."""
    return {key for key in all_keys if f"/{asset.asset_id}/" in key}


async def test_what_was_planted_is_found_and_nothing_else(bench: Bench, assets: AssetFactory) -> None:
    """Orphans, phantoms and foreign keys among sound assets; the report counts them and says what they mean."""
    for _ in range(3):
        await assets.asset()
    lost, replaced = await assets.asset(), await assets.asset()
    all_keys = await bench.keys()
    (lost_key,) = keys_of(bench, lost, all_keys)
    (replaced_key,) = keys_of(bench, replaced, all_keys)
    unknown = await bench.plant(f"private/user/ann/{new_id()}/original.jpg")
    stray = await bench.plant(f"public/user/7f3a/a/{lost.asset_id}/large.jpg")
    strange = await bench.plant("private/readme.txt")
    await bench.store.delete([lost_key])
    await bench.plant(replaced_key.removeprefix(bench.settings.key_prefix))

    assert await bench.found() == {
        (Kind.ORPHAN, unknown),
        (Kind.ORPHAN, stray),
        (Kind.FOREIGN, strange),
        (Kind.PHANTOM, lost_key),
        (Kind.PHANTOM, replaced_key),
    }
    lines: list[str] = []
    assert not await report_discrepancies(bench.reconciler(), False, lines.append)
    assert lines[0] == (
        "Compared 7 objects and 5 assets: 2 orphans, 2 phantoms, 0 lingering multiparts, 1 foreign keys."
    )
    assert len(lines) == 6


async def test_a_sound_deployment_is_clean(bench: Bench, assets: AssetFactory, stubs: Stubs) -> None:
    """Also after deletions and cancellations, and with an upload still open."""
    await assets.asset()
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=(await assets.asset()).asset_id))
    cancelled = await stubs.uploads.RequestUpload(request_for())
    await put(assets.web, cancelled.write_targets[0])
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=cancelled.upload.upload_id))
    still_open = await stubs.uploads.RequestUpload(request_for())
    await put(assets.web, still_open.write_targets[0])

    assert await bench.found() == set()
    lines: list[str] = []
    assert await report_discrepancies(bench.reconciler(), True, lines.append)


async def test_a_put_after_a_cancellation_is_an_orphan_only_when_its_url_has_ended(
    bench: Bench, assets: AssetFactory, stubs: Stubs
) -> None:
    """Until then the sweeper will come back for it."""
    reply = await stubs.uploads.RequestUpload(request_for())
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=reply.upload.upload_id))
    assert await put(assets.web, reply.write_targets[0]) == 200
    (key,) = await bench.keys()

    assert await bench.found(timedelta(0)) == set()
    assert await bench.found() == {(Kind.ORPHAN, key)}


async def test_uploads_that_race_with_the_comparison_are_never_orphans(bench: Bench, assets: AssetFactory) -> None:
    """By a clock days ahead, for which nothing is too young: the order of reading alone protects them."""
    under_way = 4

    async def bring_in() -> None:
        nonlocal under_way
        for _ in range(8):
            await assets.asset()
        under_way -= 1

    found: set[tuple[Kind, str]] = set()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        for _ in range(under_way):
            tasks.create_task(bring_in())
        while under_way:
            found |= await bench.found()
    assert found == set()


async def test_an_upload_completed_while_it_is_looked_at_is_no_orphan(
    bench: Bench, assets: AssetFactory, stubs: Stubs
) -> None:
    """Right before its record is read, or right after."""
    find_uploads = bench.records.find_uploads
    for is_before in (True, False):
        reply = await stubs.uploads.RequestUpload(request_for())
        await put(assets.web, reply.write_targets[0])
        complete = CompleteUploadRequest(upload_id=reply.upload.upload_id)

        async def find_and_complete(
            upload_ids: Sequence[str], complete: CompleteUploadRequest = complete, is_before: bool = is_before
        ) -> dict[str, Upload | None]:
            if is_before:
                await stubs.uploads.CompleteUpload(complete)
            found = await find_uploads(upload_ids)
            await stubs.uploads.CompleteUpload(complete)
            return found

        bench.records.find_uploads = find_and_complete  # type: ignore[method-assign]  # at the worst moment
        assert await bench.found() == set()


async def test_an_asset_deleted_while_it_is_looked_at_is_no_phantom(
    bench: Bench, assets: AssetFactory, stubs: Stubs
) -> None:
    """Between the ledger's page and the look at the object, both go."""
    asset = await assets.asset()
    scan = bench.records.scan_uploads

    async def scan_then_delete(**filters: Any) -> list[Upload]:
        page = await scan(**filters)
        await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=asset.asset_id))
        return page

    bench.records.scan_uploads = scan_then_delete  # type: ignore[method-assign]  # a deletion at the worst moment
    reconciler = bench.reconciler()
    assert [one async for one in reconciler.discrepancies()] == []
    assert reconciler.counts.assets == 1
    assert await bench.keys() == set()


async def test_what_belongs_to_a_record_of_a_newer_version_is_left_alone(bench: Bench, assets: AssetFactory) -> None:
    """Its object is no orphan, and its multipart uploads do not linger: only that version knows."""
    asset = await assets.asset()
    await bench.records._uploads.update_one({"_id": asset.asset_id}, {"$set": {"status": "HELD"}})
    before = await bench.keys()
    assert await bench.found() == set()
    assert [one async for one in bench.reconciler().delete_orphans(AGE)] == []
    assert await bench.keys() == before


async def test_only_old_orphans_are_deleted_and_only_when_asked(bench: Bench, assets: AssetFactory) -> None:
    """Assets, foreign keys and phantoms stay as they are; a report alone changes nothing."""
    asset = await assets.asset()
    orphan = await bench.plant(f"private/user/ann/{new_id()}/original.jpg")
    foreign = await bench.plant("private/readme.txt")
    before = await bench.keys()

    young = bench.reconciler(timedelta(hours=47))
    await report_discrepancies(young, False, ignore)
    await delete_orphans(young, AGE, False, ignore)
    assert await bench.keys() == before

    lines: list[str] = []
    old = bench.reconciler(timedelta(hours=49))
    await report_discrepancies(old, False, ignore)
    assert await bench.keys() == before
    await delete_orphans(old, AGE, False, lines.append)
    assert await bench.keys() == before - {orphan}
    assert foreign in before
    assert keys_of(bench, asset, before)
    assert lines[0] == f"deleted  {orphan}"


async def test_with_the_wrong_ledger_nothing_is_deleted(bench: Bench, assets: AssetFactory, database_name: str) -> None:
    """Every object would be an orphan: the sentence names the settings to look at."""
    await assets.asset()
    before = await bench.keys()
    wrong = bench.settings.model_copy(update={"mongo_database": f"{database_name}_2"})
    async with opened(wrong) as mistaken:
        reconciler = mistaken.reconciler()
        assert not await report_discrepancies(reconciler, False, ignore)
        with raises(NotReady, reason="LEDGER_OF_ANOTHER_BUCKET", setting="ASSETLANE_MONGO_DATABASE"):
            await delete_orphans(reconciler, AGE, False, ignore)
        await mistaken.records._database.client.drop_database(wrong.mongo_database)
    assert await bench.keys() == before


async def test_what_nobody_will_put_together_is_found_and_aborted(bench: Bench, stubs: Stubs) -> None:
    """One of no upload, one of a server that died; not that of an upload that is still open."""
    request = request_for()
    request.variants[0].size_bytes = bench.settings.multipart_threshold_bytes
    request.variants[0].ClearField("sha256")
    upload_id = (await stubs.uploads.RequestUpload(request)).upload.upload_id
    upload = await bench.records.find_upload(upload_id)
    assert upload is not None
    (variant,) = upload.variants
    await bench.store.multiparts.open(variant)
    unknown = f"{bench.settings.key_prefix}private/user/ann/{new_id()}/original.bin"
    await bench.store.multiparts.open(replace(variant, key=unknown))

    assert await bench.found(timedelta(minutes=5)) == set()
    assert await bench.found() == {(Kind.LINGERING, variant.key), (Kind.LINGERING, unknown)}
    deleted = [one.key async for one in bench.reconciler().delete_orphans(timedelta(hours=48))]
    assert sorted(deleted) == sorted([variant.key, unknown])
    assert await bench.found() == set()
    left = (await bench.store.multiparts.list_open(bench.settings.key_prefix, "")).open
    assert [one.multipart_id for one in left] == list(upload.multipart_ids.values())
