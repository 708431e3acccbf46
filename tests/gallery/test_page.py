"""The gallery in Chromium, on the embedded stack: what people do with it, and what it never does."""

import asyncio
import gzip
import hashlib
import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Response, Route
from tests.client.pictures import real
from tests.gallery.conftest import PASSWORD, LocalServer, Visit, add, go, opened, sign_up, synced, until
from tests.gallery.scenes import scene
from tests.web.conftest import until as until_resolved

from assetlane import Client

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ROOT: Final = Path(__file__).parents[2]
AXE: Final = ROOT / "web/node_modules/axe-core/axe.min.js"
FIRST_LOAD_BYTES: Final = 90_000
STEPS: Final = """() => {
    window.steps = new Set();
    const note = () => {
        for (const step of document.querySelectorAll(".upload-steps [aria-current]")) steps.add(step.textContent);
    };
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def photo(folder: Path, name: str, seed: int = 1) -> Path:
    """Makes a photo."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scene(seed))
    return path


def sound(folder: Path) -> Path:
    """Makes three seconds of a tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(n / 5))) for n in range(24_000)))
    path = folder / "a tone.wav"
    path.write_bytes(out.getvalue())
    return path


def noise(folder: Path, name: str, size_bytes: int) -> Path:
    """Makes a file that is nothing."""
    path = folder / name
    path.write_bytes(os.urandom(size_bytes))
    return path


async def tile(page: Page, name: str) -> str:
    """Returns the id of the asset of that name, once it is in the grid."""
    found = page.locator(f'.tile[data-name*="{name}"]').first
    await found.wait_for()
    return str(await found.get_attribute("data-asset"))


async def slow_down(page: Page, bytes_per_second: float) -> None:
    """Makes uploads slow; 0: as fast as they are."""
    session = await page.context.new_cdp_session(page)
    rate = bytes_per_second or -1
    await session.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate},
    )


async def test_two_users_see_each_other_live(chromium: Browser, server: LocalServer, tmp_path: Path, name: str) -> None:
    """What one adds to the wall the other sees without a reload, and what is deleted goes; their own stays theirs."""
    async with opened(chromium) as one, opened(chromium) as other:
        ann, ben = Visit.of(await one.new_page()), Visit.of(await other.new_page())
        await sign_up(ann.page, server.url, name)
        await sign_up(ben.page, server.url, f"{name}-ben")
        await synced(ben.page)
        await ann.page.evaluate(STEPS)
        await add(ann.page, photo(tmp_path, f"shared-{name}.jpg"))
        shared = await tile(ben.page, f"shared-{name}.jpg")
        await until(ben.page, "id => document.querySelector(`[data-asset='${id}'] img.is-loaded`)", shared)
        await until(ann.page, "() => steps.has('COMPLETED')")
        await until(ben.page, "name => document.querySelector('#announcements').textContent.includes(name)", name)
        await go(ann.page, "Only me")
        await go(ben.page, "Only me")
        await add(ann.page, photo(tmp_path, f"mine-{name}.jpg", 2))
        await tile(ann.page, f"mine-{name}.jpg")
        assert await ben.page.locator(".tile").count() == 0
        # Ben has it on the screen while Ann deletes it.
        await go(ann.page, "Everyone")
        await go(ben.page, "Everyone")
        await ben.page.locator(f"[data-asset='{shared}'] .tile-open").click()
        viewer = ben.page.locator(".viewer")
        await viewer.get_by_text(f"shared-{name}.jpg").wait_for()
        assert await viewer.get_by_role("button", name="Delete").count() == 0
        await ann.page.locator(f"[data-asset='{shared}'] .tile-open").click()
        await ann.page.locator(".viewer").get_by_role("button", name="Delete").click()
        await ann.page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
        await viewer.wait_for(state="hidden")
        await ben.page.locator(f"[data-asset='{shared}']").wait_for(state="detached")
        for visit in (ann, ben):
            assert visit.complaints == []
            assert {urlsplit(host).hostname for host in visit.hosts} == {"127.0.0.1"}
            assert len(visit.hosts) == 3  # this server's page and gateway, and the store
            assert server.store in visit.hosts


async def test_an_upload_shows_how_far_it_is_and_can_be_paused_resumed_and_cancelled(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """With rate, time left, and every status as the server streams it."""
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await page.evaluate(STEPS)
        await slow_down(page, 1_000_000)
        await add(page, noise(tmp_path, "slow.bin", 24_000_000))
        row = page.locator(".upload", has_text="slow.bin")
        await row.get_by_text(re.compile(r"MB of 24 MB · [\d.]+ [KM]B/s · \d+ s left")).wait_for()
        await until(page, "() => document.querySelector('.upload progress').value > 0.02")
        await row.get_by_role("button", name="Pause slow.bin").click()
        await row.get_by_text("Paused at").wait_for()
        await slow_down(page, 0)
        await row.get_by_role("button", name="Resume slow.bin").click()
        await tile(page, "slow.bin")
        # The file is in parts: PENDING is while they are opened at the store.
        await until(page, "() => steps.has('INITIALIZED') && steps.has('COMPLETED')")
        assert set(await page.evaluate("[...steps]")) <= {"PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"}
        await slow_down(page, 300_000)
        await add(page, noise(tmp_path, "unwanted.bin", 20_000_000))
        row = page.locator(".upload", has_text="unwanted.bin")
        await row.get_by_text("MB of 20 MB").wait_for()
        await row.get_by_role("button", name="Cancel unwanted.bin").click()
        await row.wait_for(state="detached")
        await page.locator(".uploads").wait_for(state="hidden")
        await slow_down(page, 0)
        async with Client(server.target) as lane:
            async with asyncio.timeout(60):
                while {upload.status async for upload in lane.list_uploads(uid=name)} != {4, 6}:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            names = [asset.file_path async for asset in lane.list_assets(f"user/{name}")]
        assert names == ["slow.bin"]
        assert await page.locator(".upload").count() == 0


async def test_a_file_that_is_refused_says_why(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """With the reason, and can be tried again or taken out."""
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        path = f"{'x' * 250}/{'y' * 250}/{'z' * 250}/{'w' * 240}/{'v' * 240}.txt"
        await page.evaluate(
            """(path) => {
                const file = new File(["too deep"], "deep.txt");
                Object.defineProperty(file, "webkitRelativePath", {value: path});
                const transfer = new DataTransfer();
                const input = document.querySelector("#files");
                Object.defineProperty(input, "files", {value: [file], configurable: true});
                input.dispatchEvent(new Event("change"));
                delete input.files;
            }""",
            path,
        )
        row = page.locator(".upload[data-state='refused']")
        await row.get_by_text("INVALID_FIELD").wait_for()
        await row.get_by_role("button", name=re.compile("again")).click()
        await row.get_by_text("INVALID_FIELD").wait_for()
        await row.get_by_role("button", name=re.compile("Cancel")).click()
        await row.wait_for(state="detached")


async def test_a_video_plays_in_place_and_seeks(chromium: Browser, server: LocalServer, name: str) -> None:
    """The store answers with parts of it (206); on the whole screen it plays as well."""
    async with opened(chromium) as context:
        visit = Visit.of(await context.new_page())
        page = visit.page
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await add(page, real("cockatoo.mp4"))
        asset = await tile(page, "cockatoo.mp4")
        await until(page, "id => document.querySelector(`[data-asset='${id}'] img.is-loaded`)", asset)
        answers: list[Response] = []
        page.on("response", lambda response: answers.append(response) if "/original" in response.url else None)
        await page.locator(f"[data-asset='{asset}'] .tile-play").click()
        await until(page, "() => document.querySelector('.tile video')?.currentTime > 0.3")
        await page.evaluate(
            "() => { const one = document.querySelector('.tile video'); one.pause(); one.currentTime = 11; }"
        )
        await until(
            page,
            "() => [document.querySelector('.tile video')].every((one) => !one.seeking && one.currentTime > 10.9)",
        )
        assert {answer.status for answer in answers if answer.request.resource_type == "media"} == {206}
        # A large window of a gallery scrolls past it without ending it; here it is opened instead.
        await page.get_by_role("button", name="Open cockatoo.mp4").click()
        await until(page, "() => document.querySelector('.viewer video')?.readyState >= 2")
        await page.evaluate("() => document.querySelector('.viewer video').play()")
        await until(page, "() => document.querySelector('.viewer video').currentTime > 0.3")
        await page.keyboard.press("Escape")
        await page.locator(".viewer").wait_for(state="hidden")
        assert visit.complaints == []


async def test_sound_plays_documents_are_cards_and_originals_download_under_their_names(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """Whatever the name: it is a text and never markup."""
    hostile = tmp_path / "<img src=x onerror=document.title=1>.txt"
    hostile.write_text("harmless")
    report = tmp_path / "Größe & Maß.pdf"
    report.write_bytes(b"%PDF-1.4\n%%EOF\n" + b"x" * 3000)
    async with opened(chromium) as context:
        visit = Visit.of(await context.new_page())
        page = visit.page
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await add(page, sound(tmp_path), report, hostile)
        tone = await tile(page, "a tone.wav")
        await page.locator(f"[data-asset='{tone}'] .tile-play").click()
        await until(page, "() => document.querySelector('.tile audio')?.currentTime > 0.2")
        card = page.locator(f"[data-asset='{await tile(page, 'Größe & Maß.pdf')}']")
        assert await card.locator(".card-kind").inner_text() == "PDF"
        await card.locator(".tile-open").click()
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download", exact=True).click()
        download = await downloading.value
        assert download.suggested_filename == "Größe & Maß.pdf"
        await download.save_as(tmp_path / "saved.pdf")
        assert digest(tmp_path / "saved.pdf") == digest(report)
        await page.keyboard.press("Escape")
        await page.locator(".card-name", has_text="<img src=x").wait_for()
        assert await page.title() == "Assetlane Gallery"
        assert await page.locator("img[src='x']").count() == 0
        assert visit.complaints == []


async def test_what_is_added_offline_waits_and_goes_when_the_network_is_back(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """A banner says so meanwhile, and the watch goes on afterwards."""
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await synced(page)
        await context.set_offline(True)
        await page.locator(".banner", has_text="You are offline").wait_for()
        await add(page, photo(tmp_path, "on the train.jpg", 3))
        await page.locator(".upload", has_text="on the train.jpg").wait_for()
        assert await page.locator(".tile").count() == 0
        await context.set_offline(False)
        await tile(page, "on the train.jpg")
        await page.locator(".banner").wait_for(state="hidden")
        async with Client(server.target, uid=name) as lane:
            await lane.upload(b"from elsewhere", file_path="elsewhere.txt")
        await tile(page, "elsewhere.txt")


async def test_a_server_that_is_away_for_a_while_is_said_and_nothing_is_missed(
    chromium: Browser, server: LocalServer, name: str
) -> None:
    """The banner goes as soon as it answers again, although nothing happens then; and the watch goes on."""
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await synced(page)
        await server.stop()
        await page.locator(".banner", has_text="The server does not answer").wait_for()
        await server.start()
        await page.locator(".banner").wait_for(state="hidden")
        async with Client(server.target, uid=name) as lane:
            await lane.upload(b"afterwards", file_path="afterwards.txt")
        await tile(page, "afterwards.txt")


async def test_an_upload_goes_on_after_a_reload(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """Nobody has to pick the file again, and its bytes are those of the file."""
    file = noise(tmp_path, "long.bin", 24_000_000)
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await slow_down(page, 1_500_000)
        await add(page, file)
        await until(page, "() => document.querySelector('.upload progress')?.value > 0.1")
        await page.reload()
        await page.locator(".upload", has_text="long.bin").wait_for()
        await slow_down(page, 0)
        await tile(page, "long.bin")
        async with Client(server.target) as lane:
            (asset,) = [one async for one in lane.list_assets(f"user/{name}")]
            await lane.download(asset, to=tmp_path / "back.bin")
        assert digest(tmp_path / "back.bin") == digest(file)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_expired_urls_are_refreshed_by_themselves(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """Of a picture in the grid and on the screen, and of one that another page has refreshed meanwhile."""
    async with opened(chromium) as context, Client(server.target, uid=name) as lane:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await synced(page)
        asset = await lane.upload(photo(tmp_path, "brief.jpg", 4), expiration_hours=0.001)
        await tile(page, "brief.jpg")
        async with asyncio.timeout(60):
            while await page.evaluate("async url => (await fetch(url)).ok", asset.variants[0].read_url):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await page.locator(f"[data-asset='{asset.asset_id}'] .tile-open").click()
        await until(page, "() => document.querySelector('.viewer img.is-loaded')?.naturalWidth > 300")
        assert (await lane.get_asset(asset.asset_id)).revision > asset.revision
        await page.reload()
        await until(page, "() => document.querySelector('.tile img.is-loaded')?.naturalWidth > 100")


async def test_files_are_pasted_dropped_with_their_folders_and_photographed(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """A folder's files keep their paths; the camera is let go after the photo."""
    folder = tmp_path / "album"
    photo(folder / "2026", "one.jpg", 5)
    photo(folder, "two.jpg", 6)
    async with opened(chromium, permissions=["camera"]) as context:
        visit = Visit.of(await context.new_page())
        page = visit.page
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await page.set_input_files("#folder", str(folder))
        await tile(page, "one.jpg")
        await page.evaluate(
            """async () => {
                const canvas = new OffscreenCanvas(300, 200);
                canvas.getContext("2d").fillRect(0, 0, 100, 100);
                const transfer = new DataTransfer();
                transfer.items.add(new File([await canvas.convertToBlob()], "image.png", {type: "image/png"}));
                document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
            }"""
        )
        await tile(page, "pasted ")
        await page.evaluate(
            """() => {
                const transfer = new DataTransfer();
                transfer.items.add(new File(["dropped"], "dropped.txt", {type: "text/plain"}));
                const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
                for (const type of ["dragenter", "dragover"]) document.body.dispatchEvent(new DragEvent(type, options));
                window.hinted = document.querySelector(".drop-hint").classList.contains("is-over");
                document.body.dispatchEvent(new DragEvent("drop", options));
            }"""
        )
        await tile(page, "dropped.txt")
        assert await page.evaluate("hinted")
        await page.locator(".tools").get_by_role("button", name="Take a photo").click()
        shutter = page.locator(".shutter:not([disabled])")
        await shutter.wait_for()
        await page.evaluate("() => { window.tracks = document.querySelector('.camera video').srcObject.getTracks(); }")
        await shutter.click()
        await tile(page, "photo ")
        assert await page.evaluate("tracks.every((track) => track.readyState === 'ended')")
        async with Client(server.target) as lane:
            paths = {asset.file_path async for asset in lane.list_assets(f"user/{name}")}
        assert {"album/2026/one.jpg", "album/two.jpg", "dropped.txt"} <= paths
        assert visit.complaints == []


