"""What a benchmark found: figures, what they are held against, and whether a goal was met. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

NOT_A_NUMBER: Final = "-"


class Bound(StrEnum):
    """Which side of its limit a good figure is on."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


class Measure(StrEnum):
    """What of a figure a goal is about."""

    VALUE = "value"
    RATIO = "ratio"  # the figure divided by its peer's
    EXCESS = "excess"  # the figure minus its peer's, in the figure's unit


@dataclass(frozen=True, slots=True)
class Peer:
    """The same thing, done by somebody else in the same run."""

    name: str
    value: float  # in the figure's unit


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be."""

    bound: Bound
    limit: float
    measure: Measure = Measure.VALUE

    def is_met_by(self, figure: "Figure") -> bool:
        """Whether the figure is on the right side. Raises ValueError when it has no peer and needs one."""
        found = {Measure.VALUE: figure.value, Measure.RATIO: figure.ratio, Measure.EXCESS: figure.excess}[self.measure]
        if found is None:
            raise ValueError(f"{figure.name!r} has no peer to be held against")
        return found <= self.limit if self.bound is Bound.AT_MOST else found >= self.limit

    def formatted(self, figure: "Figure") -> str:
        """Returns the goal as people read it."""
        limit = f"{self.bound} {self.limit:g}"
        match self.measure:
            case Measure.RATIO:
                return f"{limit} x"
            case Measure.EXCESS:
                return f"{limit} {figure.unit} above"
        return f"{limit} {figure.unit}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: a median, unless its name says otherwise."""

    name: str
    value: float
    unit: str
    peer: Peer | None = None
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """The figure divided by its peer's; None without a peer, or when the peer's is nothing."""
        return self.value / self.peer.value if self.peer is not None and self.peer.value else None

    @property
    def excess(self) -> float | None:
        """The figure minus its peer's."""
        return self.value - self.peer.value if self.peer is not None else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        return None if self.goal is None else self.goal.is_met_by(self)

    def as_json(self) -> dict[str, object]:
        """Returns the figure for `latest.json`; what does not apply is left out."""
        entry: dict[str, object] = {"name": self.name, "value": _rounded(self.value), "unit": self.unit}
        if self.peer is not None:
            entry["peer"] = {"name": self.peer.name, "value": _rounded(self.peer.value)}
        if self.ratio is not None:
            entry["ratio"] = _rounded(self.ratio)
        if self.goal is not None:
            entry["goal"] = self.goal.formatted(self)
            entry["met"] = self.is_met
        return entry


@dataclass(frozen=True, slots=True)
class Finding:
    """All figures of one benchmark, and what a reader has to know about them."""

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def formatted(value: float | None) -> str:
    """Returns a number with three or four digits that count."""
    if value is None:
        return NOT_A_NUMBER
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
