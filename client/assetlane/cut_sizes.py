"""Which cuts to make and how to encode them. Pure, and without Pillow: naming them does not load it."""

from dataclasses import dataclass
from typing import Literal, get_args

MAX_EDGE_PX = 16_383  # WebP ends there

Format = Literal["auto", "jpeg", "webp", "png"]


@dataclass(frozen=True, slots=True)
class CutSize:
    """A cut to make: its name, and the length of its longest side in pixels, 1 to 16,383."""

    name: str
    max_edge_px: int

    def __post_init__(self) -> None:
        if not 1 <= self.max_edge_px <= MAX_EDGE_PX:
            raise ValueError(f"a cut has 1 to {MAX_EDGE_PX} pixels on its longest side, not {self.max_edge_px}")


STANDARD_CUTS = (CutSize("small", 300), CutSize("medium", 600), CutSize("large", 900))


@dataclass(frozen=True, slots=True)
class CutOptions:
    """How cuts are encoded, and how large a picture may be.

    `format` `auto`: a picture with transparency becomes WebP if it was WebP, AVIF or HEIC, otherwise PNG; all
    others become JPEG. `jpeg` lays transparency over white, `webp` and `png` keep it.
    `quality`: of JPEG and WebP, 1 to 95. `max_pixels`: pictures with more are refused before they are decoded.
    """

    format: Format = "auto"
    quality: int = 85
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise ValueError(f"format is one of {', '.join(get_args(Format))}, not {self.format!r}")
        if not 1 <= self.quality <= 95:  # above that JPEG files only grow
            raise ValueError(f"quality is 1 to 95, not {self.quality}")


STANDARD_OPTIONS = CutOptions()
