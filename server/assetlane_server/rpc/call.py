"""A call on its way in: who makes it, and how its handler learns that."""

from dataclasses import dataclass
from typing import Any, Protocol

from assetlane_server.rpc.observation import Metadata
from assetlane_server.uploads.errors import TokenInvalid
from assetlane_server.uploads.ports import Access

_HEADER = "authorization"


class Authenticator(Protocol):
    """Finds out who calls."""

    async def access_of(self, authorization: str | None) -> Access:
        """Returns what the sender of this `authorization` metadata may do; None: there was none.

        Raises TokenRefused, KeysUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler of ours is given in the place of gRPC's context."""

    access: Access


async def admitted(authenticator: Authenticator, metadata: Metadata) -> Call:
    """Returns the call once it is known who makes it. Raises as `access_of` does."""
    values = [value for name, value in metadata if name == _HEADER]
    if len(values) > 1:
        raise TokenInvalid  # whose call would it be?
    # Only names that end with -bin carry bytes.
    return Call(await authenticator.access_of(str(values[0]) if values else None))


def access_of(context: Any) -> Access:
    """Returns what the caller of a handler may do. Fails for a handler that did not pass the interceptor."""
    if not isinstance(context, Call):
        raise TypeError("this handler was called past the interceptor: nobody knows by whom")
    return context.access
