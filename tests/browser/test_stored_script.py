"""Nothing that is stored runs in a browser: every media type in a table, opened in Chromium by both of its URLs.

Each body runs script where a browser takes it for a page: that is seen first with the same type from a plain server.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import grpc
import pytest
import yarl
from aiohttp import web as http
from playwright.async_api import BrowserContext, Dialog, async_playwright
from playwright.async_api import Error as BrowserError
from tests.browser.hostile import TABLE, WILDCARDS, Body
from tests.chromium import chromium_path
from tests.conftest import Figures
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, put, request_for
from tests.objects.servers import http_server
from tests.servers import prepare_bucket, served, settings_for

from assetlane.v1.upload_service_pb2 import CompleteUploadRequest
from assetlane_server.local import StackAddress
from assetlane_server.model.media_types import parse_media_type

PAGES_AT_ONCE = 6
LIMIT_MS = 30_000.0
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# What Chromium itself runs when a server says nothing but the type: were it less, the bodies would prove nothing.
KNOWN_TO_RUN = {
    "text/html", "TEXT/HTML", "text/html;charset=utf-8", "Text/Html; charset=UTF-7", "unknown/unknown",
    "application/unknown", "text/xml", "application/xml", "text/xsl", "application/xhtml+xml", "image/svg+xml",
    "IMAGE/SVG+XML",
}  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@dataclass
class Row:
    """One media type, one body, and what became of it. `ran` holds the ways on which script ran."""

    content_type: str
    body: Body
    public_url: str = ""
    signed_url: str = ""
    disposition: str = ""
    ran: set[str] = field(default_factory=set)


class Beacons:
    """A server that hands the bodies out with nothing but their type, and hears what runs."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.address = ""

    def body(self, number: int, way: str) -> bytes:
        """Returns the body of a row, to be served on that way."""
        return self._rows[number].body(f"{self.address}/ran/{number}/{way}")

    async def answer(self, request: http.Request) -> http.StreamResponse:
        """A body, or a script's call."""
        match request.path.split("/"):
            case ["", "ran", number, way]:
                self._rows[int(number)].ran.add(way)
                return http.Response(status=204)
            case ["", "plain", number]:
                headers = {"content-type": self._rows[int(number)].content_type}
                return http.Response(body=self.body(int(number), "plain"), headers=headers)
        return http.Response(status=404)  # the icon that every page has


