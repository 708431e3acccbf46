"""What the sweeper settles, on real stores, with a clock that the test moves."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import aiohttp
import pytest
from PIL import Image
from tests.journeys.steps import BODY, put
from tests.memory.server import NoCutter
from yarl import URL

from assetlane.v1.upload_pb2 import WriteTarget as WriteTargetMessage
from assetlane_server.composition.app import new_id, object_store, server_cuts, utc_now
from assetlane_server.composition.use_cases import use_cases
from assetlane_server.config.settings import Settings
from assetlane_server.images.workers import can_cut
from assetlane_server.model.admission import UploadRequest
from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.errors import UploadNotFound
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import SWEEP_MARGIN, WORK_LEASE, Details, Status, Upload, VariantPromise
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.rpc.messages import target_messages
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper

QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)


class Deployment:
    """The use cases on real stores, with two sweepers as of two servers, and a clock that goes forward on demand."""

    def __init__(
        self, records: MongoRecords, store: S3ObjectStore, web: aiohttp.ClientSession, settings: Settings
    ) -> None:
        self.ahead = timedelta(0)
        self.records = records
        self.store = store
        self._web = web
        changes = StatusChanges(records)
        cases = use_cases(
            records=records,
            changes=changes,
            store=store,
            server_cuts=server_cuts(settings, records, store, self.now),
            terms=replace(settings.terms, can_cut=can_cut),
            signer=TokenSigner(records.token_key),
            new_id=new_id,
            now=self.now,
            progress_interval=timedelta(seconds=1),
        )
        self.requests, self.completions, self.uploads = cases.requests, cases.completions, cases.uploads
        self.assets = cases.assets
        self._sweepers = [
            Sweeper(
                records=records,
                changes=changes,
                store=store,
                completions=self.completions,
                interval=timedelta(seconds=1),
                now=self.now,
            )
            for _ in range(2)
        ]

    def now(self) -> datetime:
        """The clock of this deployment."""
        return utc_now() + self.ahead

    async def requested(self, write_life: timedelta | None = None) -> tuple[Upload, WriteTargetMessage]:
        """Returns a fresh upload and the way in."""
        promise = VariantPromise("original", "text/plain", len(BODY))
        request = UploadRequest(uid="7f3a", file_path="a.jpg", variants=(promise,), write_url_lifetime=write_life)
        upload, targets = await self.requests.request_upload(request, UNRESTRICTED)
        return upload, target_messages(targets)[0]

    async def put(self, target: WriteTargetMessage, body: bytes = BODY) -> None:
        """PUTs the bytes."""
        assert await put(self._web, target, body) == 200

    async def put_cut(self, key: str, body: bytes) -> None:
        """Stores a cut, as a server that died had done."""
        promise = VariantPromise("cut", "image/jpeg", len(body), sha256(body).digest(), key=key)
        request = self.store.presign_put(promise, utc_now(), QUARTER)
        async with self._web.put(URL(request.url, encoded=True), headers=request.headers, data=body) as answer:
            assert answer.status == 200

    async def is_stored(self, upload: Upload) -> bool:
        """Whether there is an object of the upload."""
        return await self.store.head(upload.variants[0].key) is not None

    async def sweep_after(self, later: timedelta) -> None:
        """Moves the clock forward and lets both sweepers look."""
        self.ahead += later
        await asyncio.gather(*(sweeper.sweep() for sweeper in self._sweepers))

    async def status(self, upload: Upload) -> Status | None:
        """Returns the stored status, None for a record that is gone."""
        stored = await self.records.find_upload(upload.upload_id)
        return None if stored is None else stored.status


@pytest.fixture
async def deployment(settings: Settings, web: aiohttp.ClientSession) -> AsyncIterator[Deployment]:
    """A deployment without a network edge."""
    uri = settings.mongo_uri.get_secret_value()
    async with AsyncExitStack() as resources:
        records = await resources.enter_async_context(
            MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=10))
        )
        store = await resources.enter_async_context(object_store(settings))
        yield Deployment(records, store, web, settings)


async def test_who_vanished_after_the_put_gets_the_asset(deployment: Deployment) -> None:
    """As soon as the targets ran out; not before."""
    upload, target = await deployment.requested()
    await deployment.put(target)
    await deployment.sweep_after(QUARTER - timedelta(minutes=1))
    assert await deployment.status(upload) is Status.INITIALIZED
    await deployment.sweep_after(timedelta(minutes=1) + 2 * SWEEP_MARGIN)
    assert await deployment.status(upload) is Status.COMPLETED
    assert (await deployment.assets.get_asset(upload.upload_id, UNRESTRICTED)).asset_id == upload.upload_id


async def test_who_vanished_before_the_put_expires_at_the_deadline(deployment: Deployment) -> None:
    """Not at the end of the targets, which the owner may renew until then."""
    upload, _ = await deployment.requested()
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert await deployment.status(upload) is Status.INITIALIZED
    await deployment.sweep_after(DAY)
    assert await deployment.status(upload) is Status.EXPIRED


async def test_a_server_that_died_while_proving_is_finished_by_another(deployment: Deployment) -> None:
    """UPLOADED with nobody at work: once its lease is over it completes."""
    upload, target = await deployment.requested()
    await deployment.put(target)
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    assert await deployment.status(upload) is Status.COMPLETED


async def test_an_asset_that_was_deleted_stays_deleted_when_its_upload_is_completed_again(
    deployment: Deployment,
) -> None:
    """The owner deleted the asset, put the bytes through a URL that still lived, and completed once more."""
    upload, target = await deployment.requested()
    await deployment.put(target)
    await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    await deployment.assets.delete_asset(upload.upload_id, UNRESTRICTED)
    await deployment.put(target)
    completed = await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert (completed.status, completed.readable_asset) == (Status.COMPLETED, None)
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert not await deployment.is_stored(upload)


async def test_what_is_put_after_a_cancel_is_gone_once_the_url_is(deployment: Deployment) -> None:
    """No store can refuse a URL that still lives; the sweeper comes when it does not."""
    upload, target = await deployment.requested()
    await deployment.uploads.cancel_upload(upload.upload_id, UNRESTRICTED)
    await deployment.put(target)
    await deployment.sweep_after(QUARTER - timedelta(minutes=1))
    assert await deployment.is_stored(upload)
    await deployment.sweep_after(timedelta(minutes=1) + 2 * SWEEP_MARGIN)
    assert not await deployment.is_stored(upload)


async def test_what_is_put_after_a_delete_is_gone_once_the_url_is(deployment: Deployment) -> None:
    """A deleted asset's key is written again through its still living URL: nothing stays."""
    upload, target = await deployment.requested()
    await deployment.put(target)
    await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    await deployment.assets.delete_asset(upload.upload_id, UNRESTRICTED)
    await deployment.put(target)
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    await deployment.put(target)
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert not await deployment.is_stored(upload)
    await deployment.put(target)  # as slow a one as there may be: it began while its URL lived
    await deployment.sweep_after(DAY)
    assert not await deployment.is_stored(upload)
    stored = await deployment.records.find_upload(upload.upload_id)
    assert stored is not None
    assert stored.asset is not None
    assert stored.asset.is_deleted
    assert stored.is_swept


