"""The port of the ledger's assets."""

from collections.abc import Sequence
from typing import Protocol

from assetlane_server.model.upload import Asset, LedgerTime


class AssetRecords(Protocol):
    """The assets, durable as UploadRecords. Deleted ones are kept for a while, marked."""

    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        """Returns those that exist, by id, deleted ones included."""
        ...

    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        """Returns the partition's assets by descending id, below `before_id`, without deleted ones.

        Fewer than `limit` means that there are no more.
        """
        ...

    async def advance_asset(self, asset: Asset) -> bool:
        """Stores a refreshed or deleted asset if the stored revision is still the one before.

        Returns whether it did; losing that race changes nothing. Of a deleted one, the upload's details are erased too.
        """
        ...

    async def changed_assets(
        self, *, partition: str, since: LedgerTime, after: tuple[LedgerTime, str] | None, limit: int
    ) -> list[Asset]:
        """Returns the partition's assets changed at that instant of the ledger's clock or later, deleted included, by
        ascending `(change_time, asset_id)`, above `after` where one is given.

        Fewer than `limit` means that there were no more.
        """
        ...
