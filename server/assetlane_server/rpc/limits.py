"""How much one process takes on at a time: calls and watches apart, so that neither starves the other.

The watches of one caller have a limit of their own, so that nobody takes everybody's place. Health and reflection,
which ask for no token, have a small budget beside these: probes are answered while all else is full, and strangers
cannot fill more than that budget.
"""

from collections.abc import Callable
from datetime import timedelta

from assetlane_server.model.errors import Refusal, TooManyCalls, TooManyProbes, TooManyWatches, TooManyWatchesOfOne

# A client that checks health by itself holds one stream per connection; reflection takes one while it is asked.
PROBE_STREAMS_PER_CONNECTION = 16
MAX_PROBE_BYTES = 64 * 1024

_RETRY_AFTER = timedelta(seconds=5)  # a watch may stay open for hours; a crashed client's is given up in a minute


class ConcurrencyLimit:
    """Lets so many in at a time and refuses the rest at once: a queue would only hide the load.

    It is its own context manager: an open watch holds no memory for its place.
    """

    def __init__(self, limit: int, refusal: type[Refusal]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._inside = 0

    def passed(self) -> "ConcurrencyLimit":
        """Takes a place until the block ends, however it ends. Raises the refusal when there is none."""
        return self

    def __enter__(self) -> None:
        if self._inside >= self._limit:
            raise self._refusal
        self._inside += 1

    def __exit__(self, *_raised: object) -> None:
        self._inside -= 1


class KeyedConcurrencyLimit:
    """Lets each key in so many times at a time: a caller's uid, or a connection. None is not counted."""

    def __init__(self, limit: int, refusal: Callable[[str, int], Refusal]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._inside: dict[str, int] = {}

    def passed(self, key: str | None, limit: int | None = None) -> "HeldSlot":
        """Takes a place of this key until the block ends; `limit` is the key's own, where it has one.

        Raises the refusal when the key has none left.
        """
        return HeldSlot(self, key, limit or self._limit)

    def enter(self, key: str, limit: int) -> None:
        """Takes a place. Raises the refusal when the key has none left."""
        inside = self._inside.get(key, 0)
        if inside >= limit:
            raise self._refusal(key, limit)
        self._inside[key] = inside + 1

    def leave(self, key: str) -> None:
        """Gives a place back."""
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]


class HeldSlot:
    """One place at a turnstile, held for as long as its block runs."""

    __slots__ = ("_key", "_limit", "_limiter")

    def __init__(self, limiter: KeyedConcurrencyLimit, key: str | None, limit: int) -> None:
        self._limiter = limiter
        self._key = key
        self._limit = limit

    def __enter__(self) -> None:
        if self._key is not None:
            self._limiter.enter(self._key, self._limit)

    def __exit__(self, *_raised: object) -> None:
        if self._key is not None:
            self._limiter.leave(self._key)


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
        self.calls = ConcurrencyLimit(max_calls, TooManyCalls)
        self.watches = ConcurrencyLimit(max_watches, TooManyWatches)
        self.watches_of_one = KeyedConcurrencyLimit(max_watches_per_uid, _too_many_of_one)
        # Apart from each other: a caller that opens all health watches must not keep a load balancer's checks out.
        self.health_checks = ConcurrencyLimit(max_probes, TooManyProbes)
        self.health_watches = ConcurrencyLimit(max_probes, TooManyProbes)
        self.reflections = ConcurrencyLimit(max_probes, TooManyProbes)
        self.probes_of_one = KeyedConcurrencyLimit(PROBE_STREAMS_PER_CONNECTION, lambda _peer, _limit: TooManyProbes())
        self.max_message_bytes = max_message_bytes
        self.request_seconds = request_seconds


def _too_many_of_one(caller: str, limit: int) -> Refusal:
    limit_text = f"at most {limit:,} watches may be open at a time on one server process"
    return TooManyWatchesOfOne(caller, limit_text, _RETRY_AFTER)