async def test_of_a_deleted_asset_nothing_stays(deployment: Deployment) -> None:
    """What people said goes at once, where it was filed with the last of its objects, and the record after 8 days."""
    promise = VariantPromise("original", "text/plain", len(BODY))
    details = Details("a title", "a caption", "#102030", timedelta(seconds=3), {"a": "b"})
    request = UploadRequest(uid="7f3a", file_path="a/secret.txt", variants=(promise,), details=details)
    upload, targets = await deployment.requests.request_upload(request, UNRESTRICTED)
    await deployment.put(target_messages(targets)[0])
    await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert (await deployment.assets.get_asset(upload.upload_id, UNRESTRICTED)).details == details
    await deployment.assets.delete_asset(upload.upload_id, UNRESTRICTED)

    async def said() -> str:
        document = await deployment.records._uploads.find_one({"_id": upload.upload_id})
        return str(document or "")

    at_once = await said()
    assert not [word for word in ("a title", "a caption", "#102030", "duration", "extra") if word in at_once]
    assert "secret" in at_once
    for later in (WORK_LEASE, QUARTER, DAY):
        await deployment.sweep_after(later + 2 * SWEEP_MARGIN)
    swept = await said()
    assert "secret" not in swept
    assert "private/" not in swept
    assert "7f3a" in swept
    await deployment.sweep_after(8 * DAY)
    assert await said() == ""


