"""The port of the ledger as the sweeper uses it."""

from datetime import datetime
from typing import Protocol

from assetlane_server.model.upload import Upload


class SweepRecords(Protocol):
    """What the sweeper of every server takes its work from; taking it is a conditional update."""

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """Returns uploads whose `sweep_time` has come, the longest waiting first."""
        ...

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """Stores both if the stored `sweep_time` is still the upload's; returns whether it did."""
        ...

    async def erase_places(self, upload: Upload, sweep_time: datetime) -> bool:
        """Stores `upload.without_places()` with this `sweep_time` if the stored `sweep_time` is still the upload's.

        Returns whether it did.
        """
        ...

    async def count_cut_timeout(self, upload_id: str) -> int:
        """Counts that there was once more no time for an upload's cuts; returns how often that was. Durable.

        Raises UploadNotFound.
        """
        ...

    async def purge_upload(self, upload: Upload) -> bool:
        """Removes the record if the stored `sweep_time` is still the upload's; returns whether it did."""
        ...
