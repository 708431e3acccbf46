"""A call on its way in: who makes it, and how its handler learns that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assetlane_server.model.errors import TokenInvalid
from assetlane_server.ports.access import Access
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.rpc.observation import Metadata

_HEADER = "authorization"


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler of ours is given in the place of gRPC's context."""

    access: Access


async def admitted(authenticator: Authenticator, metadata: Metadata, names: Sequence[str] = ()) -> Call:
    """Returns the call once it is known who makes it; `names` are as at `access_of`, and it raises as that does."""
    values = [value for name, value in metadata if name == _HEADER]
    if len(values) > 1:
        raise TokenInvalid  # whose call would it be?
    # Only names that end with -bin carry bytes.
    return Call(await authenticator.access_of(str(values[0]) if values else None, names))


def certificate_names(context: Any) -> tuple[str, ...]:
    """Returns the names of the certificate that the client of a call has proved to own; none without one.

    A call by the web gateway has none: a service caller that is known by its certificate calls the gRPC port.
    """
    properties: Mapping[str, Sequence[bytes]] = getattr(context, "auth_context", dict)()
    if not properties:
        return ()
    return tuple(
        name.decode(errors="replace")
        for kind in ("x509_subject_alternative_name", "x509_common_name")
        for name in properties.get(kind, ())
    )


def access_of(context: Any) -> Access:
    """Returns what the caller of a handler may do. Fails for a handler that did not pass the interceptor."""
    if not isinstance(context, Call):
        raise TypeError("this handler was called past the interceptor: nobody knows by whom")
    return context.access
