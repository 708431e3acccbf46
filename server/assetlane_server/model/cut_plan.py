"""Which cuts the server is to make of a picture, and what it made. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from assetlane_server.model.errors import FieldViolation
from assetlane_server.model.paths import fault_in_variant_name

MAX_CUTS = 8
MAX_CUT_EDGE_PX = 8192
MAX_QUALITY = 95  # above it, bytes grow and nobody sees why
DEFAULT_QUALITY = 85
_RESERVED = frozenset({"original", "preview"})


class CutFormat(StrEnum):
    """How cuts are encoded."""

    AUTO = "AUTO"  # JPEG; with transparency WebP or PNG, as the original was
    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"


_ENDINGS = {
    CutFormat.AUTO: (".jpg", ".png", ".webp"),
    CutFormat.JPEG: (".jpg",),
    CutFormat.PNG: (".png",),
    CutFormat.WEBP: (".webp",),
}
_ENDING_OF = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


@dataclass(frozen=True, slots=True)
class CutSize:
    """A cut to make: its name, and the length of its longest side."""

    name: str
    max_edge_px: int


STANDARD_SIZES = (CutSize("small", 300), CutSize("medium", 600), CutSize("large", 900))


@dataclass(frozen=True, slots=True)
class CutPlan:
    """The cuts that the server makes once the original is proved."""

    sizes: tuple[CutSize, ...] = STANDARD_SIZES
    format: CutFormat = CutFormat.AUTO
    quality: int = DEFAULT_QUALITY  # of JPEG and WebP, 1 to 95
    required: bool = False  # whether the upload fails when there can be no cuts; else the asset says why there are none
    place: str = ""  # what the keys of its cuts begin with: the server's choice

    def key(self, name: str, content_type: str) -> str:
        """Returns the key of a cut. Raises KeyError for a type that no cut has."""
        return f"{self.place}{name}{_ENDING_OF[content_type]}"

    @property
    def keys(self) -> list[str]:
        """Every key that one of its cuts may have: which format a cut gets is known when it is made.

        None without a place: it is not known yet, or erased.
        """
        if not self.place:
            return []
        return [f"{self.place}{size.name}{ending}" for size in self.sizes for ending in _ENDINGS[self.format]]


@dataclass(frozen=True, slots=True)
class MadeCut:
    """One encoded cut; its bytes are in the hands of the process that made it."""

    name: str
    content_type: str
    size_bytes: int
    sha256: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class MadePicture:
    """What a picture turned out to be, and its cuts."""

    width_px: int  # as shown, orientation applied
    height_px: int
    color: str  # the average, `#rrggbb`
    cuts: tuple[MadeCut, ...]


def faults_in_plan(plan: CutPlan, taken: frozenset[str]) -> Iterator[FieldViolation]:
    """Yields what is wrong with a plan; `taken` are the names of the promised variants."""
    if not 1 <= len(plan.sizes) <= MAX_CUTS:
        yield FieldViolation(
            "cut_plan.sizes", f"there are {len(plan.sizes)}, there must be 1 to {MAX_CUTS}", "WRONG_COUNT"
        )
        return
    names, edges = set(taken), set()
    for index, size in enumerate(plan.sizes):
        here = f"cut_plan.sizes[{index}]"
        if fault := fault_in_variant_name(size.name):
            yield FieldViolation(f"{here}.name", fault.message, fault.reason)
        elif size.name in _RESERVED:
            yield FieldViolation(f"{here}.name", f"{size.name!r} is no cut's name", "RESERVED")
        elif size.name in names:
            yield FieldViolation(f"{here}.name", f"{size.name!r} is there twice, here or among the variants", "TWICE")
        names.add(size.name)
        if not 1 <= size.max_edge_px <= MAX_CUT_EDGE_PX:
            yield FieldViolation(
                f"{here}.max_edge_px", f"is {size.max_edge_px}, it must be 1 to {MAX_CUT_EDGE_PX:,}", "OUT_OF_RANGE"
            )
        elif size.max_edge_px in edges:
            yield FieldViolation(f"{here}.max_edge_px", f"{size.max_edge_px} is there twice", "TWICE")
        edges.add(size.max_edge_px)
    if not 1 <= plan.quality <= MAX_QUALITY:
        yield FieldViolation(
            "cut_plan.quality",
            f"is {plan.quality}, it must be 1 to {MAX_QUALITY}, or 0 for the default",
            "OUT_OF_RANGE",
        )
