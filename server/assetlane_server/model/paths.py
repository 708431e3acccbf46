"""Paths, partitions and object keys: what a caller may name, and where the server files it. Pure.

Keys are the server's:
`<prefix><private|public>/<partition>/<folders of file_path>/<upload_id>/<variant><.ending>`.
The upload id in every key makes it unique for ever; no caller text reaches a key unchecked. The ending is that of the
declared type, see endings.py; the name of the file itself travels in `content-disposition`.
"""

import re
import unicodedata
from dataclasses import dataclass

from assetlane_server.model.extensions import ending_of

MAX_FILE_PATH_BYTES = 1024
MAX_PARTITION_BYTES = 256
MAX_KEY_BYTES = 1024  # S3's own limit

# Control characters (C0, DEL, C1), the line and paragraph separators, and the backslash that some stores
# and every Windows client take for a `/`.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")
_VARIANT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# An upload id is a ULID in lower case; a variant's name is what `fault_in_variant_name` lets through. Earlier versions
# took the ending from the name of the file.
_KEY = re.compile(
    r"(private|public)/(?P<place>[^\x00-\x1f]+)/(?P<upload_id>[0-7][0-9a-hjkmnp-tv-z]{25})"
    r"/[a-z][a-z0-9_-]{0,31}(\.[A-Za-z0-9+-]{1,16})?"
)


@dataclass(frozen=True, slots=True)
class NameFault:
    """What is wrong with a path, or with the name of a variant.

    Reasons: REQUIRED, TOO_LONG, CHARACTER_NOT_ALLOWED, NOT_NFC, EMPTY_PART, DOTS (a part that climbs), MALFORMED.
    """

    reason: str
    message: str


def fault_in_path(path: str, max_bytes: int) -> NameFault | None:
    """Returns what is wrong with a relative path of parts joined by `/`, None if nothing is."""
    size_bytes = len(path.encode())
    if size_bytes == 0:
        return NameFault("REQUIRED", "is required")
    if size_bytes > max_bytes:
        return NameFault("TOO_LONG", f"is {size_bytes:,} bytes long, the limit is {max_bytes:,}")
    if _FORBIDDEN.search(path):
        return NameFault("CHARACTER_NOT_ALLOWED", "has a control character or a backslash")
    if not path.isascii() and not unicodedata.is_normalized("NFC", path):
        return NameFault("NOT_NFC", "is not normalised Unicode: send it in form NFC")
    for part in path.split("/"):
        if part == "":
            return NameFault("EMPTY_PART", "has an empty part: it must not begin or end with '/' or hold '//'")
        if part in (".", ".."):
            return NameFault("DOTS", f"has the part {part!r}")
    return None


def fault_in_variant_name(name: str) -> NameFault | None:
    """Returns what is wrong with the name of a variant, None if nothing is."""
    if _VARIANT_NAME.fullmatch(name):
        return None
    return NameFault("MALFORMED", "must be 1 to 32 characters of a-z 0-9 _ -, a letter first")


def key_place(*, prefix: str, is_public: bool, partition: str, file_path: str, upload_id: str) -> str:
    """Returns what the keys of all variants of one upload begin with; both paths have passed `fault_in_path`."""
    folders = file_path.rpartition("/")[0]
    place = f"{prefix}{'public' if is_public else 'private'}/{partition}/"
    return f"{place}{folders}/{upload_id}/" if folders else f"{place}{upload_id}/"


def object_key(place: str, variant: str, content_type: str) -> str:
    """Returns the key of one variant of the upload whose keys begin with `place`."""
    return f"{place}{variant}{ending_of(content_type)}"


def upload_id_of(key: str, prefix: str) -> str | None:
    """Returns the upload that a key under the prefix belongs to, None if it is none of `object_key`'s."""
    if not key.startswith(prefix):
        return None
    match = _KEY.fullmatch(key[len(prefix) :])
    return match["upload_id"] if match else None
