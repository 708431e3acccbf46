"""Where one watcher finds what changed: one slot per record, the newest state in it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from typing_extensions import override

from assetlane_server.model.delivery import Delivery
from assetlane_server.model.errors import ShuttingDown
from assetlane_server.model.upload import LedgerTime
from assetlane_server.ports.mailbox import Mailbox

T = TypeVar("T")


class HubMailbox(Mailbox[T]):
    """One slot per record: `slots` bounds how many records' news it holds before its reader has to read again."""

    __slots__ = (
        "_alarm",
        "_asides",
        "_delivered_until",
        "_due_at",
        "_has_rung",
        "_is_closed",
        "_loop",
        "_missed_since",
        "_news",
        "_sleep",
        "_slots",
        "_taken_until",
        "opened_at",
    )

    opened_at: LedgerTime

    def __init__(self, slots: int, delivered_until: Callable[[], LedgerTime]) -> None:
        self._slots = slots
        self._delivered_until = delivered_until
        self.opened_at = delivered_until()
        self._taken_until = self.opened_at
        self._news: dict[str, tuple[int, T]] = {}
        self._asides: dict[str, T] = {}
        self._missed_since: LedgerTime | None = None
        self._is_closed = False
        self._has_rung = False
        self._sleep: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._due_at = 0.0  # when `next` returns without news, by the loop's clock
        self._alarm: asyncio.TimerHandle | None = None  # set for that moment, or for an earlier one

    def put(self, key: str, revision: int, state: T) -> None:
        """Keeps a record's state unless a newer one is there; has the reader read again when no slot is left."""
        kept = self._news.get(key)
        if kept is None and len(self._news) >= self._slots:
            self._news.clear()
            self._missed_since = self._taken_until
        elif self._missed_since is None and (kept is None or kept[0] < revision):
            self._news[key] = (revision, state)
        self._ring()

    def put_aside(self, key: str, remark: T) -> None:
        """Keeps the newest remark about a record, which may be lost."""
        if key in self._asides or len(self._asides) < self._slots:
            self._asides[key] = remark
            self._ring()

    def miss(self, since: LedgerTime) -> None:
        """Has the reader read again what changed since that instant."""
        self._missed_since = since if self._missed_since is None else min(self._missed_since, since)
        self._ring()

    def close(self) -> None:
        """Ends the watch: its next look raises ShuttingDown."""
        self._is_closed = True
        self._ring()

    def discard(self) -> None:
        """Lets go of what would wake a reader: there is none any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    @override
    async def next(self, timeout: timedelta) -> Delivery[T]:
        """Remarks come after states."""
        # A bare future: an asyncio.Event under an asyncio.timeout takes 1.5 KiB more of every idle watch.
        if not self._has_rung:
            self._due_at = self._loop.time() + timeout.total_seconds()
            if self._alarm is None or self._alarm.when() > self._due_at:
                self._set_alarm()
            self._sleep = self._loop.create_future()
            await self._sleep
        if self._is_closed:
            raise ShuttingDown
        self._has_rung = False
        news = (*(state for _, state in self._news.values()), *self._asides.values())
        missed_since, self._missed_since = self._missed_since, None
        self._news.clear()
        self._asides.clear()
        self._taken_until = self._delivered_until()
        return Delivery(news, missed_since, self._taken_until)

    def _ring(self) -> None:
        self._has_rung = True
        self._wake()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(self._due_at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        if self._sleep is not None and not self._sleep.done():
            if self._loop.time() < self._due_at:  # it was set before something came
                self._set_alarm()
            else:
                self._wake()

    def _wake(self) -> None:
        if self._sleep is not None and not self._sleep.done():
            self._sleep.set_result(None)
