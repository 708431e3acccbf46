"""Which picture formats are read, and how one is opened: by its first bytes, never by its name."""

import struct
import zlib
from collections.abc import Callable
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
from assetlane.version import install_command

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
_BOXED = {"image/avif": "AVIF", "image/heic": "HEIF", "image/heif": "HEIF"}  # which of them, only all brands tell


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


def opened(stream: IO[bytes]) -> tuple[ImageFile.ImageFile, str]:
    """Returns the picture, only its header read, and its media type. Raises ImageRefused.

    Not Image.open: that warns about large pictures through the process-wide warning filters, which
    cannot be changed safely in a thread, and has a limit that only a global can move.
    """
    prefix = stream.read(SNIFFED_BYTES)
    if not prefix:
        raise ImageRefused("IMAGE_EMPTY", "the picture is empty")
    name = _recognized(prefix)
    if name == "HEIF" and not has_heif():
        raise ImageRefused("IMAGE_EXTRA_MISSING", HEIF_HINT)
    stream.seek(0)
    try:
        return _factory(name)(stream, ""), CONTENT_TYPES[name]
    except BROKEN as error:
        raise ImageRefused("IMAGE_BROKEN", f"the picture's header is damaged: {error}") from error


def _recognized(prefix: bytes) -> str:
    if (name := _BOXED.get(detected(prefix))) is not None:
        return name
    for name in CONTENT_TYPES:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is not None and accept is not None and accept(prefix[:16]) is True:
            return name
    raise ImageRefused("IMAGE_UNRECOGNIZED", f"not a picture, or none of {', '.join(CONTENT_TYPES)}")


def _factory(name: str) -> Callable[[IO[bytes], str], ImageFile.ImageFile]:
    if name == "HEIF":
        from pillow_heif.as_plugin import HeifImageFile  # used as it is: nothing is registered for the process

        return HeifImageFile
    return Image.OPEN[name][0]
