"""A gallery of a thousand: how much of it is in the document, and how long the page is busy."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from tests.conftest import Figures
from tests.gallery.conftest import LocalServer, go, opened, sign_up, until
from tests.gallery.scenes import small_scene

from assetlane import Client, UploadItem

pytestmark = [pytest.mark.web, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

COUNT: Final = 1000
MOST_NODES: Final = 200
LONGEST_TASK_MS: Final = 50.0
# Steps of a fast wheel, a frame each, to the end and back; the most picture nodes that were there at once.
SCROLL: Final = """async () => {
    window.most = 0;
    const count = () => { most = Math.max(most, document.querySelectorAll("img").length); };
    const seen = new Set();
    for (const direction of [1, -1]) {
        for (;;) {
            const before = scrollY;
            scrollBy({top: direction * 420, behavior: "instant"});
            await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
            count();
            for (const tile of document.querySelectorAll("[data-asset]")) seen.add(tile.dataset.asset);
            if (scrollY === before) break;
        }
    }
    return {most, seen: seen.size, height: document.documentElement.scrollHeight};
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def full(server: LocalServer, name: str) -> AsyncIterator[str]:
    """A user with a thousand pictures."""
    pictures = [small_scene(seed) for seed in range(24)]
    async with Client(server.target, uid=name) as lane:
        items = (
            UploadItem(pictures[n % len(pictures)], file_path=f"{n:04}.jpg", content_type="image/jpeg", cuts=False)
            for n in range(COUNT)
        )
        async for outcome in lane.upload_many(items, concurrency=16):
            assert outcome.error is None
    yield name


async def longest_ms(browser: Browser, page: Page, work: Callable[[], Awaitable[Any]]) -> tuple[float, float, Any]:
    """Returns the longest task of the page's main thread meanwhile, in CPU time and by the clock, and the outcome.

    CPU time is what the page can be blamed for: by the clock a task also takes what other programs take.
    """
    await browser.start_tracing(page=page, categories=["toplevel", "disabled-by-default-devtools.timeline"])
    outcome = await work()
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    # A task of some microseconds has no CPU time of its own in a trace.
    tasks = [event for event in events if event["name"].endswith("RunTask") and (event["pid"], event["tid"]) in main]
    assert len(tasks) > 100
    return max(task.get("tdur", 0) for task in tasks) / 1000, max(task.get("dur", 0) for task in tasks) / 1000, outcome


async def test_a_thousand_assets_come_and_scroll(
    chromium: Browser, server: LocalServer, full: str, figures: Figures
) -> None:
    """No task above 50 ms while they come and while they scroll; at most 200 picture nodes; every asset is seen."""
    async with opened(chromium, viewport={"width": 1440, "height": 900}) as context:
        page = await context.new_page()
        await sign_up(page, server.url, full)

        async def come() -> None:
            await page.reload()
            await go(page, "Only me")
            await until(page, f"() => document.querySelector('.day-count')?.textContent === '{COUNT}'")
            await until(page, "() => document.querySelectorAll('.tile img.is-loaded').length > 10")

        coming_ms, coming_wall_ms, _ = await longest_ms(chromium, page, come)
        scrolling_ms, wall_ms, seen = await longest_ms(chromium, page, lambda: page.evaluate(SCROLL))
        figures(
            f"gallery: {COUNT} assets, {seen['most']} picture nodes at most; longest task {coming_ms:.0f} ms of CPU"
            f" ({coming_wall_ms:.0f} by the clock) while they came, {scrolling_ms:.0f} ({wall_ms:.0f}) in scrolling"
        )
        assert seen["seen"] == COUNT
        assert seen["most"] <= MOST_NODES
        assert scrolling_ms <= LONGEST_TASK_MS
        assert coming_ms <= LONGEST_TASK_MS