@pytest.fixture
async def browser() -> AsyncIterator[BrowserContext]:
    """Chromium, with a profile of its own that goes with it. Without it the test is skipped, in CI it fails."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield await browser.new_context(accept_downloads=False)
        await browser.close()


async def open_page(context: BrowserContext, url: str) -> bool:
    """Opens a URL in a window of its own. Returns whether script was seen to run: a changed title, or a dialog."""
    page = await context.new_page()
    dialogs: list[str] = []

    async def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", dismiss)
    try:
        # A script's own picture delays the load event: once that has come, its call has too.
        await page.goto(url, wait_until="load", timeout=LIMIT_MS)
        return bool(dialogs) or await page.title() == "ran"
    except BrowserError as error:
        if "Download is starting" not in error.message and "ERR_ABORTED" not in error.message:
            raise
        return bool(dialogs)
    finally:
        await page.close()


async def store(stubs: Stubs, web: aiohttp.ClientSession, row: Row, bodies: dict[str, bytes], number: int) -> None:
    """Brings both bodies of a row in, a public and a private one, and keeps their URLs."""
    for way, hours in (("public", 0.0), ("signed", 24.0)):
        request = request_for(
            {"original": bodies[way]},
            content_type=row.content_type,
            file_path=f"{number}/p.html",
            expiration_hours=hours,
        )
        reply = await stubs.uploads.RequestUpload(request)
        assert await put(web, reply.write_targets[0], bodies[way], skip_auto_headers=["content-type"]) == 200
        complete = CompleteUploadRequest(upload_id=reply.upload.upload_id)
        answer = await stubs.uploads.CompleteUpload(complete)
        assert not answer.upload.HasField("failure"), (row.content_type, answer.upload.failure)
        (variant,) = answer.asset.variants
        setattr(row, f"{way}_url", variant.read_url)
        async with web.get(yarl.URL(variant.read_url, encoded=True)) as response:
            assert response.headers["content-type"] == str(parse_media_type(row.content_type))
            row.disposition = response.headers["content-disposition"].partition(";")[0]


FETCH = """async ([url, method, headers, body]) =>
    (await fetch(url, {method, headers, body: new Blob([body])})).status"""
UPLOADED = (
    "text/html", "image/svg+xml", "application/xml", "text/javascript", "application/xhtml+xml", "text/plain",
    "application/octet-stream", "Text/Markdown ;charset=utf-8", 'text/plain; name="a, b; c"',
)  # fmt: skip


async def test_a_page_can_upload_every_kind_of_file(
    stack: StackAddress, database_name: str, key_prefix: str, browser: BrowserContext
) -> None:
    """With the headers of its write targets, from another origin: what `setup` allows is what has to be sent."""
    settings = settings_for(stack, database_name, key_prefix)
    await prepare_bucket(settings)

    async def nothing(_request: http.Request) -> http.StreamResponse:
        return http.Response(text="<!DOCTYPE html><title>a page</title>", content_type="text/html")

    async with (
        http_server(nothing) as origin,
        served(settings) as target,
        grpc.aio.insecure_channel(target) as channel,
    ):
        stubs = Stubs.on(channel)
        page = await browser.new_page()
        await page.goto(origin)
        for hours in (0.0, 24.0):
            for content_type in UPLOADED:
                body = "plain words"
                request = request_for(
                    {"original": body.encode()}, content_type=content_type, file_path="Grüße.x", expiration_hours=hours
                )
                reply = await stubs.uploads.RequestUpload(request)
                way = reply.write_targets[0].single_put
                assert await page.evaluate(FETCH, [way.url, way.method, dict(way.headers), body]) == 200
                complete = CompleteUploadRequest(upload_id=reply.upload.upload_id)
                answer = await stubs.uploads.CompleteUpload(complete)
                assert not answer.upload.HasField("failure"), (content_type, answer.upload.failure)
                url = answer.asset.variants[0].read_url
                assert await page.evaluate("async url => (await fetch(url)).text()", url) == body


async def test_no_script_runs_from_a_stored_object(
    stack: StackAddress, database_name: str, key_prefix: str, browser: BrowserContext, figures: Figures
) -> None:
    """Opened by the public and by the signed URL, whatever the type is; wildcards are refused."""
    rows = [Row(content_type, body) for content_type, body in TABLE]
    assert len(rows) >= 60
    # Every type gets its hostile body: the look at the first bytes is an obstacle of its own, proved elsewhere.
    settings = settings_for(stack, database_name, key_prefix, accept_mislabelled=True)
    await prepare_bucket(settings)
    beacons = Beacons(rows)
    async with (
        http_server(beacons.answer) as beacons.address,
        served(settings) as target,
        grpc.aio.insecure_channel(target) as channel,
        aiohttp.ClientSession(auto_decompress=False) as web,
    ):
        stubs = Stubs.on(channel)
        for wildcard in WILDCARDS:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stubs.uploads.RequestUpload(request_for(content_type=wildcard))
            assert "wildcard" in RpcFailure(refused.value).fields["variants[0].content_type"]
        turns = asyncio.Semaphore(PAGES_AT_ONCE)

        async def examine(number: int, row: Row) -> None:
            bodies = {way: beacons.body(number, way) for way in ("public", "signed")}
            async with turns:
                await store(stubs, web, row, bodies, number)
                plain = f"{beacons.address}/plain/{number}"
                urls = {"public": row.public_url, "signed": row.signed_url}
                if row.content_type in KNOWN_TO_RUN:
                    urls["plain"] = plain
                for way, url in urls.items():
                    if await open_page(browser, url):
                        row.ran.add(way)

        await asyncio.gather(*(examine(number, row) for number, row in enumerate(rows)))

    lines = [f"{'media type':<44} {'body':<20} {'plain server':<13} {'disposition':<12} {'public':<7} signed"]
    for row in rows:
        public, signed = ("RUNS" if way in row.ran else "-" for way in ("public", "signed"))
        plain = "" if row.content_type not in KNOWN_TO_RUN else "RUNS" if "plain" in row.ran else "-"
        body = row.body.__name__
        lines.append(f"{row.content_type:<44} {body:<20} {plain:<13} {row.disposition:<12} {public:<7} {signed}")
    lines += [f"{wildcard:<44} {'':<20} {'':<13} refused" for wildcard in WILDCARDS]
    exceptions = [row.content_type for row in rows if row.ran & {"public", "signed"}]
    runs = {row.content_type for row in rows if "plain" in row.ran}
    version = browser.browser.version if browser.browser else ""
    lines.append(
        f"{len(rows)} stored types opened in Chromium {version} by 2 URLs each: {len(exceptions)} exceptions;"
        f" {len(runs)} of the {len(KNOWN_TO_RUN)} that Chromium is known to run do so from a plain server"
    )
    figures("\n".join(lines))
    assert exceptions == []
    assert runs == KNOWN_TO_RUN, "the bodies prove nothing where these do not run"
