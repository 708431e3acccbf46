"""The connection of a response that goes on for hours, as watches do.

Once its head is written, what the HTTP server holds for a request is of no use any more: a parser, the headers, the
body, a queue of requests, two tasks. That is half of what a waiting watch costs, so a stream takes the connection over.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from assetlane_server.rpc.web.calls import ReaderGone

_MAX_BYTES_BEHIND = 256 * 1024  # of what a client sends behind its request
_LAST_CHUNK = b"0\r\n\r\n"

StreamTask: TypeAlias = "asyncio.Task[None]"


class StreamConnection(asyncio.Protocol):
    """Carries one stream to its end, then closes: the head has announced it. Drops what the client sends meanwhile."""

    __slots__ = ("_behind_bytes", "_cut_off", "_is_chunked", "_is_paused", "_on_lost", "_transport", "_waiter", "task")

    def __init__(
        self,
        transport: asyncio.Transport,
        task: StreamTask,
        on_lost: Callable[["StreamConnection"], None],
        *,
        is_chunked: bool,
        is_paused: bool,
    ) -> None:
        """`task` writes the stream, and is cancelled when the connection is lost before its end."""
        self._transport = transport
        self.task = task
        self._on_lost = on_lost
        self._is_chunked = is_chunked
        self._is_paused = is_paused
        self._behind_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._cut_off: asyncio.TimerHandle | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the last bytes were given to the connection."""
        return self._cut_off is not None

    async def send(self, data: bytes, stall_seconds: float) -> None:
        """Sends bytes. Raises ReaderGone when the connection is lost, or takes nothing for that long."""
        self._write(self._framed(data))
        if not self._is_paused:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(stall_seconds):
                await self._waiter
        except TimeoutError:
            self._transport.abort()
            raise ReaderGone("the reader takes nothing any more") from None
        finally:
            self._waiter = None

    def end(self, data: bytes, stall_seconds: float) -> None:
        """Sends the last bytes and closes. Raises ReaderGone. A reader that takes nothing for that long is cut off."""
        self._write((self._framed(data) if data else b"") + (_LAST_CHUNK if self._is_chunked else b""))
        self._cut_off = asyncio.get_running_loop().call_later(stall_seconds, self._transport.abort)
        self._transport.close()

    def abort(self) -> None:
        """Closes without sending what waits. The task is cancelled unless it has ended the stream."""
        self._transport.abort()

    def pause_writing(self) -> None:
        """Called when the connection takes nothing more for now."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Called when it takes more again."""
        self._is_paused = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Drops what the client sends, and cuts it off when that does not end."""
        self._behind_bytes += len(data)
        if self._behind_bytes > _MAX_BYTES_BEHIND:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the task unless it has ended the stream."""
        self._on_lost(self)
        if self._cut_off is None:
            self.task.cancel()
        else:
            self._cut_off.cancel()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ReaderGone("the connection is lost")
        if data:
            self._transport.write(data)
