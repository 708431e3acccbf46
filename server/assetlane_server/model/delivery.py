"""What a watcher's mailbox holds: plain values."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from assetlane_server.model.upload import LedgerTime

T_co = TypeVar("T_co", covariant=True)


# A change is stamped before it is committed: a query for what changed since an instant asks for that much more.
VISIBLE_WITHIN = LedgerTime(60 << 32)


class Delivery(NamedTuple, Generic[T_co]):
    """What a mailbox held: the newest state of each record that changed, in the order in which they changed first."""

    news: Sequence[T_co]
    missed_since: LedgerTime | None  # the reader has to read again what changed since then; None: `news` is all
    until: LedgerTime  # every change before it is in here or was delivered earlier, or lies after `missed_since`
