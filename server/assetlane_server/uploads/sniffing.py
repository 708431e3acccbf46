"""Whether bytes are what their declared type says, by their first few kilobytes. Pure.

Only types that browsers and players act on are looked at: pictures, sound, video and PDF. What cannot be told is
let through; what is told to be something else is not.
"""

import puremagic

from assetlane_server.uploads.upload import Failure, VariantPromise, essence

SNIFFED_BYTES = 4096

# Two bytes alone, such as a byte order mark, prove nothing: noise has them too.
_FAIR = 0.3
_PDF = "application/pdf"
_SVG = "image/svg+xml"
# Other names of the same thing, as callers and the table of signatures use them.
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/heic": "image/heif",
    "image/heif-sequence": "image/heif",
    "image/heic-sequence": "image/heif",
    "image/x-ms-bmp": "image/bmp",
    "application/ogg": "video/ogg",
    "application/x-matroska": "video/x-matroska",
}
# Types that always begin with their signature.
_SURE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif",
                   "image/heif", _PDF})  # fmt: skip


def is_sniffed(content_type: str) -> bool:
    """Whether anything can be said about bytes of this type."""
    declared = essence(content_type)
    return declared == _PDF or _kind(declared) in ("image", "media")


def mislabelled(promise: VariantPromise, start: bytes) -> Failure | None:
    """Returns how the first bytes of an object belie its declared type, None if they do not."""
    declared = _named(essence(promise.content_type))
    told = _told(start, _FAIR)
    if declared == _SVG:
        # Text, as far as signatures go; only what is surely something else belies it.
        is_fine = not told & (_SURE | {"text/html"})
    elif declared in _SURE:
        is_fine = declared in _told(start, 0)
    else:
        is_fine = not told or any(_kind(one) == _kind(declared) for one in told)
    if is_fine:
        return None
    found = f"looks like {min(told)}" if told else "has no such signature"
    return Failure("CONTENT_TYPE_MISMATCH", f"{promise.name}: {declared} was declared, what arrived {found}.")


def _told(start: bytes, least_confidence: float) -> frozenset[str]:
    try:
        matches = puremagic.magic_string(start)
    except (puremagic.PureError, ValueError):  # no signature; no bytes
        return frozenset()
    return frozenset(
        _named(match.mime_type) for match in matches if match.mime_type and match.confidence >= least_confidence
    )


def _named(content_type: str) -> str:
    return _ALIASES.get(content_type, content_type)


def _kind(content_type: str) -> str:
    """Returns what comes in the same containers: sound and video do."""
    major = content_type.partition("/")[0]
    return "media" if major in ("audio", "video") else major
