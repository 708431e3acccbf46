"""How a caller proves who it is."""

from enum import StrEnum


class CallerKind(StrEnum):
    """How a caller proves who it is."""

    ANONYMOUS = "anonymous"  # not at all: the server asks nobody, or it is the server itself
    USER = "user"
    SERVICE = "service"  # a back end that acts for users
    TOKEN = "token"  # noqa: S105 - a device with a scoped token
