"""An upload and its asset: values and transitions, no I/O.

Which status may follow which is defined in `state_table.py`.

An upload and its asset are one record. A transition of the upload returns a new Upload with one more entry in its
history; several transitions can be saved together. A refresh or deletion of the asset returns a new Asset. Each is
saved with one update, which applies only if the record still has the previous revision.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NewType

from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.media_types import canonical
from assetlane_server.model.state_table import NEXT
from assetlane_server.model.state_table import Status as Status

ORIGINAL = "original"

# How long a server may work on an upload before another one takes over.
WORK_LEASE = timedelta(minutes=1)
# The store's clock may be a little behind ours.
SWEEP_MARGIN = timedelta(seconds=5)
# A store checks the expiry of a URL when the PUT begins: a PUT that begins just before the expiry continues after it.
# 5 GiB in a day are 62 KB/s.
LONGEST_PUT = timedelta(days=1)
# When the sweeper looks at an upload whose write URLs are still valid: its client may be gone, its bytes all there.
FIRST_LOOKS = (timedelta(minutes=15), timedelta(hours=1))
LOOK_INTERVAL = timedelta(hours=6)  # after FIRST_LOOKS
# How long the record of a deleted asset is kept: a day longer than a resume token, whose holder has to hear of it.
DELETED_KEPT_FOR = timedelta(days=8)

LedgerTime = NewType("LedgerTime", int)
"""An instant of the ledger's own clock, which no server's clock can shift: seconds since 1970 << 32, and a counter."""


class InvalidTransition(ValueError):  # noqa: N818 - it says what happened
    """An upload cannot go from its status to that one: `source` and `target` name them."""

    def __init__(self, source: Status, target: Status) -> None:
        super().__init__(f"an upload that is {source} cannot become {target}")
        self.source = source
        self.target = target


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One entry of an upload's history."""

    revision: int
    status: Status
    time: datetime
    reason: str = ""
    acted_by: str = ""  # who acted for the owner, see ports.Access.actor; empty: the owner, or the server


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something went wrong, as data: a stable reason and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was left out of an asset, and why: a stable reason and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Details:
    """What people and programs say about an asset; stored and returned unchanged."""

    title: str = ""
    caption: str = ""
    color: str = ""  # `#rrggbb` or empty
    duration: timedelta | None = None
    extra: Mapping[str, object] | None = None  # JSON-like


@dataclass(frozen=True, slots=True)
class VariantPromise:
    """What the caller promised to store, and where."""

    name: str
    content_type: str
    size_bytes: int
    sha256: bytes = b""  # 32 bytes, or empty: not promised
    width_px: int = 0
    height_px: int = 0
    promises_parts: bool = False  # whether the SHA-256 of every part is promised, if it is sent in parts
    key: str = ""  # the object's key, chosen by the server: see paths.py
    part_size_bytes: int = 0  # of every part but the last, chosen by the server: see parts.py; 0: a single PUT
    # The headers that the object is stored and served with. Not saved: they are filled in before something is signed.
    # The defaults are the safe ones: no browser displays the object, no shared cache keeps it.
    content_disposition: str = "attachment"
    cache_control: str = "private"


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
    parts_sha256: bytes = b""  # over the SHA-256s of its parts, as the store reported it; empty: it did not


