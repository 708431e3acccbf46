"""Admits a request: every field is checked against its limit before anything is signed or stored. Pure."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from assetlane_server.model.cut_plan import CutPlan, faults_in_plan
from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.media_types import NotAMediaType, canonical, parse_media_type
from assetlane_server.model.parts import (
    MAX_OBJECT_BYTES,
    MAX_PARTS,
    MULTIPART_PART_BYTES,
    MULTIPART_THRESHOLD_BYTES,
    part_size_for,
)
from assetlane_server.model.paths import (
    MAX_FILE_PATH_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTITION_BYTES,
    fault_in_path,
    fault_in_variant_name,
    key_place,
    object_key,
)
from assetlane_server.model.upload import (
    ORIGINAL,
    WORK_LEASE,
    Details,
    Notice,
    Status,
    StatusChange,
    Upload,
    VariantPromise,
    request_digest,
)

DEFAULT_EXPIRATION_HOURS = 24.0
MAX_EXPIRATION_HOURS = 168.0  # SigV4 signs for at most 7 days
MAX_ID_BYTES = 128
MAX_TITLE_BYTES = 1024
MAX_CAPTION_BYTES = 8192
MAX_EXTRA_BYTES = 16 * 1024
MAX_EXTRA_DEPTH = 32
MAX_VARIANTS = 16
MAX_NOTICES = 16
MAX_NOTICE_MESSAGE_BYTES = 1024
MAX_EDGE_PX = 1_000_000
MAX_DURATION = timedelta(days=365)
MIN_WRITE_URL_LIFETIME = timedelta(minutes=1)
MAX_WRITE_URL_LIFETIME = timedelta(days=7)  # SigV4

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUL = "\0"
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_NOTICE_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def _nothing(_content_type: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator allows and decides for every upload."""

    key_prefix: str = ""  # empty, or ends with `/`
    max_upload_bytes: int = MAX_OBJECT_BYTES  # of one variant
    multipart_threshold_bytes: int = MULTIPART_THRESHOLD_BYTES  # from which size on a variant arrives in parts
    multipart_part_bytes: int = MULTIPART_PART_BYTES  # of a part, unless there would be too many
    multipart_max_parts: int = MAX_PARTS  # that the store takes of one object
    public_assets: bool = True  # whether an upload may become a public asset
    write_url_lifetime: timedelta = timedelta(minutes=15)
    max_write_url_lifetime: timedelta = timedelta(hours=24)  # that a request may ask for
    upload_lifetime: timedelta = timedelta(hours=24)  # from the request to the deadline
    accept_mislabelled: bool = False  # whether a variant may be something else than its declared type
    upload_retention: timedelta = timedelta(days=30)  # from an upload's end until its record goes
    max_cut_bytes: int = 64 * 1024**2  # of an original that the server makes cuts of
    can_cut: Callable[[str], bool] = _nothing  # whether the server can read pictures of a media type

    @property
    def longest_write_life(self) -> timedelta:
        """How long a write URL lives at most, asked for or not."""
        return max(self.write_url_lifetime, self.max_write_url_lifetime)


class BeyondTerms(InvalidRequest):
    """Only the operator's terms forbid the request: a server with other settings may have accepted it.

    `upload` is what it would become, to be compared with what is stored. It is not to be stored itself.
    """

    def __init__(self, violations: Sequence[FieldViolation], upload: Upload) -> None:
        super().__init__(violations)
        self.upload = upload


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A caller's request as it arrived, nothing checked yet."""

    uid: str
    file_path: str
    variants: tuple[VariantPromise, ...]
    request_id: str = ""
    session_id: str = ""
    partition: str = ""
    asset_partition: str = ""
    expiration_hours: float | None = None
    details: Details = field(default_factory=Details)
    extra_size_bytes: int = 0  # of `details.extra` as encoded on the wire
    cut_plan: CutPlan | None = None  # None: the server makes no cuts
    notices: tuple[Notice, ...] = ()  # what the caller left out
    write_url_lifetime: timedelta | None = None  # None: the server's choice


