"""What the server goes by and others change: the policy file, and the rings of keys. Read again every few seconds.

What cannot be read, or makes no sense, changes nothing: what was read before stays, and the log says so, once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from assetlane_server.access.policy import Policy
from assetlane_server.model.errors import LedgerUnavailable, NotReady
from assetlane_server.model.rings import Ring, RingsUnreadable
from assetlane_server.ports.ring_store import RingStore

_COOLDOWN_S = 1.0

_log = logging.getLogger(__name__)


class WatchedPolicy:
    """The newest policy that could be read."""

    def __init__(self, read: Callable[[], Policy], *, interval: timedelta) -> None:
        """Reads the first one; `read` blocks, and raises NotReady saying what is wrong."""
        self._read = read
        self._interval_s = interval.total_seconds()
        self._last_fault = ""
        self.policy = read()
        self.generation = 0
        """Rises with every change: what was concluded from an older policy counts no more."""

    def current(self) -> Policy:
        """Returns the policy of this moment."""
        return self.policy

    async def run(self) -> None:
        """Reads it again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Reads it once more."""
        try:
            policy = await asyncio.to_thread(self._read)
        except NotReady as error:
            if str(error) != self._last_fault:
                _log.warning(
                    "the new policy has a mistake, the previous one stays: %s",
                    error,
                    extra={"event_code": "POLICY_REFUSED"},
                )
            self._last_fault = str(error)
            return
        self._last_fault = ""
        if policy != self.policy:
            self.policy = policy
            self.generation += 1
            _log.info("the policy was read again: %d service callers", len(policy.services))


class WatchedRings:
    """The newest rings of keys that could be read."""

    def __init__(self, store: RingStore, *, interval: timedelta) -> None:
        self._store = store
        self._interval_s = interval.total_seconds()
        self._last_fault = ""
        self._faults: frozenset[str] = frozenset()  # of single rings, logged already
        self._rings: Mapping[str, Ring] = {}
        self._clock = time.monotonic
        self._looked_at = -_COOLDOWN_S
        self._looking = asyncio.Lock()
        self.generation = 0
        """Rises with every change, as that of the policy."""

    def current(self) -> Mapping[str, Ring]:
        """Returns the rings of this moment, by name."""
        return self._rings

    async def run(self) -> None:
        """Reads them again and again, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look_unless_recent(self) -> None:
        """Reads them once more, at most once a second however many ask."""
        async with self._looking:
            if self._clock() - self._looked_at >= _COOLDOWN_S:
                await self.look()

    async def look(self) -> None:
        """Reads them once more."""
        self._looked_at = self._clock()
        try:
            rings = await self._store.read_rings()
        except (RingsUnreadable, LedgerUnavailable) as error:
            if str(error) != self._last_fault:
                _log.warning("the rings of keys could not be read, those read before stay: %s", error)
            self._last_fault = str(error)
            return
        self._last_fault = ""
        faults = frozenset(ring.fault for ring in rings.values() if ring.fault)
        for fault in sorted(faults - self._faults):
            _log.warning(
                "its keys read before stay, and those of other rings are not affected: %s",
                fault,
                extra={"event_code": "RING_REFUSED"},
            )
        self._faults = faults
        rings = {name: self._rings.get(name, ring) if ring.fault else ring for name, ring in rings.items()}
        if rings != self._rings:
            self._rings = rings
            self.generation += 1
            kind = "ring" if len(rings) == 1 else "rings"
            _log.info("scoped tokens are verified with the keys of %d %s", len(rings), kind)
