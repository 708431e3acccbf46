"""The permanent record of what arrived, and the proof that it is what was promised. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from assetlane_server.uploads.media_types import is_same_type
from assetlane_server.uploads.upload import (
    LONGEST_PUT,
    SWEEP_MARGIN,
    WORK_LEASE,
    Details,
    Failure,
    Notice,
    Upload,
    VariantPromise,
)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store says about one object."""

    size_bytes: int
    content_type: str
    etag: str = ""  # without quotes
    version_id: str = ""  # empty: the bucket keeps no versions
    sha256: bytes = b""  # empty: the store does not tell
    parts_sha256: bytes = b""  # over the SHA-256s of its parts; empty: it has none, or the store does not tell
    foreign_headers: tuple[str, ...] = ()  # names of headers it is served with that no write target asked for


@dataclass(frozen=True, slots=True)
class AssetVariant:
    """One stored object of an asset."""

    name: str
    key: str
    content_type: str
    size_bytes: int
    sha256: bytes
    width_px: int
    height_px: int
    etag: str
    version_id: str
    part_size_bytes: int = 0  # of every part but the last; 0: it arrived as a whole
    parts_sha256: bytes = b""  # over the SHA-256s of its parts, as the store told; empty: it did not


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset as the ledger holds it. Only its read URLs change, until it is deleted."""

    asset_id: str  # the upload's id
    uid: str
    session_id: str
    partition: str
    file_path: str
    expiration_hours: float  # 0: public
    details: Details
    variants: tuple[AssetVariant, ...]  # `original` first
    create_time: datetime
    refresh_time: datetime  # when its read URLs were signed
    update_time: datetime  # of the newest revision
    write_expire_time: datetime  # when the last URL that could write one of its objects stopped working
    revision: int = 1  # rises by one with every refresh, and with the deletion
    delete_time: datetime | None = None  # set: out of the ledger, its objects deleted or about to be
    sweep_time: datetime | None = None  # when the sweeper deletes its objects (again); None: never
    notices: tuple[Notice, ...] = ()  # what was left out when it was made

    @property
    def is_public(self) -> bool:
        """Whether its URLs are unsigned and permanent."""
        return self.expiration_hours == 0

    @property
    def is_deleted(self) -> bool:
        """Whether it is out of the ledger."""
        return self.delete_time is not None

    def refreshed(self, now: datetime) -> "Asset":
        """Its read URLs are signed as of `now`, to the second; the instant never goes back."""
        refresh_time = max(self.refresh_time, whole_second(now))
        return replace(self._revised(now), refresh_time=refresh_time)

    def deleted(self, now: datetime) -> "Asset":
        """It is out of the ledger."""
        return replace(self._revised(now), delete_time=now, sweep_time=now + WORK_LEASE)

    def swept(self, now: datetime) -> "Asset":
        """Its objects were deleted at `now`: to be done again while a PUT may still bring one back."""
        # First when no URL lives any more, then when what began in its URL's life has ended too.
        looks = (self.write_expire_time + SWEEP_MARGIN, self.write_expire_time + LONGEST_PUT)
        return replace(self, sweep_time=next((look for look in looks if now < look), None))

    def _revised(self, now: datetime) -> "Asset":
        return replace(self, revision=self.revision + 1, update_time=max(now, self.update_time))

    @property
    def read_url_lifetime(self) -> timedelta:
        """How long a read URL lives from `refresh_time`, in whole seconds as SigV4 counts them."""
        return timedelta(seconds=round(self.expiration_hours * 3600))

    @property
    def expire_time(self) -> datetime | None:
        """When its read URLs stop working; None: never."""
        return None if self.is_public else self.refresh_time + self.read_url_lifetime


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
        update_time=now,
        write_expire_time=upload.targets_expire_time or now,
        notices=(*upload.notices, *notices),
    )


def whole_second(instant: datetime) -> datetime:
    """Returns the start of its second: SigV4 knows no finer time."""
    return instant.replace(microsecond=0)