async def test_an_interrupted_delete_is_finished(deployment: Deployment) -> None:
    """The server died after it marked the asset: its objects go all the same."""
    upload, target = await deployment.requested()
    await deployment.put(target)
    completed = await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert completed.asset is not None
    await deployment.records.advance_asset(completed.asset.deleted(deployment.now()))
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    assert not await deployment.is_stored(upload)


async def test_records_without_an_asset_age_out_and_those_with_one_never(deployment: Deployment) -> None:
    """A month after its end the record of a cancelled upload is gone; an asset stays, with its upload and its bytes."""
    completed, target = await deployment.requested()
    await deployment.put(target)
    await deployment.completions.complete_upload(completed.upload_id, UNRESTRICTED)
    cancelled, _ = await deployment.requested()
    await deployment.uploads.cancel_upload(cancelled.upload_id, UNRESTRICTED)
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert [await deployment.status(upload) for upload in (completed, cancelled)] == ["COMPLETED", "CANCELLED"]
    await deployment.sweep_after(timedelta(days=31))
    assert [await deployment.status(upload) for upload in (completed, cancelled)] == [Status.COMPLETED, None]
    assert (await deployment.assets.get_asset(completed.upload_id, UNRESTRICTED)).asset_id == completed.upload_id
    assert await deployment.is_stored(completed)


async def test_a_renewal_puts_the_sweeper_off(deployment: Deployment) -> None:
    """Renewed targets live on; the upload is looked at when they do not."""
    request = UploadRequest(
        uid="7f3a", request_id="r", file_path="a.jpg", variants=(VariantPromise("original", "text/plain", len(BODY)),)
    )
    upload, _ = await deployment.requests.request_upload(request, UNRESTRICTED)
    deployment.ahead = timedelta(minutes=10)
    await deployment.requests.request_upload(request, UNRESTRICTED)
    stored = await deployment.records.find_upload(upload.upload_id)
    assert stored is not None
    assert stored.sweep_time is not None
    assert stored.sweep_time - deployment.now() > QUARTER - timedelta(minutes=1)


async def test_who_renewed_late_and_vanished_gets_the_asset_all_the_same(deployment: Deployment) -> None:
    """The sweeper had put the upload off to its deadline; renewed targets bring it back when they run out."""
    request = UploadRequest(
        uid="7f3a", request_id="r", file_path="a.jpg", variants=(VariantPromise("original", "text/plain", len(BODY)),)
    )
    upload, targets = await deployment.requests.request_upload(request, UNRESTRICTED)
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    await deployment.requests.request_upload(request, UNRESTRICTED)
    await deployment.put(target_messages(targets)[0])
    await deployment.sweep_after(QUARTER + 2 * SWEEP_MARGIN)
    assert await deployment.status(upload) is Status.COMPLETED


async def test_of_many_sweepers_one_takes_each_upload(deployment: Deployment) -> None:
    """Claiming is a conditional update: the second finds the lease taken."""
    upload, _ = await deployment.requested()
    lease = deployment.now() + WORK_LEASE
    claims = await asyncio.gather(
        *(deployment.records.reschedule_upload(upload, lease, is_swept=False) for _ in range(8))
    )
    assert claims.count(True) == 1


