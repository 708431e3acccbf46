"""`assetlane-server local` as a newcomer runs it, and Chromium with its gallery."""

import asyncio
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright
from tests.chromium import chromium_path
from tests.servers import free_port
from tests.web.conftest import ARGUMENTS, LIMIT_MS, LIMIT_S

PASSWORD: Final = "correct horse battery"  # noqa: S105 - made up
START_LIMIT_S: Final = 90.0


@dataclass
class LocalServer:
    """A process of `assetlane-server local`, which can be stopped and started again on the same data."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    url: str = ""
    """Of the gallery."""
    target: str = ""
    """The gRPC port that wants no token."""
    store: str = ""
    _process: asyncio.subprocess.Process | None = None
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Starts it, and returns when it has greeted."""
        listen = self.target or f"127.0.0.1:{free_port()}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("ASSETLANE_")}
        with (self.folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "assetlane_server", "local", "--dir", str(self.folder / "data"),
                "--listen", listen, *self.options,
                stdout=asyncio.subprocess.PIPE, stderr=log, env=own | self.settings,
            )  # fmt: skip
        text = ""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            while "Ctrl-C" not in text:
                line = (await self._process.stdout.readline()).decode()
                assert line, (self.folder / "server.log").read_text()[-4000:]
                text += line
        self.greeting = text
        self.target = _found(r"serves on (\S+)", text)
        self.store = _found(r"S3 +(\S+)", text)
        self.url = _found(r"\n  gallery +(\S+)", text) if "\n  gallery" in text else ""
        self._reading = asyncio.create_task(self._drain(self._process.stdout))
        return self

    async def stop(self) -> None:
        """Stops it as Ctrl-C does."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        async with asyncio.timeout(LIMIT_S):
            await self._process.wait()
        if self._reading is not None:
            await self._reading

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        while await stream.readline():
            pass


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


@asynccontextmanager
async def local_server(folder: Path, *options: str, **settings: str) -> AsyncIterator[LocalServer]:
    """Runs `assetlane-server local` with its gallery."""
    values = {f"ASSETLANE_{name.upper()}": value for name, value in settings.items()}
    server = LocalServer(folder, values, options)
    try:
        yield await server.start()
    finally:
        await server.stop()


@dataclass
class Visit:
    """A page, and what it asked for and complained about."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> "Visit":
        """Listens to a page."""
        visit = cls(page)

        def on_request(request: Request) -> None:
            if request.url.startswith("http"):
                visit.hosts.add("/".join(request.url.split("/")[:3]))

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                visit.complaints.append(message.text)

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        return visit


async def sign_up(page: Page, url: str, name: str) -> None:
    """Opens the gallery and makes an account, as a newcomer does."""
    await page.goto(url)
    if await page.get_by_role("heading", name="Welcome back").count():
        await page.get_by_role("button", name="I am new here").click()
    await page.get_by_label("Name or e-mail").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await page.locator("#content").wait_for()


async def synced(page: Page) -> None:
    """Returns when all that is there has come."""
    await page.locator(".loading").wait_for(state="hidden")


async def go(page: Page, place: str) -> None:
    """Shows `Everyone` or `Only me`."""
    await page.locator(".place", has_text=place).click()


async def add(page: Page, *files: Path) -> None:
    """Picks files."""
    await page.set_input_files("#files", [str(file) for file in files])


async def until(page: Page, condition: str, argument: Any = None) -> None:
    """Returns when a condition of the page holds, also over a reload.

    Playwright takes a promise as a condition that holds: for those there is `until` of tests/web.
    """
    assert not condition.startswith("async"), condition
    await page.wait_for_function(condition, arg=argument, timeout=LIMIT_MS)


@asynccontextmanager
async def opened(browser: Browser, **options: Any) -> AsyncIterator[BrowserContext]:
    """A browser profile of its own: another user, on another device."""
    context = await browser.new_context(**options)
    context.set_default_timeout(LIMIT_MS)
    try:
        yield context
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalServer]:
    """One server for the tests of a module."""
    async with local_server(tmp_path_factory.mktemp("gallery")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """Chromium, for the tests of a module."""
    async with launched() as browser:
        yield browser


@asynccontextmanager
async def launched(*arguments: str) -> AsyncIterator[Browser]:
    """Debian's Chromium; skips the test where there is none, but in CI."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(),
            args=[*ARGUMENTS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", *arguments],
        )
        yield browser
        await browser.close()


@pytest.fixture
def name() -> str:
    """A user that no other test has."""
    return f"ann-{secrets.token_hex(4)}"
