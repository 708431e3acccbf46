"""Changes of the rings of keys that scoped tokens are signed with."""

from collections.abc import Callable

from assetlane_server.model.rings import Ring, RingUnchanged
from assetlane_server.ports.ring_store import RingStore


async def change_ring(store: RingStore, name: str, change: Callable[[Ring], Ring], *, rounds: int = 8) -> Ring:
    """Returns the ring after the change is stored; starts over when another change came first.

    Raises RingUnchanged, RingDamaged, RingsUnreadable, LedgerUnavailable.
    """
    for _ in range(rounds):
        stored = (await store.read_rings()).get(name, Ring(name))
        if damage := stored.damage:
            raise damage
        ring = change(stored)
        if await store.write_ring(ring):
            return ring
    raise RingUnchanged("RING_CHANGED", f"ring {name} changed {rounds} times meanwhile: try again")
