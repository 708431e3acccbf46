"""The port of quotas."""

from typing import Protocol

from assetlane_server.model.upload import Upload


class UploadQuotas(Protocol):
    """Keeps owners and partitions within their quotas."""

    async def insert_upload(self, upload: Upload) -> Upload:
        """Stores a new upload if its accounts have room for it; see UploadRecords.

        Raises QuotaExceeded; the repeat of a request that was accepted never does.
        """
        ...

    async def release(self, upload: Upload) -> None:
        """Gives back what an upload has taken of its accounts; it has ended.

        Never fails: what cannot be given back now is logged, and given back by a later clean-up.
        """
        ...
