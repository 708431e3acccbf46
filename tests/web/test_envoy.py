"""The same client in Chromium through `deploy/envoy.yaml`: TLS and HTTP/2, with the server's gRPC port behind it.

Tests of the other files of this folder run here with Envoy before the server; test_envoy_long has the rest of them.
"""

import hashlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext
from tests.web.conftest import PART_BYTES, WebPlace, fronted_place, open_page, settled, until
from tests.web.test_browser import (
    read_back,
    test_an_expired_token_is_replaced,
    test_eight_tabs_watch_over_one_connection,
    test_offline_and_back,
    upload,
    variants_of,
)
from tests.web.test_outbox import (
    test_a_browser_closed_half_way_goes_on_after,
    test_what_is_added_offline_is_sent_when_the_network_is_back,
)
from tests.web.test_uppy import (
    test_cancel,
    test_golden_retriever_goes_on_after_a_reload,
    test_pause_and_resume,
    test_single_and_multipart_files,
)

from assetlane_server.local import StackAddress

__all__ = [
    "test_a_browser_closed_half_way_goes_on_after",
    "test_an_expired_token_is_replaced",
    "test_cancel",
    "test_eight_tabs_watch_over_one_connection",
    "test_golden_retriever_goes_on_after_a_reload",
    "test_offline_and_back",
    "test_pause_and_resume",
    "test_single_and_multipart_files",
    "test_what_is_added_offline_is_sent_when_the_network_is_back",
]
pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_place(stack: StackAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebPlace]:
    """One server with Envoy before it for all tests here."""
    async with fronted_place(stack, tmp_path_factory.mktemp("place")) as built:
        yield built


async def test_the_browser_client_works_unchanged_behind_envoy(place: WebPlace, browser: BrowserContext) -> None:
    """Single and multipart uploads, and a watch that a killed server costs nothing."""
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
