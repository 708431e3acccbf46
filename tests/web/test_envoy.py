"""The same client in Chromium through `deploy/envoy.yaml`: TLS and HTTP/2, with the server's gRPC port behind it."""

import asyncio
import hashlib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.access.certificates import Authority
from tests.servers import free_port
from tests.web.conftest import LIMIT_S, PART_BYTES, WebPlace, chromium, open_page, settled, until
from tests.web.test_browser import read_back, upload, variants_of
from tests.web_gateway.test_envoy import ENVOY, recipe

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ARGUMENTS = ["--host-resolver-rules=MAP files.example 127.0.0.1", "--ignore-certificate-errors"]


@asynccontextmanager
async def envoy(place: WebPlace, folder: Path) -> AsyncIterator[str]:
    """Envoy before the server's gRPC port, for the pages of the test's origin; yields its address."""
    await asyncio.to_thread(folder.mkdir)
    port = free_port()
    path = recipe(folder, Authority(), port=port, admin_port=free_port(), behind=place.server.port)
    text = path.read_text()
    assert text.count('"https://app.example"') == 1
    path.write_text(text.replace("https://app.example", place.origin))
    options = ("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart")
    process = await asyncio.create_subprocess_exec(ENVOY, "-c", path, *options, stdout=DEVNULL, stderr=PIPE)
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await listens(port):
                assert process.returncode is None, "Envoy ended"
                await asyncio.sleep(0.05)
        yield f"https://files.example:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def listens(port: int) -> bool:
    """Whether something takes connections on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_the_browser_client_works_unchanged_behind_envoy(place: WebPlace, tmp_path: Path) -> None:
    """Single and multipart uploads, and a watch that a killed server costs nothing."""
    if not ENVOY.exists():
        pytest.fail("Envoy is not installed: make setup")
    async with envoy(place, tmp_path / "envoy") as url, chromium(tmp_path / "profile", *ARGUMENTS) as browser:
        place.url = url
        page = await open_page(browser, place)
        await page.evaluate(
            """(partition) => {
            window.lines = []; window.gaps = 0;
            follow(client.watchAssets(partition, {onGap: () => gaps++}), lines);
        }""",
            f"user/{place.sub}",
        )
        await until(page, "window.lines.includes('SYNCED')")
        ids = []
        for number, size_bytes in enumerate((1000, 3 * PART_BYTES + 1)):
            path = place.file(f"{number}.bin", size_bytes)
            asset = await upload(page, path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert await read_back(page, variants_of(asset)["original"]["readUrl"]) == (200, digest)
            ids.append(asset["assetId"])
        await place.restart()
        ids.append((await upload(page, place.file("after.bin", 10)))["assetId"])
        await until(page, "count => window.lines.length >= count", 1 + len(ids))
        await settled()
        assert await page.evaluate("lines") == ["SYNCED", *(f"ADDED {one} 1" for one in ids)]
        assert await page.evaluate("gaps") >= 1
        refused = "client.getAsset('01JZZZZZZZZZZZZZZZZZZZZZZZ').catch((error) => error.reason)"
        assert await page.evaluate(refused) == "ASSET_NOT_FOUND"
