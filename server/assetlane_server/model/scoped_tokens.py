"""Scoped tokens: what a service caller asks for, for one device, and the limits of it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from assetlane_server.model.errors import (
    FieldViolation,
    InvalidRequest,
)

MIN_LIFETIME = timedelta(minutes=1)


DEFAULT_LIFETIME = timedelta(hours=1)


MAX_PATTERNS = 32  # of each list


@dataclass(frozen=True, slots=True)
class PartitionScope:
    """Patterns of the partitions that a token's holder may read and write."""

    read: tuple[str, ...]
    write: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token for one device; `token_id` names it in the audit log, where the token itself must never be."""

    token: str
    expire_time: datetime
    token_id: str
    maker: str


def check_token_lifetime(field: str, lifetime: timedelta, longest: timedelta) -> None:
    """Raises InvalidRequest for a lifetime that no token may have."""
    if not MIN_LIFETIME <= lifetime <= longest:
        limit = f"is {lifetime.total_seconds():g} s, it must be from 60 s to {longest.total_seconds():g} s"
        raise InvalidRequest([FieldViolation(field, limit)])


def uid_faults(uid: str) -> list[FieldViolation]:
    """Returns what is wrong with the uid that a service caller names."""
    if not uid:
        return [FieldViolation("uid", "is required: a service caller names the user that it acts for")]
    if len(uid.encode()) > 128 or not uid.isprintable():
        return [FieldViolation("uid", "must be at most 128 bytes, without control characters")]
    return []