@dataclass(frozen=True, slots=True)
class Asset:
    """The permanent record of what arrived. Only its read URLs change, until it is deleted."""

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
    revision: int = 1  # rises by one with every refresh, and with the deletion
    delete_time: datetime | None = None  # set: deleted, its objects too or about to be
    change_time: LedgerTime | None = field(default=None, compare=False)  # of the newest revision; None: not read yet
    notices: tuple[Notice, ...] = ()  # what was left out when it was made

    @property
    def is_public(self) -> bool:
        """Whether its URLs are unsigned and permanent."""
        return self.expiration_hours == 0

    @property
    def is_deleted(self) -> bool:
        """Whether it was deleted."""
        return self.delete_time is not None

    def refreshed(self, now: datetime) -> "Asset":
        """Returns it with read URLs signed at `now`, to the second; `refresh_time` never goes back."""
        return replace(
            self, revision=self.revision + 1, refresh_time=max(self.refresh_time, whole_second(now)), change_time=None
        )

    def deleted(self, now: datetime) -> "Asset":
        """Returns it deleted, with its details and notices erased."""
        return replace(
            self, revision=self.revision + 1, delete_time=now, details=Details(), notices=(), change_time=None
        )

    @property
    def read_url_lifetime(self) -> timedelta:
        """How long a read URL lives from `refresh_time`, in whole seconds as SigV4 counts them."""
        return timedelta(seconds=round(self.expiration_hours * 3600))

    @property
    def expire_time(self) -> datetime | None:
        """When its read URLs stop working; None: never."""
        return None if self.is_public else self.refresh_time + self.read_url_lifetime


