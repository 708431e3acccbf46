"""How much one process takes on at a time: calls and watches apart, so that neither starves the other.

The watches of one caller have a limit of their own, so that nobody takes everybody's place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from assetlane_server.uploads.errors import Refusal, TooManyCalls, TooManyWatches, TooManyWatchesOfOne

_RETRY_AFTER = timedelta(seconds=5)  # a watch may stay open for hours; a crashed client's is given up in a minute


class Gate:
    """Lets so many in at a time and refuses the rest at once: a queue would only hide the load."""

    def __init__(self, limit: int, refusal: type[Refusal]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._inside = 0

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Takes a place until the block ends, however it ends. Raises the refusal when there is none."""
        if self._inside >= self._limit:
            raise self._refusal
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class Turnstile:
    """Lets each caller in so many times at a time. Who has proved nothing is not told apart, and not counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: dict[str, int] = {}

    @contextmanager
    def passed(self, uid: str | None) -> Iterator[None]:
        """Takes a place of the caller's until the block ends. Raises TooManyWatchesOfOne when he has none left."""
        if uid is None:
            yield
            return
        inside = self._inside.get(uid, 0)
        if inside >= self._limit:
            limit = f"at most {self._limit:,} watches may be open at a time on one server process"
            raise TooManyWatchesOfOne(f"uid:{uid}", limit, _RETRY_AFTER)
        self._inside[uid] = inside + 1
        try:
            yield
        finally:
            self._inside[uid] -= 1
            if not self._inside[uid]:
                del self._inside[uid]


class Limits:
    """The gates of one process."""

    def __init__(self, *, max_calls: int, max_watches: int, max_watches_per_uid: int, max_message_bytes: int) -> None:
        self.calls = Gate(max_calls, TooManyCalls)
        self.watches = Gate(max_watches, TooManyWatches)
        self.watches_of_one = Turnstile(max_watches_per_uid)
        self.max_message_bytes = max_message_bytes
