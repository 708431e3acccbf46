"""The calls of AssetService."""

from collections.abc import AsyncGenerator, Iterable
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from assetlane import watching
from assetlane.calls import Connection
from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import (
    BatchRefreshAssetsRequest,
    DeleteAssetRequest,
    GetAssetRequest,
    ListAssetsRequest,
    RefreshAssetRequest,
    RefreshResult,
    WatchAssetsResponse,
)

BATCH = 100  # what BatchRefreshAssets takes


class AssetCalls:
    """Reads, watches, refreshes and deletes assets. `Client` says what each method promises."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_asset(self, asset_id: str) -> Asset:
        """Returns an asset, its read URLs as last signed. Raises NotFound."""
        request = GetAssetRequest(asset_id=asset_id)
        return (await self._connection.call(self._connection.assets.GetAsset, request)).asset

    async def list_assets(self, partition: str, *, page_size: int = 0) -> AsyncGenerator[Asset, None]:
        """Yields the assets of a partition, newest first, page after page."""
        request = ListAssetsRequest(partition=partition, page_size=page_size)
        while True:
            page = await self._connection.call(self._connection.assets.ListAssets, request)
            for asset in page.assets:
                yield asset
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch_assets(self, partition: str, resume_token: str = "") -> AsyncGenerator[WatchAssetsResponse, None]:
        """Yields every asset that is in a partition, SYNCED, then every addition, refresh and deletion, for ever."""
        cursor = watching.AssetsCursor(partition, resume_token)
        server = self._connection
        return watching.watch(
            server.open_asset_watch, cursor, renews_token=server.renews_token, explain=server.explained
        )

    async def refresh_asset(self, asset_id: str, if_expires_within: timedelta | None = None) -> Asset:
        """Returns the asset with read URLs that live `expiration_hours` from now."""
        request = RefreshAssetRequest(asset_id=asset_id, if_expires_within=_duration(if_expires_within))
        return (await self._connection.call(self._connection.assets.RefreshAsset, request)).asset

    async def refresh_assets(
        self, asset_ids: Iterable[str], if_expires_within: timedelta | None = None
    ) -> list[RefreshResult]:
        """Refreshes any number of assets; returns an asset or a failure for each id, in order."""
        ids = list(asset_ids)
        results: list[RefreshResult] = []
        for start in range(0, len(ids), BATCH):
            request = BatchRefreshAssetsRequest(
                asset_ids=ids[start : start + BATCH], if_expires_within=_duration(if_expires_within)
            )
            results.extend((await self._connection.call(self._connection.assets.BatchRefreshAssets, request)).results)
        return results

    async def delete_asset(self, asset_id: str) -> None:
        """Deletes an asset and its objects; deleting it again succeeds. Raises NotFound."""
        await self._connection.call(self._connection.assets.DeleteAsset, DeleteAssetRequest(asset_id=asset_id))


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