async def test_a_folder_that_is_dropped_keeps_the_paths_of_its_files(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """With all that is in it, at any depth, beside a file that was dropped with it."""
    folder = tmp_path / "harvest"
    photo(folder / "2026" / "autumn", "apples.jpg", 5)
    noise(folder, "list.bin", 300)
    (folder / "empty").mkdir()
    beside = noise(tmp_path, "beside.bin", 200)
    async with opened(chromium) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        session = await context.new_cdp_session(page)
        data = {"items": [], "files": [str(folder), str(beside)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
        for file in ("apples.jpg", "list.bin", "beside.bin"):
            await tile(page, file)
        async with Client(server.target) as lane:
            paths = {asset.file_path async for asset in lane.list_assets(f"user/{name}")}
        assert paths == {"harvest/2026/autumn/apples.jpg", "harvest/list.bin", "beside.bin"}
        assert not await page.locator(".drop-hint.is-over").count()


async def test_what_the_store_refuses_once_is_asked_for_again(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """A picture and a video whose first answer is an error, as of a URL that has just ended."""
    refused: set[str] = set()

    async def refuse_once(route: Route) -> None:
        if route.request.method == "GET" and route.request.url not in refused:
            refused.add(route.request.url)
            await route.fulfill(status=403, headers={"access-control-allow-origin": "*"})
        else:
            await route.continue_()

    async with opened(chromium) as context:
        page = await context.new_page()
        await page.route(f"{server.store}/**", refuse_once)
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await add(page, photo(tmp_path, "stubborn.jpg", 9), real("realshort.mp4"))
        await tile(page, "stubborn.jpg")
        await until(page, "() => document.querySelectorAll('.tile img.is-loaded').length === 2")
        await page.locator(f"[data-asset='{await tile(page, 'realshort.mp4')}'] .tile-play").click()
        await until(page, "() => document.querySelector('.tile video')?.currentTime > 0.1")
        assert len(refused) >= 3


async def test_the_drawer_shows_the_asset_and_what_it_copies_runs(
    chromium: Browser, server: LocalServer, tmp_path: Path, name: str
) -> None:
    """JSON, Python and curl as they stand; the lights of doctor are all good."""
    async with opened(chromium, permissions=["clipboard-read", "clipboard-write"]) as context:
        page = await context.new_page()
        await sign_up(page, server.url, name)
        await add(page, photo(tmp_path, f"for developers {name}.jpg", 7))
        asset_id = await tile(page, f"for developers {name}.jpg")
        await page.locator(f"[data-asset='{asset_id}'] .tile-open").click()
        await page.locator(".viewer").get_by_role("button", name="For developers").click()
        drawer = page.locator(".drawer")
        asset = json.loads(await drawer.locator("pre").inner_text())
        assert (asset["assetId"], asset["uid"]) == (asset_id, name)

        async def copied(button: str) -> str:
            await page.evaluate("navigator.clipboard.writeText('')")
            await drawer.get_by_role("button", name=button).click()
            await until_resolved(page, "async () => (await navigator.clipboard.readText()) !== ''")
            return str(await page.evaluate("navigator.clipboard.readText()"))

        assert json.loads(await copied("Copy the JSON")) == asset
        await drawer.get_by_role("tab", name="Copy as").click()
        token = await copied("Copy a token")
        python = await copied("Copy as Python")
        ran = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", python], capture_output=True, text=True, timeout=60, check=True
        )
        assert ran.stdout.startswith(f"for developers {name}.jpg ['original', 'small'")
        curl = await copied("Copy as curl")
        ran = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", curl], env={**os.environ, "ASSETLANE_TOKEN": token},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert json.loads(ran.stdout).get("asset", {}).get("assetId") == asset_id, ran.stdout
        for language in ("TypeScript", "grpcurl"):
            assert asset_id in await copied(f"Copy as {language}")
        await drawer.get_by_role("tab", name="Doctor").click()
        await drawer.get_by_text(re.compile(r"All \d+ checks passed")).wait_for()
        assert await drawer.locator(".finding.ok").count() == await drawer.locator(".finding").count() > 20


async def test_all_of_it_goes_by_keyboard(chromium: Browser, server: LocalServer, tmp_path: Path, name: str) -> None:
    """One stop of the Tab key for the grid, arrows within it, and the focus comes back from the viewer."""
    async with opened(chromium, viewport={"width": 700, "height": 500}) as context:
        page = await context.new_page()
        await page.goto(server.url)
        await until(page, "() => document.activeElement.id === 'name'")
        await page.keyboard.type(name)
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.locator("#content").wait_for()
        async with Client(server.target, uid=name) as lane:
            for number in range(9):
                await lane.upload(scene(number, (300, 200)), file_path=f"{number}.jpg", content_type="image/jpeg")
        await go(page, "Only me")
        for number in range(9):
            await tile(page, f"{number}.jpg")
        await page.locator(".tile-open[tabindex='0']").focus()
        focused = "() => document.activeElement.getAttribute('aria-label')"
        assert "8.jpg" in await page.evaluate(focused)
        await page.keyboard.press("ArrowRight")
        assert "7.jpg" in await page.evaluate(focused)
        await page.keyboard.press("End")
        assert "0.jpg" in await page.evaluate(focused)
        await page.keyboard.press("Enter")
        await page.locator(".viewer-title", has_text="0.jpg").wait_for()
        await page.keyboard.press("ArrowLeft")
        await page.locator(".viewer-title", has_text="1.jpg").wait_for()
        await page.keyboard.press("Escape")
        await until(page, "() => document.activeElement.getAttribute('aria-label')?.includes('1.jpg')")
        assert await page.locator(".tile-open[tabindex='0']").count() == 1


async def test_a_guest_is_in_with_one_click_and_a_wrong_password_is_said(
    chromium: Browser, server: LocalServer
) -> None:
    """The page to sign in, to eyes and to screen readers."""
    async with opened(chromium) as context:
        page = await context.new_page()
        await page.goto(server.url)
        await page.get_by_role("button", name="Look around as a guest").click()
        await page.locator("#content").wait_for()
        await page.locator(".account summary").click()
        await page.locator(".menu", has_text="guest-").get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="Welcome back").wait_for()
        await page.get_by_label("Name or e-mail").fill("nobody-at-all")
        await page.get_by_label("Password").fill("wrong password")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("alert").get_by_text("Name or password is wrong.").wait_for()
        assert await page.get_by_label("Password").get_attribute("aria-invalid") == "true"


async def test_the_first_load_is_small_and_an_injected_script_does_not_run(
    chromium: Browser, server: LocalServer
) -> None:
    """At most 90 KB of JavaScript as it travels; inline scripts and styles are refused by the policy."""
    async with opened(chromium) as context:
        visit = Visit.of(await context.new_page())
        sizes: dict[str, int] = {}

        async def note(route: Route) -> None:
            response = await route.fetch()
            if route.request.url.endswith(".js"):
                sizes[route.request.url] = len(gzip.compress(await response.body(), mtime=0))
            await route.fulfill(response=response)

        await visit.page.route("**/assets/*", note)
        await visit.page.goto(server.url)
        await visit.page.get_by_role("button", name="Look around as a guest").click()
        await synced(visit.page)
        assert 20_000 < sum(sizes.values()) <= FIRST_LOAD_BYTES, sizes
        assert visit.complaints == []
        await visit.page.evaluate(
            """() => {
                const script = document.createElement("script");
                try { script.textContent = "window.injected = 1"; document.body.append(script); } catch {}
                const image = "<img src=x onerror='window.injected = 1'>";
                try { document.body.insertAdjacentHTML("beforeend", image); } catch {}
            }"""
        )
        assert await visit.page.evaluate("window.injected") is None
        assert visit.complaints


async def test_axe_finds_nothing(chromium: Browser, server: LocalServer, tmp_path: Path, name: str) -> None:
    """The page to sign in, the empty and the full grid, viewer, drawer, panel of uploads; light and dark."""
    async with opened(chromium, reduced_motion="reduce") as context:
        page = await context.new_page()
        source = AXE.read_text()

        async def check(where: str) -> None:
            await page.evaluate(f"() => {{ if (!window.axe) {{ {source} }} }}")
            for scheme, rules in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
                await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                found: list[dict[str, Any]] = await page.evaluate(f"async () => (await axe.run({rules})).violations")
                violations = [(one["id"], [node["html"][:160] for node in one["nodes"]][:3]) for one in found]
                assert violations == [], f"{where}, {scheme}"

        await page.goto(server.url)
        await page.get_by_role("heading", name="Create an account").wait_for()
        await check("sign-in")
        await sign_up(page, server.url, name)
        await go(page, "Only me")
        await page.locator(".empty").wait_for()
        await check("empty")
        await slow_down(page, 200_000)
        await add(page, photo(tmp_path, "one.jpg", 8), sound(tmp_path), noise(tmp_path, "two.bin", 5_000_000))
        await page.locator(".upload[data-state='sending']").first.wait_for()
        await check("uploads")
        await slow_down(page, 0)
        asset = await tile(page, "one.jpg")
        await tile(page, "two.bin")
        await until(page, "id => document.querySelector(`[data-asset='${id}'] img.is-loaded`)", asset)
        await check("grid")
        await page.locator(f"[data-asset='{asset}'] .tile-open").click()
        await until(page, "() => document.querySelector('.viewer img.is-loaded')")
        await check("viewer")
        await page.locator(".viewer").get_by_role("button", name="For developers").click()
        for tab in ("JSON", "Copy as"):
            await page.locator(".drawer").get_by_role("tab", name=tab).click()
            await check(tab)
        await page.locator(".drawer").get_by_role("tab", name="Doctor").click()
        await page.locator(".drawer").get_by_text(re.compile(r"All \d+ checks")).wait_for()
        await check("Doctor")
