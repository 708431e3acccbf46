"""The thin client on the whole way: a real server, real stores, and a picture as a camera makes it."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from examples.picture import photograph
from PIL import Image, ImageChops, ImageOps, ImageStat
from tests.journeys.bucket import Bucket
from tests.journeys.steps import get, put

from assetlane import (
    Asset,
    Client,
    NotFound,
    PreconditionFailed,
    Progress,
    RequestUploadRequest,
    UploadFailed,
    UploadStatus,
    VariantPromise,
)
from assetlane_server.config.settings import Settings

LIMIT_S = 30.0
LIFE = ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]
TWO_SECONDS = 2 / 3600


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A photograph that lies on its side: shown upright it is 1,200 wide and 1,600 high."""
    return photograph()


@pytest.fixture
def bucket(settings: Settings) -> Iterator[Bucket]:
    """The bucket past Assetlane."""
    bucket = Bucket(settings)
    yield bucket
    bucket.close()


async def read(client: Client, web: aiohttp.ClientSession, asset: Asset, variant: str = "original") -> bytes:
    """Returns the bytes behind a variant's read URL."""
    status, body = await get(web, await client.read_url(asset, variant))
    assert status == 200
    return body


async def test_a_picture_arrives_with_its_cuts_while_every_step_is_reported(
    client: Client, web: aiohttp.ClientSession, photo: bytes, tmp_path: Path
) -> None:
    """Four statuses in order, progress up to the last byte; each URL reads what was stored, at its size."""
    path = tmp_path / "dusk.jpg"
    path.write_bytes(photo)
    steps: list[Progress] = []
    asset = await client.upload(path, title="Dusk", extra={"stars": 5}, on_progress=steps.append)
    assert [step.status_name for step in steps if not step.variant] == LIFE
    assert max(step.sent_bytes for step in steps) == sum(variant.size_bytes for variant in asset.variants)
    sizes = {variant.name: (variant.width_px, variant.height_px) for variant in asset.variants}
    assert sizes == {"original": (1200, 1600), "small": (225, 300), "medium": (450, 600), "large": (675, 900)}
    assert (asset.partition, asset.file_path, asset.details.title) == ("user/7f3a", "dusk.jpg", "Dusk")
    assert asset.details.extra["stars"] == 5
    assert asset == await client.get_asset(asset.asset_id)

    assert await read(client, web, asset) == photo
    for variant in asset.variants[1:]:
        body = await read(client, web, asset, variant.name)
        assert len(body) == variant.size_bytes
        with Image.open(io.BytesIO(body)) as cut:
            assert cut.size == (variant.width_px, variant.height_px)


async def test_cuts_hold_no_place_and_look_like_the_picture(
    client: Client, web: aiohttp.ClientSession, photo: bytes
) -> None:
    """GPS and every other EXIF tag is gone, the profile is there, and each cut stands upright."""
    asset = await client.upload(photo, file_path="dusk.jpg")
    with Image.open(io.BytesIO(photo)) as original:
        profile = original.info["icc_profile"]
        upright = ImageOps.exif_transpose(original)
    for variant in asset.variants[1:]:
        with Image.open(io.BytesIO(await read(client, web, asset, variant.name))) as cut:
            assert dict(cut.getexif()) == {}
            assert cut.info["icc_profile"] == profile
            unlike = ImageChops.difference(cut.convert("L"), upright.convert("L").resize(cut.size))
            assert ImageStat.Stat(unlike).mean[0] < 4


async def test_a_public_asset_is_read_unsigned(client: Client, web: aiohttp.ClientSession) -> None:
    """Zero hours: anybody reads it for ever, and `read_url` has nothing to refresh."""
    asset = await client.upload(b"hello", file_path="a.txt", partition="public", expiration_hours=0)
    url = await client.read_url(asset)
    assert "?" not in url
    assert await get(web, url) == (200, b"hello")
    assert not asset.HasField("expire_time")


async def test_a_read_url_that_ran_out_is_refreshed_by_itself(client: Client, web: aiohttp.ClientSession) -> None:
    """The old URL is dead, the one that `read_url` gives lives, and the asset shows it."""
    asset = await client.upload(b"hello", file_path="a.txt", expiration_hours=TWO_SECONDS)
    first = await client.read_url(asset)
    assert await get(web, first) == (200, b"hello")
    async with asyncio.timeout(LIMIT_S):
        while (await get(web, first))[0] != 403:
            continue  # the clock that decides is the store's
    second = await client.read_url(asset)
    assert second == asset.variants[0].read_url != first
    assert await get(web, second) == (200, b"hello")


