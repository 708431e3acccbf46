"""Makes the cuts of a picture: pure Pillow, bytes or a path in, encoded cuts out.

Which cuts: every size smaller than the picture; then, once, the next size up at the picture's own
measure, marked `is_full_size`; never enlarged. With small 300, medium 600, large 900 a picture of 2,000 px
has all three, one of 500 px has `small` at 300 and `medium` at 500, one of 200 px has only `small`, at 200.

How: EXIF orientation is applied, no other; EXIF, GPS, XMP and comments are dropped, and damage in them does not
matter; an ICC profile that fits is kept, by one of more than 128 KiB the colours become sRGB.
An animation gives a still of its first frame. What a cut is encoded as is CutOptions' business.

Arguments and results can be pickled, ImageRefused too: `make_cuts` is made to be called in another process.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from assetlane.cut_sizes import MAX_EDGE_PX, STANDARD_CUTS, STANDARD_OPTIONS, CutOptions, CutSize, Format
from assetlane.errors import ImageRefused
from assetlane.formats import BROKEN, Opened, essence, opened, readable, refusal_of
from assetlane.hdr import primaries_of, still_tone_mapped, transfer_of
from assetlane.pixels import average_color, cleared_outside, fits, in_srgb, plain, turned

__all__ = [
    "MAX_EDGE_PX",
    "STANDARD_CUTS",
    "STANDARD_OPTIONS",
    "Cut",
    "CutOptions",
    "CutSize",
    "Format",
    "ImageRefused",
    "Picture",
    "make_cuts",
    "make_cuts_of_image",
    "readable",
]

# JPEG decodes at 1/2, 1/4 or 1/8 for half the time. Cut from less than 1.6 times the target it is no
# longer what a cut from all pixels is: well below 40 dB, where people begin to see it (tests/client/test_cuts.py).
DRAFT_MARGIN = 1.6
KEPT_ICC_BYTES = 128 * 1024  # a larger profile would often outweigh its cut: the colours become sRGB instead
REDUCING_GAP = 2.0  # likewise for all other formats: whole pixels are averaged down to twice the target


@dataclass(frozen=True, slots=True)
class Cut:
    """One encoded cut, ready to be stored. `is_full_size`: the picture is no larger, so it was not scaled."""

    name: str
    content_type: str
    data: bytes
    width_px: int
    height_px: int
    is_full_size: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture is: its media type, its size as shown, its average colour `#rrggbb`, and its cuts."""

    content_type: str
    width_px: int
    height_px: int
    color: str
    cuts: tuple[Cut, ...]


