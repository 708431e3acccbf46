"""Resume tokens of a partition's watch: from which instant on it has to be told again. Pure."""

import base64
import binascii
import zlib
from datetime import UTC, datetime, timedelta

from assetlane_server.uploads.errors import FieldViolation, InvalidRequest, ResumeExpired

# As long as the longest read URL lives: what a watcher knows from before is of no use anyway.
TOKEN_LIFETIME = timedelta(days=7)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def resume_token(partition: str, told_until: datetime) -> str:
    """Returns an opaque token: its holder has been told what happened in the partition until that instant."""
    raw = _mark(partition) + ((told_until - _EPOCH) // _MILLISECOND).to_bytes(8, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def told_until(token: str, partition: str, now: datetime) -> datetime:
    """Returns the instant in a token. Raises InvalidRequest for a foreign one, ResumeExpired for an old one."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        instant = _EPOCH + int.from_bytes(raw[4:], "big") * _MILLISECOND
    except (binascii.Error, ValueError, OverflowError):
        raw, instant = b"", _EPOCH
    if len(raw) != 12 or raw[:4] != _mark(partition) or instant > now + TOKEN_LIFETIME:
        limit = "is not from a watch of this partition: hand in the newest one, or none to begin anew"
        raise InvalidRequest([FieldViolation("resume_token", limit)])
    if instant < now - TOKEN_LIFETIME:
        raise ResumeExpired(TOKEN_LIFETIME.days)
    return instant


def _mark(partition: str) -> bytes:
    return zlib.crc32(b"assets\0" + partition.encode()).to_bytes(4, "big")
