"""The ledger of assets: reads it, renews read URLs, deletes from it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from assetlane_server.model.admission import required
from assetlane_server.model.errors import (
    MAX_ROUNDS,
    AssetNotFound,
    FieldViolation,
    InvalidRequest,
    PartitionReadOnly,
    too_many_rounds,
)
from assetlane_server.model.pages import last_id_of, page_size, page_token
from assetlane_server.model.paths import MAX_PARTITION_BYTES, fault_in_path
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Asset
from assetlane_server.ports.access import Access
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.uploads.access import check_may_read
from assetlane_server.uploads.clean_up import discard_asset
from assetlane_server.uploads.url_signer import UrlSigner

MAX_BATCH = 100


class Assets:
    """One method per RPC of AssetService."""

    def __init__(
        self,
        *,
        assets: AssetRecords,
        store: ObjectStore,
        urls: UrlSigner,
        signer: TokenSigner,
        now: Callable[[], datetime],
    ) -> None:
        self._assets = assets
        self._store = store
        self._urls = urls
        self._signer = signer
        self._now = now

    async def get_asset(self, asset_id: str, access: Access) -> Asset:
        """Returns one asset. Raises AssetNotFound, also for a deleted one and for one that the caller may not see."""
        return _readable(asset_id, await self._find(required("asset_id", asset_id)), access)

    async def list_assets(self, partition: str, size: int, token: str, access: Access) -> tuple[list[Asset], str]:
        """Returns a page of assets, newest first, and the token of the next page (empty: the last).

        Raises InvalidRequest, PartitionNotFound.
        """
        if fault := fault_in_path(partition, MAX_PARTITION_BYTES):
            raise InvalidRequest([FieldViolation("partition", fault.message, fault.reason)])
        check_may_read(access, partition)
        filters = ("assets", partition)
        limit = page_size(size)
        before_id = last_id_of(self._signer, token, filters)
        assets = await self._assets.list_assets(partition=partition, before_id=before_id, limit=limit + 1)
        page = assets[:limit]
        return page, page_token(self._signer, page[-1].asset_id, filters) if len(assets) > limit else ""

    async def refresh_asset(self, asset_id: str, if_expires_within: timedelta | None, access: Access) -> Asset:
        """Returns the asset with read URLs that live `expiration_hours` from now.

        With `if_expires_within`, URLs that live longer than that are left alone. Raises AssetNotFound.
        """
        check_margin(if_expires_within)
        return await self._refreshed(await self.get_asset(asset_id, access), if_expires_within, access)

    async def refresh_assets(
        self, asset_ids: Sequence[str], if_expires_within: timedelta | None, access: Access
    ) -> list[Asset | AssetNotFound]:
        """Does the same for 1 to 100 assets, each succeeding or failing by itself, in the order asked."""
        check_margin(if_expires_within)
        if not 1 <= len(asset_ids) <= MAX_BATCH:
            limit = f"there are {len(asset_ids)}, there must be 1 to {MAX_BATCH}"
            raise InvalidRequest([FieldViolation("asset_ids", limit)])
        found = await self._assets.find_assets(asset_ids)

        async def refreshed(asset_id: str) -> Asset | AssetNotFound:
            try:
                asset = _readable(asset_id, found.get(asset_id), access)
                return await self._refreshed(asset, if_expires_within, access)
            except AssetNotFound as refusal:
                return refusal

        # At the same time: their writes travel together.
        wanted = list(dict.fromkeys(asset_ids))
        results = dict(zip(wanted, await asyncio.gather(*map(refreshed, wanted)), strict=True))
        return [results[asset_id] for asset_id in asset_ids]

    async def delete_asset(self, asset_id: str, access: Access) -> None:
        """Takes an asset out of the ledger, then deletes its objects. Repeated, it finishes what is left.

        Raises AssetNotFound if there never was such an asset or the caller may not see it, PartitionReadOnly.
        """
        for _ in range(MAX_ROUNDS):
            asset = await self._find(required("asset_id", asset_id))
            if asset is None or not access.may_write(asset.partition):
                raise PartitionReadOnly(_readable(asset_id, asset, access).partition)
            if asset.is_deleted or await self._assets.advance_asset(asset.deleted(self._now())):
                await discard_asset(self._store, asset)
                return
        raise too_many_rounds(asset_id)

    async def _find(self, asset_id: str) -> Asset | None:
        return (await self._assets.find_assets([asset_id])).get(asset_id)

    async def _refreshed(self, asset: Asset, if_expires_within: timedelta | None, access: Access) -> Asset:
        for _ in range(MAX_ROUNDS):
            now = self._now()
            refreshed = asset.refreshed(now)
            if asset.is_public or refreshed.refresh_time == asset.refresh_time:
                return asset
            # What the URLs really live, which temporary credentials may have shortened.
            expire_time = self._urls.read_urls(asset).expire_time
            if if_expires_within is not None and expire_time is not None and expire_time - now > if_expires_within:
                return asset
            if await self._assets.advance_asset(refreshed):
                return refreshed
            asset = await self.get_asset(asset.asset_id, access)
        raise too_many_rounds(asset.asset_id)


def _readable(asset_id: str, asset: Asset | None, access: Access) -> Asset:
    """Returns the asset that was found. Raises AssetNotFound alike for each reason not to show it."""
    if asset is None or asset.is_deleted or not access.may_read(asset.partition):
        raise AssetNotFound(asset_id)
    return asset


def check_margin(if_expires_within: timedelta | None) -> None:
    """Raises InvalidRequest if the margin is negative."""
    if if_expires_within is not None and if_expires_within < timedelta(0):
        raise InvalidRequest([FieldViolation("if_expires_within", "must be 0 or more")])
