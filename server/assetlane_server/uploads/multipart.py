"""Multipart uploads of one upload: opened at the store, listed, put together, dropped. Nothing is kept in memory."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from assetlane_server.model.admission import Terms
from assetlane_server.model.content_headers import served
from assetlane_server.model.errors import MAX_ROUNDS, WrongStatus, too_many_rounds
from assetlane_server.model.pages import MAX_PAGE_SIZE, last_id_of, page_size, page_token
from assetlane_server.model.parts import (
    PartPromise,
    StoredPart,
    check_promises,
    multipart_variant,
    part_number_of,
)
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import owned_upload
from assetlane_server.uploads.clean_up import abort_multiparts
from assetlane_server.uploads.url_signer import UrlSigner

Parts = tuple[StoredPart, ...]


class MultipartUploads:
    """What callers ask about parts while they upload."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        store: ObjectStore,
        urls: UrlSigner,
        signer: TokenSigner,
        terms: Terms,
        now: Callable[[], datetime],
    ) -> None:
        self._signer = signer
        self._uploads = uploads
        self._store = store
        self._urls = urls
        self._terms = terms
        self._now = now

    async def sign_parts(
        self, upload_id: str, name: str, promises: Sequence[PartPromise], access: Access
    ) -> tuple[PresignedRequest, ...]:
        """Signs a PUT of each part, for as long as a write URL lives, but not beyond the deadline.

        The upload's targets count as renewed: so the sweeper waits for these URLs too.
        Raises InvalidRequest, UploadNotFound, WrongStatus.
        """
        for _ in range(MAX_ROUNDS):
            upload = await self._initialized(upload_id, "signed for", access)
            variant = multipart_variant(upload, name)
            check_promises(variant, promises)
            renewed = upload.renewed(self._now(), self._terms.write_url_lifetime)
            ways = self._urls.part_requests(renewed, variant, promises)
            if not ways:
                raise WrongStatus(upload_id, Status.EXPIRED, "signed for")
            if await self._uploads.renew_targets(renewed):
                return ways
        raise too_many_rounds(upload_id)

    async def list_parts(self, upload_id: str, name: str, size: int, token: str, access: Access) -> tuple[Parts, str]:
        """Returns a page of the parts that the store has and the token of the next page (empty: the last).

        Raises InvalidRequest, UploadNotFound, WrongStatus.
        """
        upload = await self._initialized(upload_id, "listed", access)
        variant = multipart_variant(upload, name)
        filters = ("parts", upload_id, name)
        page = await self._store.multiparts.list_parts(
            variant.key,
            upload.multipart_ids[name],
            after=part_number_of(last_id_of(self._signer, token, filters)),
            limit=page_size(size or MAX_PAGE_SIZE),
        )
        if page is None:  # completed or aborted a moment ago
            return (), ""
        return page.parts, page_token(self._signer, str(page.after), filters) if page.after else ""

    async def _initialized(self, upload_id: str, action: str, access: Access) -> Upload:
        upload = await owned_upload(self._uploads, upload_id, access)
        if upload.status is not Status.INITIALIZED:
            raise WrongStatus(upload_id, upload.status, action)
        return upload


async def open_multiparts(store: ObjectStore, upload: Upload) -> dict[str, str]:
    """Opens one multipart upload for each variant that needs one; returns the store's ids by name.

    When one fails, drops the others and raises what failed.
    """
    names = [variant.name for variant in upload.variants if variant.part_size_bytes]
    # Not a TaskGroup: it would stop the others in the middle, and what they opened would be in nobody's hands.
    outcomes = await asyncio.gather(
        *(store.multiparts.open(served(upload, variant)) for variant in upload.variants if variant.part_size_bytes),
        return_exceptions=True,
    )
    opened = {name: it for name, it in zip(names, outcomes, strict=True) if isinstance(it, str)}
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            await abort_multiparts(store, upload, opened)
            raise outcome
    return opened
