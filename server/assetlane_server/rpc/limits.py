"""How much one process takes on at a time: calls and watches apart, so that neither starves the other."""

from collections.abc import Iterator
from contextlib import contextmanager

from assetlane_server.uploads.errors import Refusal, TooManyCalls, TooManyWatches


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


class Limits:
    """The gates of one process."""

    def __init__(self, *, max_calls: int, max_watches: int) -> None:
        self.calls = Gate(max_calls, TooManyCalls)
        self.watches = Gate(max_watches, TooManyWatches)
