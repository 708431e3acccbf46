"""The life of an upload as data: which status may follow which, who brings it about, and when. Pure.

The only place where it is written. `upload.py` moves by it, the model of `tests/faults` and the auditor of
`tests/simulation` judge by it, and the table in docs/how-it-works.md is made of it (`make state-table`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The status of an upload."""

    PENDING = "PENDING"
    INITIALIZED = "INITIALIZED"
    UPLOADED = "UPLOADED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_final(self) -> bool:
        """Whether no other status can follow."""
        return self in FINAL


class Actor(StrEnum):
    """Who brings a change about."""

    REQUEST = "RequestUpload"
    COMPLETE = "CompleteUpload"
    CANCEL = "CancelUpload"
    SWEEPER = "the sweeper"
    ERASE = "`assetlane-server erase`"


@dataclass(frozen=True, slots=True)
class Step:
    """One way from a status to the next. An upload begins with a step from nothing."""

    source: Status | None
    target: Status
    by: tuple[Actor, ...]
    when: str  # a clause for people


STEPS: Final = (
    Step(None, Status.PENDING, (Actor.REQUEST,), "the request is admitted and within the quotas"),
    Step(
        Status.PENDING,
        Status.INITIALIZED,
        (Actor.REQUEST,),
        "the write targets are signed; without parts, in the same write as PENDING",
    ),
    Step(Status.PENDING, Status.CANCELLED, (Actor.CANCEL,), "its owner gives it up"),
    Step(
        Status.PENDING,
        Status.FAILED,
        (Actor.SWEEPER, Actor.ERASE),
        "its server died before it had started the multipart upload",
    ),
    Step(
        Status.INITIALIZED,
        Status.UPLOADED,
        (Actor.COMPLETE, Actor.SWEEPER),
        "every variant is in the store; a separate write only where parts are assembled or cuts made next",
    ),
    Step(Status.INITIALIZED, Status.CANCELLED, (Actor.CANCEL,), "its owner gives it up"),
    Step(Status.INITIALIZED, Status.EXPIRED, (Actor.SWEEPER,), "the deadline has passed and a variant is missing"),
    Step(Status.INITIALIZED, Status.FAILED, (Actor.ERASE,), "everything of its owner is erased"),
    Step(
        Status.UPLOADED,
        Status.COMPLETED,
        (Actor.COMPLETE, Actor.SWEEPER),
        "every variant has been checked; the asset appears in the same write",
    ),
    Step(
        Status.UPLOADED,
        Status.FAILED,
        (Actor.COMPLETE, Actor.SWEEPER, Actor.ERASE),
        "a variant is not what was promised, its parts are refused, or a required cut cannot be made",
    ),
)

NEXT: Final[Mapping[Status, frozenset[Status]]] = {
    source: frozenset(step.target for step in STEPS if step.source is source)
    for source in Status
    if any(step.source is source for step in STEPS)
}
"""Which statuses may follow a status; a final one is not in it."""

FINAL: Final = frozenset(status for status in Status if status not in NEXT)
