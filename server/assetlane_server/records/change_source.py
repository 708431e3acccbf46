"""The ledger as a hub needs it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from assetlane_server.model.upload import LedgerTime, Upload
from assetlane_server.records.changes import Change, SessionKey
from assetlane_server.records.clock import LedgerClock
from assetlane_server.records.documents import RecordUnreadable


class ChangeFeed(Protocol):
    """One open change stream."""

    time: LedgerTime
    """The ledger's time of the newest answer: every change until then has been returned by `next`."""

    @property
    def is_drained(self) -> bool:
        """Whether the next change has to be asked for: nothing is left of the newest answer."""
        ...

    async def next(self) -> Change | None:
        """Returns the next change, None when there was none for half a second.

        Raises RecordUnreadable for one that is not as we write them, after which it goes on.
        """
        ...


class ChangeSource(Protocol):
    """What a hub reads and follows."""

    clock: LedgerClock
    """The ledger's clock: what the stream says of the time is passed on to it."""

    def changes(self) -> AbstractAsyncContextManager[ChangeFeed]:
        """Opens a change stream: every change from now on, in order, once it is majority-durable.

        Raises LedgerUnavailable, here or from the feed, when it is lost; then open another one and read again.
        """
        ...

    async def read_uploads(self, upload_ids: Sequence[str]) -> list[Upload]:
        """Returns those that exist and can be read, oldest first."""
        ...

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        """Returns those that exist, by id; None for one that cannot be read."""
        ...

    async def read_sessions(self, sessions: Sequence[SessionKey], limit: int) -> list[Upload] | None:
        """Returns the uploads of these sessions, oldest first, perhaps of other owners too; None if more than that."""
        ...

    def skip(self, record_id: str, error: RecordUnreadable) -> None:
        """Logs and counts a record that cannot be read."""
        ...
