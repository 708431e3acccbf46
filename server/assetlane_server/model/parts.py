"""The parts that a large object arrives in: how it is cut, and what may be asked about them. Pure.

Source of all limits: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.upload import Upload, VariantPromise

MIB = 1024**2
MAX_SINGLE_PUT_BYTES = 5 * 1024**3  # also of a part
MIN_PART_BYTES = 5 * MIB  # but for the last
MAX_PARTS = 10_000  # some stores take fewer: a setting
MAX_OBJECT_BYTES = MAX_PARTS * MAX_SINGLE_PUT_BYTES  # 48.8 TiB
MULTIPART_THRESHOLD_BYTES = 64 * MIB  # below, one PUT is faster even where nothing is lost
MULTIPART_PART_BYTES = 16 * MIB
MAX_SIGNED_PARTS = 100  # in one call: a few milliseconds of the event loop

_SHA256_BYTES = 32
_MARK = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class PartPromise:
    """What the caller promises about one part."""

    part_number: int  # from 1
    sha256: bytes = b""  # 32 bytes, or empty: not promised


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that the store has."""

    part_number: int
    size_bytes: int
    etag: str  # without quotes
    sha256: bytes = b""  # empty: the store does not report it


def part_size_for(size_bytes: int, wanted_bytes: int, max_parts: int = MAX_PARTS) -> int:
    """Returns the size of a part: `wanted_bytes`, or more, in whole MiB, where that would make more than `max_parts`.

    A part is within S3's limits if the object has at most `largest_object(max_parts)` bytes.
    """
    least = -(-size_bytes // max_parts)
    return max(wanted_bytes, -(-least // MIB) * MIB)


def largest_object(max_parts: int) -> int:
    """Returns the size of the largest object that a store takes in at most so many parts."""
    return max_parts * MAX_SINGLE_PUT_BYTES


def part_count(variant: VariantPromise) -> int:
    """Returns how many parts a multipart variant has."""
    return -(-variant.size_bytes // variant.part_size_bytes)


def part_bytes(variant: VariantPromise, part_number: int) -> int:
    """Returns the length of a part that there is."""
    return min(variant.part_size_bytes, variant.size_bytes - (part_number - 1) * variant.part_size_bytes)


def are_whole(variant: VariantPromise, stored: Sequence[StoredPart]) -> bool:
    """Whether these parts, by ascending number, are all of the variant's, each of its size."""
    return [(part.part_number, part.size_bytes) for part in stored] == [
        (number, part_bytes(variant, number)) for number in range(1, part_count(variant) + 1)
    ]


def multipart_variant(upload: Upload, name: str) -> VariantPromise:
    """Returns the variant of that name. Raises InvalidRequest if there is none, or it is a single PUT."""
    for variant in upload.variants:
        if variant.name == name and variant.part_size_bytes:
            return variant
    names = ", ".join(variant.name for variant in upload.variants if variant.part_size_bytes)
    limit = f"must be one that arrives in parts: {names}" if names else "no variant of this upload arrives in parts"
    raise InvalidRequest([FieldViolation("variant", limit)])


def check_promises(variant: VariantPromise, promises: Sequence[PartPromise]) -> None:
    """Raises InvalidRequest naming every field that is not as it must be."""
    if not 1 <= len(promises) <= MAX_SIGNED_PARTS:
        limit = f"there are {len(promises)}, there must be 1 to {MAX_SIGNED_PARTS}"
        raise InvalidRequest([FieldViolation("parts", limit)])
    last = part_count(variant)
    wanted = _SHA256_BYTES if variant.promises_parts else 0
    violations = []
    seen: set[int] = set()
    for index, promise in enumerate(promises):
        if not 1 <= promise.part_number <= last:
            limit = f"is {promise.part_number:,}, it must be from 1 to {last:,}"
            violations.append(FieldViolation(f"parts[{index}].part_number", limit))
        elif promise.part_number in seen:
            violations.append(FieldViolation(f"parts[{index}].part_number", f"{promise.part_number:,} is there twice"))
        seen.add(promise.part_number)
        if len(promise.sha256) != wanted:
            reason = "the variant promises parts" if wanted else "the variant does not promise parts"
            limit = f"is {len(promise.sha256)} bytes long, it must be {wanted}: {reason}"
            violations.append(FieldViolation(f"parts[{index}].sha256", limit))
    if violations:
        raise InvalidRequest(violations)


def part_number_of(mark: str) -> int:
    """Returns the part number in a page token of our own, 0 for the first page."""
    return int(mark) if _MARK.fullmatch(mark) else 0


@dataclass(frozen=True, slots=True)
class PartPage:
    """Some parts by ascending number, each once, and how to ask for those after them."""

    parts: tuple[StoredPart, ...]
    after: int  # 0: there are no more


@dataclass(frozen=True, slots=True)
class OpenMultipart:
    """A multipart upload that is neither completed nor aborted."""

    key: str
    multipart_id: str
    open_time: datetime


@dataclass(frozen=True, slots=True)
class OpenMultipartPage:
    """Some open multipart uploads in the store's own order, and how to ask for those after them."""

    open: tuple[OpenMultipart, ...]
    after: str  # empty: there are no more
