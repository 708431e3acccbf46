"""From a request to an asset, on bare stubs and plain HTTP: what any language does."""

import asyncio
from dataclasses import dataclass

import aiohttp
import grpc
import pytest
import yarl
from motor.motor_asyncio import AsyncIOMotorClient
from tests.journeys.conftest import Stubs
from tests.journeys.lanes import BODY, RpcFailure, get, put, request_for
from tests.refusals import numbers_in

from assetlane.v1.asset_service_pb2 import GetAssetRequest
from assetlane.v1.upload_pb2 import Upload, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    RequestUploadRequest,
    StatusEvent,
    WatchUploadRequest,
)
from assetlane_server.config.settings import Settings

LIMIT_S = 20.0
LIFE = ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]


def names(history: list[Upload]) -> list[str]:
    """Returns the statuses of some uploads without their prefix."""
    return [UploadStatus.Name(upload.status).removeprefix("UPLOAD_STATUS_") for upload in history]


@dataclass
class Ids:
    """An upload that has been requested and PUT."""

    upload_id: str


async def uploaded(
    stubs: Stubs, web: aiohttp.ClientSession, request: RequestUploadRequest | None = None, body: bytes = BODY
) -> Ids:
    """Requests an upload and PUTs its bytes."""
    reply = await stubs.uploads.RequestUpload(request or request_for())
    for target in reply.write_targets:
        assert await put(web, target, body) == 200
    return Ids(reply.upload.upload_id)


async def test_bytes_become_an_asset_while_every_status_streams_by(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """All four statuses, in order, with write targets and asset in the events; then every URL reads back."""
    bodies = {"original": b"the picture", "small": b"its cut"}
    reply = await stubs.uploads.RequestUpload(request_for(bodies))

    async def watched() -> list[StatusEvent]:
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=reply.upload.upload_id))
        return [event.status async for event in watch]

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watched())
        for target in reply.write_targets:
            assert await put(web, target, bodies[target.variant]) == 200
        completed = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))

    events = watching.result()
    assert names([event.upload for event in events]) == LIFE
    assert [event.upload.revision for event in events] == [1, 2, 3, 4]
    assert [len(event.upload.history) for event in events] == [1, 2, 3, 4]
    assert list(events[1].write_targets) == list(reply.write_targets)
    assert events[3].asset == completed.asset
    assert [variant.name for variant in completed.asset.variants] == ["original", "small"]
    for variant in completed.asset.variants:
        assert await get(web, variant.read_url) == (200, bodies[variant.name])


async def test_completing_twice_returns_the_same_asset(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """A repeat, and eight at once, give one COMPLETED transition and identical answers."""
    upload = await uploaded(stubs, web)
    request = CompleteUploadRequest(upload_id=upload.upload_id)
    replies = await asyncio.gather(*(stubs.uploads.CompleteUpload(request) for _ in range(8)))
    replies.append(await stubs.uploads.CompleteUpload(request))
    assert all(reply == replies[0] for reply in replies)
    assert names([replies[0].upload]) == ["COMPLETED"]
    assert replies[0].upload.revision == 4


async def test_completing_before_the_bytes_are_there_changes_nothing(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """FAILED_PRECONDITION names what is missing; after the PUT the same call succeeds."""
    reply = await stubs.uploads.RequestUpload(request_for({"original": BODY, "small": BODY, "large": BODY}))
    request = CompleteUploadRequest(upload_id=reply.upload.upload_id)
    await put(web, reply.write_targets[0])
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.CompleteUpload(request)
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VARIANTS_MISSING")
    assert failure.subjects == ["small", "large"]
    after = (await stubs.uploads.GetUpload(GetUploadRequest(upload_id=reply.upload.upload_id))).upload
    assert after == reply.upload

    for target in reply.write_targets[1:]:
        await put(web, target)
    assert names([(await stubs.uploads.CompleteUpload(request)).upload]) == ["COMPLETED"]


async def test_a_repeated_request_renews_the_targets_of_the_same_upload(
    stubs: Stubs, web: aiohttp.ClientSession
) -> None:
    """The same request id and words: the same upload; its targets work."""
    request = request_for(request_id="r-1")
    first = await stubs.uploads.RequestUpload(request)
    second = await stubs.uploads.RequestUpload(request)
    assert second.upload == first.upload
    assert (
        second.write_targets[0].single_put.expire_time.seconds >= first.write_targets[0].single_put.expire_time.seconds
    )
    assert await put(web, second.write_targets[0]) == 200
    await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=first.upload.upload_id))

    third = await stubs.uploads.RequestUpload(request)
    assert names([third.upload]) == ["COMPLETED"]
    assert not third.write_targets


