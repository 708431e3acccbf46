"""Cuts that the server makes, for callers that have nothing but stubs and HTTP."""

import asyncio
import io
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from PIL import Image
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.lanes import RpcFailure, get, put, request_for
from tests.refusals import shows

from assetlane import Client, UploadFailed
from assetlane import CutSize as CutWish
from assetlane.v1.asset_service_pb2 import GetAssetRequest
from assetlane.v1.upload_pb2 import CutFormat, CutMaker, CutPlan, CutSize, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CompleteUploadRequest,
    CompleteUploadResponse,
    ListUploadsRequest,
    ProgressStage,
    WatchUploadRequest,
)
from assetlane_server.config.settings import Settings

SERVER = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
REQUIRED = CutPlan(maker=CutMaker.CUT_MAKER_SERVER, required=True)
UPRIGHT = 6  # EXIF: to be turned by a quarter
LIMIT_S = 20.0
LIFE = ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]


def picture(size: tuple[int, int] = (1000, 400), format: str = "JPEG", mode: str = "RGB") -> bytes:
    """Returns a picture that a camera held upright took."""
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT
    encoded = io.BytesIO()
    Image.new(mode, size, "teal").save(encoded, format, exif=exif)
    return encoded.getvalue()


async def completed(
    stubs: Stubs, web: aiohttp.ClientSession, body: bytes, content_type: str = "image/jpeg", plan: CutPlan = SERVER
) -> CompleteUploadResponse:
    """Brings a picture in as any language would."""
    request = request_for({"original": body}, content_type=content_type, cut_plan=plan)
    reply = await stubs.uploads.RequestUpload(request)
    assert [target.variant for target in reply.write_targets] == ["original"]
    assert await put(web, reply.write_targets[0], body) == 200
    return await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))


async def test_a_picture_gets_its_cuts_from_the_server(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Turned upright, with real sizes and checksums in the ledger, each readable; the original has its size too."""
    asset = (await completed(stubs, web, picture())).asset
    assert [(one.name, one.width_px, one.height_px) for one in asset.variants] == [
        ("original", 400, 1000),
        ("small", 120, 300),
        ("medium", 240, 600),
        ("large", 360, 900),
    ]
    assert asset.details.color == "#008083"
    for variant in asset.variants[1:]:
        status, body = await get(web, variant.read_url)
        assert (status, len(body), len(variant.sha256)) == (200, variant.size_bytes, 32)
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (variant.width_px, variant.height_px)
            assert not image.getexif()


async def test_names_sizes_and_format_are_the_callers_choice(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """A plan is returned with the upload, filled in; what it asks for is what is made."""
    plan = CutPlan(
        maker=CutMaker.CUT_MAKER_SERVER,
        sizes=[CutSize(name="thumb", max_edge_px=64), CutSize(name="wide", max_edge_px=256)],
        format=CutFormat.CUT_FORMAT_PNG,
    )
    reply = await completed(stubs, web, picture(), plan=plan)
    assert reply.upload.cut_plan == CutPlan(maker=plan.maker, sizes=plan.sizes, format=plan.format, quality=85)
    assert [(one.name, one.height_px, one.content_type) for one in reply.asset.variants[1:]] == [
        ("thumb", 64, "image/png"),
        ("wide", 256, "image/png"),
    ]


async def test_a_repeat_returns_the_same_asset_and_makes_nothing_new(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Eight at the same time, and one later."""
    request = request_for({"original": picture()}, content_type="image/jpeg", cut_plan=SERVER)
    reply = await stubs.uploads.RequestUpload(request)
    await put(web, reply.write_targets[0], picture())
    complete = CompleteUploadRequest(upload_id=reply.upload.upload_id)
    answers = await asyncio.gather(*(stubs.uploads.CompleteUpload(complete) for _ in range(8)))
    answers.append(await stubs.uploads.CompleteUpload(complete))
    assert len(answers[0].asset.variants) == 4
    assert all(answer == answers[0] for answer in answers)


async def test_watchers_see_the_cutting(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """The status stays UPLOADED meanwhile; the asset comes with COMPLETED."""
    request = request_for({"original": picture()}, content_type="image/jpeg", cut_plan=SERVER)
    reply = await stubs.uploads.RequestUpload(request)
    watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=reply.upload.upload_id))
    seen: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        async for event in watch:
            match event.WhichOneof("event"):
                case "progress":
                    seen.append(ProgressStage.Name(event.progress.stage).removeprefix("PROGRESS_STAGE_"))
                case "status":
                    seen.append(UploadStatus.Name(event.status.upload.status).removeprefix("UPLOAD_STATUS_"))
                    if seen[-1] == "INITIALIZED":
                        await put(web, reply.write_targets[0], picture())
                        await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
    # Progress is no part of the history: it may overtake a status, never the other way round at the end.
    assert "CUTTING" in seen
    assert [one for one in seen if one not in ("VERIFYING", "CUTTING")] == LIFE
    assert seen[-1] == "COMPLETED"


