"""The port that wakes watchers."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Asset, Upload
from assetlane_server.ports.mailbox import Mailbox


class ChangeHub(Protocol):
    """Wakes watchers. Order at the start of a watch: open the mailbox, then read, then follow."""

    def watch_upload(self, upload_id: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """Opens a mailbox for one upload: from its start on, no change is missed."""
        ...

    def watch_session(self, session_id: str, uid: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """Opens a mailbox for an owner's uploads of a session, those requested later included; empty: everybody's.

        Nobody else's uploads wake it: a session id is the client's choice, and two owners may choose the same.
        """
        ...

    def watch_partition(self, partition: str) -> AbstractAsyncContextManager[Mailbox[Asset]]:
        """Opens a mailbox for all assets of a partition, deleted ones included."""
        ...

    async def read_upload(self, upload_id: str) -> Upload | None:
        """Returns the upload as of the last durable write. Raises LedgerUnavailable for one that cannot be read."""
        ...

    async def read_session(self, session_id: str, uid: str) -> list[Upload] | None:
        """Returns the uploads that `watch_session` is about, oldest first, as of the last durable write.

        None when they are too many to be read at once: read them with `UploadRecords.scan_uploads`.
        """
        ...
