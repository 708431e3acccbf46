"""A gallery of a thousand: how much of it is in the document, and how long the page is busy."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
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
ATTEMPTS: Final = 3
MOST_LOAD: Final = 4.0
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
    async with Client(server.target, uid=name) as client:
        items = (
            UploadItem(pictures[n % len(pictures)], file_path=f"{n:04}.jpg", content_type="image/jpeg", cuts=False)
            for n in range(COUNT)
        )
        async for outcome in client.upload_many(items, concurrency=16):
            assert outcome.error is None
    yield name


@dataclass(frozen=True)
class Task:
    """The longest of the page's main thread."""

    cpu_ms: float
    clock_ms: float

    def __str__(self) -> str:
        return f"{self.cpu_ms:.0f} ms of CPU, {self.clock_ms:.0f} by the clock"


async def longest(browser: Browser, page: Page, work: Callable[[], Awaitable[Any]]) -> tuple[Task, Any]:
    """Returns how long the page's main thread was busy at most in one task meanwhile, and the outcome."""
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
    cpu_us, clock_us = (max(task.get(key, 0) for task in tasks) for key in ("tdur", "dur"))
    return Task(cpu_us / 1000, clock_us / 1000), outcome


def put_first() -> bool:
    """Lets Chromium run before every other program; returns whether that is allowed here (it takes root, and Linux)."""
    for process in psutil.Process().children(recursive=True):
        if "chrom" not in process.name():
            continue
        try:
            os.setpriority(os.PRIO_PGRP, os.getpgid(process.pid), -15)
            # Where each session is a group of its own, a nice value says nothing to other sessions.
            group = Path(f"/proc/{process.pid}/autogroup")
            if group.exists():
                group.write_text("-15")
        except ProcessLookupError:
            continue
        except PermissionError:
            return False
        return True
    raise AssertionError("no Chromium among the processes of this test")


async def short_tasks(
    browser: Browser, page: Page, work: Callable[[], Awaitable[Any]], *, by_clock: bool
) -> tuple[Task, Any]:
    """Asserts that no task is too long in the best of three attempts, and returns its longest task and its outcome.

    CPU time always counts; the clock, which runs while other programs have the processor, where Chromium comes before
    them and no more than four for each core want to run.
    """
    best: tuple[Task, Any] | None = None
    for _ in range(ATTEMPTS):
        task, outcome = await longest(browser, page, work)
        if best is None or task.clock_ms < best[0].clock_ms:
            best = task, outcome
        if max(best[0].cpu_ms, best[0].clock_ms if by_clock else 0) <= LONGEST_TASK_MS:
            break
    assert best is not None
    assert best[0].cpu_ms <= LONGEST_TASK_MS
    if by_clock and os.getloadavg()[0] <= MOST_LOAD * (os.cpu_count() or 1):
        assert best[0].clock_ms <= LONGEST_TASK_MS
    return best


async def test_a_thousand_assets_come_and_scroll(
    chromium: Browser, server: LocalServer, full: str, figures: Figures
) -> None:
    """No task above 50 ms while they come and while they scroll; at most 200 picture nodes; every asset is seen."""
    by_clock = put_first()
    async with opened(chromium, viewport={"width": 1440, "height": 900}) as context:
        page = await context.new_page()
        await sign_up(page, server.url, full)
        await go(page, "Only me")

        async def come(tab: Page) -> None:
            await tab.reload()
            await arrived(tab)

        coming, _ = await short_tasks(chromium, page, lambda: come(page), by_clock=by_clock)
        second = await context.new_page()
        await second.goto(server.url)
        await arrived(second)
        sharing, _ = await short_tasks(chromium, second, lambda: come(second), by_clock=by_clock)
        await second.close()
        scrolling, seen = await short_tasks(chromium, page, lambda: page.evaluate(SCROLL), by_clock=by_clock)
        figures(
            f"gallery: {COUNT} assets, {seen['most']} picture nodes at most; longest task {coming} while they came,"
            f" {sharing} while they came to a second tab, {scrolling} in scrolling"
        )
        assert seen["seen"] == COUNT
        assert seen["most"] <= MOST_NODES


async def arrived(page: Page) -> None:
    """Returns when all are there, and the first ones are seen."""
    await until(page, f"() => document.querySelector('.day-count')?.textContent === '{COUNT}'")
    await until(page, "() => document.querySelectorAll('.tile img.is-loaded').length > 10")
