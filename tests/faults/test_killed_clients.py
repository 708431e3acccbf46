"""Clients that are killed in the middle of a large file: the next one goes on where the store says they stopped."""

import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import pytest
import yarl
from tests.faults.conftest import Report
from tests.faults.counting_proxy import CountingProxy, counting_proxy
from tests.faults.scale import scaled
from tests.journeys.bucket import Bucket
from tests.records.stores import drop
from tests.servers import served, settings_for

from assetlane.sources import LARGE_BYTES
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

MIB: Final = 1024**2
PART: Final = 5 * MIB
SIZE: Final = max(LARGE_BYTES + 5 * PART, scaled(300) * 1_000_000) + 17
KILLS: Final = 10
RUN_LIMIT_S: Final = 120.0


def written(path: Path, seed: int) -> str:
    """Writes a file of SIZE bytes and returns its SHA-256."""
    digest, source = hashlib.sha256(), random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, SIZE, MIB):
            block = source.randbytes(min(MIB, SIZE - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


@asynccontextmanager
async def uploading(target: str, file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `assetlane upload` with a request id of its own; kills what is left of it at the end."""
    command = ("-m", "assetlane.cli", "upload", str(file), "--json", "--request-id", "film")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, "ASSETLANE_TARGET": target, "ASSETLANE_UID": "7f3a"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def read_back(url: str) -> str:
    """Returns the SHA-256 of what a URL gives."""
    digest = hashlib.sha256()
    async with aiohttp.ClientSession() as web, web.get(yarl.URL(url, encoded=True)) as answer:
        assert answer.status == 200
        async for chunk in answer.content.iter_chunked(MIB):
            digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.timeout(600)
async def test_a_client_that_is_killed_ten_times_sends_no_part_twice(
    stack: StackAddress, database_name: str, key_prefix: str, directory: Path, seed: int, report: Report
) -> None:
    """The same bytes; every part reaches the store once, whenever its sender died; no part is left behind."""
    file = directory / "film.bin"
    expected = await asyncio.to_thread(written, file, seed)
    chance = random.Random(seed)
    port = urlsplit(stack.s3_endpoint).port
    assert port is not None
    async with counting_proxy(port) as proxy:
        settings = settings_for(
            stack, database_name, key_prefix, s3_public_endpoint=proxy.url, multipart_part_bytes=PART
        )
        async with served(settings) as target:
            for _ in range(KILLS):
                await killed(proxy, target, file, chance.randrange(SIZE // KILLS))
            async with uploading(target, file) as client, asyncio.timeout(RUN_LIMIT_S):
                output, _ = await client.communicate()
                assert client.returncode == 0
            asset = json.loads(output)
            found = await read_back(asset["variants"][0]["read_url"])
        bucket = Bucket(settings)
        keys, left = await bucket.keys(), await bucket.open_multiparts()
        bucket.close()
    parts = -(-SIZE // PART)
    report(
        f"{SIZE / 1e6:.0f} MB in {parts} parts, killed {KILLS} times: {sum(proxy.parts.values())} parts taken by the"
        f" store, {proxy.broken} cut off in flight, {proxy.sent_bytes / SIZE:.2f} times the bytes sent,"
        f" {len(left)} multipart uploads left"
    )
    assert found == expected
    assert proxy.parts == dict.fromkeys(range(1, parts + 1), 1)
    assert proxy.broken, "nobody was killed in the middle of a part"
    assert (len(keys), left) == (1, [])
    await drop(stack.mongo_uri, database_name)


async def killed(proxy: CountingProxy, target: str, file: Path, after_bytes: int) -> None:
    """Runs a client until it has sent so many bytes more, then kills it, and waits until its last part has arrived."""
    async with uploading(target, file) as client:
        await proxy.sent(proxy.sent_bytes + after_bytes)
        client.kill()
        await client.wait()
    await proxy.idle()
