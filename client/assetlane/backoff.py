"""How long to wait before trying again: exponential with full jitter."""

import random


class Backoff:
    """Delays that double from `first` to `cap` seconds; each is drawn between 0 and that.

    Full jitter spreads the callers that one failing server sends away at the same moment.
    """

    def __init__(self, first: float, cap: float) -> None:
        self._first = first
        self._cap = cap
        self._failures = 0

    def next_delay(self, at_least: float = 0.0) -> float:
        """Returns the seconds to wait after one more failure; never less than the other side asked for."""
        ceiling = min(self._cap, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        # Spreads load; nothing secret hangs on it.
        return at_least + random.uniform(0.0, ceiling)  # noqa: S311

    def reset(self) -> None:
        """Starts again from the shortest delay: something worked."""
        self._failures = 0
