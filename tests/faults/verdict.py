"""Judges what a watcher saw against the history in MongoDB. Pure.

The promise has four parts (etcd's words): *ordered*, *unique*, *complete*, *resumable*. A record is all that
one watcher saw over all its connections, so a resume that repeats or leaves out shows in the first three.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """One status event as a watcher saw it."""

    upload_id: str
    revision: int
    status: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a record; nothing is when all are empty."""

    missed: tuple[Sighting, ...] = ()
    repeated: tuple[Sighting, ...] = ()
    out_of_order: tuple[Sighting, ...] = ()
    foreign: tuple[Sighting, ...] = ()
    """Seen, but not in the history: another upload's, or another status."""

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.missed or self.repeated or self.out_of_order or self.foreign)

    def __str__(self) -> str:
        """Counts what is wrong."""
        return (
            f"{len(self.missed)} missed, {len(self.repeated)} repeated,"
            f" {len(self.out_of_order)} out of order, {len(self.foreign)} foreign"
        )

    def __add__(self, other: "Verdict") -> "Verdict":
        """Returns both verdicts in one."""
        return Verdict(
            self.missed + other.missed,
            self.repeated + other.repeated,
            self.out_of_order + other.out_of_order,
            self.foreign + other.foreign,
        )


def judge(
    seen: Iterable[Sighting], histories: Mapping[str, Sequence[str]], after: Mapping[str, int] | None = None
) -> Verdict:
    """Judges one record.

    `histories`: the statuses of every upload that the watcher had to see, the first is revision 1.
    `after`: the revision after which its watch of an upload began, 0 when not named.
    """
    due = [
        Sighting(upload_id, revision, status)
        for upload_id, statuses in histories.items()
        for revision, status in enumerate(statuses, start=1)
        if revision > (after or {}).get(upload_id, 0)
    ]
    expected = frozenset(due)
    times: Counter[Sighting] = Counter()
    newest: dict[str, int] = {}
    repeated, out_of_order, foreign = [], [], []
    for sighting in seen:
        times[sighting] += 1
        if sighting not in expected:
            foreign.append(sighting)
        elif times[sighting] > 1:
            repeated.append(sighting)
        elif sighting.revision < newest.get(sighting.upload_id, 0):
            out_of_order.append(sighting)
        else:
            newest[sighting.upload_id] = sighting.revision
    missed = tuple(sighting for sighting in due if not times[sighting])
    return Verdict(missed, tuple(repeated), tuple(out_of_order), tuple(foreign))
