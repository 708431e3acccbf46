"""Makes the cuts of a picture: pure Pillow, bytes or a path in, encoded cuts out.

Which cuts: every size smaller than the picture; then, once, the next size up at the picture's own
measure; never enlarged. With small 300, medium 600, large 900 a picture of 2,000 px has all three, one of
500 px has `small` at 300 and `medium` at 500, one of 200 px has only `small`, at 200.

How: EXIF orientation is applied; EXIF, GPS, XMP and comments are dropped; an ICC profile that fits is kept.
A picture with transparency becomes WebP if it was WebP or AVIF, otherwise PNG; all others become JPEG.
An animation gives a still of its first frame.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from assetlane.errors import ImageRefused as ImageRefused  # whoever calls make_cuts meets it


@dataclass(frozen=True, slots=True)
class CutSize:
    """A cut to make: its name, and the length of its longest side in pixels."""

    name: str
    max_edge_px: int


STANDARD_CUTS = (CutSize("small", 300), CutSize("medium", 600), CutSize("large", 900))
MAX_PIXELS = 100_000_000
JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Cut:
    """One encoded cut, ready to be stored."""

    name: str
    content_type: str
    data: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture is: its media type, its size as shown, its average colour `#rrggbb`, and its cuts."""

    content_type: str
    width_px: int
    height_px: int
    color: str
    cuts: tuple[Cut, ...]


# Importing a plugin registers it. Only these are tried on what strangers send: no EPS, no PSD, no icons.
_PLUGINS = (
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    AvifImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
)
_CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # what phones write: a JPEG with more pictures behind the first
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "HEIF": "image/heic",  # tried when a plugin for it is registered
}
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/mpo": "image/jpeg",
    "image/apng": "image/png",
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
}
# What Pillow's parsers are seen to raise on damaged files; Warning for callers who make warnings errors.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)

_ORIENTATION_TAG = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def readable(content_type: str) -> bool:
    """Returns whether pictures of this media type can be read here."""
    essence = _essence(content_type)
    return any(mime == essence and name in Image.OPEN for name, mime in _CONTENT_TYPES.items())


def make_cuts(
    source: Path | bytes,
    sizes: Sequence[CutSize] = STANDARD_CUTS,
    *,
    content_type: str | None = None,
    max_pixels: int = MAX_PIXELS,
    jpeg_quality: int = JPEG_QUALITY,
) -> Picture:
    """Returns what the picture is, and its cuts from small to large.

    With `content_type` the picture must be what that says. Raises ImageRefused for what cannot be read,
    is mislabelled, broken, or has more than `max_pixels`; OSError when the file cannot be opened.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        image = _open(stream)
        with image:
            found = _CONTENT_TYPES[image.format or ""]
            if content_type is not None and _essence(content_type) != found:
                raise ImageRefused("IMAGE_MISLABELLED", f"the picture is {found}, not {content_type}")
            width, height = image.size
            if width * height > max_pixels:
                raise ImageRefused(
                    "IMAGE_TOO_LARGE",
                    f"the picture has {width} x {height} pixels, at most {max_pixels:,} are allowed",
                )
            try:
                return _cut(image, found, sorted(sizes, key=lambda size: size.max_edge_px), jpeg_quality)
            except _BROKEN as error:
                raise ImageRefused("IMAGE_BROKEN", f"the picture is truncated or damaged: {error}") from error


def _open(stream: IO[bytes]) -> ImageFile.ImageFile:
    """Returns the picture, only its header read.

    Not Image.open: that warns about large pictures through the process-wide warning filters, which
    cannot be changed safely in a thread, and has a limit that only a global can move.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageRefused("IMAGE_EMPTY", "the picture is empty")
    for name in _CONTENT_TYPES:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and accept(prefix) is not True):
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except _BROKEN as error:
            raise ImageRefused("IMAGE_BROKEN", f"the picture's header is damaged: {error}") from error
    raise ImageRefused("IMAGE_UNRECOGNIZED", f"not a picture, or none of {', '.join(_CONTENT_TYPES)}")


