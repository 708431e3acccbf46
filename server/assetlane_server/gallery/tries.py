"""How often somebody may try: a limit per key and window of time. Pure, in memory, bounded."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_KEYS: Final = 10_000


class TryLimit:
    """Counts tries by key; a window begins with a key's first try. The oldest key is forgotten when there are many."""

    def __init__(
        self,
        most: int,
        window_seconds: float,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._window_seconds = window_seconds
        self._max_keys = max_keys
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()  # by key: its end, and the tries in it

    def take(self, key: str) -> float:
        """Counts a try and returns 0; returns the seconds to wait, and counts nothing, when there were too many.

        Call it before the work: tries that run at the same time are counted too.
        """
        now = self._clock()
        end, tries = self._windows.get(key, (0.0, 0))
        if end <= now:
            end, tries = now + self._window_seconds, 0
            self._windows.pop(key, None)  # windows have one length: the order is the order of their ends
        if tries >= self._most:
            return end - now
        self._windows[key] = (end, tries + 1)
        while len(self._windows) > self._max_keys:
            self._windows.popitem(last=False)
        return 0.0

    def give_back(self, key: str) -> None:
        """Takes one try back: it was none that has to be limited."""
        end, tries = self._windows.get(key, (0.0, 0))
        if tries > 1:
            self._windows[key] = (end, tries - 1)
        else:
            self._windows.pop(key, None)
