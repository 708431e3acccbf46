"""Read URLs of assets, and their bytes."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from assetlane.asset_calls import AssetCalls
from assetlane.errors import NotFound
from assetlane.v1.asset_pb2 import Asset, AssetVariant

if TYPE_CHECKING:
    import aiohttp

    from assetlane.retrieval import Renew

ABOUT_TO_EXPIRE = timedelta(minutes=1)


class Downloads:
    """Reads variants from the store; refreshes their URLs when they are about to expire.

    `session` opens the connection to the store when it is first needed.
    """

    def __init__(
        self, assets: AssetCalls, session: "Callable[[], aiohttp.ClientSession]", now: Callable[[], datetime]
    ) -> None:
        self._assets = assets
        self._session = session
        self._now = now

    async def read_url(self, asset: Asset, variant: str) -> str:
        """Returns a URL that reads the variant, and works for at least a minute or a tenth of its life."""
        lifetime = timedelta(hours=asset.expiration_hours)
        margin = min(ABOUT_TO_EXPIRE, lifetime / 10)
        if asset.HasField("expire_time") and asset.expire_time.ToDatetime(UTC) - self._now() < margin:
            asset.CopyFrom(await self._assets.refresh_asset(asset.asset_id, if_expires_within=margin))
        return _variant(asset, variant).read_url

    async def download_url(self, asset: Asset, variant: str) -> str:
        """Returns a URL that saves the variant under the file's own name, for a link or a browser."""
        await self.read_url(asset, variant)
        return _variant(asset, variant).download_url

    async def download(
        self,
        asset: Asset,
        variant: str,
        *,
        to: str | os.PathLike[str],
        on_received: Callable[[int], None] | None = None,
    ) -> Path:
        """Fetches a variant into the file `to`, which appears complete and checked or not at all.

        A device or a pipe, such as /dev/null, is written to as `download_into` does it.
        """
        path = Path(to)
        try:
            await self._download(asset, variant, path, on_received)
        except OSError as error:
            if error.errno is not None and error.filename is None:
                error.filename = str(path)  # a write does not name its file, such as on a full disk
            raise
        return path

    async def _download(
        self, asset: Asset, variant: str, path: Path, on_received: Callable[[int], None] | None
    ) -> None:
        if await asyncio.to_thread(_is_device_or_pipe, path):
            with await asyncio.to_thread(path.open, "wb") as file:
                await self.download_into(asset, file, variant, on_received=on_received)
            return
        wanted, renew = self._wanted(asset, variant)
        from assetlane.retrieval import fetch

        await fetch(
            self._session(),
            await self.read_url(asset, variant),
            path,
            **wanted,
            renew=renew,
            on_received=on_received,
        )

    async def download_into(
        self,
        asset: Asset,
        file: BinaryIO,
        variant: str,
        *,
        on_received: Callable[[int], None] | None = None,
    ) -> None:
        """Fetches a variant into a file that is open for writing, such as a pipe; what it has taken stays there."""
        wanted, renew = self._wanted(asset, variant)
        from assetlane.retrieval import stream

        await stream(
            self._session(),
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
            asset.CopyFrom(await self._assets.refresh_asset(asset.asset_id))
            return _variant(asset, variant).read_url

        expected = _Expected(
            size_bytes=stored.size_bytes,
            sha256=stored.parts_sha256 or stored.sha256,
            part_size_bytes=stored.part_size_bytes if stored.parts_sha256 else 0,
        )
        return expected, renewed if asset.HasField("expire_time") else None


def _is_device_or_pipe(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


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
