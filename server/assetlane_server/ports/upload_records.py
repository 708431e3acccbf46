"""The port of the ledger's uploads."""

from collections.abc import Sequence
from typing import Protocol

from assetlane_server.model.upload import Status, Upload


class UploadRecords(Protocol):
    """The uploads with their assets, durable: what was returned or written survives the loss of a minority of servers.

    A record that this version cannot read is left out of every list, logged and counted. Asking for that one record
    raises LedgerUnavailable: a server of the version that wrote it can answer.
    """

    async def insert_upload(self, upload: Upload) -> Upload:
        """Stores a new upload and returns it. If its owner already has one with the same non-empty
        `request_id`, stores nothing and returns that one.

        Raises LedgerBusy when as many writes wait already as may wait.
        """
        ...

    async def advance_upload(self, upload: Upload, *, after_revision: int | None = None) -> bool:
        """Stores the upload's newest status changes, and the asset that came with them, if the stored revision is
        still `after_revision`; without one, that before the newest.

        Returns whether it did; losing that race changes nothing.
        """
        ...

    async def renew_targets(self, upload: Upload) -> bool:
        """Stores `targets_signed_at` if the upload is still at this revision; returns whether it is.

        The stored instant never goes back.
        """
        ...

    async def find_upload(self, upload_id: str) -> Upload | None:
        """Returns the upload as of the last durable write."""
        ...

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """Returns the owner's upload with this non-empty `request_id`, as of the last durable write."""
        ...

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        """Returns those that exist, by id, as of the last durable write; None for one that cannot be read."""
        ...

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """Returns uploads by descending id, below `before_id`; an empty filter lets everything through.

        Fewer than `limit` means that there are no more.
        """
        ...

    async def scan_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], after_id: str, limit: int
    ) -> list[Upload]:
        """Returns uploads by ascending id, above `after_id`, otherwise like `list_uploads`."""
        ...
