"""Work that goes on when its caller hangs up."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from assetlane_server.model.errors import Refusal, ShuttingDown

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Work(Generic[T]):
    """Runs at most one task per key; callers that ask for the same key meanwhile share its outcome.

    Not a TaskGroup: there, the refusal of one caller would cancel the work of all others.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}
        self._is_closed = False

    async def run(
        self,
        key: str,
        start: Callable[[], Coroutine[Any, Any, T]],
        *,
        stale: tuple[type[Refusal], ...] = (),
    ) -> T:
        """Returns or raises what the task does; a caller that is cancelled leaves the task running.

        A caller that joins a task begun before it called may get a refusal that is out of date by now: for one of
        the `stale` types the work is done once more, after the call.
        """
        task = self._running(key)
        if task is None:
            return await asyncio.shield(self._begun(key, start))
        try:
            return await asyncio.shield(task)
        except stale:
            # Whatever runs now began after the one that is over, and so after this call.
            return await asyncio.shield(self._running(key) or self._begun(key, start))

    def _running(self, key: str) -> asyncio.Task[T] | None:
        task = self._tasks.get(key)
        return None if task is None or task.done() else task  # one that is done may not be forgotten yet

    def _begun(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        if self._is_closed:
            raise ShuttingDown
        task = self._tasks[key] = asyncio.get_running_loop().create_task(start(), name=f"work {key}")
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def finish(self) -> None:
        """Accepts nothing new and waits for what runs. The caller bounds the wait; cancelled, it gives up."""
        self._is_closed = True
        if not self._tasks:
            return
        try:
            await asyncio.wait(set(self._tasks.values()))
        except asyncio.CancelledError:
            for task in self._tasks.values():
                task.cancel()
            raise

    def _forget(self, key: str, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:  # else a caller that joined has begun the next one already
            del self._tasks[key]
        if task.cancelled():
            return
        error = task.exception()  # fetched here: nobody may be left to fetch it
        if error is not None and not isinstance(error, Refusal):
            _log.error("work on %s failed", key, exc_info=error)
