"""The proof that what arrived is what was promised. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assetlane_server.model.media_types import is_same_type
from assetlane_server.model.sniffing import mislabelled
from assetlane_server.model.upload import Failure, VariantPromise


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the store says about one object, and its first bytes if they were read."""

    stored: StoredObject
    start: bytes | None = None


def broken_promise(
    variants: Sequence[VariantPromise], objects: Mapping[str, Evidence], *, reports_sha256: bool | None
) -> Failure | None:
    """Returns how what is stored, by the variants' names, differs from what was promised, None if it does not."""
    for variant in variants:
        found = objects.get(variant.name)
        if found is None:
            return Failure("VARIANT_LOST", f"{variant.name}: it was in the store, and is there no more.")
        if failure := difference(variant, found.stored, reports_sha256=reports_sha256):
            return failure
    for variant in variants:
        start = objects[variant.name].start
        if start is not None and (failure := mislabelled(variant, start)):
            return failure
    return None


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