CUT_OFF = picture((2000, 1000))[:3000]
FILM = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (CUT_OFF, "image/jpeg", "IMAGE_BROKEN"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png", "IMAGE_BROKEN"),
        (b"words", "text/plain", "IMAGE_UNRECOGNIZED"),
        (FILM, "video/mp4", "IMAGE_UNRECOGNIZED"),
        (b"<svg/>", "image/svg+xml", "IMAGE_UNRECOGNIZED"),
    ],
    ids=["truncated", "no pixels", "text", "video", "drawing"],
)
async def test_what_can_have_no_cuts_is_stored_without_and_the_asset_says_why(
    stubs: Stubs, web: aiohttp.ClientSession, body: bytes, content_type: str, reason: str
) -> None:
    """Cuts are an extra unless they are required. The notice is in the ledger; the upload's own are the caller's."""
    reply = await completed(stubs, web, body, content_type)
    assert reply.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
    assert [one.name for one in reply.asset.variants] == ["original"]
    assert [one.reason for one in reply.asset.notices] == [reason]
    assert reply.asset.notices[0].message
    assert not reply.upload.notices
    found = await stubs.assets.GetAsset(GetAssetRequest(asset_id=reply.asset.asset_id))
    assert found.asset == reply.asset
    again = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
    assert again == reply


async def test_where_cuts_are_required_a_broken_picture_fails_the_upload_and_leaves_nothing(
    stubs: Stubs, web: aiohttp.ClientSession, settings: Settings
) -> None:
    """The reason is data; the original goes with it. That they are required is in the upload's plan."""
    reply = await completed(stubs, web, CUT_OFF, plan=REQUIRED)
    assert reply.upload.cut_plan.required
    assert reply.upload.status == UploadStatus.UPLOAD_STATUS_FAILED
    assert reply.upload.failure.reason == "IMAGE_BROKEN"
    assert not reply.HasField("asset")
    bucket = Bucket(settings)
    assert await bucket.keys() == []
    bucket.close()


@pytest.mark.parametrize("plan", [SERVER, REQUIRED], ids=["", "required"])
async def test_a_false_signature_fails_the_upload_always(
    stubs: Stubs, web: aiohttp.ClientSession, plan: CutPlan
) -> None:
    """Bytes that belie their type are no picture without cuts: they are not what was promised."""
    reply = await completed(stubs, web, picture(), "image/png", plan)
    assert reply.upload.failure.reason == "CONTENT_TYPE_MISMATCH"


async def test_the_false_signature_of_any_variant_fails_the_upload(stubs: Stubs, web: aiohttp.ClientSession) -> None:
    """Cuts that the client made are served as pictures too."""
    for body in (b"<html><script>alert(1)</script></html>", b"MZ" + bytes(60), b"\x7fELF" + bytes(60)):
        request = request_for({"original": picture(), "small": body}, content_type="image/jpeg")
        reply = await stubs.uploads.RequestUpload(request)
        for target, content in zip(reply.write_targets, (picture(), body), strict=True):
            assert await put(web, target, content) == 200
        done = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
        assert done.upload.failure.reason == "CONTENT_TYPE_MISMATCH"
        shows(done.upload.failure.message, "small")


