"""The port of what signs scoped tokens."""

from datetime import timedelta
from typing import Protocol

from assetlane_server.model.scoped_tokens import IssuedToken, PartitionScope
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access


class ScopedTokenSigner(Protocol):
    """Signs tokens with the ring of keys of the caller that asks for them."""

    def check(self, lifetime: timedelta | None, access: Access, *, field: str) -> None:
        """Raises what would refuse a token of this lifetime, which `field` of the request asks for: RpcNotAllowed,
        InvalidRequest, NoSigningKey.
        """
        ...

    def for_upload(self, upload: Upload, lifetime: timedelta | None, access: Access) -> IssuedToken:
        """Returns a token for one upload, until its deadline at most. Raises InvalidRequest, NoSigningKey."""
        ...

    def for_partitions(
        self, uid: str, scope: PartitionScope, lifetime: timedelta | None, access: Access
    ) -> IssuedToken:
        """Returns a token of a user for these partitions.

        Raises InvalidRequest, UidMismatch, ScopeTooWide, NoSigningKey.
        """
        ...
