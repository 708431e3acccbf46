"""Where one watcher is told of changes: one slot per record, the newest state in it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from assetlane_server.uploads.errors import ShuttingDown

T = TypeVar("T")


class HubMailbox(Generic[T]):
    """See Mailbox. `slots` bounds how many records' news it holds before its reader has to read them again."""

    def __init__(
        self, slots: int, read_again: Callable[[], Awaitable[Sequence[T]]], delivered_until: Callable[[], datetime]
    ) -> None:
        self._slots = slots
        self._read_again = read_again
        self._delivered_until = delivered_until
        self._news: dict[str, tuple[int, T]] = {}
        self._asides: dict[str, T] = {}
        self._has_overflowed = False
        self._is_closed = False
        self._has_rung = False
        self._sleep: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._emptied_at = self._loop.time()

    @property
    def delivered_until(self) -> datetime:
        """See Mailbox."""
        return self._delivered_until()

    @property
    def age(self) -> timedelta:
        """How long ago its reader last took what there was, or opened it."""
        return timedelta(seconds=self._loop.time() - self._emptied_at)

    def put(self, key: str, revision: int, state: T) -> None:
        """Keeps a record's state unless a newer one is there; merges when there is no slot left."""
        kept = self._news.get(key)
        if kept is None and len(self._news) >= self._slots:
            self._news.clear()
            self._has_overflowed = True
        elif not self._has_overflowed and (kept is None or kept[0] < revision):
            self._news[key] = (revision, state)
        self._ring()

    def put_aside(self, key: str, remark: T) -> None:
        """Keeps the newest remark about a record, which may be lost."""
        if key in self._asides or len(self._asides) < self._slots:
            self._asides[key] = remark
            self._ring()

    def close(self) -> None:
        """Ends the watch: its next look raises ShuttingDown."""
        self._is_closed = True
        self._ring()

    async def next(self, timeout: timedelta) -> Sequence[T]:
        """See Mailbox. Remarks come after states."""
        # A bare future: an asyncio.Event under an asyncio.timeout takes 1.5 KiB more of every idle watch.
        if not self._has_rung:
            self._sleep = self._loop.create_future()
            alarm = self._loop.call_later(timeout.total_seconds(), self._wake)
            try:
                await self._sleep
            finally:
                alarm.cancel()
        if self._is_closed:
            raise ShuttingDown
        if not self._has_rung:
            return ()
        self._has_rung = False
        asides = tuple(self._asides.values())
        self._asides.clear()
        if self._has_overflowed:
            self._has_overflowed = False
            self._news.clear()
            begun_at = self._loop.time()
            news_again = await self._read_again()
            self._emptied_at = begun_at
            return (*news_again, *asides)
        self._emptied_at = self._loop.time()
        news = tuple(state for _, state in self._news.values())
        self._news.clear()
        return (*news, *asides)

    def _ring(self) -> None:
        self._has_rung = True
        self._wake()

    def _wake(self) -> None:
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)
