"""The asset that a proved upload becomes. Pure."""

from collections.abc import Sequence
from datetime import datetime

from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import Asset, AssetVariant, Notice, Upload, whole_second


def asset_of(upload: Upload, stored: Sequence[StoredObject], now: datetime, notices: Sequence[Notice] = ()) -> Asset:
    """Returns the asset that a proved upload becomes; `stored` is in the order of its variants.

    `notices` are what the server left out, beside what its caller did.
    """
    variants = tuple(
        AssetVariant(
            name=promise.name,
            key=promise.key,
            content_type=promise.content_type,
            size_bytes=found.size_bytes,
            # Of a whole, the store has checked the promised one; of parts, nobody has.
            sha256=found.sha256 or (b"" if promise.part_size_bytes else promise.sha256),
            width_px=promise.width_px,
            height_px=promise.height_px,
            etag=found.etag,
            version_id=found.version_id,
            part_size_bytes=promise.part_size_bytes,
            parts_sha256=found.parts_sha256 if promise.part_size_bytes else b"",
        )
        for promise, found in zip(upload.variants, stored, strict=True)
    )
    return Asset(
        asset_id=upload.upload_id,
        uid=upload.uid,
        session_id=upload.session_id,
        partition=upload.asset_partition,
        file_path=upload.file_path,
        expiration_hours=upload.expiration_hours,
        details=upload.details,
        variants=variants,
        create_time=now,
        refresh_time=whole_second(now),
        notices=(*upload.notices, *notices),
    )