@pytest.mark.parametrize(
    ("field", "shown", "changes"),
    [
        ("cut_plan.maker", ["9"], {"maker": 9}),
        ("cut_plan.maker", ["CUT_MAKER_SERVER"], {"maker": 0, "quality": 50}),
        ("cut_plan.maker", ["CUT_MAKER_SERVER"], {"maker": 0, "required": True}),
        ("cut_plan.maker", ["CUT_MAKER_SERVER"], {"maker": 1, "sizes": [CutSize(name="a", max_edge_px=9)]}),
        ("cut_plan.format", ["77"], {"format": 77}),
        ("cut_plan.quality", ["96", "1", "95"], {"quality": 96}),
        ("cut_plan.quality", ["-1", "95"], {"quality": -1}),
        ("cut_plan.sizes[0].name", ["32", "a-z", "0-9"], {"sizes": [CutSize(name="../x", max_edge_px=9)]}),
        ("cut_plan.sizes[0].name", ["'original'"], {"sizes": [CutSize(name="original", max_edge_px=9)]}),
        ("cut_plan.sizes[0].max_edge_px", ["0", "8,192"], {"sizes": [CutSize(name="a")]}),
        ("cut_plan.sizes[0].max_edge_px", ["8193", "8,192"], {"sizes": [CutSize(name="a", max_edge_px=8193)]}),
        (
            "cut_plan.sizes[1].name",
            ["'a'"],
            {"sizes": [CutSize(name="a", max_edge_px=9), CutSize(name="a", max_edge_px=8)]},
        ),
        (
            "cut_plan.sizes[1].max_edge_px",
            ["9"],
            {"sizes": [CutSize(name="a", max_edge_px=9), CutSize(name="b", max_edge_px=9)]},
        ),
        (
            "cut_plan.sizes",
            ["9", "1", "8"],
            {"sizes": [CutSize(name=f"a{n}", max_edge_px=n) for n in range(1, 10)]},
        ),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_by_name(
    stubs: Stubs, field: str, shown: list[str], changes: dict[str, Any]
) -> None:
    """The field and its limit; nothing is stored."""
    plan = CutPlan(**{"maker": CutMaker.CUT_MAKER_SERVER, **changes})
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.uploads.RequestUpload(request_for(content_type="image/jpeg", cut_plan=plan))
    failure = RpcFailure(error.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(failure.fields) == [field]
    shows(failure.fields[field], *shown)
    assert not (await stubs.uploads.ListUploads(ListUploadsRequest())).uploads


async def test_required_cuts_are_refused_at_once_where_there_can_be_none(stubs: Stubs) -> None:
    """Before the bytes are sent: no picture, or one that is too large. Not required, either goes in."""
    for field, shown, content_type, size_bytes in (
        ("content_type", ["cut_plan", "`required`"], "video/mp4", 5),
        ("content_type", ["cut_plan", "`required`"], "text/plain", 5),
        ("size_bytes", ["67,108,865", "67,108,864"], "image/png", 64 * 1024**2 + 1),
    ):
        for plan in (SERVER, REQUIRED):
            request = request_for(content_type=content_type, cut_plan=plan)
            request.variants[0].size_bytes = size_bytes
            if plan is SERVER:
                assert (await stubs.uploads.RequestUpload(request)).write_targets
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.uploads.RequestUpload(request)
        fields = RpcFailure(error.value).fields
        assert list(fields) == [f"variants[0].{field}"]
        shows(fields[f"variants[0].{field}"], *shown)


async def test_a_cut_cannot_have_the_name_of_a_promised_variant(stubs: Stubs) -> None:
    """Two objects of one name would be one too many."""
    request = request_for({"original": b"a", "small": b"b"}, content_type="image/jpeg", cut_plan=SERVER)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.uploads.RequestUpload(request)
    fields = RpcFailure(error.value).fields
    assert list(fields) == ["cut_plan.sizes[0].name"]
    shows(fields["cut_plan.sizes[0].name"], "'small'")


async def test_the_client_leaves_the_cuts_to_the_server(lane: Client, tmp_path: Path) -> None:
    """The picture alone is sent, under the type that it really has; the asset has the cuts all the same."""
    path = tmp_path / "really a png.jpg"
    path.write_bytes(picture((1000, 400), "PNG"))
    by_server = await lane.upload(path, cut_maker="server")
    by_client = await lane.upload(path)
    assert by_server.variants[0].content_type == "image/png"
    assert [(one.name, one.width_px, one.height_px, one.sha256) for one in by_server.variants] == [
        (one.name, one.width_px, one.height_px, one.sha256) for one in by_client.variants
    ]
    assert by_server.details == by_client.details


async def test_sizes_go_to_the_server_and_what_is_no_picture_goes_as_it_is(lane: Client) -> None:
    """One cut of a caller's own; none of a text, and none when none is wanted."""
    body = picture()
    sized = await lane.upload(body, file_path="a.jpg", cuts=[CutWish("icon", 32)], cut_maker="server")
    assert [(one.name, one.height_px) for one in sized.variants] == [("original", 1000), ("icon", 32)]
    text = await lane.upload(b"words", file_path="a.txt", cut_maker="server")
    whole = await lane.upload(body, file_path="a.jpg", cuts=False, cut_maker="server")
    assert [len(asset.variants) for asset in (text, whole)] == [1, 1]
    with pytest.raises(UploadFailed) as failed:
        await lane.upload(body[:4000] + body[5000:], file_path="a.jpg", content_type="image/png", cut_maker="server")
    assert failed.value.reason == "CONTENT_TYPE_MISMATCH"