def _cut(image: ImageFile.ImageFile, content_type: str, sizes: Sequence[CutSize], quality: int) -> Picture:
    """Decodes no larger than needed, then cuts from large to small, each from the one before."""
    size = image.size
    largest = sizes[-1].max_edge_px if sizes else 1
    # JPEG decodes at 1/2, 1/4 or 1/8 for less than half the time; twice the target keeps it sharp.
    drafted = image.draft(None, _fitted(size, 2 * largest)) is not None
    image.load()
    if not drafted:
        size = image.size  # a TIFF turns itself while loading
    orientation = _orientation(image)
    if orientation >= 5:
        size = size[1], size[0]
    icc = image.info.get("icc_profile")
    current, icc = _plain(image, icc if isinstance(icc, bytes) else None)
    current.info = {}  # a comment or XMP left here would be saved again

    made: list[Cut] = []
    turned = False
    for cut in reversed(_wanted(size, sizes)):
        target = _fitted(size, cut.max_edge_px)
        if not turned:
            target = target[::-1] if orientation >= 5 else target
        if current.size != target:
            current = current.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
        if not turned:
            current, turned = _turned(current, orientation), True
            if current.mode == "RGBA" and current.getchannel("A").getextrema() == (255, 255):
                current = current.convert("RGB")
        made.append(_encoded(cut.name, current, content_type, icc, quality))
    return Picture(content_type, *size, _average_color(current), tuple(reversed(made)))


def _wanted(size: tuple[int, int], sizes: Sequence[CutSize]) -> list[CutSize]:
    """Returns the sizes smaller than the picture and the first that is not."""
    longest = max(size)
    smaller = [cut for cut in sizes if cut.max_edge_px < longest]
    return [*smaller, *[cut for cut in sizes if cut.max_edge_px >= longest][:1]]


def _fitted(size: tuple[int, int], max_edge_px: int) -> tuple[int, int]:
    """Returns the size scaled down to `max_edge_px` on its longest side, at least one pixel each way."""
    scale = min(1.0, max_edge_px / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8. Damaged EXIF does not spoil a picture: 1."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN:
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    transposition = _TRANSPOSITIONS.get(orientation)
    return image if transposition is None else image.transpose(transposition)


def _plain(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Returns the picture as L, RGB or RGBA with the profile that still fits it."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode == "CMYK":
        return _from_cmyk(image, icc), None
    elif image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    space = b"GRAY" if image.mode == "L" else b"RGB "
    return image, icc if icc is not None and icc[16:20] == space else None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns grey of 16 or 32 bits as L; Pillow's own conversion cuts everything above 255 off."""
    if image.mode not in ("I", "I;16", "F"):
        image = image.convert("I")
    top = image.getextrema()[1]
    white = float(top) if isinstance(top, int | float) else 65535.0
    if not image.mode.startswith("F") and white <= 65535:
        white = 65535.0
    factor = 255.0 / white if white > 0 else 1.0
    return image.point(lambda value: value * factor + 0).convert("L")


def _from_cmyk(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc is not None:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            srgb = ImageCms.createProfile("sRGB")
            turned = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            turned = None  # a damaged profile: the plain formula is better than no picture
        if turned is not None:
            return turned
    return image.convert("RGB")


def _encoded(name: str, image: Image.Image, origin: str, icc: bytes | None, quality: int) -> Cut:
    encoded = io.BytesIO()
    if image.mode != "RGBA":
        content_type = "image/jpeg"
        image.save(encoded, "JPEG", quality=quality, icc_profile=icc)
    elif origin in ("image/webp", "image/avif"):
        content_type = "image/webp"
        image.save(encoded, "WEBP", quality=quality, icc_profile=icc)
    else:
        content_type = "image/png"
        image.save(encoded, "PNG", icc_profile=icc)
    return Cut(name, content_type, encoded.getvalue(), *image.size)


def _average_color(image: Image.Image) -> str:
    """Returns the mean of all pixels, each counted by its opacity."""
    dot = image.resize((1, 1), Image.Resampling.BOX, reducing_gap=2.0)
    pixel = dot.convert("RGBA").getpixel((0, 0))
    return "#{:02x}{:02x}{:02x}".format(*pixel[:3]) if isinstance(pixel, tuple) else ""


def _essence(content_type: str) -> str:
    essence = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(essence, essence)
