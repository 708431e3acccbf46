"""The client's half that reads the ledger: assets, their read URLs, their bytes."""

import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from google.protobuf.duration_pb2 import Duration

from assetlane import watching
from assetlane.calls import Connection
from assetlane.errors import NotFound
from assetlane.v1.asset_pb2 import Asset, AssetVariant
from assetlane.v1.asset_service_pb2 import (
    BatchRefreshAssetsRequest,
    DeleteAssetRequest,
    GetAssetRequest,
    ListAssetsRequest,
    RefreshAssetRequest,
    RefreshResult,
    WatchAssetsResponse,
)

if TYPE_CHECKING:
    import aiohttp

    from assetlane.retrieval import Renew

ORIGINAL = "original"
BATCH = 100  # what BatchRefreshAssets takes
ABOUT_TO_EXPIRE = timedelta(minutes=1)


class Ledger:
    """What a user wants of assets that have arrived."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._connection: Connection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._resources = AsyncExitStack()

    @property
    def _server(self) -> Connection:
        return self._check_open()

    def _check_open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("the client is not open: use it as `async with Client(target) as lane:`")
        return self._connection

    @property
    def _store(self) -> "aiohttp.ClientSession":
        """The session to the store, opened when it is first needed: a list or a watch does without HTTP."""
        if self._session is None:
            from assetlane.transfer import open_session

            self._check_open()
            self._session = open_session()
            self._resources.push_async_callback(self._session.close)
        return self._session

    async def get_asset(self, asset_id: str) -> Asset:
        """Returns an asset, its read URLs as last signed. Raises NotFound."""
        request = GetAssetRequest(asset_id=asset_id)
        return (await self._server.call(self._server.assets.GetAsset, request)).asset

    async def list_assets(self, partition: str, *, page_size: int = 0) -> AsyncGenerator[Asset, None]:
        """Yields the assets of a partition, newest first, page after page."""
        request = ListAssetsRequest(partition=partition, page_size=page_size)
        while True:
            page = await self._server.call(self._server.assets.ListAssets, request)
            for asset in page.assets:
                yield asset
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch_assets(self, partition: str, resume_token: str = "") -> AsyncGenerator[WatchAssetsResponse, None]:
        """Yields every asset that is in a partition, SYNCED, then every addition, refresh and deletion, for ever.

        Goes on by itself through lost connections, without a gap; SYNCED comes again when it has caught up.
        Keep the newest `resume_token` to go on in another process: then only what changed
        since comes first, perhaps with the last minute or two before the token once more.
        Raises ResumeExpired when the token is too old, InvalidArgument when it is not of this partition.
        """
        cursor = watching.AssetsCursor(partition, resume_token)
        server = self._server
        return watching.watch(
            server.open_asset_watch, cursor, renews_token=server.renews_token, explain=server.explained
        )

    async def refresh_asset(self, asset_id: str, if_expires_within: timedelta | None = None) -> Asset:
        """Returns the asset with read URLs that live `expiration_hours` from now.

        With `if_expires_within`, URLs that live longer than that stay as they are. Raises NotFound.
        """
        request = RefreshAssetRequest(asset_id=asset_id, if_expires_within=_duration(if_expires_within))
        return (await self._server.call(self._server.assets.RefreshAsset, request)).asset

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
            results.extend((await self._server.call(self._server.assets.BatchRefreshAssets, request)).results)
        return results

    async def delete_asset(self, asset_id: str) -> None:
        """Deletes an asset and its objects; deleting it again succeeds. Raises NotFound."""
        await self._server.call(self._server.assets.DeleteAsset, DeleteAssetRequest(asset_id=asset_id))

    async def read_url(self, asset: Asset, variant: str = ORIGINAL) -> str:
        """Returns a URL that reads the variant, and works for at least a minute or a tenth of its life.

        When it is about to expire the asset is refreshed first, and `asset` brought up to date in place.
        Raises NotFound when there is no such variant.
        """
        lifetime = timedelta(hours=asset.expiration_hours)
        margin = min(ABOUT_TO_EXPIRE, lifetime / 10)
        if asset.HasField("expire_time") and asset.expire_time.ToDatetime(UTC) - self._now() < margin:
            asset.CopyFrom(await self.refresh_asset(asset.asset_id, if_expires_within=margin))
        return _variant(asset, variant).read_url

    async def download_url(self, asset: Asset, variant: str = ORIGINAL) -> str:
        """Returns a URL that saves the variant under the file's own name, for a link or a browser.

        It works as long as one of `read_url`; that of a public asset for at least 6 days after `asset` was fetched.
        When it is about to expire the asset is refreshed first, as `read_url` does. Raises NotFound likewise.
        """
        await self.read_url(asset, variant)
        return _variant(asset, variant).download_url

    async def download(
        self,
        asset: Asset,
        variant: str = ORIGINAL,
        *,
        to: str | os.PathLike[str],
        on_received: Callable[[int], None] | None = None,
    ) -> Path:
        """Fetches a variant into the file `to`, which appears complete and checked or not at all.

        Raises NotFound when there is no such variant, TransferFailed, OSError when it cannot be written.
        """
        path = Path(to)
        wanted, renew = self._wanted(asset, variant)
        from assetlane.retrieval import fetch

        await fetch(
            self._store,
            await self.read_url(asset, variant),
            path,
            **wanted,
            renew=renew,
            on_received=on_received,
        )
        return path

    async def download_into(
        self,
        asset: Asset,
        file: BinaryIO,
        variant: str = ORIGINAL,
        *,
        on_received: Callable[[int], None] | None = None,
    ) -> None:
        """Fetches a variant into a file that is open for writing, such as a pipe; what it has taken stays there.

        Raises as `download` does: after ContentMismatch, forget what came.
        """
        wanted, renew = self._wanted(asset, variant)
        from assetlane.retrieval import stream

        await stream(
            self._store,
            await self.read_url(asset, variant),
            file,
            **wanted,
            renew=renew,
            on_received=on_received,
        )

    def _wanted(self, asset: Asset, variant: str) -> "tuple[_Expected, Renew | None]":
        """Returns what has to come, and what signs its URL again; public ones need none. Raises NotFound."""
        stored = _variant(asset, variant)

        async def renewed() -> str:
            asset.CopyFrom(await self.refresh_asset(asset.asset_id))
            return _variant(asset, variant).read_url

        expected = _Expected(
            size_bytes=stored.size_bytes,
            sha256=stored.parts_sha256 or stored.sha256,
            part_size_bytes=stored.part_size_bytes if stored.parts_sha256 else 0,
        )
        return expected, renewed if asset.HasField("expire_time") else None


class _Expected(TypedDict):
    """The bytes of a variant, as the ledger has them."""

    size_bytes: int
    sha256: bytes
    part_size_bytes: int


def _variant(asset: Asset, name: str) -> AssetVariant:
    for variant in asset.variants:
        if variant.name == name:
            return variant
    there = ", ".join(variant.name for variant in asset.variants)
    raise NotFound(f"asset {asset.asset_id} has no {name}, only {there}", reason="VARIANT_NOT_FOUND")


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
