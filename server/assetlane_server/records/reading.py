"""One query for all who read at the same time: thousands of watches begin at once when a server comes back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

from assetlane_server.model.errors import LedgerUnavailable, ShuttingDown

K = TypeVar("K")
V = TypeVar("V")


class SharedReading(Generic[K, V]):
    """Reads what is behind a key, so many keys at once. `run` has to run for as long as anybody reads."""

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], keys_at_once: int) -> None:
        """`read` answers for every key that it is asked for."""
        self._read = read
        self._keys_at_once = keys_at_once
        self._readers: dict[K, list[asyncio.Future[V]]] = {}
        self._has_readers = asyncio.Event()
        self._is_closed = False

    async def read(self, key: K) -> V:
        """Returns the answer of a query that began after this call. Raises LedgerUnavailable, ShuttingDown."""
        if self._is_closed:
            raise ShuttingDown
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._readers.setdefault(key, []).append(answer)
        self._has_readers.set()
        return await answer

    async def run(self) -> None:
        """Answers one query after the other until it is cancelled; the rest then fail with ShuttingDown."""
        try:
            while True:
                await self._has_readers.wait()
                readers = {key: self._readers.pop(key) for key in list(islice(self._readers, self._keys_at_once))}
                if not self._readers:
                    self._has_readers.clear()
                await self._answer(readers)
        finally:
            self._is_closed = True
            _refuse(self._readers, ShuttingDown)

    async def _answer(self, readers: dict[K, "list[asyncio.Future[V]]"]) -> None:
        try:
            found = await self._read(list(readers))
        except LedgerUnavailable as error:
            message = str(error)
            _refuse(readers, lambda: LedgerUnavailable(message))
        except asyncio.CancelledError:
            _refuse(readers, ShuttingDown)
            raise
        else:
            for key, answers in readers.items():
                for answer in _waiting(answers):
                    answer.set_result(found[key])


def _refuse(readers: dict[K, "list[asyncio.Future[V]]"], refusal: Callable[[], Exception]) -> None:
    for answers in readers.values():
        for answer in _waiting(answers):
            answer.set_exception(refusal())


def _waiting(answers: "list[asyncio.Future[V]]") -> "list[asyncio.Future[V]]":
    return [answer for answer in answers if not answer.done()]  # a reader that was cancelled is
