"""One query for all who ask for single documents at the same time.

A query costs a thread's work, whether it is for one document or for fifty. While one is under way, further readers
wait; then one query reads for all that wait. A lone reader never waits, and a query that takes long holds nobody up:
a second one begins beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from assetlane_server.model.errors import LedgerUnavailable

_AT_ONCE: Final = 2  # queries under way, the second beside one that takes long
_LONG_S: Final = 0.1
_MOST_KEYS: Final = 200  # of a query

Document = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Reader:
    key: str
    context: Context  # of the caller
    answer: "asyncio.Future[Document | None]"


class SharedFind:
    """Reads single documents by a key."""

    def __init__(
        self, find: Callable[[Sequence[str]], Awaitable[Mapping[str, Document]]], *, long_s: float = _LONG_S
    ) -> None:
        """`find` returns those that exist of some keys; beside one that takes `long_s` another may begin."""
        self._find = find
        self._long_s = long_s
        self._waiting: dict[_Reader, None] = {}
        self._running = 0
        self._long: set[object] = set()  # what is running and takes long
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, key: str) -> Document | None:
        """Returns the document as a query that begins after this call finds it; None if there is none.

        Raises what `find` raises.
        """
        reader = _Reader(key, copy_context(), asyncio.get_running_loop().create_future())
        self._waiting[reader] = None
        self._go()
        try:
            return await reader.answer
        finally:
            self._waiting.pop(reader, None)  # of a caller that was cancelled

    def _go(self) -> None:
        if self._waiting and self._running == len(self._long) < _AT_ONCE:
            self._running += 1
            # In the context of its first caller, so that the span has a parent.
            context = next(iter(self._waiting)).context
            task = asyncio.get_running_loop().create_task(self._run(), name="shared find", context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            # Ends when nobody waits, or another one has begun meanwhile because this one took long.
            while self._running - len(self._long) == 1 and (readers := list(islice(self._waiting, _MOST_KEYS))):
                for reader in readers:
                    del self._waiting[reader]
                late = asyncio.get_running_loop().call_later(self._long_s, self._takes_long, readers[0])
                try:
                    await self._answer(readers)
                finally:
                    late.cancel()
                    self._long.discard(readers[0])
        finally:
            self._running -= 1

    def _takes_long(self, query: object) -> None:
        self._long.add(query)
        self._go()

    async def _answer(self, readers: Sequence[_Reader]) -> None:
        try:
            found = await self._find(list({reader.key: None for reader in readers}))
        except LedgerUnavailable as error:
            message = str(error)
            for reader in readers:
                _refuse(reader, LedgerUnavailable(message))
        except Exception as error:
            if len(readers) == 1:
                _refuse(readers[0], error)
                return
            # Such as a document that cannot be decoded: only who asks for it is to hear of it.
            for reader in readers:
                await self._answer([reader])
        except BaseException:
            for reader in readers:
                _refuse(reader, LedgerUnavailable("The query was given up: call again."))
            raise
        else:
            for reader in readers:
                if not reader.answer.done():
                    reader.answer.set_result(found.get(reader.key))


def _refuse(reader: _Reader, error: Exception) -> None:
    if not reader.answer.done():
        reader.answer.set_exception(error)