def admit(request: UploadRequest, terms: Terms, upload_id: str, now: datetime, acted_by: str = "") -> Upload:
    """Returns the PENDING upload that the request becomes.

    Raises InvalidRequest naming every bad field: BeyondTerms where nothing but these terms is against it.
    """
    partition = request.partition or f"user/{request.uid}"
    asset_partition = request.asset_partition or partition
    hours = DEFAULT_EXPIRATION_HOURS if request.expiration_hours is None else request.expiration_hours

    violations = [
        *_ids(request),
        *_place("partition", partition if request.uid or request.partition else "unset", MAX_PARTITION_BYTES),
        *_place("asset_partition", request.asset_partition or "unset", MAX_PARTITION_BYTES),
        *_place("file_path", request.file_path, MAX_FILE_PATH_BYTES),
        *_expiration(hours, terms.public_assets),
        *_details(request.details, request.extra_size_bytes),
        *_variants(request.variants, terms.max_upload_bytes),
        *_cuts(request),
        *_notices(request.notices),
        *_write_life(request.write_url_lifetime, MAX_WRITE_URL_LIFETIME),
    ]
    beyond_terms = [
        *_sizes(request.variants, terms.max_upload_bytes),
        *_cuttable(request, terms),
        *_write_life_here(request.write_url_lifetime, terms.max_write_url_lifetime),
    ]
    if violations:
        raise InvalidRequest([*violations, *beyond_terms])

    place = key_place(
        prefix=terms.key_prefix,
        is_public=hours == 0,
        partition=asset_partition,
        file_path=request.file_path,
        upload_id=upload_id,
    )
    variants = tuple(
        replace(
            variant,
            content_type=canonical(variant.content_type),
            part_size_bytes=_part_size(variant, terms),
            key=object_key(place, variant.name, variant.content_type),
        )
        for variant in sorted(request.variants, key=lambda variant: variant.name != ORIGINAL)
    )
    cut_plan = None if request.cut_plan is None else replace(request.cut_plan, place=place)
    keys = [*(variant.key for variant in variants), *(cut_plan.keys if cut_plan else ())]
    longest = max(len(key.encode()) for key in keys)
    if longest > MAX_KEY_BYTES:
        limit = f"with its partition it makes a key of {longest:,} bytes, the store's limit is {MAX_KEY_BYTES:,}"
        beyond_terms.append(FieldViolation("file_path", limit, "TOO_LONG"))  # the operator's prefix is a part of it

    upload = Upload(
        upload_id=upload_id,
        request_id=request.request_id,
        uid=request.uid,
        session_id=request.session_id,
        partition=partition,
        asset_partition=asset_partition,
        file_path=request.file_path,
        expiration_hours=hours,
        details=request.details,
        variants=variants,
        cut_plan=cut_plan,
        notices=request.notices,
        create_time=now,
        # Never before the end of the write URLs that are about to be signed.
        expire_time=now + max(terms.upload_lifetime, request.write_url_lifetime or timedelta(0)),
        history=(StatusChange(1, Status.PENDING, now, acted_by=acted_by),),
        write_url_lifetime=request.write_url_lifetime,
        sweep_time=now + WORK_LEASE,
        kept_for=terms.upload_retention,
    )
    if upload.request_id:
        upload = replace(upload, request_sha256=request_digest(upload))
    if beyond_terms:
        raise BeyondTerms(beyond_terms, upload)
    return upload


def _part_size(variant: VariantPromise, terms: Terms) -> int:
    if variant.size_bytes < max(1, terms.multipart_threshold_bytes):
        return 0
    return part_size_for(variant.size_bytes, terms.multipart_part_bytes, terms.multipart_max_parts)


def required(name: str, value: str) -> str:
    """Returns the value of a field that must not be empty. Raises InvalidRequest."""
    if not value:
        raise InvalidRequest([FieldViolation(name, "is required", "REQUIRED")])
    return value


def check_uid(uid: str) -> None:
    """Raises InvalidRequest unless an owner can have this name."""
    try:
        violations = list(_uid(uid))
    except UnicodeEncodeError:
        # It comes from a command line: a message's text is UTF-8.
        violations = [FieldViolation("uid", "is not UTF-8", "NOT_UTF8")]
    if violations:
        raise InvalidRequest(violations)


def _ids(request: UploadRequest) -> Iterator[FieldViolation]:
    yield from _uid(request.uid)
    yield from _id("request_id", request.request_id)
    yield from _id("session_id", request.session_id)


def _uid(uid: str) -> Iterator[FieldViolation]:
    if not uid:
        yield FieldViolation("uid", "is required", "REQUIRED")
    yield from _id("uid", uid)


