"""The TypeScript client in Chromium, against a real server and store."""

import asyncio
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.async_api import BrowserContext, Page, Request, Route
from tests.conftest import Figures
from tests.web.conftest import PART_BYTES, WebPlace, open_page, settled, until

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

UPLOAD = """async (options) => {
    window.states = []; window.last = undefined;
    window.task = client.upload(picked(), {
        ...options,
        onProgress: (progress) => {
            if (states.at(-1) !== progress.state) states.push(progress.state);
            window.most = Math.max(window.most ?? 0, progress.sentBytes / progress.sizeBytes);
        },
    });
    const asset = await task.asset;
    const text = JSON.stringify(asset, (key, value) =>
        typeof value === "bigint" ? Number(value) : value instanceof Uint8Array ? [...value] : value);
    return JSON.parse(text);
}"""
NO_ASSET = "'01JZZZZZZZZZZZZZZZZZZZZZZZ'"
FAILURES: list[tuple[str, str, str, list[str]]] = [
    (f"client.getAsset({NO_ASSET})", "CallFailed", "ASSET_NOT_FOUND", []),
    ("client.upload(new Blob(['x']), {filePath: '../x'}).asset", "CallFailed", "INVALID_FIELD", ["file_path"]),
    ("client.upload(new Blob(['x']), {partition: 'user/bob'}).asset", "CallFailed", "PARTITION_NOT_FOUND", []),
    (
        f"new assetlane.AssetlaneClient({{url: client.connection.url, token: 'x.y.z'}}).getAsset({NO_ASSET})",
        *("CallFailed", "TOKEN_INVALID", []),
    ),
    (
        "client.upload(new Blob(['no picture']), {contentType: 'image/png', cuts: 'none', filePath: 'x.png'}).asset",
        *("UploadFailed", "CONTENT_TYPE_MISMATCH", []),
    ),
    (
        f"new assetlane.AssetlaneClient({{url: 'http://127.0.0.1:9'}}).getAsset({NO_ASSET}, {{timeoutMs: 500}})",
        *("CallFailed", "SERVER_UNREACHABLE", []),
    ),
]  # fmt: skip
SHA256 = """async (url) => {
    const response = await fetch(url);
    const hash = await assetlane.sha256(await response.blob());
    return [response.status, [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("")];
}"""


async def picked(page: Page, *paths: Path) -> None:
    """Picks files in the page's input."""
    await page.set_input_files("#file", list(paths))


async def upload(page: Page, path: Path, **options: Any) -> dict[str, Any]:
    """Uploads a file and returns the asset."""
    await picked(page, path)
    asset: dict[str, Any] = await page.evaluate(UPLOAD, options)
    return asset


async def read_back(page: Page, url: str) -> tuple[int, str]:
    """Returns the status and the SHA-256 of what a URL reads."""
    status, digest = await page.evaluate(SHA256, url)
    return status, digest


