"""The Uppy plugin in Chromium: single, parts, pause, cancel, Golden Retriever."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Request, Response
from tests.conftest import Figures
from tests.web.conftest import PART_BYTES, WebPlace, chromium, until
from tests.web.test_browser import slow_down
from tests.web.test_outbox import LARGE_BYTES, parts_begun, parts_put

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

# Whether Golden Retriever has kept a file's bytes, and what our plugin knows of it.
KEPT = """async (requestId) => {
    const done = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });
    const database = await done(indexedDB.open("uppy-blobs"));
    const kept = [];
    for (const name of database.objectStoreNames)
        kept.push(...await done(database.transaction(name).objectStore(name).getAll()));
    database.close();
    return kept.some((one) => one.data instanceof Blob) && JSON.stringify(kept).includes(requestId);
}"""
INPUT = ".uppy-Dashboard-input >> nth=0"


async def open_uppy(context: BrowserContext, place: WebPlace, more: str = "") -> Page:
    """Opens a page with Uppy and our plugin."""
    page = await context.new_page()
    token = place.issuer.token(place.sub)
    await page.add_init_script(f"window.token = {token!r};")
    await page.goto(f"{place.origin}/uppy.html?api={place.url}{more}")
    await until(page, "window.uppy !== undefined")
    return page


async def events(page: Page, kind: str) -> list[list[Any]]:
    """Returns what the page has logged of a kind."""
    found: list[list[Any]] = await page.evaluate(
        """kind => JSON.parse(JSON.stringify(log.filter((line) => line[0] === kind),
            (key, value) => typeof value === "bigint" ? Number(value) : value))""",
        kind,
    )
    return found


async def add(page: Page, *paths: Path) -> None:
    """Adds files as the Dashboard's button does."""
    await page.set_input_files(INPUT, list(paths))
    await until(page, "count => window.uppy.getFiles().length >= count", len(paths))


async def test_single_and_multipart_files(place: WebPlace, browser: BrowserContext) -> None:
    """Both at once, with progress, and read back."""
    page = await open_uppy(browser, place)
    small, large = place.file("small.bin", 1000), place.file("large.bin", 3 * PART_BYTES)
    await add(page, small, large)
    result = await page.evaluate(
        "async () => { const {successful, failed} = await uppy.upload(); return [successful.length, failed.length]; }"
    )
    assert result == [2, 0]
    urls = {name: url for _, name, _, url in await events(page, "success")}
    for path in (small, large):
        assert await read_back_uppy(page, urls[path.name]) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [line[2] for line in await events(page, "progress") if line[1] == "large.bin"][-1] == 3 * PART_BYTES


async def read_back_uppy(page: Page, url: str) -> str:
    """Returns the SHA-256 of what a URL reads."""
    digest: str = await page.evaluate(
        """async (url) => {
        const body = await (await fetch(url)).arrayBuffer();
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
        return [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    }""",
        url,
    )
    return digest


async def test_pause_and_resume(place: WebPlace, browser: BrowserContext) -> None:
    """Uppy's own buttons' calls: parts that have arrived are not sent again."""
    page = await open_uppy(browser, place)
    parts = parts_put(page)
    await slow_down(page, 20_000_000)
    await add(page, place.file("long.bin", 8 * PART_BYTES))
    await page.evaluate("() => { window.done = uppy.upload(); }")
    await until(page, f"window.log.some((line) => line[0] === 'progress' && line[2] > {2 * PART_BYTES})")
    await page.evaluate("uppy.pauseResume(uppy.getFiles()[0].id)")
    await until(page, "window.uppy.getFiles()[0].isPaused")
    assert await events(page, "success") == []
    await page.evaluate("uppy.pauseResume(uppy.getFiles()[0].id)")
    assert await page.evaluate("async () => (await done).successful.length") == 1
    assert sorted(parts) == list(range(1, 9))


async def test_cancel(place: WebPlace, browser: BrowserContext) -> None:
    """A file that is removed on its way is CANCELLED at the server, and no error."""
    page = await open_uppy(browser, place)
    await slow_down(page, 20_000_000)
    await add(page, place.file("unwanted.bin", 8 * PART_BYTES))
    await page.evaluate("() => { void uppy.upload().catch(() => undefined); }")
    await until(page, f"window.log.some((line) => line[0] === 'progress' && line[2] > {PART_BYTES})")
    await page.evaluate("uppy.cancelAll()")
    await until(
        page,
        """async () => {
        for await (const upload of client.listUploads()) return upload.status === 6;
        return false;
    }""",
    )
    assert await events(page, "error") == []