def make_cuts(
    source: Path | bytes,
    sizes: Sequence[CutSize] = STANDARD_CUTS,
    *,
    content_type: str | None = None,
    options: CutOptions = STANDARD_OPTIONS,
) -> Picture:
    """Returns what the picture is, and its cuts from small to large.

    With `content_type` the picture must be what that says. Raises ImageRefused for what cannot be read,
    is mislabelled, broken, or has more than `options.max_pixels`; OSError when the file cannot be opened.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        found = opened(stream, options.max_pixels)
        with found.image:
            if content_type is not None and essence(content_type) != found.content_type:
                raise ImageRefused("IMAGE_MISLABELLED", f"the picture is {found.content_type}, not {content_type}")
            check_pixels(found.image.size, options)
            try:
                return _cut(found, sizes, options)
            except BROKEN as error:
                raise refusal_of(error, "the picture is truncated or damaged") from error


def make_cuts_of_image(image: Image.Image, sizes: Sequence[CutSize], options: CutOptions) -> Picture:
    """Returns the cuts of an upright RGB picture that is in memory already, such as a frame of a video."""
    return _cascade(image, image.size, 1, None, None, "image/jpeg", sizes, options)


def check_pixels(size: tuple[int, int], options: CutOptions) -> None:
    """Raises ImageRefused when a picture of that size is too large."""
    width, height = size
    if width * height > options.max_pixels:
        raise ImageRefused(
            "IMAGE_TOO_LARGE",
            f"the picture has {width} x {height} pixels, at most {options.max_pixels:,} are allowed",
        )


def encoded(name: str, image: Image.Image, origin: str, icc: bytes | None, options: CutOptions) -> Cut:
    """Returns an L, RGB or RGBA picture as a cut. `origin`: what media type the picture came as."""
    chosen = _format(image, origin, options)
    if chosen == "jpeg" and image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    elif chosen == "webp" and image.mode == "L":
        image = image.convert("RGB")  # WebP has no grey: a grey profile would not fit any more
    settings = {} if chosen == "png" else {"quality": options.quality}
    file = io.BytesIO()
    image.save(file, chosen, icc_profile=icc if fits(icc, image) else None, **settings)
    return Cut(name, f"image/{chosen}", file.getvalue(), *image.size)


def _format(image: Image.Image, origin: str, options: CutOptions) -> Format:
    if options.format != "auto":
        return options.format
    if image.mode != "RGBA":
        return "jpeg"
    return "webp" if origin in ("image/webp", "image/avif", "image/heic") else "png"


def _cut(found: Opened, sizes: Sequence[CutSize], options: CutOptions) -> Picture:
    """Decodes no larger than needed, then cuts."""
    image = found.image
    size = image.size
    largest = max((cut.max_edge_px for cut in sizes), default=1)
    image.draft(None, _fitted(size, math.ceil(DRAFT_MARGIN * largest)))
    image.load()
    if found.orientation >= 5:
        size = size[1], size[0]
    current, icc = plain(image, found.icc, white=found.white, inverted=found.inverted)
    if found.frame is not None and found.frame != (0, 0, *image.size):
        current = cleared_outside(current, found.frame)
    current.info = {}  # a comment or XMP left here would be saved again
    in_colors: Callable[[Image.Image], Image.Image] | None = None
    if found.coding is not None and (transfer := transfer_of(found.coding[1])) is not None:
        in_colors = partial(still_tone_mapped, transfer=transfer, primaries=primaries_of(found.coding[0]))
        icc = None
    elif icc is not None and len(icc) > KEPT_ICC_BYTES:
        in_colors = partial(in_srgb, icc=icc)
        icc = None
    return _cascade(current, size, found.orientation, icc, in_colors, found.content_type, sizes, options)


def _cascade(
    current: Image.Image,
    size: tuple[int, int],
    way_up: int,
    icc: bytes | None,
    in_colors: Callable[[Image.Image], Image.Image] | None,
    content_type: str,
    sizes: Sequence[CutSize],
    options: CutOptions,
) -> Picture:
    """Cuts from large to small, each from the one before. `size`: of the whole picture, upright.

    It is the largest cut that is turned upright, brought to sRGB by `in_colors` if need be, and looked through for
    transparency, not the picture.
    """
    made: list[Cut] = []
    for cut in reversed(_wanted(size, sizes)):
        target = _fitted(size, cut.max_edge_px)
        lying = target[::-1] if way_up >= 5 else target
        if current.size != lying:
            current = current.resize(lying, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
        current, way_up = turned(current, way_up), 1
        if in_colors is not None:
            current, in_colors = in_colors(current), None
        if current.mode == "RGBA" and current.getchannel("A").getextrema() == (255, 255):
            current = current.convert("RGB")
        made.append(replace(encoded(cut.name, current, content_type, icc, options), is_full_size=target == size))
    return Picture(content_type, *size, average_color(current), tuple(reversed(made)))


def _wanted(size: tuple[int, int], sizes: Sequence[CutSize]) -> list[CutSize]:
    """Returns the sizes smaller than the picture and the first that is not, small to large."""
    longest = max(size)
    ascending = sorted(sizes, key=lambda cut: cut.max_edge_px)
    smaller = [cut for cut in ascending if cut.max_edge_px < longest]
    return [*smaller, *[cut for cut in ascending if cut.max_edge_px >= longest][:1]]


def _fitted(size: tuple[int, int], max_edge_px: int) -> tuple[int, int]:
    """Returns the size scaled down to `max_edge_px` on its longest side, at least one pixel each way."""
    scale = min(1.0, max_edge_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
