"""The ledger's clock: MongoDB's own time, carried on between its answers by this machine's monotonic clock.

Nothing here reads the wall clock of the server: it may be hours off, or step.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from ulid import ULID

from assetlane_server.model.upload import LedgerTime

# An idle MongoDB reports its newest entry, which may be 10 s old: what is learned may lag so far, and never leads.
_LAG_S = 30.0


class LedgerClock:
    """Returns the ledger's time to within half a minute, once it has learned it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset_s: float | None = None

    def learn(self, instant: LedgerTime) -> None:
        """Takes an instant that MongoDB has just reported."""
        offset_s = (instant >> 32) - self._monotonic()
        # The largest is the one that lagged least, unless MongoDB's clock was set back.
        if self._offset_s is None or not 0 <= self._offset_s - offset_s < _LAG_S:
            self._offset_s = offset_s

    def now(self) -> LedgerTime:
        """Returns the instant. Raises RuntimeError if it has not learned any."""
        return LedgerTime(int(self._seconds()) << 32)

    def utc(self) -> datetime:
        """Returns the instant as a date, to the millisecond: for what servers with clocks that differ must agree on."""
        return datetime.fromtimestamp(int(self._seconds() * 1000) / 1000, UTC)

    def new_id(self) -> str:
        """Returns an id for an upload and its asset: 26 characters, ordered by creation, 80 bits of chance.

        The order is that of the ledger's clock, to within half a minute, whichever server made it.
        """
        return str(ULID.from_timestamp(self._seconds())).lower()

    def _seconds(self) -> float:
        if self._offset_s is None:
            raise RuntimeError("the ledger's time is not known yet")
        return self._monotonic() + self._offset_s