def variants_of(asset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the variants of an asset by name."""
    return {variant["name"]: variant for variant in asset["variants"]}


@pytest.mark.parametrize("size_bytes", [0, 1, 100_000, 2 * PART_BYTES, 2 * PART_BYTES + 1, 4 * PART_BYTES + 7])
async def test_a_file_reads_back_byte_for_byte(place: WebPlace, browser: BrowserContext, size_bytes: int) -> None:
    """Empty, single and in parts, with progress up to the last byte."""
    page = await open_page(browser, place)
    path = place.file("Grüße & 50%.bin", size_bytes)
    asset = await upload(page, path)
    original = variants_of(asset)["original"]
    assert original["sizeBytes"] == size_bytes
    assert asset["filePath"] == "Grüße & 50%.bin"
    assert asset["partition"] == f"user/{place.sub}"
    assert await read_back(page, original["readUrl"]) == (200, hashlib.sha256(path.read_bytes()).hexdigest())
    assert await page.evaluate("states") == ["requesting", "sending", "completing", "completed"]
    if size_bytes:
        assert await page.evaluate("most") == 1


async def test_a_picture_gets_its_cuts_from_the_canvas(place: WebPlace, browser: BrowserContext) -> None:
    """Turned by its EXIF orientation, never enlarged, with its average colour; transparent ones stay transparent."""
    page = await open_page(browser, place)
    turned = place.folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1000, 500), "#c02040").save(turned, exif=exif)
    asset = await upload(page, turned)
    sizes = {name: (one["contentType"], one["widthPx"], one["heightPx"]) for name, one in variants_of(asset).items()}
    assert sizes == {
        "original": ("image/jpeg", 500, 1000),
        "small": ("image/jpeg", 150, 300),
        "medium": ("image/jpeg", 300, 600),
        "large": ("image/jpeg", 450, 900),
    }
    red, green, blue = bytes.fromhex(asset["details"]["color"][1:])
    assert (abs(red - 0xC0), abs(green - 0x20), abs(blue - 0x40)) <= (3, 3, 3)

    clear = place.folder / "clear.png"
    Image.new("RGBA", (400, 200), (10, 200, 30, 0)).save(clear)
    variants = variants_of(await upload(page, clear))
    assert {name: (one["contentType"], one["widthPx"]) for name, one in variants.items()} == {
        "original": ("image/png", 400), "small": ("image/png", 300), "medium": ("image/png", 400),
    }  # fmt: skip
    body = await page.evaluate(
        "async url => [...new Uint8Array(await (await fetch(url)).arrayBuffer())]", variants["small"]["readUrl"]
    )
    with Image.open(io.BytesIO(bytes(body))) as cut:
        assert cut.convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


async def test_what_the_browser_cannot_read_is_cut_by_the_server(place: WebPlace, browser: BrowserContext) -> None:
    """A TIFF, which Chromium shows no more than most browsers; and where that is wanted."""
    page = await open_page(browser, place)
    scan = place.folder / "scan.tif"
    Image.linear_gradient("L").resize((700, 350)).save(scan)
    assert list(variants_of(await upload(page, scan))) == ["original", "small", "medium", "large"]
    photo = place.folder / "photo.jpg"
    Image.linear_gradient("L").resize((400, 350)).save(photo)
    asset = await upload(page, photo, cuts="server")
    assert list(variants_of(asset)) == ["original", "small", "medium"]
    assert list(variants_of(await upload(page, photo, cuts="none"))) == ["original"]


async def test_a_wrong_label_is_corrected_and_a_broken_picture_is_stored_with_a_notice(
    place: WebPlace, browser: BrowserContext
) -> None:
    """A PNG that is called .jpg is a PNG."""
    page = await open_page(browser, place)
    named = place.folder / "really.jpg"
    Image.new("RGB", (50, 50)).save(named, format="PNG")
    assert variants_of(await upload(page, named))["original"]["contentType"] == "image/png"
    broken = place.folder / "broken.png"
    broken.write_bytes(named.read_bytes()[:40])
    asset = await upload(page, broken)
    assert list(variants_of(asset)) == ["original"]
    assert [notice["reason"] for notice in asset["notices"]] == ["IMAGE_BROKEN"]


async def test_a_second_put_that_finds_the_object_there_is_a_success(place: WebPlace, browser: BrowserContext) -> None:
    """The first answer is lost on its way: the store has the object, the repeat gets 412."""
    page = await open_page(browser, place)
    lost: list[str] = []

    async def lose(route: Route) -> None:
        if route.request.method != "PUT" or lost:
            await route.continue_()
            return
        await route.fetch()
        lost.append(route.request.method)
        await route.abort("connectionreset")

    await page.route("**/*X-Amz-Signature*", lose)
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if answer.request.method == "PUT" else None)
    path = place.file("once.bin", 50_000)
    asset = await upload(page, path)
    assert lost == ["PUT"]
    assert 412 in statuses
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert await read_back(page, variants_of(asset)["original"]["readUrl"]) == (200, digest)


async def test_pause_resume_and_cancel(place: WebPlace, browser: BrowserContext) -> None:
    """What arrived before a pause is not sent again; a cancelled upload is CANCELLED at the server."""
    page = await open_page(browser, place)
    parts: list[str] = []

    def sent(request: Request) -> None:
        if request.method == "PUT" and "partNumber=" in request.url:
            parts.append(request.url.partition("partNumber=")[2].partition("&")[0])

    page.on("requestfinished", sent)
    path = place.file("long.bin", 12 * PART_BYTES)
    await slow_down(page, 30_000_000)
    await picked(page, path)
    uploading = asyncio.create_task(page.evaluate(UPLOAD, {}))
    await until(page, "window.most > 0.3")
    await page.evaluate("task.pause()")
    assert await page.evaluate("task.progress.state") == "paused"
    await settled()
    before = len(parts)
    await settled()
    assert len(parts) == before
    await page.evaluate("task.resume()")
    asset = await uploading
    assert sorted(parts, key=int) == [str(number) for number in range(1, 13)]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert await read_back(page, variants_of(asset)["original"]["readUrl"]) == (200, digest)

    await page.evaluate("window.most = 0")
    ended = asyncio.create_task(
        page.evaluate("""async () => {
        window.task = client.upload(picked(), {
            onProgress: ({sentBytes, sizeBytes}) => { window.most = sentBytes / sizeBytes; }});
        return task.asset.then(() => "completed", (error) => error.reason);
    }""")
    )
    await until(page, "window.most > 0.1")
    await page.evaluate("task.cancel()")
    assert await ended == "CANCELLED"
    status = await page.evaluate(
        "async () => assetlane.UploadStatus[(await client.getUpload(task.progress.uploadId)).status]"
    )
    assert status == "CANCELLED"


async def slow_down(page: Page, bytes_per_s: float) -> None:
    """Limits what the page sends."""
    session = await page.context.new_cdp_session(page)
    await session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 1, "downloadThroughput": -1, "uploadThroughput": bytes_per_s},
    )


async def test_offline_and_back(place: WebPlace, browser: BrowserContext) -> None:
    """In the middle of an upload in parts: it waits and goes on."""
    page = await open_page(browser, place)
    await slow_down(page, 10_000_000)
    await picked(page, place.file("journey.bin", 8 * PART_BYTES))
    uploading = asyncio.create_task(page.evaluate(UPLOAD, {}))
    await until(page, "window.most > 0.2")
    await page.evaluate("task.pause()")
    await browser.set_offline(True)
    await page.evaluate("task.resume()")
    await settled(2_000)
    progress = await page.evaluate("task.progress")
    assert progress["state"] == "sending"
    assert progress["sentBytes"] < 8 * PART_BYTES
    await browser.set_offline(False)
    assert variants_of(await uploading)["original"]["sizeBytes"] == 8 * PART_BYTES


async def test_errors_are_typed_by_reason(place: WebPlace, browser: BrowserContext) -> None:
    """Calls with the fields they name, uploads as data, a server that is not there."""
    page = await open_page(browser, place)
    failed = """async (work) => {
        try { await (new Function("return " + work)())(); return "nothing was thrown"; }
        catch (error) { return [error.name, error.reason, Object.keys(error.fields ?? {})]; }
    }"""
    found = [await page.evaluate(failed, f"() => {work}") for work, *_ in FAILURES]
    assert found == [[kind, reason, fields] for _, kind, reason, fields in FAILURES]


async def test_a_killed_server_costs_a_watch_nothing(place: WebPlace, browser: BrowserContext) -> None:
    """Assets that come while it is down and after: none missed, none repeated, in every kind of watch."""
    page = await open_page(browser, place)
    await page.evaluate(
        """(partition) => {
        window.lines = []; window.changes = []; window.gaps = 0;
        follow(client.watchAssets(partition, {shared: false, onGap: () => gaps++}), lines);
        (async () => {
            for await (const event of client.watchSession(client.sessionId, {shared: false}))
                if (event.case === "status")
                    changes.push(`${event.value.upload.uploadId} ${event.value.upload.revision}`);
        })();
    }""",
        f"user/{place.sub}",
    )
    await until(page, "window.lines.includes('SYNCED')")
    path = place.file("seen.bin", 1000)
    ids = []
    for restarts in (False, True, True, False):
        if restarts:
            await place.restart()
        ids.append((await upload(page, path))["assetId"])
    await until(page, "count => window.lines.length >= count && window.changes.length >= 4 * (count - 1)", 5)
    await settled()
    assert await page.evaluate("lines") == ["SYNCED", *(f"ADDED {one} 1" for one in ids)]
    assert await page.evaluate("changes") == [f"{one} {revision}" for one in ids for revision in (1, 2, 3, 4)]
    assert await page.evaluate("gaps") >= 2


async def test_eight_tabs_watch_over_one_connection(place: WebPlace, browser: BrowserContext) -> None:
    """Each tab gets everything once, also when the one that watches is closed; other users share nothing with them."""
    watch = "() => { window.lines = []; follow(client.watchAssets('public'), lines); }"
    streams: list[str] = []
    browser.on(
        "request",
        lambda request: (
            streams.append(request.url) if "/WatchAssets" in request.url and request.method == "POST" else None
        ),
    )
    tabs = [await open_page(browser, place) for _ in range(8)]
    path = place.file("shared.bin", 100)
    first = (await upload(tabs[0], path, partition="public"))["assetId"]
    for tab in tabs:
        await tab.evaluate(watch)
    for tab in tabs:
        await until(tab, "window.lines.includes('SYNCED')")
    assert len(streams) == 1
    second = (await upload(tabs[3], path, partition="public"))["assetId"]
    for tab in tabs:
        await until(tab, "id => window.lines.includes(`ADDED ${id} 1`)", second)
    await tabs.pop(0).close()  # the first to ask is the one that watches
    third = (await upload(tabs[3], path, partition="public"))["assetId"]
    await tabs[3].evaluate("id => client.deleteAsset(id)", first)
    for tab in tabs:
        await until(tab, "id => window.lines.includes(`DELETED ${id} 2`)", first)
        assert sorted(await tab.evaluate("lines")) == sorted(
            [f"PRESENT {first} 1", "SYNCED", f"ADDED {second} 1", f"ADDED {third} 1", f"DELETED {first} 2"]
        )
    assert len(streams) == 2
    other = await open_page(browser, place, sub="bob")
    await other.evaluate(watch)
    await until(other, "window.lines.includes('SYNCED')")
    assert len(streams) == 3
    assert sorted(await other.evaluate("lines")) == sorted([f"PRESENT {second} 1", "SYNCED", f"PRESENT {third} 1"])


async def test_a_closed_tab_frees_its_watch(place: WebPlace, browser: BrowserContext, figures: Figures) -> None:
    """By the end of its connection, long before a heartbeat could not be sent."""
    clock = asyncio.get_running_loop().time
    await place.until_watches(0)
    seconds = []
    for _ in range(5):
        page = await open_page(browser, place)
        await page.evaluate(
            "() => { window.lines = []; follow(client.watchAssets('public', {shared: false}), lines); }"
        )
        await until(page, "window.lines.includes('SYNCED')")
        await place.until_watches(1)
        began = clock()
        await page.close()
        await place.until_watches(0)
        seconds.append(clock() - began)
    figures(f"a tab is closed: its watch is free after {max(seconds) * 1000:.0f} ms at most, in {len(seconds)} tries")


async def test_an_expired_token_is_replaced(place: WebPlace, browser: BrowserContext) -> None:
    """In calls, in uploads, and in the middle of a watch."""
    place.token_lifetime_s = 3
    page = await open_page(browser, place)
    await page.evaluate(
        """(partition) => {
        window.lines = []; window.gaps = [];
        follow(client.watchAssets(partition, {shared: false, onGap: (error) => gaps.push(error.reason)}), lines);
    }""",
        f"user/{place.sub}",
    )
    path = place.file("late.bin", 1000)
    ids = [(await upload(page, path))["assetId"]]
    await until(page, "window.gaps.filter((reason) => reason === 'TOKEN_EXPIRED').length >= 2")
    ids.append((await upload(page, path))["assetId"])
    await until(page, "count => window.lines.length >= count", 3)
    assert set(await page.evaluate("lines")) == {"SYNCED", *(f"ADDED {one} 1" for one in ids)}
    assert len(place.tokens) >= 3
    assert len(await page.evaluate("lines")) == 3


async def test_read_urls_are_refreshed_before_they_end(place: WebPlace, browser: BrowserContext) -> None:
    """Of many assets in one call; a URL that lives longer is left alone."""
    page = await open_page(browser, place)
    path = place.file("short.bin", 1000)
    assets = [await upload(page, path, expirationHours=4 / 3600) for _ in range(3)]
    lasting = await upload(page, path)
    calls: list[str] = []
    page.on(
        "request",
        lambda request: calls.append(request.url) if "Refresh" in request.url and request.method == "POST" else None,
    )
    await page.evaluate(
        """async (ids) => {
        window.assets = await Promise.all(ids.map((id) => client.getAsset(id)));
        const end = Math.max(...assets.slice(0, 3).map((asset) => assetlane.expiryOf(asset)));
        await new Promise((resolve) => setTimeout(resolve, end + 1000 - Date.now()));
    }""",
        [asset["assetId"] for asset in (*assets, lasting)],
    )
    urls = await page.evaluate("Promise.all(assets.map((asset) => client.readUrl(asset)))")
    assert len(calls) == 1
    for url in urls:
        assert (await read_back(page, url))[0] == 200
    assert urls[3] == variants_of(lasting)["original"]["readUrl"]
    assert await page.evaluate("Promise.all(assets.slice(0, 3).map((asset) => client.readUrl(asset)))") != [
        variants_of(asset)["original"]["readUrl"] for asset in assets
    ]
    refused = await page.evaluate("client.readUrl(assets[0], 'still').catch(({ name, message }) => [name, message])")
    assert refused[0] == "RangeError"
    assert {"still", "original"} <= set(re.findall(r"\w+", refused[1]))