async def test_eight_requests_with_one_id_make_one_upload(stubs: Stubs) -> None:
    """The owner and the request id are unique together; other owners have ids of their own."""
    request = request_for(request_id="r-1")
    replies = await asyncio.gather(*(stubs.uploads.RequestUpload(request) for _ in range(8)))
    assert len({reply.upload.upload_id for reply in replies}) == 1
    other = await stubs.uploads.RequestUpload(request_for(request_id="r-1", uid="somebody-else"))
    assert other.upload.upload_id != replies[0].upload.upload_id


async def test_a_request_id_is_not_reused_for_other_words(stubs: Stubs) -> None:
    """ALREADY_EXISTS, and the first upload is untouched."""
    await stubs.uploads.RequestUpload(request_for(request_id="r-1"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request_for(request_id="r-1", file_path="other.jpg"))
    assert RpcFailure(failed.value).reason == "REQUEST_ID_REUSED"


async def test_a_cancelled_upload_leaves_nothing_and_cannot_be_completed(
    stubs: Stubs, web: aiohttp.ClientSession
) -> None:
    """CANCELLED is final, repeatable, and its bytes are gone."""
    reply = await stubs.uploads.RequestUpload(request_for())
    await put(web, reply.write_targets[0])
    request = CancelUploadRequest(upload_id=reply.upload.upload_id)
    first, second = [(await stubs.uploads.CancelUpload(request)).upload for _ in range(2)]
    assert first == second
    assert names([first]) == ["CANCELLED"]
    assert first.history[-1].reason == "CANCELLED_BY_OWNER"
    # Nothing is stored there any more: if-none-match lets the same PUT in again.
    assert await put(web, reply.write_targets[0]) == 200
    await stubs.uploads.CancelUpload(request)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UPLOAD_CANCELLED")


async def test_a_completed_upload_cannot_be_cancelled_nor_overwritten(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """The still valid write URL is refused by the store itself."""
    reply = await stubs.uploads.RequestUpload(request_for())
    await put(web, reply.write_targets[0])
    await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
    assert await put(web, reply.write_targets[0]) == 412
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=reply.upload.upload_id))
    assert RpcFailure(failed.value).reason == "UPLOAD_COMPLETED"


async def test_work_goes_on_when_the_caller_hangs_up(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """A CompleteUpload that is cancelled at once still ends in COMPLETED."""
    upload = await uploaded(stubs, web)
    watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload.upload_id, after_revision=2))
    call = stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload.upload_id))
    async with asyncio.timeout(LIMIT_S):
        seen = []
        async for event in watch:
            seen.append(event.status.upload)
            if len(seen) == 1 or not call.done():
                call.cancel()
            if len(seen) == 2:
                break
        else:
            pytest.fail("the watch ended early")
    assert names(seen) == ["UPLOADED", "COMPLETED"]


async def test_nothing_is_written_for_a_refused_request(stubs: Stubs, settings: Settings) -> None:
    """INVALID_ARGUMENT names field and limit; the collection stays empty."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request_for(file_path="../../etc/passwd", expiration_hours=float("nan")))
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(failure.fields) == {"file_path", "expiration_hours"}
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(settings.mongo_uri.get_secret_value())
    assert await client[settings.mongo_database].uploads.count_documents({}) == 0
    client.close()


async def test_oversized_extra_and_messages_are_refused(stubs: Stubs) -> None:
    """16 KiB of extra is the limit of the field, a MiB that of the message."""
    request = request_for()
    request.details.extra.update({"text": "x" * 17_000})
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request)
    assert 16_384 in numbers_in(RpcFailure(failed.value).fields["details.extra"])
    request.details.extra.update({"text": "x" * 1_100_000})
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request)
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert failure.retry_after_s is None
    # What the core refuses itself it refuses without details.
    request.details.extra.update({"text": "x" * 2_200_000})
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request)
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_extra_comes_back_as_it_was_sent(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Names with dots and dollars, nesting, null, and text of any script survive both collections."""
    request = request_for()
    request.details.title = "Grüße 🏝"
    request.details.duration.FromMicroseconds(1_500_001)
    request.details.extra.update({"$set": {"a.b": [1, None, True, "ü"]}, "": 0.5, "nothing": {}})
    upload = await uploaded(stubs, web, request)
    reply = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload.upload_id))
    assert reply.asset.details == request.details
    assert reply.upload.details == request.details


