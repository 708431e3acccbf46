"""The port of the rings of keys."""

from collections.abc import Mapping
from typing import Protocol

from assetlane_server.model.rings import Ring


class RingStore(Protocol):
    """Where the rings are kept, for all servers of a deployment."""

    async def read_rings(self) -> Mapping[str, Ring]:
        """Returns every ring by name, also one that is damaged. Raises RingsUnreadable or LedgerUnavailable."""
        ...

    async def write_ring(self, ring: Ring) -> bool:
        """Stores a ring if the stored one still has the revision before, or there is none and it is the first one.

        Returns whether it did. Raises RingsUnreadable or LedgerUnavailable.
        """
        ...

    async def drop_ring(self, name: str) -> bool:
        """Removes a ring with all its keys; returns whether there was one. Raises as `write_ring` does."""
        ...
