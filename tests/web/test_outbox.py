"""The outbox in Chromium: files that wait for a connection, and go on after the browser was closed."""

import hashlib
import re
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from playwright.async_api import BrowserContext, Page, Request
from tests.conftest import Figures
from tests.web.conftest import PART_BYTES, WebPlace, chromium, open_page, settled, until
from tests.web.test_browser import picked, read_back, slow_down, variants_of

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

LARGE_BYTES: Final = 200 * 1024 * 1024
OPEN: Final = """async (user) => {
    window.completed = []; window.failed = []; window.share = 0;
    window.outbox = await assetlane.Outbox.open(client, {
        user,
        onProgress: (entry, {sentBytes, sizeBytes}) => { share = sentBytes / sizeBytes; },
        onCompleted: (entry, asset) => completed.push(asset.assetId),
        onFailed: (entry, error, willRetry) => failed.push([error.reason, willRetry]),
    });
}"""
ASSET: Final = """async (id) => JSON.parse(JSON.stringify(await client.getAsset(id),
    (key, value) => typeof value === "bigint" ? Number(value) : value instanceof Uint8Array ? [...value] : value))"""


def parts_put(page: Page) -> list[int]:
    """Returns a list that grows by the number of every part that the store has taken from this page."""
    return _parts(page, "requestfinished")


def parts_begun(page: Page) -> list[int]:
    """Returns a list that grows by the number of every part that this page begins to send."""
    return _parts(page, "request")


def _parts(page: Page, event: Literal["request", "requestfinished"]) -> list[int]:
    parts: list[int] = []

    def sent(request: Request) -> None:
        found = re.search(r"partNumber=(\d+)", request.url)
        if request.method == "PUT" and found:
            parts.append(int(found[1]))

    page.on(event, sent)
    return parts


async def entries(page: Page) -> list[dict[str, Any]]:
    """Returns what is in the outbox of a page: names, and reasons of those that were refused."""
    found: list[dict[str, Any]] = await page.evaluate(
        "async () => (await outbox.entries()).map(({name, failure}) => ({name, reason: failure?.reason ?? ''}))"
    )
    return found


BY_OUTBOX: Final = (f"async () => {{ await ({OPEN})('ann'); await outbox.add(picked()); }}", f"() => ({OPEN})('ann')")
BY_ID: Final = """() => {
    window.completed = []; window.share = 0;
    void client.upload(picked(), {
        requestId: "film", sessionId: "film",
        onProgress: ({sentBytes, sizeBytes}) => { share = sentBytes / sizeBytes; },
    }).asset.then((asset) => completed.push(asset.assetId));
}"""


@pytest.mark.parametrize(("begin", "go_on"), [BY_OUTBOX, (BY_ID, BY_ID)], ids=["outbox", "request_id"])
async def test_a_browser_closed_half_way_goes_on_after(
    place: WebPlace, tmp_path: Path, figures: Figures, begin: str, go_on: str
) -> None:
    """200 MB: of all parts one was under way, and at most that one is sent again."""
    path = place.file("film.bin", LARGE_BYTES)
    count = -(-LARGE_BYTES // PART_BYTES)
    async with chromium(tmp_path / "profile", *place.arguments) as browser:
        page = await open_page(browser, place)
        before, begun_before = parts_put(page), parts_begun(page)
        await slow_down(page, 60_000_000)
        await picked(page, path)
        await page.evaluate(begin)
        await until(page, "window.share >= 0.5")
    assert count * 0.4 <= len(before) < count
    async with chromium(tmp_path / "profile", *place.arguments) as browser:
        page = await open_page(browser, place)
        after, begun_after = parts_put(page), parts_begun(page)
        await picked(page, path)  # the outbox has kept it and needs it not
        await page.evaluate(go_on)
        await until(page, "window.completed.length === 1")
        again = len(begun_before) + len(begun_after) - count
        way = "by the outbox" if begin != BY_ID else "by its request id"
        figures(f"200 MB {way} in {count} parts, closed after {len(before)}: {again} sent again")
        assert set(begun_before) | set(begun_after) == set(range(1, count + 1))
        assert again <= 1
        # A part may arrive as the browser closes, its answer unseen.
        assert len(set(range(1, count + 1)) - set(before) - set(after)) <= 1
        if begin != BY_ID:
            assert await entries(page) == []
        asset = await page.evaluate(ASSET, await page.evaluate("completed[0]"))
        url = variants_of(asset)["original"]["readUrl"]
        assert await read_back(page, url) == (200, hashlib.sha256(path.read_bytes()).hexdigest())


async def test_what_is_added_offline_is_sent_when_the_network_is_back(place: WebPlace, browser: BrowserContext) -> None:
    """And once, though two tabs have the outbox open."""
    page, other = await open_page(browser, place), await open_page(browser, place)
    await page.evaluate(OPEN, "ann")
    await other.evaluate(OPEN, "ann")
    await picked(page, place.file("one.bin", 1000), place.file("two.bin", 2000))
    await browser.set_offline(True)
    await page.evaluate("async () => { await outbox.add(picked(0)); await outbox.add(picked(1)); }")
    await settled(1_000)
    assert [entry["name"] for entry in await entries(other)] == ["one.bin", "two.bin"]
    await browser.set_offline(False)
    await until(page, "async () => (await outbox.entries()).length === 0")
    names = await page.evaluate(
        """async (partition) => {
        const names = [];
        for await (const asset of client.listAssets(partition)) names.push(asset.filePath);
        return names.sort();
    }""",
        f"user/{place.sub}",
    )
    assert names == ["one.bin", "two.bin"]
    assert len(await page.evaluate("completed")) + len(await other.evaluate("completed")) == 2


async def test_a_killed_server_only_delays_the_outbox(place: WebPlace, browser: BrowserContext) -> None:
    """Added while the server is down, completed once it is up."""
    page = await open_page(browser, place)
    await page.evaluate(OPEN, "ann")
    await place.server.kill()
    await picked(page, place.file("patient.bin", 1000))
    await page.evaluate("async () => { await outbox.add(picked()); }")
    await settled(1_000)
    await place.server.start()
    await until(page, "window.completed.length === 1")
    assert all(will_retry for _, will_retry in await page.evaluate("failed"))


async def test_a_refused_file_stays_with_its_reason_and_other_users_see_none(
    place: WebPlace, browser: BrowserContext
) -> None:
    """It can be tried again or removed."""
    page = await open_page(browser, place)
    await page.evaluate(OPEN, "ann")
    await picked(page, place.file("refused.bin", 1000))
    await page.evaluate("async () => { await outbox.add(picked(), {partition: 'user/bob'}); }")
    await until(page, "window.failed.length === 1")
    assert await page.evaluate("failed") == [["PARTITION_NOT_FOUND", False]]
    assert await entries(page) == [{"name": "refused.bin", "reason": "PARTITION_NOT_FOUND"}]
    await page.evaluate("async () => { const [entry] = await outbox.entries(); await outbox.retry(entry.id); }")
    await until(page, "window.failed.length === 2")
    bob = await open_page(browser, place, sub="bob")
    await bob.evaluate(OPEN, "bob")
    assert await entries(bob) == []
    await page.evaluate("async () => { const [entry] = await outbox.entries(); await outbox.remove(entry.id); }")
    assert await entries(page) == []
