"""A server with its web gateway, and Chromium with pages that hold the TypeScript client."""

import asyncio
import re
import secrets
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from aiohttp import web as http
from playwright.async_api import BrowserContext, Page, async_playwright
from tests.access.certificates import Authority
from tests.access.tokens import Issuer
from tests.chromium import chromium_path
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.objects.servers import http_server
from tests.servers import free_port, prepare_bucket, settings_for
from tests.web_gateway.test_envoy import ENVOY, recipe

from assetlane_server.local import StackAddress

WEB: Final = Path(__file__).parents[2] / "web"
PAGES: Final = WEB / "client" / "dist-browser"
LIMIT_MS: Final = 60_000.0
LIMIT_S: Final = 60.0
_POLL_S: Final = 0.05
_LOOK_S: Final = 0.005
PART_BYTES: Final = 5 * 1024 * 1024
ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class WebPlace:
    """A server that can be killed and started again on the same ports, and the pages of another origin."""

    server: ServerProcess
    front: str
    """Where the server is called: its web gateway, or an Envoy before its gRPC port."""
    url: str
    """What the pages of a test call: the front, unless the test says otherwise."""
    origin: str
    issuer: Issuer
    folder: Path
    tokens: list[str] = field(default_factory=list)
    """Every token that was handed to a page."""
    token_lifetime_s: float = 600.0
    metrics: str = ""
    """Where the server's metrics are."""
    arguments: tuple[str, ...] = ()
    """What Chromium needs to know to reach the front."""
    sub: str = "ann"
    """Who uses the pages: each test has a user of its own, and so an empty partition."""

    async def answer(self, request: http.Request) -> http.StreamResponse:
        """The pages, and a token for those who ask, as an app's own back end would give it."""
        if request.path == "/token":
            token = self.issuer.token(request.query.get("sub", self.sub), lifetime_s=self.token_lifetime_s)
            self.tokens.append(token)
            return http.Response(text=token)
        path = PAGES / request.path.lstrip("/")
        return http.FileResponse(path) if path.is_file() else http.Response(status=404)

    async def restart(self) -> None:
        """Kills the server as `kill -9` does, and starts it again."""
        await self.server.kill()
        await self.server.start()

    async def watches(self) -> int:
        """Returns how many watches of partitions the server has open."""
        async with ClientSession() as session, session.get(self.metrics) as response:
            text = await response.text()
        found = re.search(
            r"^assetlane_watches_open\{method=\"AssetService/WatchAssets\"\} ([0-9.]+)$", text, re.MULTILINE
        )
        return 0 if found is None else int(float(found[1]))

    async def until_watches(self, count: int) -> None:
        """Returns when the server has so many open. Raises TimeoutError."""
        async with asyncio.timeout(LIMIT_S):
            while await self.watches() != count:  # noqa: ASYNC110 - a process has no event for it
                await asyncio.sleep(_LOOK_S)

    def file(self, name: str, size_bytes: int) -> Path:
        """Makes a file of random bytes."""
        path = self.folder / name
        with path.open("wb") as out:
            for start in range(0, size_bytes, 1024 * 1024):
                out.write(secrets.token_bytes(min(1024 * 1024, size_bytes - start)))
        return path


@asynccontextmanager
async def web_place(
    stack: StackAddress, folder: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[WebPlace]:
    """Serves on these stores, for tokens, with pages on an origin of their own."""
    assert PAGES.is_dir(), "the pages are not built: make test-web"
    database_name, key_prefix = f"assetlane_test_{secrets.token_hex(8)}", f"test-{secrets.token_hex(8)}/"
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    issuer = Issuer()
    (folder / "tokens.pem").write_bytes(issuer.file)
    place: list[WebPlace] = []

    async def answer(request: http.Request) -> http.StreamResponse:
        return await place[0].answer(request)

    async with http_server(answer) as origin:
        web, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        values = {
            "listen": f"127.0.0.1:{free_port()}",
            "web_listen": web,
            "web_origins": origin,
            "metrics_listen": metrics,
            "key_prefix": key_prefix,
            "jwt_key_file": str(folder / "tokens.pem"),
            "jwt_leeway_seconds": "3",  # one clock here: tests that wait for the end of a token wait less
            "multipart_threshold_bytes": str(2 * PART_BYTES),
            "multipart_part_bytes": str(PART_BYTES),
            **settings,
        }
        environment = environment_for(stack, database_name, settings=values, grace_seconds=5)
        async with server_process(environment, folder / "server.log") as server:
            place.append(WebPlace(server, f"http://{web}", f"http://{web}", origin, issuer, folder))
            place[0].metrics = f"http://{metrics}/metrics"
            yield place[0]


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


@asynccontextmanager
async def fronted_place(stack: StackAddress, folder: Path) -> AsyncIterator[WebPlace]:
    """Serves as `web_place` does, with Envoy before the gRPC port."""
    if not ENVOY.exists():
        pytest.fail("Envoy is not installed: make setup")
    async with web_place(stack, folder) as built, envoy(built, folder / "envoy") as url:
        built.front = built.url = url
        built.arguments = ("--host-resolver-rules=MAP files.example 127.0.0.1", "--ignore-certificate-errors")
        yield built


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_place(stack: StackAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebPlace]:
    """One server for the tests of a module: a start takes seconds."""
    async with web_place(stack, tmp_path_factory.mktemp("place")) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def place(shared_place: WebPlace, tmp_path: Path) -> WebPlace:
    """The module's server with a user, a folder and tokens of this test's own; it runs."""
    shared_place.sub = f"ann-{secrets.token_hex(4)}"
    shared_place.folder = tmp_path
    shared_place.tokens = []
    shared_place.token_lifetime_s = 600.0
    shared_place.url = shared_place.front
    if not shared_place.server.is_running:
        await shared_place.server.start()
    return shared_place


@asynccontextmanager
async def chromium(profile: Path, *arguments: str) -> AsyncIterator[BrowserContext]:
    """Chromium with a profile that stays: opened again it is the same browser."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium_path(), args=[*ARGUMENTS, *arguments]
        )
        context.set_default_timeout(LIMIT_MS)
        yield context
        await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def browser(place: WebPlace, tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """Chromium with a profile of this test's own."""
    async with chromium(tmp_path / "profile", *place.arguments) as context:
        yield context


CLIENT: Final = """([url, sub]) => {
    window.client = new assetlane.AssetlaneClient({
        url, token: async () => (await fetch(`/token?sub=${sub}`)).text(),
    });
}"""


async def open_page(context: BrowserContext, place: WebPlace, sub: str = "") -> Page:
    """Opens a page with a client in `window.client`, of the test's user or another one."""
    page = await context.new_page()
    await page.goto(f"{place.origin}/page.html")
    await page.wait_for_function("window.assetlane !== undefined")
    await page.evaluate(CLIENT, [place.url, sub or place.sub])
    return page


async def until(page: Page, condition: str, argument: Any = None) -> None:
    """Returns when a condition of the page, which may be a promise, holds. Raises TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while not await page.evaluate(condition, argument):  # noqa: ASYNC110 - a page has no event for it
            await asyncio.sleep(_POLL_S)


async def settled(milliseconds: int = 300) -> None:
    """Gives what must not happen a moment in which it would."""
    await asyncio.sleep(milliseconds / 1000)
