"""The ways in and out of one upload or asset: which URLs are signed, from which instant, for how long."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from assetlane_server.uploads.parts import PartPromise, part_count
from assetlane_server.uploads.ports import ObjectStore, PresignedRequest
from assetlane_server.uploads.upload import Asset, Upload, VariantPromise


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """How to put one variant into the store."""

    variant: str
    single_put: PresignedRequest | None  # None: in parts
    part_size_bytes: int = 0
    part_count: int = 0


@dataclass(frozen=True, slots=True)
class ReadUrls:
    """The URLs of an asset's variants, in their order."""

    urls: tuple[str, ...]
    expire_time: datetime | None  # None: never


class Lanes:
    """Derives URLs, never stores them: the same record gives the same URL to everybody."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def write_targets(self, upload: Upload) -> tuple[WriteTarget, ...]:
        """Returns a target per variant, signed at `targets_signed_at` to live until `targets_expire_time`."""
        signed_at, expire_time = upload.targets_signed_at, upload.targets_expire_time
        if signed_at is None or expire_time is None:
            return ()
        lifetime = expire_time - signed_at
        if lifetime < timedelta(seconds=1):
            return ()
        return tuple(
            WriteTarget(variant.name, None, variant.part_size_bytes, part_count(variant))
            if variant.part_size_bytes
            else WriteTarget(variant.name, self._store.presign_put(variant, signed_at, lifetime))
            for variant in upload.variants
        )

    def part_requests(
        self, upload: Upload, variant: VariantPromise, promises: Sequence[PartPromise]
    ) -> tuple[PresignedRequest, ...]:
        """Returns a PUT of each part, signed as the upload's write targets are; none when their time is over."""
        signed_at, expire_time = upload.targets_signed_at, upload.targets_expire_time
        if signed_at is None or expire_time is None or expire_time - signed_at < timedelta(seconds=1):
            return ()
        multipart_id, lifetime = upload.multipart_ids[variant.name], expire_time - signed_at
        presign = self._store.multiparts.presign_part
        return tuple(presign(variant, multipart_id, promise, signed_at, lifetime) for promise in promises)

    def read_urls(self, asset: Asset) -> ReadUrls:
        """Returns a URL per variant: unsigned for a public asset, else signed as of its `refresh_time`."""
        if asset.is_public:
            return ReadUrls(tuple(self._store.public_url(variant.key) for variant in asset.variants), None)
        signed = [
            self._store.presign_get(variant.key, asset.refresh_time, asset.read_url_lifetime)
            for variant in asset.variants
        ]
        return ReadUrls(tuple(one.url for one in signed), min(one.expire_time for one in signed))
