"""The proof that what arrived is what was promised, and the asset that comes of it. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from assetlane_server.model.media_types import is_same_type
from assetlane_server.model.upload import Asset, AssetVariant, Failure, Notice, Upload, VariantPromise, whole_second


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store says about one object."""

    size_bytes: int
    content_type: str
    etag: str = ""  # without quotes
    version_id: str = ""  # empty: the bucket keeps no versions
    sha256: bytes = b""  # empty: the store does not report it
    parts_sha256: bytes = b""  # over the SHA-256s of its parts; empty: it has none, or the store does not report it
    foreign_headers: tuple[str, ...] = ()  # names of headers it is served with that no write target asked for


def difference(promise: VariantPromise, stored: StoredObject, *, reports_sha256: bool | None = None) -> Failure | None:
    """Returns how a stored object differs from its promise, None if it does not.

    A store that `reports_sha256` has to report a promised one: without it the object did not come through its
    write URL. Of an object that arrived in parts it never reports the SHA-256 of the whole.
    """
    if stored.size_bytes != promise.size_bytes:
        return Failure(
            "SIZE_MISMATCH",
            f"{promise.name}: {promise.size_bytes} bytes were promised, {stored.size_bytes} arrived.",
        )
    if not is_same_type(promise.content_type, stored.content_type):
        return Failure(
            "CONTENT_TYPE_MISMATCH",
            f"{promise.name}: {promise.content_type!r} was promised, {stored.content_type!r} arrived.",
        )
    if stored.foreign_headers:
        return Failure(
            "HEADER_NOT_PROMISED",
            f"{promise.name}: it was sent with {', '.join(stored.foreign_headers)}, which the write target does not"
            " have. Send exactly the headers of the write target.",
        )
    if promise.sha256 and stored.sha256 and stored.sha256 != promise.sha256:
        return Failure("CHECKSUM_MISMATCH", f"{promise.name}: the SHA-256 is not the promised one.")
    if promise.sha256 and reports_sha256 and not (stored.sha256 or promise.part_size_bytes):
        return Failure("CHECKSUM_MISSING", f"{promise.name}: the store reports no SHA-256, and it was promised.")
    return None


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
