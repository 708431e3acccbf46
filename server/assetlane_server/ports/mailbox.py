"""The port of what one watcher waits on."""

from datetime import timedelta
from typing import Protocol, TypeVar

from assetlane_server.model.delivery import Delivery
from assetlane_server.model.upload import LedgerTime

T_co = TypeVar("T_co", covariant=True)


class Mailbox(Protocol[T_co]):
    """Where one watcher finds what changed. Bounded: a slow reader is sent to read again, nothing is queued for it."""

    __slots__ = ()  # adds nothing to what implements it

    @property
    def opened_at(self) -> LedgerTime:
        """An instant of the ledger's clock: what changes after it is delivered."""
        ...

    async def next(self, timeout: timedelta) -> Delivery[T_co]:
        """Returns what changed since the last call, waiting for at least one change; an empty one after `timeout`.

        Raises ShuttingDown when the server is about to stop.
        """
        ...
