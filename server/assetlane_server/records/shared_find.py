"""One query for all who ask for single documents at the same time.

A query costs a thread's work, whether it is for one document or for fifty. While some are under way, further readers
wait; then one query reads for all that wait. A lone reader never waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from assetlane_server.model.errors import LedgerUnavailable

_AT_ONCE: Final = 2  # queries under way: one that takes long holds nobody up
_MOST_KEYS: Final = 200  # of a query

Document = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Reader:
    key: str
    context: Context  # of the caller
    answer: "asyncio.Future[Document | None]"


class SharedFind:
    """Reads single documents by a key."""

    def __init__(self, find: Callable[[Sequence[str]], Awaitable[Mapping[str, Document]]]) -> None:
        """`find` returns those that exist of some keys."""
        self._find = find
        self._waiting: dict[_Reader, None] = {}
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, key: str) -> Document | None:
        """Returns the document as a query that begins after this call finds it; None if there is none.

        Raises what `find` raises.
        """
        reader = _Reader(key, copy_context(), asyncio.get_running_loop().create_future())
        self._waiting[reader] = None
        if self._running < _AT_ONCE:
            self._running += 1
            # In the context of its first caller, so that the span has a parent.
            task = asyncio.get_running_loop().create_task(self._run(), name="shared find", context=reader.context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            return await reader.answer
        finally:
            self._waiting.pop(reader, None)  # of a caller that was cancelled

    async def _run(self) -> None:
        try:
            while readers := list(islice(self._waiting, _MOST_KEYS)):
                for reader in readers:
                    del self._waiting[reader]
                await self._answer(readers)
        finally:
            self._running -= 1

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
