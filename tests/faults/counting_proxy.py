"""A proxy before the store that callers PUT through: it counts what the store has taken, request by request.

What a caller has sent to its end is brought to the store even if the caller is killed meanwhile: as a network does.
"""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.faults.proxy import CHUNK_BYTES, LOOPBACK

HEAD_LIMIT_BYTES: Final = 64 * 1024
LIMIT_S: Final = 30.0
_LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_PART: Final = re.compile(rb"[?&]partNumber=(\d+)")


class CountingProxy:
    """See the module. Made by `counting_proxy`."""

    def __init__(self, upstream: int) -> None:
        self.url = ""
        self.parts: Counter[int] = Counter()
        """How often the store has taken each part."""
        self.broken = 0
        """How many requests ended before their body did."""
        self.sent_bytes = 0
        """Bytes of bodies that callers have sent."""
        self._upstream = upstream
        self._moved = asyncio.Condition()
        self._carrying = 0

    async def sent(self, count: int) -> None:
        """Returns when callers have sent so many bytes."""
        async with asyncio.timeout(LIMIT_S), self._moved:
            await self._moved.wait_for(lambda: self.sent_bytes >= count)

    async def idle(self) -> None:
        """Returns when nothing is on its way."""
        async with asyncio.timeout(LIMIT_S), self._moved:
            await self._moved.wait_for(lambda: not self._carrying)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one connection, request by request, until its caller ends it."""
        upstream_reader, upstream = await asyncio.open_connection(LOOPBACK, self._upstream, limit=HEAD_LIMIT_BYTES)
        try:
            while await self._exchange(reader, writer, upstream_reader, upstream):
                pass
        except (OSError, asyncio.IncompleteReadError):
            return  # the caller is gone, or the store ended the connection
        finally:
            writer.transport.abort()
            upstream.transport.abort()

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        await self._count(1)
        try:
            upstream.write(head)
            await self._carry_body(reader, upstream, _length(head))
            answer = await upstream_reader.readuntil(b"\r\n\r\n")
            body = await upstream_reader.readexactly(_length(answer))
            status, part = _STATUS.match(answer), _PART.search(head.partition(b"\r\n")[0])
            assert status is not None
            if part is not None and status[1] == b"200":
                self.parts[int(part[1])] += 1
        finally:
            await self._count(-1)
        writer.write(answer + body)
        await writer.drain()
        return True

    async def _carry_body(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, length: int) -> None:
        left = length
        while left:
            data = await reader.read(min(left, CHUNK_BYTES))
            if not data:
                self.broken += 1
                raise ConnectionResetError("the caller is gone")
            left -= len(data)
            upstream.write(data)
            await upstream.drain()
            async with self._moved:
                self.sent_bytes += len(data)
                self._moved.notify_all()

    async def _count(self, step: int) -> None:
        async with self._moved:
            self._carrying += step
            self._moved.notify_all()


@asynccontextmanager
async def counting_proxy(upstream: int) -> AsyncIterator[CountingProxy]:
    """Runs a proxy before that port on loopback."""
    proxy = CountingProxy(upstream)
    server = await asyncio.start_server(proxy.carry, LOOPBACK, 0, limit=HEAD_LIMIT_BYTES, family=socket.AF_INET)
    proxy.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0