async def go_on(page: Page) -> None:
    """Continues what Golden Retriever has brought back, to its end."""
    await page.evaluate("""() => {
        const [id] = Object.keys(uppy.getState().currentUploads);
        void (id ? uppy.restore(id) : uppy.upload());
    }""")
    await until(page, "window.log.some((line) => line[0] === 'success')")


async def test_golden_retriever_goes_on_after_a_reload(place: WebPlace, tmp_path: Path) -> None:
    """The same upload: its id is kept with the file, and what has arrived is not sent again."""
    async with chromium(tmp_path / "profile", *place.arguments) as browser:
        page = await open_uppy(browser, place, "&gr")
        before = parts_put(page)
        await slow_down(page, 10_000_000)
        # Golden Retriever keeps files of up to 10 MB in IndexedDB.
        path = place.file("kept.bin", 2 * PART_BYTES - 1024)
        await add(page, path)
        request_id = await page.evaluate("uppy.getFiles()[0].meta.assetlaneRequest")
        await until(page, KEPT, request_id)
        await page.evaluate("() => { void uppy.upload(); }")
        await until(page, "window.log.some((line) => line[0] === 'progress' && line[2] > 1000000)")
        await page.reload()
        await until(page, "window.uppy?.getFiles().length === 1 && window.uppy.getFiles()[0].data?.size > 0")
        assert await page.evaluate("uppy.getFiles()[0].meta.assetlaneRequest") == request_id
        await go_on(page)
        assert len(before) <= 1
        ids = await page.evaluate(
            """async () => {
                const ids = [];
                for await (const upload of client.listUploads()) ids.push(upload.requestId);
                return ids;
            }"""
        )
        assert ids == [request_id]


async def test_a_browser_closed_half_way_goes_on_when_its_file_is_picked_again(
    place: WebPlace, tmp_path: Path, figures: Figures
) -> None:
    """200 MB, more than Golden Retriever keeps: of all parts one was under way, and at most that one is sent again."""
    path = place.file("film.bin", LARGE_BYTES)
    count = -(-LARGE_BYTES // PART_BYTES)
    async with chromium(tmp_path / "profile", *place.arguments) as browser:
        page = await open_uppy(browser, place, "&gr")
        before, begun_before = parts_put(page), parts_begun(page)
        await slow_down(page, 60_000_000)
        await add(page, path)
        request_id = await page.evaluate("uppy.getFiles()[0].meta.assetlaneRequest")
        await page.evaluate("() => { void uppy.upload(); }")
        await until(page, f"window.log.some((line) => line[0] === 'progress' && line[2] >= {LARGE_BYTES // 2})")
    assert count * 0.4 <= len(before) < count
    async with chromium(tmp_path / "profile", *place.arguments) as browser:
        page = await open_uppy(browser, place, "&gr")
        after, begun_after = parts_put(page), parts_begun(page)
        await until(page, "window.uppy.getFiles().length === 1 && window.uppy.getFiles()[0].isGhost")
        await page.click(".uppy-Dashboard-Item-reSelect")
        await page.set_input_files(INPUT, path)
        await until(page, "!window.uppy.getFiles()[0].isGhost")
        assert await page.evaluate("uppy.getFiles()[0].meta.assetlaneRequest") == request_id
        await go_on(page)
        again = len(begun_before) + len(begun_after) - count
        figures(f"200 MB by Uppy in {count} parts, closed after {len(before)}: {again} sent again")
        assert set(begun_before) | set(begun_after) == set(range(1, count + 1))
        assert again <= 1
        # A part may arrive as the browser closes, its answer unseen.
        assert len(set(range(1, count + 1)) - set(before) - set(after)) <= 1
        ((_, _, _, url),) = await events(page, "success")
        assert await read_back_uppy(page, url) == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_file_without_a_request_is_given_one_and_sends_a_part_at_a_time(
    place: WebPlace, browser: BrowserContext
) -> None:
    """Such as one whose upload the server has given up, or that was added before the plugin."""
    page = await open_uppy(browser, place)
    await slow_down(page, 20_000_000)
    under_way: list[str] = []
    counts: list[int] = []

    def begun(request: Request) -> None:
        if request.method == "PUT" and "partNumber=" in request.url:
            under_way.append(request.url)
            counts.append(len(under_way))

    def answered(response: Response) -> None:
        if response.url in under_way:
            under_way.remove(response.url)

    page.on("request", begun)
    page.on("response", answered)
    await add(page, place.file("again.bin", 4 * PART_BYTES))
    await page.evaluate("() => uppy.setFileMeta(uppy.getFiles()[0].id, {assetlaneRequest: undefined})")
    assert await page.evaluate("async () => (await uppy.upload()).successful.length") == 1
    assert len(await page.evaluate("uppy.getFiles()[0].meta.assetlaneRequest")) > 0
    assert counts == [1] * 4
