"""Page sizes and page tokens of the lists. Pure."""

import base64
import binascii
import zlib
from collections.abc import Sequence

from assetlane_server.uploads.errors import FieldViolation, InvalidRequest

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


def page_size(asked: int) -> int:
    """Returns how many items a page holds: what was asked for, within the limits."""
    if asked < 0:
        raise InvalidRequest([FieldViolation("page_size", f"is {asked}, it must be 0 (the default) or more")])
    return min(asked, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def page_token(last_id: str, filters: Sequence[str]) -> str:
    """Returns an opaque token for the page after `last_id` of the list with these filters."""
    return base64.urlsafe_b64encode(_mark(filters) + last_id.encode()).decode().rstrip("=")


def last_id_of(token: str, filters: Sequence[str]) -> str:
    """Returns the id behind a token, empty for an empty one. Raises InvalidRequest for a foreign token."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        last_id = raw[4:].decode("ascii")
    except (binascii.Error, ValueError):
        raw, last_id = b"", ""
    if not last_id or raw[:4] != _mark(filters):
        limit = "is not from this list: hand in next_page_token of the page before, with the same filters"
        raise InvalidRequest([FieldViolation("page_token", limit)])
    return last_id


def _mark(filters: Sequence[str]) -> bytes:
    return zlib.crc32("\0".join(filters).encode()).to_bytes(4, "big")
