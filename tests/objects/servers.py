"""Small servers on loopback: they answer one thing, or nothing."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from aiohttp import web
from tests.objects.settings import SECRET

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def http_server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A small server that answers everything with one handler; yields its address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def nothing_listening() -> AsyncIterator[str]:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def never_answering() -> AsyncIterator[str]:
    """A server that takes requests and says nothing."""
    closing = asyncio.Event()

    async def wait(_request: web.Request) -> web.StreamResponse:
        await closing.wait()
        return web.Response()

    async with http_server(wait) as address:
        try:
            yield address
        finally:
            closing.set()


@asynccontextmanager
async def answering_to(endpoint: str, start: bytes, answer: bytes) -> AsyncIterator[str]:
    """Passes connections on to an HTTP server, but for those whose first request begins so: they get these bytes.

    For answers that no library would send.
    """
    url = urlsplit(endpoint)
    assert url.hostname is not None

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(65_536)
            if first.startswith(start):
                writer.write(answer)
                await writer.drain()
                return
            inward, outward = await asyncio.open_connection(url.hostname, url.port)
            outward.write(first)
            await asyncio.gather(copy(reader, outward), copy(inward, writer), return_exceptions=True)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class CredentialsSource:
    """What gives a container its role's credentials: each answer has the next key and the given life."""

    def __init__(self, life: timedelta) -> None:
        self.life = life
        self.answers = 0
        self.open = asyncio.Event()  # while it is clear, nobody gets an answer
        self.open.set()
        self.asked = asyncio.Event()
        self.broken = False
        self.expire_time = datetime.min.replace(tzinfo=UTC)  # of the newest credentials

    async def answer(self, _request: web.Request) -> web.StreamResponse:
        """Answers as the container metadata service does."""
        self.asked.set()
        await self.open.wait()
        if self.broken:
            return web.Response(status=500)
        self.answers += 1
        self.expire_time = (datetime.now(UTC) + self.life).replace(microsecond=0)
        return web.json_response(
            {
                "AccessKeyId": f"AKID{self.answers}",
                "SecretAccessKey": SECRET,
                "Token": f"token {self.answers}",
                "Expiration": self.expire_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
