"""Uploads that arrive in parts, on bare stubs and plain HTTP: what any language does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import grpc
import pytest
from tests.faults.settlement import settled
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.parts import (
    FILM,
    MIB,
    PART,
    SMALL_PARTS,
    film_request,
    part_of,
    put_parts,
    refused,
    send,
    signed,
)
from tests.journeys.steps import RpcFailure, get, put, request_for
from tests.servers import settings_for

from assetlane.v1.asset_service_pb2 import DeleteAssetRequest
from assetlane.v1.upload_pb2 import MultipartTarget, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    CompleteUploadResponse,
    GetUploadRequest,
    ListPartsRequest,
    PartPromise,
    RequestUploadResponse,
    SignPartsRequest,
)
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress


@pytest.fixture
def settings(stack: StackAddress, database_name: str, key_prefix: str) -> Settings:
    """The settings of a server that wants parts of everything."""
    return settings_for(stack, database_name, key_prefix, **SMALL_PARTS)


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[Bucket]:
    """The bucket as somebody with the keys sees it."""
    bucket = Bucket(settings)
    yield bucket
    bucket.close()


async def requested(stubs: Stubs, body: bytes = FILM, **fields: object) -> RequestUploadResponse:
    """Requests the film."""
    return await stubs.uploads.RequestUpload(film_request(body, **fields))  # type: ignore[arg-type]  # a test's


async def completed(stubs: Stubs, upload_id: str) -> CompleteUploadResponse:
    """Completes an upload."""
    return await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))


@pytest.mark.parametrize("promises", [True, False])
async def test_parts_become_an_asset(stubs: Stubs, web: aiohttp.ClientSession, bucket: Bucket, promises: bool) -> None:
    """The same bytes, type and disposition; every status in the history; nothing half-done stays at the store."""
    reply = await requested(stubs, promises=promises)
    (target,) = reply.write_targets
    assert target.multipart == MultipartTarget(part_size_bytes=PART, part_count=3)
    upload_id = reply.upload.upload_id
    await put_parts(stubs, web, upload_id, promises=promises)

    answer = await completed(stubs, upload_id)

    names = [UploadStatus.Name(change.status).removeprefix("UPLOAD_STATUS_") for change in answer.upload.history]
    assert names == ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]
    (variant,) = answer.asset.variants
    assert (variant.size_bytes, variant.part_size_bytes, variant.sha256) == (len(FILM), PART, b"")
    assert variant.etag
    assert await get(web, variant.read_url) == (200, FILM)
    async with web.get(answer.asset.variants[0].read_url) as response:
        assert response.headers["content-disposition"] == 'attachment; filename="a.html"'
        assert response.headers["cache-control"] == "private"
    assert await bucket.open_multiparts() == []
    assert await completed(stubs, upload_id) == answer


async def test_what_is_missing_is_reported_and_changes_nothing(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """No part, some parts: VARIANTS_MISSING names the variant; a resumed caller sees which parts are there."""
    upload_id = (await requested(stubs)).upload.upload_id
    for numbers in ((), (3, 1)):
        await put_parts(stubs, web, upload_id, numbers) if numbers else None
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await completed(stubs, upload_id)
        assert (RpcFailure(failed.value).reason, RpcFailure(failed.value).subjects) == (
            "VARIANTS_MISSING",
            ["original"],
        )
    listed = await stubs.uploads.ListParts(ListPartsRequest(upload_id=upload_id, variant="original"))
    assert [(part.part_number, part.size_bytes) for part in listed.parts] == [(1, PART), (3, 7)]
    upload = (await stubs.uploads.GetUpload(GetUploadRequest(upload_id=upload_id))).upload
    assert upload.revision == 2
    await put_parts(stubs, web, upload_id, (2,))
    assert (await completed(stubs, upload_id)).upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED


async def test_parts_are_listed_page_by_page_each_once(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """A part that was sent twice is there once: the newest."""
    upload_id = (await requested(stubs)).upload.upload_id
    await put_parts(stubs, web, upload_id, (2, 1, 3))
    await put_parts(stubs, web, upload_id, (3,))
    numbers = []
    request = ListPartsRequest(upload_id=upload_id, variant="original", page_size=1)
    for _ in range(9):
        page = await stubs.uploads.ListParts(request)
        numbers += [part.part_number for part in page.parts]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert sorted(set(numbers)) == [1, 2, 3]
    assert numbers == sorted(numbers)
    assert (await completed(stubs, upload_id)).HasField("asset")


async def test_a_repeated_request_returns_the_same_upload_and_opens_nothing_twice(stubs: Stubs, bucket: Bucket) -> None:
    """Eight at once and one later: one upload, one multipart upload at the store."""
    replies = await asyncio.gather(*(requested(stubs, request_id="r-1") for _ in range(8)))
    replies.append(await requested(stubs, request_id="r-1"))
    assert len({reply.upload.upload_id for reply in replies}) == 1
    assert {reply.upload.status for reply in replies} == {UploadStatus.UPLOAD_STATUS_INITIALIZED}
    assert all(reply.write_targets[0].multipart.part_count == 3 for reply in replies)
    assert len(await bucket.open_multiparts()) == 1


async def test_a_cancelled_upload_leaves_no_part(stubs: Stubs, web: aiohttp.ClientSession, bucket: Bucket) -> None:
    """Its part URLs are refused by the store, and nothing more is signed."""
    upload_id = (await requested(stubs)).upload.upload_id
    ways = await signed(stubs, upload_id, (1, 2))
    assert await send(web, ways[0].request, part_of(FILM, 1)) == 200
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id))
    assert await bucket.open_multiparts() == []
    assert await refused(web, ways[1].request, part_of(FILM, 2))
    for call in (signed(stubs, upload_id, (3,)), _listed(stubs, upload_id)):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        assert RpcFailure(failed.value).reason == "UPLOAD_CANCELLED"


async def test_an_expired_upload_leaves_no_part(
    stubs: Stubs, web: aiohttp.ClientSession, bucket: Bucket, settings: Settings
) -> None:
    """The sweeper aborts what the deadline ended."""
    upload_id = (await requested(stubs)).upload.upload_id
    await put_parts(stubs, web, upload_id, (1,))
    assert len(await bucket.open_multiparts()) == 1
    await settled(settings, timedelta(hours=25))
    upload = (await stubs.uploads.GetUpload(GetUploadRequest(upload_id=upload_id))).upload
    assert upload.status == UploadStatus.UPLOAD_STATUS_EXPIRED
    assert await bucket.open_multiparts() == []


async def test_who_vanished_after_the_last_part_gets_the_asset(
    stubs: Stubs, web: aiohttp.ClientSession, settings: Settings, bucket: Bucket
) -> None:
    """The sweeper puts the parts together as soon as the newest part URL has ended."""
    upload_id = (await requested(stubs)).upload.upload_id
    await put_parts(stubs, web, upload_id)
    await settled(settings, timedelta(minutes=16))
    upload = (await stubs.uploads.GetUpload(GetUploadRequest(upload_id=upload_id))).upload
    assert upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
    assert await bucket.open_multiparts() == []


async def test_a_completed_object_cannot_be_touched_with_its_part_urls(
    stubs: Stubs, web: aiohttp.ClientSession, bucket: Bucket
) -> None:
    """They still live, but what they belong to is closed; deleted, nothing comes back."""
    upload_id = (await requested(stubs)).upload.upload_id
    ways = await signed(stubs, upload_id, (1, 2, 3))
    for way in ways:
        assert await send(web, way.request, part_of(FILM, way.part_number)) == 200
    asset = (await completed(stubs, upload_id)).asset
    for way in ways:
        assert await refused(web, way.request, part_of(FILM, way.part_number))
    assert await get(web, asset.variants[0].read_url) == (200, FILM)
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=upload_id))
    assert (await bucket.keys(), await bucket.open_multiparts()) == ([], [])


async def test_an_upload_that_nobody_opened_is_opened_by_the_repeat(
    stubs: Stubs, bucket: Bucket, settings: Settings
) -> None:
    """Its server died between the insert and the store; of what it opened nothing stays once it is over."""
    first = await requested(stubs, request_id="r-1")
    # As if the server had died before its second write.
    await bucket.rewind(settings, first.upload.upload_id)
    again = await requested(stubs, request_id="r-1")
    assert again.upload.upload_id == first.upload.upload_id
    assert again.upload.status == UploadStatus.UPLOAD_STATUS_INITIALIZED
    assert len(await bucket.open_multiparts()) == 2
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=first.upload.upload_id))
    assert await bucket.open_multiparts() == []


async def test_an_upload_that_nobody_opened_fails_by_itself(stubs: Stubs, bucket: Bucket, settings: Settings) -> None:
    """ABANDONED, and what its server had opened is aborted."""
    upload_id = (await requested(stubs)).upload.upload_id
    await bucket.rewind(settings, upload_id)
    assert len(await bucket.open_multiparts()) == 1
    await settled(settings, timedelta(minutes=2))
    upload = (await stubs.uploads.GetUpload(GetUploadRequest(upload_id=upload_id))).upload
    assert (upload.status, upload.failure.reason) == (UploadStatus.UPLOAD_STATUS_FAILED, "ABANDONED")
    assert await bucket.open_multiparts() == []


async def test_a_mislabelled_film_fails_and_leaves_nothing(
    stubs: Stubs, web: aiohttp.ClientSession, bucket: Bucket
) -> None:
    """The first bytes are looked at, also of what arrived in parts."""
    request = film_request()
    request.variants[0].content_type = "image/png"
    upload_id = (await stubs.uploads.RequestUpload(request)).upload.upload_id
    await put_parts(stubs, web, upload_id)
    answer = await completed(stubs, upload_id)
    assert answer.upload.failure.reason == "CONTENT_TYPE_MISMATCH"
    assert (await bucket.keys(), await bucket.open_multiparts()) == ([], [])


async def test_single_puts_and_parts_go_together(stubs: Stubs, web: aiohttp.ClientSession, settings: Settings) -> None:
    """An upload may have both; signing parts of the wrong one is refused."""
    request = request_for({"original": b"", "small": b""}, content_type="text/plain")
    request.variants[0].size_bytes = len(FILM)
    request.variants[0].ClearField("sha256")
    reply = await stubs.uploads.RequestUpload(request)
    assert [target.WhichOneof("way") for target in reply.write_targets] == ["multipart", "single_put"]
    assert reply.write_targets[1].single_put.headers["content-length"] == "0"
    assert await put(web, reply.write_targets[1], b"") == 200
    await put_parts(stubs, web, reply.upload.upload_id, promises=False)
    answer = await completed(stubs, reply.upload.upload_id)
    assert [variant.size_bytes for variant in answer.asset.variants] == [len(FILM), 0]
    assert [variant.part_size_bytes for variant in answer.asset.variants] == [PART, 0]


@pytest.mark.parametrize(
    ("variant", "number", "sha256", "field"),
    [("small", 1, b"x" * 32, "variant"), ("original", 4, b"x" * 32, "number"), ("original", 1, b"", "sha256")],
)
async def test_what_cannot_be_signed_is_refused(
    stubs: Stubs, variant: str, number: int, sha256: bytes, field: str
) -> None:
    """INVALID_FIELD names it."""
    upload_id = (await requested(stubs)).upload.upload_id
    request = SignPartsRequest(
        upload_id=upload_id, variant=variant, parts=[PartPromise(part_number=number, sha256=sha256)]
    )
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.SignParts(request)
    failure = RpcFailure(failed.value)
    assert failure.reason == "INVALID_FIELD"
    assert [name for name in failure.fields if name.endswith(field)]


async def test_part_urls_never_outlive_the_deadline(
    stack: StackAddress, database_name: str, key_prefix: str, stubs: Stubs
) -> None:
    """And live as long as a write URL otherwise."""
    upload = (await requested(stubs)).upload
    (way,) = await signed(stubs, upload.upload_id, (1,))
    lives_s = way.request.expire_time.seconds - upload.create_time.seconds
    assert 895 <= lives_s <= 960
    assert way.request.expire_time.seconds <= upload.expire_time.seconds


async def test_an_empty_file_becomes_an_asset(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Zero bytes are a single PUT, with their length signed."""
    reply = await stubs.uploads.RequestUpload(request_for({"original": b""}))
    (target,) = reply.write_targets
    assert target.single_put.headers["content-length"] == "0"
    assert await put(web, target, b"") == 200
    answer = await completed(stubs, reply.upload.upload_id)
    assert answer.asset.variants[0].size_bytes == 0
    assert await get(web, answer.asset.variants[0].read_url) == (200, b"")


async def _listed(stubs: Stubs, upload_id: str) -> None:
    await stubs.uploads.ListParts(ListPartsRequest(upload_id=upload_id, variant="original"))


assert len(FILM) == 10 * MIB + 7
