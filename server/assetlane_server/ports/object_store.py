"""The port of the object store."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from assetlane_server.model.listing import ObjectPage
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise
from assetlane_server.ports.multipart_store import MultipartStore


class ObjectStore(Protocol):
    """Signs the ways in and out, proves what is there, deletes. Never carries a byte."""

    @property
    def reports_sha256(self) -> bool | None:
        """Whether `head` reports the SHA-256 that a PUT was signed with; None: it is not known."""
        ...

    def seen_from_here(self) -> "ObjectStore":
        """Returns the store with URLs that this server's own processes can call.

        For a short while: its credentials are those of this moment.
        """
        ...

    @property
    def multiparts(self) -> MultipartStore:
        """The part of it that takes objects in parts."""
        ...

    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """Signs one PUT of `promise.key` that the store accepts only with the promised length, type,
        `content_disposition`, `cache_control` and SHA-256 (when promised), and only while nothing is stored there.

        It lives from `signed_at`, cut to the second, for `lifetime` or as long as the credentials do,
        whichever ends first. Pure CPU. The same arguments give the same URL.
        """
        ...

    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """Signs one GET, with the same life as a `presign_put`. The store answers with an `expires` header of the
        URL's end, and with this `content_disposition` (empty: the stored one).
        """
        ...

    def public_url(self, key: str) -> str:
        """Returns the unsigned, permanent URL of a key under the public prefix."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Returns what the store says about an object, None if there is none."""
        ...

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """Returns the first bytes of an object that is not empty, at most so many: to see what it is."""
        ...

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """Returns in one request what `head` does, and the whole object: for objects of a few kilobytes.

        Of a larger one the first `limit_bytes`. None if there is none.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, at most 1,000; those that are not there count as deleted."""
        ...

    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """Returns a page of the objects whose keys begin with `prefix`; `after` is the page's before, or empty.

        Following `after` to its end visits every object that is there from the first call to the last, once,
        in an order that is the store's own.
        """
        ...
