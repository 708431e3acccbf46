"""The port of identity."""

from collections.abc import Sequence
from typing import Protocol

from assetlane_server.ports.access import Access


class Authenticator(Protocol):
    """Finds out who calls."""

    async def access_of(self, authorization: str | None, certificate_names: Sequence[str] = ()) -> Access:
        """Returns what the sender of this `authorization` metadata may do; None: there was none.

        `certificate_names` are those of the certificate that the client has proved to own: its common name and its
        subject alternative names. Raises TokenRefused, KeysUnavailable.
        """
        ...