@dataclass(frozen=True, slots=True)
class Upload:
    """One attempt to store one asset."""

    upload_id: str
    uid: str
    partition: str
    asset_partition: str
    file_path: str
    variants: tuple[VariantPromise, ...]  # `original` first
    create_time: datetime
    expire_time: datetime  # the deadline
    history: tuple[StatusChange, ...]  # oldest first, never empty
    request_id: str = ""
    session_id: str = ""
    expiration_hours: float = 24.0  # 0: public
    details: Details = field(default_factory=Details)
    cut_plan: CutPlan | None = None  # the cuts that the server makes; None: none
    notices: tuple[Notice, ...] = ()  # what the caller left out
    failure: Failure | None = None
    targets_signed_at: datetime | None = None
    targets_expire_time: datetime | None = None  # no write URL that was ever returned lives longer
    write_url_lifetime: timedelta | None = None  # as the request asked; None: the server's default
    sweep_time: datetime | None = None  # when the sweeper looks at it next; None: never
    is_swept: bool = False  # it is final, and what arrived is deleted; or its asset and all its objects are
    kept_for: timedelta = timedelta(days=30)  # how long its record is kept after its end
    # The store's ids of the multipart uploads that were opened, by variant name; empty while PENDING.
    multipart_ids: Mapping[str, str] = field(default_factory=dict)
    request_sha256: bytes = b""  # of what was requested, see `request_digest`; empty: it has no request id
    asset: Asset | None = None  # set if and only if it is COMPLETED; stays set when the asset is deleted

    @property
    def status(self) -> Status:
        """The current status."""
        return self.history[-1].status

    @property
    def revision(self) -> int:
        """The revision of the current status."""
        return self.history[-1].revision

    @property
    def readable_asset(self) -> Asset | None:
        """Its asset; None when it has none or the asset was deleted."""
        return None if self.asset is None or self.asset.is_deleted else self.asset

    @property
    def is_public(self) -> bool:
        """Whether the asset's URLs are unsigned and permanent: only when the request asked for 0 hours."""
        return self.expiration_hours == 0

    @property
    def is_multipart(self) -> bool:
        """Whether a variant arrives in parts: then a multipart upload has to be opened at the store."""
        return any(variant.part_size_bytes for variant in self.variants)

    @property
    def keys(self) -> list[str]:
        """Every key under which the store may have an object of it."""
        return [*(variant.key for variant in self.variants), *(self.cut_plan.keys if self.cut_plan else ())]

    @property
    def unused_keys(self) -> list[str]:
        """The keys of planned cuts that its asset has not: another server may have stored them nevertheless."""
        if self.cut_plan is None or self.asset is None:
            return []
        names = {variant.name for variant in self.asset.variants}
        unmade = tuple(size for size in self.cut_plan.sizes if size.name not in names)
        return replace(self.cut_plan, sizes=unmade).keys

    def after(self, revision: int) -> Sequence["Upload"]:
        """Returns the upload as it was at each of its revisions after that one, in order."""
        if self.revision <= revision:
            return ()
        earlier = (
            replace(self, history=self.history[:count], failure=None, asset=None)
            for count, change in enumerate(self.history[:-1], 1)
            if change.revision > revision
        )
        return (*earlier, self)

    def initialized(self, now: datetime, targets_lifetime: timedelta, acted_by: str = "") -> "Upload":
        """Returns it with write targets signed at `now`, valid for that long but not beyond the deadline."""
        return self._moved(Status.INITIALIZED, now, acted_by=acted_by).with_targets(now, targets_lifetime)

    def renewed(self, now: datetime, targets_lifetime: timedelta) -> "Upload":
        """Returns it with write targets signed again. The status stays; no instant ever goes back."""
        return self.with_targets(max(now, self.targets_signed_at or now), targets_lifetime)

    def with_targets(self, signed_at: datetime, lifetime: timedelta) -> "Upload":
        """Returns it with write targets signed at that instant, valid for that long but not beyond the deadline.

        `lifetime` is the server's default, used where the request asked for no other.
        """
        expire_time = min(signed_at + (self.write_url_lifetime or lifetime), self.expire_time)
        if self.targets_expire_time is not None:
            expire_time = max(expire_time, self.targets_expire_time)
        renewed = replace(self, targets_signed_at=signed_at, targets_expire_time=expire_time)
        return replace(renewed, sweep_time=renewed.next_look(signed_at))

    def next_look(self, now: datetime) -> datetime:
        """Returns when the sweeper looks at it next while its bytes may still be sent.

        It looks when the targets expire, 15 minutes and an hour after they were signed, then every 6 hours, and last
        at the deadline. So an upload whose client has gone ends soon after its bytes are there, however long its
        write URLs live.
        """
        deadline = self.expire_time + SWEEP_MARGIN
        signed_at = self.targets_signed_at or self.create_time
        looks = [(self.targets_expire_time or signed_at), *(signed_at + after for after in FIRST_LOOKS)]
        looks.append(looks[-1] + max(1, (now - looks[-1]) // LOOK_INTERVAL + 1) * LOOK_INTERVAL)
        return min((look + SWEEP_MARGIN for look in looks if now < look + SWEEP_MARGIN < deadline), default=deadline)

    def uploaded(self, now: datetime, acted_by: str = "") -> "Upload":
        """Returns it UPLOADED: the caller says that the bytes are there."""
        return self._moved(Status.UPLOADED, now, acted_by=acted_by)

    def completed(self, now: datetime, asset: Asset, acted_by: str = "") -> "Upload":
        """Returns it COMPLETED: every variant is proved, and this is the asset."""
        completed = replace(self._moved(Status.COMPLETED, now, acted_by=acted_by), asset=asset)
        if completed.unused_keys:
            look = max(completed.history[-1].time, self.write_end) + LONGEST_PUT
            completed = replace(completed, sweep_time=look)
        return completed

    def cancelled(self, now: datetime, acted_by: str = "") -> "Upload":
        """Returns it CANCELLED by its owner."""
        return self._moved(Status.CANCELLED, now, "CANCELLED_BY_OWNER", acted_by)

    def expired(self, now: datetime) -> "Upload":
        """Returns it EXPIRED: the deadline passed and variants are missing."""
        return self._moved(Status.EXPIRED, now, "DEADLINE_PASSED")

    def failed(self, now: datetime, failure: Failure, acted_by: str = "") -> "Upload":
        """Returns it FAILED: what arrived is not what was promised, or the server cannot continue."""
        return replace(self._moved(Status.FAILED, now, failure.reason, acted_by), failure=failure)

    def may_become(self, status: Status) -> bool:
        """Whether that status can follow the current one directly."""
        return status in NEXT.get(self.status, frozenset())

    def _moved(self, status: Status, now: datetime, reason: str = "", acted_by: str = "") -> "Upload":
        if not self.may_become(status):
            raise InvalidTransition(self.status, status)
        # A clock that steps back must not make history run backwards.
        time = max(now, self.history[-1].time)
        change = StatusChange(self.revision + 1, status, time, reason, acted_by)
        return replace(self, history=(*self.history, change), sweep_time=self._next_sweep(status, time))

    def _next_sweep(self, status: Status, time: datetime) -> datetime | None:
        """Returns when the sweeper has to look at an upload that enters this status.

        A server that works on an upload has WORK_LEASE; after that it is taken for dead. Objects that can still arrive
        through a valid write URL can only be deleted for good after that URL has expired.
        """
        match status:
            case Status.PENDING | Status.UPLOADED:
                return time + WORK_LEASE
            case Status.INITIALIZED:
                return None  # set by `with_targets`
            case Status.COMPLETED:
                # Nothing is left to do, except for a multipart upload that a server opened again before it died.
                return max(time, self.write_end) + LONGEST_PUT if self.is_multipart else None
            case _:
                return max(time, self.write_end) + SWEEP_MARGIN

    @property
    def write_end(self) -> datetime:
        """When the last URL that could write one of its objects stops working."""
        return self.targets_expire_time or self.create_time

    def next_deletion(self, now: datetime) -> datetime | None:
        """Returns when the objects of its deleted asset are deleted again; None when no object can arrive any more."""
        # First when every URL has expired, then when every PUT that began before that has ended.
        looks = (self.write_end + SWEEP_MARGIN, self.write_end + LONGEST_PUT)
        return next((look for look in looks if now < look), None)

    @property
    def purge_time(self) -> datetime:
        """When its record is removed: it ended without an asset, or its asset was deleted."""
        if self.asset is not None and self.asset.delete_time is not None:
            return max(self.asset.delete_time + DELETED_KEPT_FOR, self.write_end + LONGEST_PUT)
        return self.history[-1].time + self.kept_for

    def without_words(self) -> "Upload":
        """Returns it with details and notices erased: for a record whose asset is deleted."""
        return replace(self, details=Details(), notices=())

    def without_places(self) -> "Upload":
        """Returns it with path and keys erased: for a deleted asset whose objects cannot arrive again."""
        return replace(
            self,
            file_path="",
            variants=tuple(replace(variant, key="") for variant in self.variants),
            cut_plan=None if self.cut_plan is None else replace(self.cut_plan, place=""),
            multipart_ids={},
            is_swept=True,
            asset=None
            if self.asset is None
            else replace(
                self.asset,
                file_path="",
                variants=tuple(replace(variant, key="") for variant in self.asset.variants),
            ),
        )


def request_digest(upload: Upload) -> bytes:
    """Returns the SHA-256 of what was requested, without the ids, keys and times that the server chose.

    The session is not part of it: a process that continues an upload after a crash has a new session. Digests are
    stored, so a field that is added to the request later may only count where it is not at its default.
    """
    details, plan = upload.details, upload.cut_plan
    words: dict[str, object] = {
        "uid": upload.uid,
        "partition": upload.partition,
        "asset_partition": upload.asset_partition,
        "file_path": upload.file_path,
        "expiration_hours": float(upload.expiration_hours),
        "title": details.title,
        "caption": details.caption,
        "color": details.color,
        "duration_us": None if details.duration is None else details.duration // timedelta(microseconds=1),
        "extra": details.extra,
        "variants": [
            [
                variant.name,
                canonical(variant.content_type),
                variant.size_bytes,
                variant.sha256.hex(),
                variant.width_px,
                variant.height_px,
                variant.promises_parts,
            ]
            for variant in upload.variants
        ],
        "cut_plan": plan and [[[size.name, size.max_edge_px] for size in plan.sizes], plan.format, plan.quality],
    }
    if upload.notices:
        words["notices"] = [[notice.reason, notice.message] for notice in upload.notices]
    if plan is not None and plan.required:
        words["cut_plan.required"] = True
    if upload.write_url_lifetime is not None:
        words["write_url_s"] = upload.write_url_lifetime.total_seconds()
    return hashlib.sha256(json.dumps(words, sort_keys=True, separators=(",", ":")).encode()).digest()


def whole_second(instant: datetime) -> datetime:
    """Returns the start of its second: SigV4 counts in whole seconds."""
    return instant.replace(microsecond=0)