@pytest.mark.parametrize("stored", [0, 1, 3])
async def test_a_server_that_died_while_cutting_is_finished_by_another(deployment: Deployment, stored: int) -> None:
    """With none, one or all of the cuts stored: the asset has all three, and they are as it says."""
    body = io.BytesIO()
    Image.new("RGB", (1200, 800), "teal").save(body, "JPEG")
    promise = VariantPromise("original", "image/jpeg", len(body.getvalue()))
    request = UploadRequest(uid="7f3a", file_path="a.jpg", variants=(promise,), cut_plan=CutPlan())
    upload, targets = await deployment.requests.request_upload(request, UNRESTRICTED)
    await deployment.put(target_messages(targets)[0], body.getvalue())
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    assert upload.cut_plan is not None
    for size in upload.cut_plan.sizes[:stored]:
        key = upload.cut_plan.key(size.name, "image/jpeg")
        await deployment.put_cut(key, b"what an earlier version made")
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    asset = await deployment.assets.get_asset(upload.upload_id, UNRESTRICTED)
    assert [variant.name for variant in asset.variants] == ["original", "small", "medium", "large"]
    assert sum(variant.size_bytes == 28 for variant in asset.variants) == stored
    for variant in asset.variants:
        found = await deployment.store.head(variant.key)
        assert found is not None
        assert (found.size_bytes, found.etag, found.sha256) == (variant.size_bytes, variant.etag, variant.sha256)


async def test_a_server_that_died_over_a_broken_picture_leaves_the_same_asset_to_the_sweeper(
    deployment: Deployment,
) -> None:
    """Without cuts, with the notice that its caller would have read."""
    encoded = io.BytesIO()
    Image.effect_noise((500, 500), 90).save(encoded, "JPEG")
    body = encoded.getvalue()[:-2000]
    promise = VariantPromise("original", "image/jpeg", len(body))
    request = UploadRequest(uid="7f3a", file_path="a.jpg", variants=(promise,), cut_plan=CutPlan())
    upload, targets = await deployment.requests.request_upload(request, UNRESTRICTED)
    await deployment.put(target_messages(targets)[0], body)
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    asset = await deployment.assets.get_asset(upload.upload_id, UNRESTRICTED)
    assert [variant.name for variant in asset.variants] == ["original"]
    assert [notice.reason for notice in asset.notices] == ["IMAGE_BROKEN"]


async def test_cuts_without_time_are_counted_in_the_ledger(deployment: Deployment) -> None:
    """By every server alike, and only of an upload that is there."""
    upload, _ = await deployment.requested()
    counts = await asyncio.gather(*(deployment.records.count_cut_timeout(upload.upload_id) for _ in range(3)))
    assert sorted(counts) == [1, 2, 3]
    assert await deployment.records.find_upload(upload.upload_id) == upload
    with pytest.raises(UploadNotFound):
        await deployment.records.count_cut_timeout("nobody's")


async def test_cuts_that_nobody_wants_any_more_go_with_their_upload(deployment: Deployment) -> None:
    """A server died after it had stored a cut, and then the original was lost: FAILED, and nothing stays."""
    promise = VariantPromise("original", "image/jpeg", 5)
    request = UploadRequest(uid="7f3a", file_path="a.jpg", variants=(promise,), cut_plan=CutPlan())
    upload, _ = await deployment.requests.request_upload(request, UNRESTRICTED)
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    assert upload.cut_plan is not None
    keys = [upload.cut_plan.key("small", content_type) for content_type in ("image/jpeg", "image/png", "image/webp")]
    for key in keys:
        await deployment.put_cut(key, b"a cut")
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    assert await deployment.status(upload) is Status.FAILED
    assert [await deployment.store.head(key) for key in keys] == [None, None, None]


async def test_a_long_cut_keeps_other_servers_away(
    deployment: Deployment,
) -> None:
    """Its lease is renewed for as long as it takes, and not after."""
    upload, _ = await deployment.requested()
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    first = await deployment.records.find_upload(upload.upload_id)
    assert first is not None
    assert first.sweep_time is not None
    cuts = ServerCuts(
        cutter=NoCutter(),
        store=deployment.store,
        records=deployment.records,
        at_once=1,
        now=deployment.now,
        renewal=timedelta(milliseconds=10),
    )
    deployment.ahead += timedelta(seconds=40)
    async with cuts.lease(first), asyncio.timeout(20):
        while (later := await deployment.records.find_upload(upload.upload_id)) is not None:
            assert later.sweep_time is not None
            if later.sweep_time >= first.sweep_time + timedelta(seconds=40):
                break


