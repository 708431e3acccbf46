"""Closes what `aiofiles` opens, also when a task is cancelled meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from aiofiles.threadpool.binary import AsyncBufferedIOBase

_File = TypeVar("_File", bound=AsyncBufferedIOBase)


@asynccontextmanager
async def closing(opening: Awaitable[_File]) -> AsyncGenerator[_File, None]:
    """Opens and closes the file of `aiofiles.open(…)`, as its own `async with` does. Raises what opening it raises.

    A task that is cancelled while the thread opens the file would leave it open, or create it after the
    caller has removed it. Here the end of the block waits for the thread.
    """
    opened = asyncio.ensure_future(opening)
    try:
        yield await asyncio.shield(opened)
    finally:
        await asyncio.shield(_close(opened))


async def _close(opened: asyncio.Future[_File]) -> None:
    await asyncio.wait([opened])
    if opened.exception() is None:
        await opened.result().close()
