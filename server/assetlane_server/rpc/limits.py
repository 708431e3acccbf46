"""How much one process takes on at a time: calls and watches apart, so that neither starves the other.

The watches of one caller have a limit of their own, so that nobody takes everybody's place. Health and reflection,
which ask for no token, have a small budget beside these: probes are answered while all else is full, and strangers
cannot fill more than that budget.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from assetlane_server.model.errors import Refusal, TooManyCalls, TooManyProbes, TooManyWatches, TooManyWatchesOfOne

# A client that checks health by itself holds one stream per connection; reflection takes one while it is asked.
PROBE_STREAMS_PER_CONNECTION = 16
MAX_PROBE_BYTES = 64 * 1024

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
    """Lets each key in so many times at a time: a caller's uid, or a connection. None is not counted."""

    def __init__(self, limit: int, refusal: Callable[[str, int], Refusal]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._inside: dict[str, int] = {}

    @contextmanager
    def passed(self, key: str | None, limit: int | None = None) -> Iterator[None]:
        """Takes a place of this key until the block ends; `limit` is the key's own, where it has one.

        Raises the refusal when the key has none left.
        """
        if key is None:
            yield
            return
        inside = self._inside.get(key, 0)
        limit = limit or self._limit
        if inside >= limit:
            raise self._refusal(key, limit)
        self._inside[key] = inside + 1
        try:
            yield
        finally:
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]


class Limits:
    """The limits of one process."""

    def __init__(
        self,
        *,
        max_calls: int,
        max_watches: int,
        max_watches_per_uid: int,
        max_message_bytes: int,
        max_probes: int = 1000,
        request_seconds: float = 20,
    ) -> None:
        self.calls = Gate(max_calls, TooManyCalls)
        self.watches = Gate(max_watches, TooManyWatches)
        self.watches_of_one = Turnstile(max_watches_per_uid, _too_many_of_one)
        # Apart from each other: whoever holds all health watches must not keep a load balancer's checks out.
        self.health_checks = Gate(max_probes, TooManyProbes)
        self.health_watches = Gate(max_probes, TooManyProbes)
        self.reflections = Gate(max_probes, TooManyProbes)
        self.probes_of_one = Turnstile(PROBE_STREAMS_PER_CONNECTION, lambda _peer, _limit: TooManyProbes())
        self.max_message_bytes = max_message_bytes
        self.request_seconds = request_seconds


def _too_many_of_one(caller: str, limit: int) -> Refusal:
    told = f"at most {limit:,} watches may be open at a time on one server process"
    return TooManyWatchesOfOne(caller, told, _RETRY_AFTER)
