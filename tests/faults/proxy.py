"""A TCP proxy on loopback that cuts, delays and half-opens the connections it carries.

It knows no protocol, so it stands in front of gRPC, MongoDB and S3 alike. With several upstreams it is a
load balancer: a new connection goes to the next one that answers.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

LOOPBACK: Final = "127.0.0.1"
DIAL_LIMIT_S: Final = 5.0
CLOSE_LIMIT_S: Final = 10.0
CHUNK_BYTES: Final = 64 * 1024
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class Connection:
    """One carried connection: a caller's socket and an upstream's."""

    def __init__(self, proxy: "Proxy", caller: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._sides = (caller, upstream)
        self._is_cut = asyncio.Event()
        self.is_half_open = False
        self.upstream_has_ended = asyncio.Event()
        """Set when the upstream closed its side."""

    def cut(self) -> None:
        """Resets both sides at once, as a crash or a firewall does."""
        self._is_cut.set()
        for side in self._sides:
            if not side.is_closing():
                side.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            side.transport.abort()

    def half_open(self) -> None:
        """Swallows everything from now on, the end of a side too: each takes the other for silent."""
        self.is_half_open = True

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False) -> None:
        """Carries one direction until its source ends."""
        try:
            while data := await source.read(CHUNK_BYTES):
                await self._hold()
                if is_answer:
                    await self._proxy.answer_may_pass()
                if not self.is_half_open:
                    sink.write(data)
                    await sink.drain()
            if not self.is_half_open:
                sink.write_eof()
        except OSError:
            if not self.is_half_open:
                self.cut()

    async def pump_back(self, upstream: asyncio.StreamReader, caller: asyncio.StreamWriter) -> None:
        """Carries the answers until the upstream ends."""
        try:
            await self.pump(upstream, caller, is_answer=True)
        finally:
            self.upstream_has_ended.set()

    async def _hold(self) -> None:
        """Holds a chunk back for as long as the proxy says, or until the connection is cut."""
        if self._proxy.delay_s <= 0:
            return
        self._proxy.chunks_held += 1
        try:
            async with asyncio.timeout(self._proxy.delay_s):
                await self._is_cut.wait()
        except TimeoutError:
            return
        finally:
            self._proxy.chunks_held -= 1


class Proxy:
    """See the module. Made by `proxied`; upstreams and delay may change at any time."""

    def __init__(self, upstreams: Sequence[int]) -> None:
        self.upstreams = tuple(upstreams)
        """The ports on loopback that new connections go to in turn."""
        self.delay_s = 0.0
        """How long every chunk waits before it goes on, in either direction."""
        self.chunks_held = 0
        """How many chunks wait at this moment."""
        self.answers_pass = asyncio.Event()
        """While it is cleared, no answer goes on to its caller. Set it before the proxy ends."""
        self.answers_pass.set()
        self.port = 0
        self._connections: set[Connection] = set()
        self._turn = 0
        self._answers_held = 0
        self._held = asyncio.Condition()
        self._none_left = asyncio.Event()
        self._none_left.set()

    @property
    def target(self) -> str:
        """Where callers connect."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that still carry something."""
        return tuple(connection for connection in self._connections if not connection.is_half_open)

    async def answer_may_pass(self) -> None:
        """Waits while answers are held back."""
        if self.answers_pass.is_set():
            return
        async with self._held:
            self._answers_held += 1
            self._held.notify_all()
        await self.answers_pass.wait()
        self._answers_held -= 1

    async def holds_answers(self, count: int) -> None:
        """Returns when so many answers are held back."""
        async with self._held:
            await self._held.wait_for(lambda: self._answers_held >= count)

    def cut(self) -> int:
        """Cuts every connection, half-open ones too; returns how many."""
        return cut(self._connections)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one caller's connection until both sides ended. An upstream that is away is a reset."""
        self._none_left.clear()
        connection = None
        try:
            upstream_reader, upstream_writer = await self._dial()
            connection = Connection(self, writer, upstream_writer)
            self._connections.add(connection)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(connection.pump(reader, upstream_writer))
                pumps.create_task(connection.pump_back(upstream_reader, writer))
        except ConnectionError:
            writer.transport.abort()
        finally:
            if connection is not None:
                connection.cut()
                self._connections.discard(connection)
            if not self._connections:
                self._none_left.set()

    async def wait_until_empty(self) -> None:
        """Returns when nothing is carried any more."""
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await self._none_left.wait()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in range(len(self.upstreams)):
            self._turn += 1
            port = self.upstreams[self._turn % len(self.upstreams)]
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(DIAL_LIMIT_S):
                    return await asyncio.open_connection(LOOPBACK, port)
        raise ConnectionRefusedError("no upstream answers")


def cut(connections: Iterable[Connection]) -> int:
    """Cuts these connections and returns how many they were."""
    chosen = tuple(connections)
    for connection in chosen:
        connection.cut()
    return len(chosen)


@asynccontextmanager
async def proxied(*upstreams: int) -> AsyncIterator[Proxy]:
    """Runs a proxy to these ports on loopback; at the end every connection is cut."""
    proxy = Proxy(upstreams)
    server = await asyncio.start_server(proxy.carry, LOOPBACK, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await proxy.wait_until_empty()