def _id(name: str, text: str) -> Iterator[FieldViolation]:
    yield from _text(name, text, MAX_ID_BYTES)
    if _CONTROL.search(text):
        yield FieldViolation(name, "has a control character", "CHARACTER_NOT_ALLOWED")


def _place(name: str, path: str, max_bytes: int) -> Iterator[FieldViolation]:
    if fault := fault_in_path(path, max_bytes):
        yield FieldViolation(name, fault.message, fault.reason)


def _expiration(hours: float, public_assets: bool) -> Iterator[FieldViolation]:
    # A NaN fails every comparison: ask for what is right, not for what is wrong.
    if not (hours == 0 or (math.isfinite(hours) and 1 / 3600 <= hours <= MAX_EXPIRATION_HOURS)):
        limit = f"is {hours:g}, it must be 0 (public) or from 1 second to {MAX_EXPIRATION_HOURS:g} hours"
        yield FieldViolation("expiration_hours", limit, "OUT_OF_RANGE")
    elif hours == 0 and not public_assets:
        limit = f"is 0 (public), this server keeps private assets only: it must be up to {MAX_EXPIRATION_HOURS:g} hours"
        yield FieldViolation("expiration_hours", limit, "PRIVATE_ONLY")


def _details(details: Details, extra_size_bytes: int) -> Iterator[FieldViolation]:
    yield from _text("details.title", details.title, MAX_TITLE_BYTES)
    yield from _text("details.caption", details.caption, MAX_CAPTION_BYTES)
    if details.color and not _COLOR.fullmatch(details.color):
        yield FieldViolation("details.color", "must be empty or look like #80a0c0", "MALFORMED")
    if details.duration is not None and not timedelta(0) <= details.duration <= MAX_DURATION:
        yield FieldViolation("details.duration", f"must be from 0 to {MAX_DURATION.days} days", "OUT_OF_RANGE")
    if extra_size_bytes > MAX_EXTRA_BYTES:
        limit = f"is {extra_size_bytes:,} bytes encoded, the limit is {MAX_EXTRA_BYTES:,}"
        yield FieldViolation("details.extra", limit, "TOO_LONG")
    elif details.extra is not None:
        yield from _extra(details.extra, 1)


