"""The port of a store that takes objects in parts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from assetlane_server.model.parts import OpenMultipartPage, PartPage, PartPromise, StoredPart
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import VariantPromise


class MultipartStore(Protocol):
    """Objects that arrive in parts: what a PUT in one piece promises holds for the object that becomes of them."""

    async def open(self, promise: VariantPromise) -> str:
        """Opens a multipart upload of `promise.key` with the promised type, disposition and caching; returns its id."""
        ...

    def presign_part(
        self,
        promise: VariantPromise,
        multipart_id: str,
        part: PartPromise,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> PresignedRequest:
        """Signs a PUT of one part that the store accepts only with that part's length, with its SHA-256 when one is
        promised, and while the multipart upload is open. It lives like a `presign_put`. Pure CPU.
        """
        ...

    async def list_parts(self, key: str, multipart_id: str, *, after: int, limit: int) -> PartPage | None:
        """Returns a page of at most so many parts with numbers above `after`, None if none such is open."""
        ...

    async def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """Makes the object of these parts, all there are, if nothing is stored under its key.

        Also returns when something is, or the multipart upload is not open any more: `head` finds out. Returns why the
        store will never do it (it says that parts are missing, changed or too small), empty otherwise.
        """
        ...

    async def abort(self, key: str, multipart_id: str) -> None:
        """Drops a multipart upload with its parts; one that is not open counts as dropped."""
        ...

    async def list_open(self, prefix: str, after: str) -> OpenMultipartPage:
        """Returns a page of the open multipart uploads whose keys begin with `prefix`; `after` is as of `list_keys`."""
        ...
