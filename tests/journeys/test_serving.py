"""What is stored is served as it was promised: type, name, caching; and nothing else gets in."""

import asyncio
import gzip
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import grpc
import pytest
import yarl
from tests.journeys.conftest import Stubs
from tests.journeys.lanes import RpcFailure, get, put, request_for
from tests.journeys.parts import FILM, SMALL_PARTS, put_parts
from tests.pictures import gradient
from tests.refusals import shows
from tests.servers import served, settings_for

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import GetAssetRequest, RefreshAssetRequest
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, Upload, UploadStatus, VariantPromise
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, CompleteUploadResponse, RequestUploadRequest
from assetlane_server.local import StackAddress

PAGE = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
PROGRAM = b"MZ" + bytes(62) + b"PE\0\0" + bytes(200)
ELF = b"\x7fELF\x02\x01\x01" + bytes(200)
NAMES = ("small", "medium", "large", "preview", "x")


async def completed(
    stubs: Stubs,
    web: aiohttp.ClientSession,
    request: RequestUploadRequest,
    bodies: Mapping[str, bytes],
    foreign: Mapping[str, str] | None = None,
) -> CompleteUploadResponse:
    """Requests an upload, PUTs its bytes, with headers of the sender's own, and completes it."""
    reply = await stubs.uploads.RequestUpload(request)
    for target in reply.write_targets:
        for name, value in (foreign or {}).items():
            target.single_put.headers[name] = value
        assert await put(web, target, bodies[target.variant], skip_auto_headers=["content-type"]) == 200
    return await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))


async def headers_of(web: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """Returns the headers that an object is served with, names in lower case."""
    async with web.get(yarl.URL(url, encoded=True)) as response:
        assert response.status == 200
        await response.read()
        return {name.lower(): value for name, value in response.headers.items()}


def reason_of(upload: Upload) -> str:
    """Returns why an upload failed; empty: it is COMPLETED."""
    assert upload.status in (UploadStatus.UPLOAD_STATUS_COMPLETED, UploadStatus.UPLOAD_STATUS_FAILED)
    return upload.failure.reason


@pytest.mark.parametrize("expiration_hours", [24, 0])
async def test_every_variant_is_served_under_its_own_name(
    stubs: Stubs, web: aiohttp.ClientSession, expiration_hours: float
) -> None:
    """Cuts of the caller and of the server; private ones are kept by nobody else, public ones for a year."""
    picture, cut = gradient((400, 300)), gradient((30, 20))
    request = request_for(
        {"original": picture, "tiny": cut},
        content_type="image/jpeg",
        file_path="albums/Grüße vom Strand.jpg",
        expiration_hours=expiration_hours,
        cut_plan=CutPlan(maker=CutMaker.CUT_MAKER_SERVER),
    )
    asset = (await completed(stubs, web, request, {"original": picture, "tiny": cut})).asset
    assert [one.name for one in asset.variants] == ["original", "tiny", "small", "medium"]
    for variant in asset.variants:
        tail = "" if variant.name == "original" else f"-{variant.name}"
        name = f"filename=\"Gr__e vom Strand{tail}.jpg\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20vom%20Strand{tail}.jpg"
        shown, saved = await headers_of(web, variant.read_url), await headers_of(web, variant.download_url)
        assert shown["content-disposition"] == f"inline; {name}"
        assert saved["content-disposition"] == f"attachment; {name}"
        for headers in (shown, saved):
            kept = "private" if expiration_hours else "public, max-age=31536000, immutable"
            assert (headers["content-type"], headers["cache-control"]) == ("image/jpeg", kept)
        if expiration_hours:
            assert parsedate_to_datetime(shown["expires"]) == asset.expire_time.ToDatetime(UTC)
            assert parsedate_to_datetime(saved["expires"]) == asset.expire_time.ToDatetime(UTC)


async def test_a_multipart_upload_is_served_the_same(
    stack: StackAddress, web: aiohttp.ClientSession, database_name: str, key_prefix: str
) -> None:
    """What it is opened with stays; parts cannot change it."""
    settings = settings_for(stack, database_name, key_prefix, **SMALL_PARTS)
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        promise = VariantPromise(name="original", content_type="Text/HTML; charset=utf-8", size_bytes=len(FILM))
        request = RequestUploadRequest(file_path="films/ü.html", uid="7f3a", variants=[promise])
        upload_id = (await stubs.uploads.RequestUpload(request)).upload.upload_id
        await put_parts(stubs, web, upload_id, promises=False)
        answer = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))
        headers = await headers_of(web, answer.asset.variants[0].read_url)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-disposition"] == "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%BC.html"
    assert headers["cache-control"] == "private"