def _extra(value: object, depth: int) -> Iterator[FieldViolation]:
    """Bounds the depth, and refuses what no BSON document can hold: a NUL in a name."""
    if depth > MAX_EXTRA_DEPTH:
        yield FieldViolation("details.extra", f"is nested deeper than {MAX_EXTRA_DEPTH} levels", "TOO_DEEP")
    elif isinstance(value, dict):
        if any("\0" in name for name in value):
            yield FieldViolation("details.extra", "has a name with a NUL character", "NUL_CHARACTER")
        for item in value.values():
            yield from _extra(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _extra(item, depth + 1)


def _variants(variants: tuple[VariantPromise, ...], max_upload_bytes: int) -> Iterator[FieldViolation]:
    if not 1 <= len(variants) <= MAX_VARIANTS:
        yield FieldViolation("variants", f"there are {len(variants)}, there must be 1 to {MAX_VARIANTS}", "WRONG_COUNT")
        return
    seen: set[str] = set()
    for index, variant in enumerate(variants):
        here = f"variants[{index}]"
        if fault := fault_in_variant_name(variant.name):
            yield FieldViolation(f"{here}.name", fault.message, fault.reason)
        elif variant.name in seen:
            yield FieldViolation(f"{here}.name", f"{variant.name!r} is there twice", "TWICE")
        seen.add(variant.name)
        try:
            parse_media_type(variant.content_type)
        except NotAMediaType as wrong:
            yield FieldViolation(f"{here}.content_type", str(wrong), wrong.reason)
        if not 0 <= variant.size_bytes <= MAX_OBJECT_BYTES:
            yield _size(index, variant, max_upload_bytes)
        if len(variant.sha256) not in (0, 32):
            limit = f"is {len(variant.sha256)} bytes long, it must be 32, or empty"
            yield FieldViolation(f"{here}.sha256", limit, "WRONG_LENGTH")
        for edge in ("width_px", "height_px"):
            if not 0 <= getattr(variant, edge) <= MAX_EDGE_PX:
                yield FieldViolation(f"{here}.{edge}", f"must be from 0 to {MAX_EDGE_PX:,}", "OUT_OF_RANGE")
    if ORIGINAL not in seen:
        yield FieldViolation("variants", f"none is named {ORIGINAL!r}", "NO_ORIGINAL")


def _sizes(variants: tuple[VariantPromise, ...], max_upload_bytes: int) -> Iterator[FieldViolation]:
    for index, variant in enumerate(variants[:MAX_VARIANTS]):
        if max_upload_bytes < variant.size_bytes <= MAX_OBJECT_BYTES:
            yield _size(index, variant, max_upload_bytes)


def _size(index: int, variant: VariantPromise, max_upload_bytes: int) -> FieldViolation:
    limit = f"is {variant.size_bytes:,}, it must be from 0 to {max_upload_bytes:,}"
    return FieldViolation(f"variants[{index}].size_bytes", limit, "OUT_OF_RANGE")


def _cuts(request: UploadRequest) -> Iterator[FieldViolation]:
    plan = request.cut_plan
    if plan is None:
        return
    yield from faults_in_plan(plan, frozenset(variant.name for variant in request.variants))
    if len(request.variants) + len(plan.sizes) > MAX_VARIANTS:
        yield FieldViolation("cut_plan.sizes", f"with the variants there are more than {MAX_VARIANTS}", "WRONG_COUNT")


def _cuttable(request: UploadRequest, terms: Terms) -> Iterator[FieldViolation]:
    if request.cut_plan is None or not request.cut_plan.required:
        return  # without cuts it is stored all the same, and the asset says why
    for index, variant in enumerate(request.variants):
        if variant.name == ORIGINAL and not terms.can_cut(variant.content_type):
            limit = "is not a picture that the server can make cuts of: leave cut_plan out, or its `required`"
            yield FieldViolation(f"variants[{index}].content_type", limit, "NO_CUTS_OF_THIS")
        if variant.name == ORIGINAL and variant.size_bytes > terms.max_cut_bytes:
            limit = f"is {variant.size_bytes:,}, the server makes cuts of at most {terms.max_cut_bytes:,} bytes"
            yield FieldViolation(f"variants[{index}].size_bytes", limit, "NO_CUTS_OF_THIS")


def _notices(notices: tuple[Notice, ...]) -> Iterator[FieldViolation]:
    if len(notices) > MAX_NOTICES:
        yield FieldViolation("notices", f"there are {len(notices)}, the limit is {MAX_NOTICES}", "WRONG_COUNT")
        return
    for index, notice in enumerate(notices):
        if not _NOTICE_REASON.fullmatch(notice.reason):
            limit = "must be 1 to 64 of A-Z, 0-9 and _, beginning with a letter, such as IMAGE_BROKEN"
            yield FieldViolation(f"notices[{index}].reason", limit, "MALFORMED")
        yield from _text(f"notices[{index}].message", notice.message, MAX_NOTICE_MESSAGE_BYTES)


def _write_life(lifetime: timedelta | None, longest: timedelta) -> Iterator[FieldViolation]:
    if lifetime is not None and not MIN_WRITE_URL_LIFETIME <= lifetime <= longest:
        least, most = MIN_WRITE_URL_LIFETIME.total_seconds(), longest.total_seconds()
        limit = f"is {lifetime.total_seconds():g} s, it must be from {least:g} s to {most:g} s"
        yield FieldViolation("write_url_lifetime", limit, "OUT_OF_RANGE")
    elif lifetime is not None and lifetime % timedelta(seconds=1):
        whole = "must be whole seconds: a signature knows no finer time"
        yield FieldViolation("write_url_lifetime", whole, "NOT_WHOLE_SECONDS")


def _write_life_here(lifetime: timedelta | None, longest: timedelta) -> Iterator[FieldViolation]:
    """Yields what the operator has against a lifetime that stores would take."""
    if lifetime is not None and longest < lifetime <= MAX_WRITE_URL_LIFETIME:
        yield from _write_life(lifetime, longest)


def _text(name: str, text: str, max_bytes: int) -> Iterator[FieldViolation]:
    size_bytes = len(text.encode())
    if size_bytes > max_bytes:
        yield FieldViolation(name, f"is {size_bytes:,} bytes long, the limit is {max_bytes:,}", "TOO_LONG")
    elif _NUL in text:
        yield FieldViolation(name, "has a NUL character", "NUL_CHARACTER")
