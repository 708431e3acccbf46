"""AssetService: one thin method per RPC. Refusals become statuses in the interceptor."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from assetlane.v1 import asset_pb2
from assetlane.v1 import asset_service_pb2 as pb
from assetlane.v1.asset_service_pb2_grpc import AssetServiceServicer
from assetlane_server.model.asset_event import AssetEvent, AssetEventKind
from assetlane_server.model.errors import Refusal
from assetlane_server.model.upload import Asset
from assetlane_server.rpc.call import access_of
from assetlane_server.rpc.messages import asset_message, duration_of
from assetlane_server.uploads.asset_watches import AssetWatches
from assetlane_server.uploads.assets import Assets
from assetlane_server.uploads.url_signer import UrlSigner


class AssetServicer(AssetServiceServicer):
    """The ledger of what arrived."""

    def __init__(self, assets: Assets, watches: AssetWatches, urls: UrlSigner) -> None:
        self._assets = assets
        self._watches = watches
        self._urls = urls

    async def GetAsset(self, request: pb.GetAssetRequest, context: Any) -> pb.GetAssetResponse:
        """Returns one asset."""
        asset = await self._assets.get_asset(request.asset_id, access_of(context))
        return pb.GetAssetResponse(asset=self._message(asset))

    async def ListAssets(self, request: pb.ListAssetsRequest, context: Any) -> pb.ListAssetsResponse:
        """Lists the assets of a partition, newest first."""
        assets, next_page_token = await self._assets.list_assets(
            request.partition, request.page_size, request.page_token, access_of(context)
        )
        return pb.ListAssetsResponse(assets=[self._message(asset) for asset in assets], next_page_token=next_page_token)

    async def WatchAssets(self, request: pb.WatchAssetsRequest, context: Any) -> AsyncIterator[pb.WatchAssetsResponse]:
        """Streams what is in a partition."""
        watch = self._watches.watch(request.partition, request.resume_token, access_of(context))
        async with aclosing(watch) as events:
            async for news in events:
                yield self._event(news)

    async def RefreshAsset(self, request: pb.RefreshAssetRequest, context: Any) -> pb.RefreshAssetResponse:
        """Signs new read URLs for an asset."""
        asset = await self._assets.refresh_asset(request.asset_id, _margin(request), access_of(context))
        return pb.RefreshAssetResponse(asset=self._message(asset))

    async def BatchRefreshAssets(
        self, request: pb.BatchRefreshAssetsRequest, context: Any
    ) -> pb.BatchRefreshAssetsResponse:
        """Signs new read URLs for many assets."""
        outcomes = await self._assets.refresh_assets(request.asset_ids, _margin(request), access_of(context))
        response = pb.BatchRefreshAssetsResponse()
        for asset_id, outcome in zip(request.asset_ids, outcomes, strict=True):
            result = response.results.add(asset_id=asset_id)
            if isinstance(outcome, Refusal):
                result.failure.reason = outcome.reason
                result.failure.message = str(outcome)
            else:
                result.asset.CopyFrom(self._message(outcome))
        return response

    async def DeleteAsset(self, request: pb.DeleteAssetRequest, context: Any) -> pb.DeleteAssetResponse:
        """Deletes an asset."""
        await self._assets.delete_asset(request.asset_id, access_of(context))
        return pb.DeleteAssetResponse()

    def _event(self, news: AssetEvent) -> pb.WatchAssetsResponse:
        response = pb.WatchAssetsResponse(resume_token=news.resume_token)
        if news.kind is AssetEventKind.SYNCED:
            response.synced.SetInParent()
        elif news.asset is None:
            response.heartbeat.SetInParent()
        elif news.kind is AssetEventKind.DELETED:
            response.deleted.asset_id = news.asset.asset_id
            response.deleted.revision = news.asset.revision
        else:
            response.asset.change = pb.AssetChange.Value(f"ASSET_CHANGE_{news.kind}")
            response.asset.asset.CopyFrom(self._message(news.asset))
        return response

    def _message(self, asset: Asset) -> asset_pb2.Asset:
        return asset_message(asset, self._urls.read_urls(asset))


def _margin(request: pb.RefreshAssetRequest | pb.BatchRefreshAssetsRequest) -> timedelta | None:
    if not request.HasField("if_expires_within"):
        return None
    return duration_of("if_expires_within", request.if_expires_within)
