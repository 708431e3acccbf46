"""How stores serve an object: shown or saved, under which name, kept for how long. Pure.

All of it is part of every signature (`content-disposition`, `cache-control`), so that a PUT cannot change it.
"""

import re
import unicodedata
from dataclasses import replace
from urllib.parse import quote

from assetlane_server.model.extensions import ending_of
from assetlane_server.model.media_types import essence
from assetlane_server.model.upload import ORIGINAL, Upload, VariantPromise

MAX_NAME_BYTES = 255  # of UTF-8, as file systems have it; AWS keeps 2 KB of headers in all

# What browsers show without running anything of it, each named in full: `image/*` would let `image/svg+xml` in,
# `video/*` `video/x+xml`. Everything else is saved, not shown.
INLINE_TYPES = frozenset(
    {
        "application/pdf",
        "audio/aac",
        "audio/flac",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/opus",
        "audio/wav",
        "audio/webm",
        "audio/x-flac",
        "audio/x-m4a",
        "audio/x-wav",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/heic",
        "image/heif",
        "image/jpeg",
        "image/jxl",
        "image/png",
        "image/tiff",
        "image/vnd.microsoft.icon",
        "image/webp",
        "image/x-icon",
        "text/plain",
        "video/3gpp",
        "video/3gpp2",
        "video/mp4",
        "video/mpeg",
        "video/ogg",
        "video/quicktime",
        "video/webm",
        "video/x-m4v",
        "video/x-matroska",
    }
)

PRIVATE_CACHE = "private"
PUBLIC_CACHE = "public, max-age=31536000, immutable"  # a year: the bytes under a key never change

# Characters that are not seen, or turn the text after them around (`gpj.exe` for `exe.jpg`): Unicode's
# Bidi_Control, zero-width blank and joiner of words, byte order mark, annotations.
_UNSEEN = re.compile("[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
_BLANKS = re.compile(r"\s\s+")
_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"  # of RFC 8187, 3.2.1, beside letters and digits
# A quote ends the text, a backslash escapes, and some browsers decode a `%` (RFC 6266, appendix D).
_UNSAFE_IN_QUOTES = re.compile(r'["\\%]|[^ -~]')


def file_name(file_path: str, variant: str = ORIGINAL, content_type: str = "") -> str:
    """Returns the name under which a variant is saved: the file's own, of a cut `beach-small.jpg`.

    At most 255 bytes, without control characters, separators of paths, blanks at its ends or in runs; never empty.
    """
    name = _cleaned(file_path.rpartition("/")[2])
    if variant != ORIGINAL:
        stem = name.rpartition(".")[0] or name
        return _shortened(stem, f"-{variant}{ending_of(content_type)}")
    stem, dot, ending = name.rpartition(".")
    # An ending survives what is too long; what looks like one and is long itself is none.
    return _shortened(stem, dot + ending) if stem and len(ending.encode()) <= 16 else _shortened(name, "")


def disposition(kind: str, name: str) -> str:
    """Returns a `content-disposition` by RFC 6266: `filename` in ASCII, and `filename*` where that is not the name."""
    plain = _UNSAFE_IN_QUOTES.sub("_", name)
    text = f'{kind}; filename="{plain}"'
    return text if plain == name else f"{text}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"


def content_disposition(file_path: str, variant: str, content_type: str) -> str:
    """Returns what an object is stored with: `inline` only for types that nothing can run in."""
    kind = "inline" if essence(content_type) in INLINE_TYPES else "attachment"
    return disposition(kind, file_name(file_path, variant, content_type))


def cache_control(*, is_public: bool) -> str:
    """Returns what an object is stored with: by whom and for how long it may be kept."""
    return PUBLIC_CACHE if is_public else PRIVATE_CACHE


def served(upload: Upload, promise: VariantPromise) -> VariantPromise:
    """Returns the promise of a variant or cut of the upload with the headers that it is stored and served with."""
    return replace(
        promise,
        content_disposition=content_disposition(upload.file_path, promise.name, promise.content_type),
        cache_control=cache_control(is_public=upload.is_public),
    )


def _cleaned(name: str) -> str:
    safe = name.replace("/", "_").replace("\\", "_")
    if not (safe.isascii() and safe.isprintable()):  # such a name holds none of these
        safe = "".join(["_" if unicodedata.category(one) == "Cc" else one for one in safe])
        safe = _UNSEEN.sub("_", safe)
    safe = _BLANKS.sub(" ", safe).strip()
    return safe.rstrip(". ") or "file"


def _shortened(stem: str, ending: str) -> str:
    limit = MAX_NAME_BYTES - len(ending.encode())
    return stem.encode()[:limit].decode(errors="ignore").rstrip() + ending
