"""A TCP relay on loopback with a valve: shut, it holds back what callers send, and signals that it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK_BYTES = 64 * 1024
_LIMIT_S = 10.0


class Valve:
    """Open until it is shut. Made by `valve`."""

    def __init__(self) -> None:
        self.port = 0
        self.holds = asyncio.Event()
        """Set once something is held back."""
        self._is_open = asyncio.Event()
        self._is_open.set()

    def shut(self) -> None:
        """Holds back from now on."""
        self._is_open.clear()

    def open(self) -> None:
        """Lets everything through, what was held back first."""
        self._is_open.set()

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_held: bool) -> None:
        """Carries one direction to its end."""
        while data := await source.read(_CHUNK_BYTES):
            if is_held and not self._is_open.is_set():
                self.holds.set()
                await self._is_open.wait()
            sink.write(data)
            await sink.drain()
        sink.write_eof()


@asynccontextmanager
async def valve(upstream_port: int) -> AsyncIterator[Valve]:
    """Runs a valve before a port on loopback; its connections are cut at the end."""
    relay = Valve()
    carrying: set[asyncio.Task[None]] = set()

    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        try:
            await asyncio.gather(
                relay.carry(reader, there_writer, is_held=True),
                relay.carry(there_reader, writer, is_held=False),
            )
        except OSError:
            return  # one side reset the connection
        finally:
            for side in (writer, there_writer):
                side.transport.abort()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relayed(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        for task in carrying:
            task.cancel()
        if carrying:
            await asyncio.wait(set(carrying), timeout=_LIMIT_S)
