"""How the gallery looks on a phone, a tablet and a desktop, light and dark: pictures for people to look at.

They go to `.gallery/`; `make gallery-images` puts those that the pages show into docs/pictures/gallery. Look at each
before it is committed.
"""

import io
import math
import os
import struct
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser, Page
from tests.client.pictures import real
from tests.gallery.conftest import LocalServer, Visit, local_server, opened, sign_up, until
from tests.gallery.scenes import scene

from assetlane import Client

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = Path(os.environ.get("GALLERY_PICTURES") or ROOT / ".gallery")
WINDOWS: Final = ((390, 844), (820, 1180), (1440, 900))
NAMES: Final = (
    "harbour", "first light", "the lake", "valley", "north wall", "low tide", "after the rain", "fields in June",
    "shore", "night train", "ridge", "market lights", "dunes", "Sunday", "the bay", "frost", "lanterns", "half moon",
    "pass road", "mist", "summer house", "evening", "terrace", "window seat", "ferry",
)  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def exhibition(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalServer]:
    """A gallery of two people with pictures, videos, a sound and documents."""
    async with local_server(tmp_path_factory.mktemp("exhibition")) as server:
        async with Client(server.target, uid="ann") as ann, Client(server.target, uid="ben") as ben:

            async def put(lane: Client, origin: Path | bytes, name: str) -> None:
                await lane.upload(origin, file_path=name, partition="public", expiration_hours=0)

            for number, name in enumerate(NAMES):
                await put(ann if number % 3 else ben, scene(number + 3), f"{name}.jpg")
                if number == 7:
                    await put(ben, real("cockatoo.mp4"), "cockatoo.mp4")
                if number == 12:
                    await put(ann, tone(), "waves at night.wav")
                if number == 17:
                    await put(ann, b"%PDF-1.4\n%%EOF\n" + b" " * 48_000, "Trip plan 2026.pdf")
                if number == 19:
                    await put(ben, real("chelsea.png"), "Chelsea.png")
                if number == 21:
                    await put(ben, b"name,nights\n" * 400, "guests.csv")
        yield server


def tone() -> bytes:
    """Returns six seconds of a tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(n / 6))) for n in range(48_000)))
    return out.getvalue()


async def keep(page: Page, name: str) -> None:
    """Keeps the page as it looks in both colour schemes; nothing of it is wider than the window."""
    KEPT.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {scheme}"
        width = page.viewport_size["width"] if page.viewport_size else 0
        with Image.open(io.BytesIO(await page.screenshot())) as seen:
            seen.save(KEPT / f"{name}-{width}-{scheme}.webp", quality=82, method=4)


async def shown(page: Page, where: str) -> None:
    """Returns when every picture in the window is there."""
    await until(
        page,
        """(where) => [...document.querySelectorAll(where + " img")].filter((one) => {
            const {top, bottom} = one.getBoundingClientRect();
            return bottom > 0 && top < innerHeight;
        }).every((one) => one.classList.contains("is-loaded") || one.complete && one.naturalWidth > 0)
            && document.querySelectorAll(where + " img").length > 0""",
        where,
    )


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: str(window[0]))
async def test_how_it_looks(
    chromium: Browser, exhibition: LocalServer, window: tuple[int, int], tmp_path: Path
) -> None:
    """The page to sign in, the grid, an upload, the viewer and the drawer."""
    width, height = window
    async with opened(
        chromium,
        viewport={"width": width, "height": height},
        has_touch=width < 800,
        is_mobile=width < 800,
        reduced_motion="reduce",
    ) as context:
        visit = Visit.of(await context.new_page())
        page = visit.page
        await page.goto(exhibition.url)
        await page.get_by_role("heading", name="Create an account").wait_for()
        await page.evaluate("document.fonts.ready")
        await keep(page, "sign-in")
        await sign_up(page, exhibition.url, f"carla-{width}")
        await until(page, "(count) => document.querySelector('.day-count')?.textContent === count", str(len(NAMES) + 5))
        await shown(page, ".grid")
        await page.mouse.move(width - 3, 30)
        await keep(page, "grid")
        session = await context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000}
        await session.send("Network.emulateNetworkConditions", slow)
        files = []
        for number, name in enumerate(("island", "under the bridge", "last day")):
            files.append(tmp_path / f"{name}.jpg")
            files[-1].write_bytes(scene(number + 70, (2400, 1600)))
        await page.set_input_files("#files", [str(file) for file in files])
        await page.locator(".upload-facts", has_text="left").first.wait_for()
        await keep(page, "uploads")
        for name in ("island", "under the bridge", "last day"):
            await page.get_by_role("button", name=f"Cancel {name}.jpg").click()
        await page.locator(".uploads").wait_for(state="hidden")
        await page.locator(".tile[data-name='window seat.jpg'] .tile-open").click()
        await shown(page, ".viewer")
        await keep(page, "viewer")
        await page.locator(".viewer").get_by_role("button", name="For developers").click()
        await page.locator(".drawer").get_by_role("tab", name="Copy as").click()
        await keep(page, "drawer")
        assert visit.complaints == []
