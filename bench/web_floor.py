"""The floor of a watch over HTTP: bare streams that send a head and one event, then wait. Nothing else is done.

`aiohttp` is its own server with a handler that waits; the gateway runs on it. `asyncio` is a connection of the event
loop with a task that waits: less than that is no server on it. Same event loop and garbage collection as the real
server. Runs as a process: `python -m bench.web_floor aiohttp`.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import uvloop
from aiohttp import web

from assetlane_server.process.serving import collect_garbage_less_often

AIOHTTP: Final = "aiohttp"
ASYNCIO: Final = "asyncio"
_EVENT: Final = b"\0\0\0\0\0"
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ntransfer-encoding: chunked\r\n\r\n"
_END_OF_HEAD: Final = b"\r\n\r\n"


class WaitingConnection(asyncio.Protocol):
    """Answers the first request that it sees with one event, in a task that then waits until the connection is lost."""

    __slots__ = ("_received", "_task", "_transport")

    def __init__(self) -> None:
        self._received = b""
        self._task: asyncio.Task[None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += data
        if self._task is None and _END_OF_HEAD in self._received:
            self._received = b""
            self._task = asyncio.create_task(self._wait())

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._task is not None:
            self._task.cancel()

    async def _wait(self) -> None:
        self._transport.write(b"%b%x\r\n%b\r\n" % (_HEAD, len(_EVENT), _EVENT))
        await asyncio.get_running_loop().create_future()


async def stream(request: web.BaseRequest) -> web.StreamResponse:
    """Reads the request, sends one event, and waits."""
    await request.read()
    response = web.StreamResponse(headers={"content-type": "application/grpc-web+proto"})
    await response.prepare(request)
    await response.write(_EVENT)
    await asyncio.get_running_loop().create_future()
    return response


async def serve(kind: str) -> None:
    """Serves until SIGTERM; reports its address on stderr, as the real server does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    factories: dict[str, Callable[[], asyncio.Protocol]] = {
        AIOHTTP: web.Server(stream, handler_cancellation=True, access_log=None),
        ASYNCIO: WaitingConnection,
    }
    listener = await loop.create_server(factories[kind], "127.0.0.1", 0, backlog=1024)
    collect_garbage_less_often()
    sys.stderr.write(f"serving on 127.0.0.1:{listener.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    await stop.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
