"""The ways in and out of one upload or asset: which URLs are signed, from which instant, for how long."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from assetlane_server.model.content_headers import disposition, file_name, served
from assetlane_server.model.parts import PartPromise, part_count
from assetlane_server.model.presigned import PresignedRequest, ReadUrls, WriteTarget
from assetlane_server.model.upload import Asset, AssetVariant, Upload, VariantPromise
from assetlane_server.ports.object_store import ObjectStore

# The download URLs of public assets are signed, for as long as SigV4 can.
_DOWNLOAD_LIFETIME = timedelta(days=7)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class UrlSigner:
    """Derives URLs, never stores them: the same record gives the same URL to everybody.

    Only the download URLs of public assets change with the time: at the start of each UTC day.
    """

    def __init__(self, store: ObjectStore, now: Callable[[], datetime] = _utc_now) -> None:
        self._store = store
        self._now = now

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
            else WriteTarget(variant.name, self._store.presign_put(served(upload, variant), signed_at, lifetime))
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
        """Returns two URLs per variant: one that shows it where that is safe, one that saves it.

        Both are signed as of the asset's `refresh_time`. Of a public asset the first is unsigned, and the second
        signed as of the start of the UTC day, so that it is the same for everybody until the day ends.
        """
        if asset.is_public:
            day = self._now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            return ReadUrls(
                tuple(self._store.public_url(variant.key) for variant in asset.variants),
                tuple(self._download(asset, variant, day, _DOWNLOAD_LIFETIME).url for variant in asset.variants),
                None,
            )
        signed_at, lifetime = asset.refresh_time, asset.read_url_lifetime
        signed = [self._store.presign_get(variant.key, signed_at, lifetime) for variant in asset.variants]
        return ReadUrls(
            tuple(one.url for one in signed),
            tuple(self._download(asset, variant, signed_at, lifetime).url for variant in asset.variants),
            min(one.expire_time for one in signed),
        )

    def _download(
        self, asset: Asset, variant: AssetVariant, signed_at: datetime, lifetime: timedelta
    ) -> PresignedRequest:
        name = file_name(asset.file_path, variant.name, variant.content_type)
        return self._store.presign_get(variant.key, signed_at, lifetime, disposition("attachment", name))
