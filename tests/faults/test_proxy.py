"""The fault proxy does to connections what it says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from tests.faults.proxy import LOOPBACK, Proxy, proxied

LIMIT_S = 60.0


@asynccontextmanager
async def echo(greeting: bytes = b"") -> AsyncIterator[int]:
    """A server that greets and sends everything back; yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with suppress(ConnectionError):
            while data := await reader.read(1024):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Caller:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def of(cls, proxy: Proxy) -> AsyncIterator["Caller"]:
        """Connects; the proxy has reached its upstream."""
        before = set(proxy.connections)
        caller = cls(*await asyncio.open_connection(LOOPBACK, proxy.port))
        try:
            while before.issuperset(proxy.connections):  # noqa: ASYNC110 - the proxy signals nothing
                await asyncio.sleep(0)
            yield caller
        finally:
            caller.writer.transport.abort()


async def greeting(proxy: Proxy) -> bytes:
    """What the next upstream says first."""
    async with Caller.of(proxy) as caller:
        return await caller.reader.readexactly(1)


async def test_bytes_go_both_ways_and_an_end_is_passed_on() -> None:
    """As if there were no proxy; what is on the way arrives before the end."""
    async with asyncio.timeout(LIMIT_S), echo() as port, proxied(port) as proxy, Caller.of(proxy) as caller:
        caller.writer.write(b"x" * 300_000)
        caller.writer.write_eof()
        assert len(await caller.reader.read()) == 300_000
        await proxy.wait_until_empty()


async def test_a_cut_resets_the_caller_at_once() -> None:
    """No polite end: the next read fails."""
    async with asyncio.timeout(LIMIT_S), echo() as port, proxied(port) as proxy, Caller.of(proxy) as caller:
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            await caller.reader.read()
        await proxy.wait_until_empty()


async def test_a_half_open_connection_is_silent_and_stays() -> None:
    """What is sent vanishes, no end comes through; later connections work."""
    async with asyncio.timeout(LIMIT_S), echo() as port, proxied(port) as proxy, Caller.of(proxy) as caller:
        proxy.connections[0].half_open()
        caller.writer.write(b"anybody?")
        async with Caller.of(proxy) as later:
            later.writer.write(b"yes")
            assert await later.reader.readexactly(3) == b"yes"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await caller.reader.read()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await caller.reader.read()


async def test_a_delay_holds_bytes_back() -> None:
    """Each direction waits, nothing is lost."""
    async with asyncio.timeout(LIMIT_S), echo() as port, proxied(port) as proxy, Caller.of(proxy) as caller:
        proxy.delay_s = 0.05
        began = asyncio.get_running_loop().time()
        caller.writer.write(b"slow")
        assert await caller.reader.readexactly(4) == b"slow"
        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_what_is_held_back_does_not_hold_up_a_cut() -> None:
    """However long the delay."""
    async with asyncio.timeout(LIMIT_S), echo() as port, proxied(port) as proxy, Caller.of(proxy) as caller:
        proxy.delay_s = 1000.0
        caller.writer.write(b"stuck")
        while not proxy.chunks_held:  # noqa: ASYNC110 - the proxy signals nothing
            await asyncio.sleep(0)
        proxy.cut()
        await proxy.wait_until_empty()


async def test_connections_go_to_the_upstreams_in_turn_and_pass_one_that_is_away() -> None:
    """A load balancer; with nobody left a connection is reset, and it works again with a new upstream."""
    async with asyncio.timeout(LIMIT_S), echo(b"1") as one, proxied(one) as proxy:
        async with echo(b"2") as two:
            proxy.upstreams = (one, two)
            assert sorted([await greeting(proxy) for _ in range(4)]) == [b"1", b"1", b"2", b"2"]
        assert [await greeting(proxy) for _ in range(2)] == [b"1", b"1"]
        proxy.upstreams = (two,)
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.transport.abort()
        proxy.upstreams = (one,)
        assert await greeting(proxy) == b"1"
