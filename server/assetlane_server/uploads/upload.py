"""An upload and its life: values and transitions, no I/O.

    PENDING -> INITIALIZED -> UPLOADED -> COMPLETED

Every transition returns the next Upload with one more entry in its history; the caller saves it with ONE
update that is conditional on the revision before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from assetlane_server.uploads.cut_plan import CutPlan
from assetlane_server.uploads.media_types import canonical
from assetlane_server.uploads.media_types import essence as essence

ORIGINAL = "original"

# How long a server has for what it does to an upload, before another one does it again.
WORK_LEASE = timedelta(minutes=1)
# The store's clock may be a little behind ours.
SWEEP_MARGIN = timedelta(seconds=5)
# A store looks at a URL's life when the PUT begins: one that began just before the end goes on after it. 5 GiB
# in a day are 62 KB/s.
LONGEST_PUT = timedelta(days=1)
# When the sweeper looks at an upload whose write URLs live: its client may be gone, and its bytes may all be there.
FIRST_LOOKS = (timedelta(minutes=15), timedelta(hours=1))
LOOK_INTERVAL = timedelta(hours=6)  # after those


class Status(StrEnum):
    """Where an upload is in its life."""

    PENDING = "PENDING"
    INITIALIZED = "INITIALIZED"
    UPLOADED = "UPLOADED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self not in _NEXT


_NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.INITIALIZED, Status.CANCELLED, Status.FAILED}),
    Status.INITIALIZED: frozenset({Status.UPLOADED, Status.CANCELLED, Status.EXPIRED, Status.FAILED}),
    Status.UPLOADED: frozenset({Status.COMPLETED, Status.FAILED}),
}


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
    """What people and programs say about an asset; stored and handed back unchanged."""

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
    promises_parts: bool = False  # whether the SHA-256 of every part is promised, should there be parts
    key: str = ""  # the object's key: the server's choice, see paths.py
    part_size_bytes: int = 0  # of every part but the last: the server's choice, see parts.py; 0: a single PUT
    # What the object is stored and served with. Not kept: `serving.served` fills them in when something is signed;
    # where it was forgotten nothing is shown, and no cache shares it.
    content_disposition: str = "attachment"
    cache_control: str = "private"


@dataclass(frozen=True, slots=True)
class Upload:
    """One attempt to bring one asset in."""

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
    targets_expire_time: datetime | None = None  # no write URL ever handed out lives longer
    write_url_lifetime: timedelta | None = None  # as the request asked; None: the server's choice
    sweep_time: datetime | None = None  # when the sweeper looks at it next; None: never
    is_swept: bool = False  # it is final, and its strays are deleted
    kept_for: timedelta = timedelta(days=30)  # how long its record outlives it
    # The store's own ids of the multipart uploads that were opened, by variant name; empty while PENDING.
    multipart_ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """The current status."""
        return self.history[-1].status

    @property
    def revision(self) -> int:
        """The revision of the current status."""
        return self.history[-1].revision

    @property
    def is_public(self) -> bool:
        """Whether the asset's URLs are unsigned and permanent: only when 0 hours were asked for."""
        return self.expiration_hours == 0

    @property
    def is_multipart(self) -> bool:
        """Whether a variant arrives in parts: something has to be opened at the store then."""
        return any(variant.part_size_bytes for variant in self.variants)

    @property
    def keys(self) -> list[str]:
        """Every key under which the store may hold something of it."""
        return [*(variant.key for variant in self.variants), *(self.cut_plan.keys if self.cut_plan else ())]

    def as_of(self, revision: int) -> "Upload":
        """Returns the upload as it was at that revision, 1 to the current one."""
        if revision == self.revision:
            return self
        return replace(self, history=self.history[:revision], failure=None)

    def initialized(self, now: datetime, targets_lifetime: timedelta, acted_by: str = "") -> "Upload":
        """The write targets are signed as of `now`, for that long but not beyond the deadline."""
        return self._moved(Status.INITIALIZED, now, acted_by=acted_by).with_targets(now, targets_lifetime)

    def renewed(self, now: datetime, targets_lifetime: timedelta) -> "Upload":
        """The write targets are signed anew: no status change. No instant ever goes back."""
        return self.with_targets(max(now, self.targets_signed_at or now), targets_lifetime)

    def with_targets(self, signed_at: datetime, lifetime: timedelta) -> "Upload":
        """Its targets are signed at that instant, for that long but not beyond the deadline.

        `lifetime` is the server's own: it counts where the request asked for none.
        """
        expire_time = min(signed_at + (self.write_url_lifetime or lifetime), self.expire_time)
        if self.targets_expire_time is not None:
            expire_time = max(expire_time, self.targets_expire_time)
        renewed = replace(self, targets_signed_at=signed_at, targets_expire_time=expire_time)
        return replace(renewed, sweep_time=renewed.next_look(signed_at))

    def next_look(self, now: datetime) -> datetime:
        """Returns when the sweeper looks at it next while its bytes may be on their way.

        At the end of its targets, 15 minutes and an hour after they were signed, then every 6 hours, and last at the
        deadline: so an upload whose client has vanished ends soon after its bytes are there, however long its write
        URLs live.
        """
        deadline = self.expire_time + SWEEP_MARGIN
        signed_at = self.targets_signed_at or self.create_time
        looks = [(self.targets_expire_time or signed_at), *(signed_at + after for after in FIRST_LOOKS)]
        looks.append(looks[-1] + max(1, (now - looks[-1]) // LOOK_INTERVAL + 1) * LOOK_INTERVAL)
        return min((look + SWEEP_MARGIN for look in looks if now < look + SWEEP_MARGIN < deadline), default=deadline)

    def uploaded(self, now: datetime, acted_by: str = "") -> "Upload":
        """The bytes are said to be there."""
        return self._moved(Status.UPLOADED, now, acted_by=acted_by)

    def completed(self, now: datetime, acted_by: str = "") -> "Upload":
        """Every variant is proved and the asset is in the ledger."""
        return self._moved(Status.COMPLETED, now, acted_by=acted_by)

    def cancelled(self, now: datetime, acted_by: str = "") -> "Upload":
        """Its owner gave it up."""
        return self._moved(Status.CANCELLED, now, "CANCELLED_BY_OWNER", acted_by)

    def expired(self, now: datetime) -> "Upload":
        """The deadline passed and variants are missing."""
        return self._moved(Status.EXPIRED, now, "DEADLINE_PASSED")

    def failed(self, now: datetime, failure: Failure, acted_by: str = "") -> "Upload":
        """What arrived is not what was promised, or the server cannot go on."""
        return replace(self._moved(Status.FAILED, now, failure.reason, acted_by), failure=failure)

    def may_become(self, status: Status) -> bool:
        """Whether the life of an upload leads from the current status to that one in one step."""
        return status in _NEXT.get(self.status, frozenset())

    def _moved(self, status: Status, now: datetime, reason: str = "", acted_by: str = "") -> "Upload":
        if not self.may_become(status):
            raise ValueError(f"an upload that is {self.status} cannot become {status}")
        # A clock that steps back must not make history run backwards.
        time = max(now, self.history[-1].time)
        change = StatusChange(self.revision + 1, status, time, reason, acted_by)
        return replace(self, history=(*self.history, change), sweep_time=self._next_sweep(status, time))

    def _next_sweep(self, status: Status, time: datetime) -> datetime | None:
        """Returns when the sweeper has something to do for an upload that takes on this status.

        Whoever works on an upload has WORK_LEASE; then its server counts as dead. What arrives through a write
        URL that still lives can only be deleted for good after that URL's end.
        """
        match status:
            case Status.PENDING | Status.UPLOADED:
                return time + WORK_LEASE
            case Status.INITIALIZED:
                return None  # `with_targets` knows
            case Status.COMPLETED:
                return time + self.kept_for
            case _:
                return max(time, self.targets_expire_time or time) + SWEEP_MARGIN


def asked_alike(one: Upload, other: Upload) -> bool:
    """Whether two uploads were asked for in the same words, whatever ids, keys and times the server gave.

    Of another session it may be: a process that goes on with an upload after a crash is a new one.
    """
    return _words(one) == _words(other)


def _words(upload: Upload) -> tuple[object, ...]:
    return (
        upload.uid,
        upload.partition,
        upload.asset_partition,
        upload.file_path,
        upload.expiration_hours,
        upload.details,
        # Records of earlier versions hold media types as they were sent.
        tuple(
            replace(variant, key="", part_size_bytes=0, content_type=canonical(variant.content_type))
            for variant in upload.variants
        ),
        None if upload.cut_plan is None else replace(upload.cut_plan, place=""),
        upload.notices,
        upload.write_url_lifetime,
    )
