"""Which picture formats are read, and how one is opened: by its first bytes, never by its name, without metadata."""

import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import IO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from assetlane.detection import SNIFFED_BYTES, detected
from assetlane.errors import ImageRefused
from assetlane.metadata import StrippedFile, essentials, orientation_of
from assetlane.version import install_command

logger = logging.getLogger(__name__)

# Importing a plugin registers it. Only these are tried on what strangers send: no EPS, no PSD, no icons.
PLUGINS = (
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    AvifImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
)
CONTENT_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # what phones write: a JPEG with more pictures behind the first
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "HEIF": "image/heic",  # with the extra `heif`
}
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/mpo": "image/jpeg",
    "image/apng": "image/png",
    "image/x-png": "image/png",
    "image/heif": "image/heic",
    "image/heic-sequence": "image/heic",
    "image/heif-sequence": "image/heic",
    "image/x-ms-bmp": "image/bmp",
    "image/x-bmp": "image/bmp",
}
# What Pillow's parsers are seen to raise on damaged files; Warning for callers who make warnings errors.
BROKEN = (
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

HEIF_HINT = f"HEIC pictures are read with an extra: {install_command('heif')}"
_BOXED = {"image/avif": "AVIF", "image/heic": "HEIF", "image/heif": "HEIF"}  # all of their brands show which it is


def essence(content_type: str) -> str:
    """Returns the media type without parameters, lower case, under its usual name."""
    bare = content_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def is_picture(content_type: str) -> bool:
    """Returns whether this is a media type of pictures that are read, with the extra `heif` if need be."""
    return essence(content_type) in CONTENT_TYPES.values()


def readable(content_type: str) -> bool:
    """Returns whether pictures of this media type can be read here; HEIC only with its extra."""
    return is_picture(content_type) and (essence(content_type) != "image/heic" or has_heif())


def has_heif() -> bool:
    """Returns whether the extra `heif` is installed."""
    return find_spec("pillow_heif") is not None


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture of which only the header is read.

    `orientation`, `icc`, `frame` and `coding` are as in Essentials. Of grey of more than 8 bits, `inverted`: its
    samples rise from white to black; `white`: the largest value of a sample.
    """

    image: ImageFile.ImageFile
    content_type: str
    orientation: int
    icc: bytes | None
    frame: tuple[int, int, int, int] | None
    inverted: bool
    white: int
    coding: tuple[int, int] | None


def opened(stream: IO[bytes], max_pixels: int) -> Opened:
    """Returns the picture, without the metadata of its file. Raises ImageRefused.

    Not Image.open: that warns about large pictures through the process-wide warning filters, which
    cannot be changed safely in a thread, and has a limit that only a global can move.
    """
    name = _name(stream)
    if name == "HEIF" and not has_heif():
        raise ImageRefused("IMAGE_EXTRA_MISSING", HEIF_HINT)
    try:
        found = essentials(stream, name)
        _check_parts(found, max_pixels)
        image = _factory(name)(found.stream, "")
    except BROKEN as error:
        raise refusal_of(error, "the picture's header is damaged, or of a kind that is not read") from error
    exif, icc = image.info.get("exif"), found.icc or image.info.get("icc_profile")
    # Some decoders take XMP for EXIF where there is none.
    for metadata in ("exif", "xmp", "XML:com.adobe.xmp"):
        image.info.pop(metadata, None)
    return Opened(
        image,
        CONTENT_TYPES[name],
        orientation_of(exif) if isinstance(exif, bytes) else found.orientation,
        icc if isinstance(icc, bytes) else None,
        found.frame,
        found.inverted,
        2**found.bits - 1 if 8 < found.bits < 16 else 65_535,
        found.coding,
    )


def refusal_of(error: Exception, message: str) -> ImageRefused:
    """Returns the refusal for what Pillow raised: it has limits of its own too."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageRefused("IMAGE_TOO_LARGE", "the picture has more pixels than can be read")
    return ImageRefused("IMAGE_BROKEN", message)


def _check_parts(found: StrippedFile, max_pixels: int) -> None:
    """Raises ImageRefused for a frame or tile over the limit: Pillow would only warn, on the user's terminal."""
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    width, height = found.tile or (found.frame[2:] if found.frame else (0, 0))
    if width * height > limit:
        raise ImageRefused(
            "IMAGE_TOO_LARGE", f"the picture has parts of {width} x {height} pixels, at most {limit:,} are allowed"
        )


def _name(stream: IO[bytes]) -> str:
    """Returns Pillow's name of the format; the stream is at its start before and after."""
    prefix = stream.read(SNIFFED_BYTES)
    stream.seek(0)
    if not prefix:
        raise ImageRefused("IMAGE_EMPTY", "the picture is empty")
    return _recognized(prefix)


def _recognized(prefix: bytes) -> str:
    if (name := _BOXED.get(detected(prefix))) is not None:
        return name
    for name in CONTENT_TYPES:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is not None and accept is not None and accept(prefix[:16]) is True:
            return name
    raise ImageRefused(
        "IMAGE_UNRECOGNIZED",
        "not a picture, or of a format that is not read: JPEG, PNG, WebP, GIF, AVIF, TIFF, BMP, HEIC",
    )


def _factory(name: str) -> Callable[[IO[bytes], str], ImageFile.ImageFile]:
    if name == "HEIF":
        from pillow_heif.as_plugin import HeifImageFile  # used as it is: nothing is registered for the process

        return HeifImageFile
    if name == "TIFF":
        _silence_libtiff()
    if name == "JPEG":  # not its factory: that looks for more pictures behind the first
        return JpegImagePlugin.JpegImageFile
    return Image.OPEN[name][0]


@cache
def _silence_libtiff() -> None:
    """Keeps libtiff from writing about damaged files to the terminal; Pillow does the same with its warnings.

    Errors are raised as before. Where the library cannot be reached by name (Windows) it goes on writing.
    """
    import ctypes  # only TIFF wants it

    core = find_spec("PIL._imaging")
    try:
        ctypes.CDLL(core.origin if core else None).TIFFSetErrorHandler(None)
    except (AttributeError, OSError, TypeError) as error:
        logger.debug("libtiff may write to the terminal: %r", error)
