"""The client sends large files in parts, to a real server and a real store."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.journeys.bucket import Bucket
from tests.journeys.steps import get
from tests.servers import served, settings_for

from assetlane import Client, FileChanged, Progress, transfer
from assetlane.sources import LARGE_BYTES, Source
from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import PartPromise, RequestUploadRequest
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress

MIB = 1024**2
PART = 5 * MIB
SIZE = LARGE_BYTES + 3
LAST = -(-SIZE // PART)
CONTENT = random.Random(5).randbytes(SIZE)


@pytest.fixture
def settings(stack: StackAddress, database_name: str, key_prefix: str) -> Settings:
    """The settings of a server with small parts."""
    return settings_for(stack, database_name, key_prefix, multipart_part_bytes=PART)


@pytest.fixture
async def bucket(settings: Settings) -> AsyncIterator[Bucket]:
    """The bucket as somebody with the keys sees it."""
    bucket = Bucket(settings)
    yield bucket
    bucket.close()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file that arrives in parts."""
    path = tmp_path / "film.bin"
    path.write_bytes(CONTENT)
    return path


async def test_a_large_file_arrives_in_parts_and_reads_back(
    client: Client, web: aiohttp.ClientSession, film: Path, bucket: Bucket, tmp_path: Path
) -> None:
    """The same bytes; progress never counts more than there is; nothing half-done stays."""
    steps: list[Progress] = []
    asset = await client.upload(film, on_progress=steps.append)
    (variant,) = asset.variants
    assert (variant.size_bytes, variant.part_size_bytes) == (SIZE, PART)
    assert await get(web, variant.read_url) == (200, CONTENT)
    assert max(step.sent_bytes for step in steps) == SIZE
    assert [step.status_name for step in steps if not step.variant] == [
        "PENDING", "INITIALIZED", "UPLOADED", "COMPLETED",
    ]  # fmt: skip
    assert await bucket.open_multiparts() == []
    await client.download(asset, to=tmp_path / "again.bin")
    assert await asyncio.to_thread((tmp_path / "again.bin").read_bytes) == CONTENT


async def test_bytes_in_memory_arrive_in_parts_too(client: Client, web: aiohttp.ClientSession) -> None:
    """They need no file."""
    content = random.Random(6).randbytes(SIZE)
    asset = await client.upload(content, file_path="a.bin")
    assert await get(web, asset.variants[0].read_url) == (200, content)


async def test_what_is_there_is_not_sent_again(client: Client, film: Path, web: aiohttp.ClientSession) -> None:
    """Parts of an earlier run are proved against the file: one with other bytes is sent again."""
    request = RequestUploadRequest(
        request_id="r-1",
        file_path=film.name,
        variants=[
            VariantPromise(
                name="original", content_type="application/octet-stream", size_bytes=SIZE, promises_parts=True
            )
        ],
    )
    upload_id = (await client.request_upload(request)).upload.upload_id
    bodies = {1: CONTENT[:PART], 2: bytes(PART), LAST: CONTENT[(LAST - 1) * PART :]}
    promises = [
        PartPromise(part_number=number, sha256=hashlib.sha256(body).digest()) for number, body in bodies.items()
    ]
    async with transfer.open_session() as session:
        for signed in await client.sign_parts(upload_id, "original", promises):
            await transfer.put(session, Source.of(bodies[signed.part_number]), signed.request)
    assert [part.part_number for part in await client.list_parts(upload_id, "original")] == [1, 2, LAST]
    before = await client.get_upload(upload_id)
    asset = await client.upload(film, request_id="r-1")
    assert asset.asset_id == before.upload_id
    assert await get(web, asset.variants[0].read_url) == (200, CONTENT)


async def test_a_file_that_is_written_to_meanwhile_is_given_up(client: Client, film: Path, bucket: Bucket) -> None:
    """Torn between two states it would be nobody's file: FileChanged, and nothing of it stays."""

    async def scribble(step: Progress) -> None:
        if step.variant and step.sent_bytes < SIZE:
            await asyncio.to_thread(film.touch)

    with pytest.raises(FileChanged):
        await client.upload(film, on_progress=scribble)
    assert (await bucket.keys(), await bucket.open_multiparts()) == ([], [])


async def test_a_cancelled_upload_leaves_no_part(client: Client, film: Path, bucket: Bucket) -> None:
    """The task is cancelled in the middle of its parts."""
    begun = asyncio.Event()

    def on_step(step: Progress) -> None:
        if step.sent_bytes > PART:
            begun.set()

    task = asyncio.create_task(client.upload(film, on_progress=on_step))
    async with asyncio.timeout(20):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await bucket.keys(), await bucket.open_multiparts()) == ([], [])


async def test_part_urls_that_ran_out_are_signed_again(
    stack: StackAddress, database_name: str, key_prefix: str, film: Path, bucket: Bucket
) -> None:
    """A server whose URLs live for one second: a slower client renews, part by part."""
    settings = settings_for(stack, database_name, key_prefix, multipart_part_bytes=PART, write_url_seconds=1)
    async with served(settings) as target, Client(target, uid="7f3a") as client:
        asset = await client.upload(film)
    assert asset.variants[0].size_bytes == SIZE
    assert await bucket.open_multiparts() == []


@pytest.mark.parametrize("size", [0, 1])
async def test_the_smallest_files(client: Client, web: aiohttp.ClientSession, tmp_path: Path, size: int) -> None:
    """Nothing, and a single byte, there and back."""
    path = tmp_path / "small.bin"
    await asyncio.to_thread(path.write_bytes, b"x" * size)
    asset = await client.upload(path)
    assert await get(web, asset.variants[0].read_url) == (200, b"x" * size)
    await client.download(asset, to=tmp_path / "again.bin")
    assert (await asyncio.to_thread((tmp_path / "again.bin").read_bytes)) == b"x" * size
