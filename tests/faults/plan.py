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
    LATE = "completed at the end"  # when all others have ended
    OPEN = "cancelled at the end"


ENDINGS: Final = {
    Ending.COMPLETED: 50,
    Ending.FAILED: 12,
    Ending.CANCELLED: 18,
    Ending.LOST: 5,
    Ending.LATE: 8,
    Ending.OPEN: 7,
}
BUSY_SESSION: Final = "session-busy"
BUSY_SHARE: Final = 10  # one upload in so many belongs to the busy session
SESSION_SIZE: Final = 8  # uploads of every other session, about
BUSY_WATCHERS: Final = 20
SLOW_SHARE: Final = 20  # one watcher in so many is slow, and all of the busy session
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
    is_slow: bool  # stops reading now and then, for seconds
    pause_share: float  # of the events, after which it does
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
        [_watcher(dice, number, uploads, sessions) for number in range(watchers)],
    )


def _watcher(dice: random.Random, number: int, uploads: int, sessions: Sequence[str]) -> WatcherPlan:
    watches_session = number % 2 == 0
    is_busy = watches_session and number < 2 * BUSY_WATCHERS
    return WatcherPlan(
        number=number,
        upload=None if watches_session else dice.randrange(uploads),
        session_id=BUSY_SESSION if is_busy else sessions[number % len(sessions)],
        is_thin=number // 2 % 2 == 0,
        is_slow=is_busy or number // 4 % SLOW_SHARE == 0,
        pause_share=0.02 if is_busy else 0.2,
        after_revision=0 if watches_session else dice.choice((0, 0, 1, 2)),
        delay_s=dice.uniform(0, SLOWEST_STEP_S),
    )