async def test_what_was_left_out_is_in_the_upload_and_in_the_asset(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Notices of the request are stored; they count for a repeated request, and a bad one is refused by its field."""
    request = request_for()
    request.request_id = "with-notices"
    request.notices.add(reason="IMAGE_BROKEN", message="The picture is damaged: grüße.")
    upload = await uploaded(stubs, web, request)
    reply = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload.upload_id))
    assert list(reply.upload.notices) == list(reply.asset.notices) == list(request.notices)
    assert (await stubs.assets.GetAsset(GetAssetRequest(asset_id=upload.upload_id))).asset.notices == request.notices
    assert (await stubs.uploads.RequestUpload(request)).upload.upload_id == upload.upload_id
    request.notices[0].message = "The picture is gone."
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request)
    assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS
    request.notices[0].reason = "image broken"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.RequestUpload(request)
    failure = RpcFailure(failed.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(failure.fields) == {"notices[0].reason"}


@pytest.mark.parametrize("method", ["CompleteUpload", "CancelUpload", "GetUpload"])
async def test_an_unknown_upload_is_not_found(stubs: Stubs, method: str) -> None:
    """Whatever the id looks like; only an empty one is an invalid argument."""
    calls = {
        "CompleteUpload": CompleteUploadRequest,
        "CancelUpload": CancelUploadRequest,
        "GetUpload": GetUploadRequest,
    }
    for upload_id, reason in [("01k8", "UPLOAD_NOT_FOUND"), ("\0$ne", "UPLOAD_NOT_FOUND"), ("", "INVALID_FIELD")]:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await getattr(stubs.uploads, method)(calls[method](upload_id=upload_id))
        assert RpcFailure(failed.value).reason == reason


async def test_lists_are_paged_newest_first_and_filtered(stubs: Stubs) -> None:
    """Every upload of the filter once, in pages, and only those."""
    ids = [
        (await stubs.uploads.RequestUpload(request_for(session_id="phone" if i % 2 else "tablet"))).upload.upload_id
        for i in range(7)
    ]
    await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=ids[1]))

    async def listed(**filters: object) -> list[str]:
        request = ListUploadsRequest(page_size=2, **filters)  # type: ignore[arg-type]  # a test's filters
        found: list[str] = []
        for _ in range(10):
            page = await stubs.uploads.ListUploads(request)
            assert len(page.uploads) <= 2
            found += [upload.upload_id for upload in page.uploads]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found
        raise AssertionError("the list does not end")

    newest_first = sorted(ids, reverse=True)
    assert await listed() == newest_first
    assert await listed(session_id="phone") == [one for one in newest_first if ids.index(one) % 2]
    assert await listed(uid="nobody") == []
    assert await listed(statuses=[UploadStatus.UPLOAD_STATUS_CANCELLED]) == [ids[1]]
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.uploads.ListUploads(ListUploadsRequest(page_token="made-up"))
    assert "page_token" in RpcFailure(failed.value).fields


async def test_an_original_of_another_type_than_declared_fails(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """A page that calls itself a picture: FAILED with the reason, and nothing of it stays."""
    page = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
    upload = await uploaded(stubs, web, request_for({"original": page}, content_type="image/png"), page)
    request = CompleteUploadRequest(upload_id=upload.upload_id)
    replies = [await stubs.uploads.CompleteUpload(request) for _ in range(2)]
    assert replies[0] == replies[1]
    assert names([replies[0].upload]) == ["FAILED"]
    assert replies[0].upload.failure.reason == replies[0].upload.history[-1].reason == "CONTENT_TYPE_MISMATCH"
    assert not replies[0].HasField("asset")


@pytest.mark.parametrize("expiration_hours", [24, 0])
async def test_what_could_run_in_a_browser_is_served_as_an_attachment(
    stubs: Stubs, web: aiohttp.ClientSession, expiration_hours: float
) -> None:
    """By signed and by public URLs: the disposition is stored with the object."""
    drawing = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    request = request_for({"original": drawing}, content_type="image/svg+xml", expiration_hours=expiration_hours)
    upload = await uploaded(stubs, web, request, drawing)
    asset = (await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload.upload_id))).asset
    async with web.get(yarl.URL(asset.variants[0].read_url, encoded=True)) as response:
        assert response.status == 200
        assert response.headers["content-disposition"] == 'attachment; filename="b.jpg"'
        assert await response.read() == drawing