async def text_asset(stubs: Stubs, web: aiohttp.ClientSession, **fields: Any) -> Asset:
    """Returns the asset of a short text."""
    body = b"five!"
    return (await completed(stubs, web, request_for({"original": body}, **fields), {"original": body})).asset


async def test_private_urls_are_the_same_until_a_refresh(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Both kinds; afterwards both are others."""
    asset = await text_asset(stubs, web, expiration_hours=1)
    again = (await stubs.assets.GetAsset(GetAssetRequest(asset_id=asset.asset_id))).asset
    assert again == asset
    assert asset.variants[0].read_url != asset.variants[0].download_url
    while (await stubs.assets.RefreshAsset(RefreshAssetRequest(asset_id=asset.asset_id))).asset == asset:
        pass  # within the same second
    later = (await stubs.assets.GetAsset(GetAssetRequest(asset_id=asset.asset_id))).asset
    for url in ("read_url", "download_url"):
        assert getattr(later.variants[0], url) != getattr(asset.variants[0], url)
        assert await get(web, getattr(later.variants[0], url)) == (200, b"five!")


async def test_a_public_download_url_lives_for_days(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Signed as of the start of the day, for seven; it is the only signed URL of a public asset."""
    variant = (await text_asset(stubs, web, expiration_hours=0)).variants[0]
    assert "?" not in variant.read_url
    query = {name: values[0] for name, values in parse_qs(urlsplit(variant.download_url).query).items()}
    signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert (signed_at.hour, signed_at.minute, signed_at.second) == (0, 0, 0)
    assert timedelta(0) <= datetime.now(UTC) - signed_at <= timedelta(days=1, minutes=1)
    assert query["X-Amz-Expires"] == "604800"
    assert await get(web, variant.download_url) == (200, b"five!")


FOREIGN = [
    ({"content-encoding": "gzip"}, "content-encoding"),
    ({"content-language": "de"}, "content-language"),
    ({"expires": "Thu, 01 Jan 2099 00:00:00 GMT"}, "expires"),
    ({"content-language": "de", "expires": "Thu, 01 Jan 2099 00:00:00 GMT"}, "content-language, expires"),
]


@pytest.mark.parametrize(("foreign", "names"), FOREIGN, ids=[names for _, names in FOREIGN])
async def test_headers_that_were_not_promised_fail_the_upload(
    stubs: Stubs, web: aiohttp.ClientSession, foreign: Mapping[str, str], names: str
) -> None:
    """A gzip that is promised as text would be served as other bytes. Nothing of it stays."""
    body = gzip.compress(b"five!" * 20)
    reply = await completed(stubs, web, request_for({"original": body}), {"original": body}, foreign)
    assert reason_of(reply.upload) == reply.upload.history[-1].reason == "HEADER_NOT_PROMISED"
    shows(reply.upload.failure.message, "original", *names.split(", "))
    assert not reply.HasField("asset")


async def test_the_first_bytes_of_every_variant_fit_its_type(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Not only those of the original: a page, a program and an ELF file under each name and type."""

    async def failure(name: str, content_type: str, body: bytes) -> str:
        request = request_for({"original": b"five!", name: body})
        request.variants[1].content_type = content_type
        reply = await completed(stubs, web, request, {"original": b"five!", name: body})
        assert not reply.HasField("asset")
        shows(reply.upload.failure.message, name)
        return reason_of(reply.upload)

    types = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/pdf")
    reasons = await asyncio.gather(
        *(failure(name, one, body) for name in NAMES for one in types for body in (PAGE, PROGRAM, ELF))
    )
    assert set(reasons) == {"CONTENT_TYPE_MISMATCH"}


@pytest.mark.parametrize("content_type", ["image/jpeg", "video/mp4", "application/pdf", "text/plain", "font/woff2"])
async def test_an_empty_object_is_of_every_type(stubs: Stubs, web: aiohttp.ClientSession, content_type: str) -> None:
    """As an original and as any other variant."""
    bodies = {"original": b"", "small": b""}
    reply = await completed(stubs, web, request_for(bodies, content_type=content_type), bodies)
    assert reason_of(reply.upload) == ""
    assert await get(web, reply.asset.variants[1].read_url) == (200, b"")


KEPT = {
    "application/octet-stream": "application/octet-stream",
    "binary/octet-stream": "binary/octet-stream",
    "application/x-unheard-of": "application/x-unheard-of",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    ),
    "text/markdown": "text/markdown",
    "Text/Plain;charset=UTF-8;": "text/plain; charset=UTF-8",
    'text/plain;name="a, b; c \\"d\\""': 'text/plain; name="a, b; c \\"d\\""',
}


@pytest.mark.parametrize("file_path", ["a/p.html", "a/p", "a/p.docx"])
async def test_a_type_stays_as_it_was_declared(stubs: Stubs, web: aiohttp.ClientSession, file_path: str) -> None:
    """Whatever the file is called; the asset, the upload and the store have the same form of it."""
    for content_type, kept in KEPT.items():
        request = request_for({"original": PAGE}, content_type=content_type, file_path=file_path)
        reply = await completed(stubs, web, request, {"original": PAGE})
        assert reason_of(reply.upload) == "", content_type
        (variant,) = reply.asset.variants
        headers = await headers_of(web, variant.read_url)
        assert variant.content_type == reply.upload.variants[0].content_type == headers["content-type"] == kept
        is_shown = kept.startswith("text/plain")
        assert headers["content-disposition"].startswith("inline;" if is_shown else "attachment;")


async def test_a_recorder_s_type_is_stored_with_its_codecs(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """The comma stands without quotes in what browsers say of their recorders; a repeat in other words is the same."""
    body = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm" + bytes(100)
    request = request_for({"original": body}, content_type="video/webm;codecs=vp8,opus", request_id="r-1")
    reply = await completed(stubs, web, request, {"original": body})
    assert reason_of(reply.upload) == ""
    headers = await headers_of(web, reply.asset.variants[0].read_url)
    assert headers["content-type"] == 'video/webm; codecs="vp8,opus"'
    assert headers["content-disposition"].startswith("inline;")
    request.variants[0].content_type = 'Video/WebM ; codecs="vp8,opus"'
    assert (await stubs.uploads.RequestUpload(request)).upload == reply.upload


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("*/*", "'*/*'"),
        ("image/*", "'image/*'"),
        ("*/png", "'*/png'"),
        ("image", "'image'"),
        ("", "application/octet-stream"),
        ("text/plain;charset", "'charset'"),
        ("text/plain\r\nx-evil: 1", "U+000D"),
        ('text/plain;a="b  c"', "'a'"),
    ],
)
async def test_what_is_no_media_type_is_refused_with_what_is_wrong(stubs: Stubs, content_type: str, shown: str) -> None:
    """The field is named, and the part of it."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.uploads.RequestUpload(request_for(content_type=content_type))
    failure = RpcFailure(refused.value)
    assert failure.reason == "INVALID_FIELD"
    assert list(failure.fields) == ["variants[0].content_type"]
    shows(failure.fields["variants[0].content_type"], shown)