async def test_a_download_is_what_was_uploaded(client: Client, photo: bytes, tmp_path: Path) -> None:
    """Original and cut, checked against the ledger, and nothing else in the folder."""
    asset = await client.upload(photo, file_path="albums/dusk.jpg")
    received: list[int] = []
    original = await client.download(asset, to=tmp_path / "dusk.jpg", on_received=received.append)
    small = await client.download(asset, "small", to=tmp_path / "small.jpg")
    assert original.read_bytes() == photo
    assert received[-1] == len(photo)
    assert small.stat().st_size == asset.variants[1].size_bytes
    assert {path.name for path in tmp_path.iterdir()} == {"dusk.jpg", "small.jpg"}  # noqa: ASYNC240


async def test_a_cancelled_task_leaves_nothing(client: Client, bucket: Bucket) -> None:
    """Cancelled in the middle of its bytes: the upload is CANCELLED and the store empty."""
    moving = asyncio.Event()

    def on_progress(step: Progress) -> None:
        if step.variant:
            moving.set()

    task = asyncio.create_task(client.upload(bytes(64 * 1024**2), file_path="a.bin", on_progress=on_progress))
    async with asyncio.timeout(LIMIT_S):
        await moving.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (upload,) = [upload async for upload in client.list_uploads()]
    assert upload.status == UploadStatus.UPLOAD_STATUS_CANCELLED
    assert await bucket.keys() == []
    with pytest.raises(PreconditionFailed) as over:
        await client.complete_upload(upload.upload_id)
    assert over.value.reason == "UPLOAD_CANCELLED"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"hello!", "text/plain", "SIZE_MISMATCH"),
        (b"hello", "text/html", "CONTENT_TYPE_MISMATCH"),
        (b"hallo", "text/plain", "CHECKSUM_MISMATCH"),
    ],
)
async def test_a_broken_promise_fails_the_upload(
    client: Client, web: aiohttp.ClientSession, bucket: Bucket, body: bytes, content_type: str, reason: str
) -> None:
    """Somebody with the keys swapped the object: UploadFailed says why, and nothing is left behind."""
    sha256 = bytes.fromhex("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5, sha256=sha256)
    reply = await client.request_upload(RequestUploadRequest(file_path="a.txt", variants=[promise]))
    (target,) = reply.write_targets
    assert await put(web, target, b"hello") == 200
    await bucket.replace(target.single_put.url, body, content_type)
    with pytest.raises(UploadFailed) as failed:
        await client.complete_upload(reply.upload.upload_id)
    assert (failed.value.reason, failed.value.upload.upload_id) == (reason, reply.upload.upload_id)
    assert await bucket.keys() == []
    with pytest.raises(NotFound):
        await client.get_asset(reply.upload.upload_id)


async def test_lists_go_through_every_page(client: Client) -> None:
    """Newest first, each once, however small the pages."""
    assets = [await client.upload(b"hello", file_path=f"{n}.txt", partition="team/42") for n in range(5)]
    newest_first = [asset.asset_id for asset in reversed(assets)]
    assert [upload.upload_id async for upload in client.list_uploads(page_size=2)] == newest_first
    assert [asset.asset_id async for asset in client.list_assets("team/42", page_size=2)] == newest_first
    assert [upload async for upload in client.list_uploads(uid="somebody-else")] == []


async def test_more_assets_than_a_batch_holds_are_refreshed(client: Client) -> None:
    """One result for each of 130 ids in the order asked; those that are missing fail alone."""
    asset = await client.upload(b"hello", file_path="a.txt")
    ids = [asset.asset_id if n % 3 else f"missing-{n}" for n in range(130)]
    results = await client.refresh_assets(ids)
    assert [result.asset_id for result in results] == ids
    for result in results:
        if result.asset_id == asset.asset_id:
            assert result.asset.asset_id == asset.asset_id
        else:
            assert result.failure.reason == "ASSET_NOT_FOUND"
