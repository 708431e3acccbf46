"""Resume tokens of a partition's watch: from where on it has to be told again. Pure."""

import base64
import binascii
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from assetlane_server.uploads.errors import FieldViolation, InvalidRequest, ResumeExpired

# As long as the longest read URL lives: what a watcher knows from before is of no use anyway.
TOKEN_LIFETIME = timedelta(days=7)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


_HEAD_BYTES = 12


@dataclass(frozen=True, slots=True)
class Position:
    """What the holder of a token has been told: the changes until an instant, and how far the listing came."""

    told_until: datetime
    listed_to: str = ""  # the last asset of a listing that has not ended; empty: it has


def resume_token(partition: str, position: Position) -> str:
    """Returns an opaque token that goes on in the partition from there."""
    instant = (position.told_until - _EPOCH) // _MILLISECOND
    raw = _mark(partition) + instant.to_bytes(8, "big") + position.listed_to.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def position_of(token: str, partition: str, now: datetime) -> Position:
    """Returns what a token says. Raises InvalidRequest for a foreign one, ResumeExpired for an old one."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        instant = _EPOCH + int.from_bytes(raw[4:_HEAD_BYTES], "big") * _MILLISECOND
        listed_to = raw[_HEAD_BYTES:].decode("ascii")
    except (binascii.Error, ValueError, OverflowError):
        raw, instant, listed_to = b"", _EPOCH, ""
    if len(raw) < _HEAD_BYTES or raw[:4] != _mark(partition) or instant > now + TOKEN_LIFETIME:
        limit = "is not from a watch of this partition: hand in the newest one, or none to begin anew"
        raise InvalidRequest([FieldViolation("resume_token", limit)])
    if instant < now - TOKEN_LIFETIME:
        raise ResumeExpired(TOKEN_LIFETIME.days)
    return Position(instant, listed_to)


def _mark(partition: str) -> bytes:
    return zlib.crc32(b"assets\0" + partition.encode()).to_bytes(4, "big")
