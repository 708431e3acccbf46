"""The port of the ledger as an erasure uses it."""

from typing import Protocol

from assetlane_server.model.upload import Upload
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.ports.sweep_records import SweepRecords
from assetlane_server.ports.upload_records import UploadRecords


class OwnerRecords(UploadRecords, AssetRecords, SweepRecords, Protocol):
    """The ledger, with what only an erasure needs."""

    async def erase_words(self, upload: Upload) -> bool:
        """Stores `upload.without_words()` and its `kept_for` if the upload is still at this revision.

        Returns whether it did.
        """
        ...

    async def unreadable_of(self, uid: str) -> list[str]:
        """Returns the ids of the owner's uploads whose record this version cannot read."""
        ...

    async def erase_progress(self, uid: str) -> None:
        """Removes what was reported of the owner's uploads."""
        ...