HOURS = timedelta(hours=1)


async def test_a_put_that_begins_six_hours_after_its_request_is_stored(deployment: Deployment) -> None:
    """With a write URL of seven hours; one that is tampered with is refused, and so is one whose time is over."""
    deployment.ahead = -6 * HOURS  # the request was six hours ago
    upload, target = await deployment.requested(7 * HOURS)
    _, short = await deployment.requested()
    deployment.ahead = timedelta(0)
    put_now = target.single_put
    for header, value in (("content-type", "text/html"), ("cache-control", "public"), ("if-none-match", "")):
        changed = type(target)()
        changed.CopyFrom(target)
        changed.single_put.headers[header] = value
        assert await put(deployment._web, changed, BODY) == 403
    longer = type(target)()
    longer.CopyFrom(target)
    longer.single_put.url = put_now.url.replace("X-Amz-Expires=25200", "X-Amz-Expires=604800")
    assert longer.single_put.url != put_now.url
    assert await put(deployment._web, longer, BODY) == 403
    assert await put(deployment._web, short, BODY) == 403
    assert not await deployment.is_stored(upload)
    await deployment.put(target)
    completion = await deployment.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert completion.status is Status.COMPLETED


async def test_with_long_write_urls_the_sweeper_looks_early_and_again_and_again(deployment: Deployment) -> None:
    """After 15 minutes, an hour, then every 6 hours: bytes whose client and server are gone wait no longer."""
    looks = []
    late, target = await deployment.requested(20 * HOURS)
    await deployment.put(target)
    upload, _ = await deployment.requested(20 * HOURS)
    for _ in range(6):
        stored = await deployment.records.find_upload(upload.upload_id)
        assert stored is not None
        assert stored.sweep_time is not None
        looks.append((stored.sweep_time - upload.create_time - SWEEP_MARGIN) / HOURS)
        await deployment.sweep_after(stored.sweep_time - deployment.now() + timedelta(seconds=1))
        assert await deployment.status(late) is Status.COMPLETED
        if len(looks) == 3:
            assert await deployment.status(upload) is Status.INITIALIZED
    assert [round(one, 2) for one in looks] == [0.25, 1.0, 7.0, 13.0, 19.0, 20.0]


async def test_a_completion_whose_server_died_is_finished_at_the_next_look(deployment: Deployment) -> None:
    """UPLOADED and nobody at work: not after the write URLs' end, which may be days away."""
    upload, target = await deployment.requested(20 * HOURS)
    await deployment.put(target)
    assert await deployment.records.advance_upload(upload.uploaded(deployment.now()))
    await deployment.sweep_after(WORK_LEASE + timedelta(seconds=1))
    assert await deployment.status(upload) is Status.COMPLETED


async def test_strays_of_a_cancelled_upload_are_gone_once_its_long_urls_are(deployment: Deployment) -> None:
    """No store can refuse them earlier."""
    upload, target = await deployment.requested(20 * HOURS)
    await deployment.uploads.cancel_upload(upload.upload_id, UNRESTRICTED)
    await deployment.put(target)
    await deployment.sweep_after(19 * HOURS)
    assert await deployment.is_stored(upload)
    await deployment.sweep_after(HOURS + 2 * SWEEP_MARGIN)
    assert not await deployment.is_stored(upload)


async def test_the_deadline_is_never_before_the_end_of_the_write_urls(deployment: Deployment) -> None:
    """Also where the server's own deadline is earlier."""
    upload, target = await deployment.requested(24 * HOURS)
    assert upload.expire_time >= target.single_put.expire_time.ToDatetime(UTC)
    assert upload.expire_time - upload.create_time == 24 * HOURS
