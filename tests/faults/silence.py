"""Connections that are opened and then say nothing, or next to nothing."""

import asyncio
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_AT_ONCE: Final = 100
_LIMIT_S: Final = 60.0
# RFC 9113, 3.4: what a client begins with, here with an empty SETTINGS frame. Then it waits.
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBI", 0, 0, 4, 0, 0)


@asynccontextmanager
async def silent_connections(port: int, count: int, greeting: bytes) -> AsyncIterator[list[socket.socket]]:
    """Opens so many connections to a port on loopback; they are reset at the end, so that no port stays taken.

    Raises the limit of open files of this process for as long as the block lasts.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(_AT_ONCE)
    opened: list[socket.socket] = []

    async def connect() -> None:
        async with turn:
            one = socket.socket()
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.append(one)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, greeting)

    try:
        async with asyncio.timeout(_LIMIT_S), asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(connect())
        yield opened
    finally:
        for one in opened:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def closed_by_the_server(connections: list[socket.socket], limit_s: float) -> int:
    """Waits until the other side has closed all of them, for so long at most; returns how many it has closed."""
    loop = asyncio.get_running_loop()
    closed = 0

    async def ended(one: socket.socket) -> None:
        nonlocal closed
        try:
            while await loop.sock_recv(one, 4096):
                continue
        except ConnectionError:
            pass  # a reset is an end too
        closed += 1

    tasks = [asyncio.create_task(ended(one)) for one in connections]
    await asyncio.wait(tasks, timeout=limit_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return closed
