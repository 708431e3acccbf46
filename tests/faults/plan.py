"""What a chaos test is going to do, drawn from a seed: the same seed gives the same plan. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Ending(StrEnum):
    """How an upload is led to its end."""

    COMPLETED = "completed"
    FAILED = "failed"  # what is in the store was replaced before completion
    CANCELLED = "cancelled"
    LOST = "lost"  # what is in the store was deleted: completion is refused, then it is cancelled
    OPEN = "open at the end"  # cancelled when all others have ended


ENDINGS: Final = {
    Ending.COMPLETED: 50,
    Ending.FAILED: 12,
    Ending.CANCELLED: 18,
    Ending.LOST: 5,
    Ending.OPEN: 15,
}
BUSY_SESSION: Final = "session-busy"
BUSY_SHARE: Final = 10  # one upload in so many belongs to the busy session
SESSION_SIZE: Final = 8  # uploads of every other session, about
BUSY_WATCHERS: Final = 20
SLOW_SHARE: Final = 20  # one watcher in so many stops reading now and then
SLOWEST_STEP_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """One upload: when it begins, how it ends, how long each step waits for the one before."""

    number: int
    session_id: str
    ending: Ending
    start_s: float
    put_after_s: float
    end_after_s: float


@dataclass(frozen=True, slots=True)
class WatcherPlan:
    """One watcher, of an upload (by number) or of a session."""

    number: int
    upload: int | None
    session_id: str
    is_thin: bool  # the client's watch, which resumes by itself; else a bare stub
    is_slow: bool
    after_revision: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    uploads: Sequence[UploadPlan]
    watchers: Sequence[WatcherPlan]


def planned(seed: int, *, uploads: int, watchers: int, duration_s: float) -> Plan:
    """Draws a plan whose uploads begin within `duration_s`; half of the watchers watch sessions."""
    dice = random.Random(seed)
    sessions = [f"session-{number}" for number in range(max(1, uploads // SESSION_SIZE))]
    return Plan(
        [
            UploadPlan(
                number=number,
                session_id=BUSY_SESSION if number % BUSY_SHARE == 0 else dice.choice(sessions),
                ending=dice.choices(list(ENDINGS), list(ENDINGS.values()))[0],
                start_s=dice.uniform(0, duration_s),
                put_after_s=dice.uniform(0, SLOWEST_STEP_S),
                end_after_s=dice.uniform(0, SLOWEST_STEP_S),
            )
            for number in range(uploads)
        ],
        [
            WatcherPlan(
                number=number,
                upload=dice.randrange(uploads) if number % 2 else None,
                session_id=BUSY_SESSION if number < 2 * BUSY_WATCHERS else sessions[number % len(sessions)],
                is_thin=number // 2 % 2 == 0,
                is_slow=number // 4 % SLOW_SHARE == 0,
                after_revision=dice.choice((0, 0, 1, 2)) if number % 2 else 0,
                delay_s=dice.uniform(0, SLOWEST_STEP_S),
            )
            for number in range(watchers)
        ],
    )
