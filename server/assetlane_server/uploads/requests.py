"""RequestUpload: an upload is accepted, opened at the store where it comes in parts, and its targets are signed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from assetlane_server.concurrency.work import Work
from assetlane_server.model.admission import BeyondTerms, Terms, UploadRequest, admit
from assetlane_server.model.errors import MAX_ROUNDS, RequestIdReused, too_many_rounds
from assetlane_server.model.presigned import WriteTarget
from assetlane_server.model.upload import Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import acting_for, check_may_write, owned_upload
from assetlane_server.uploads.clean_up import abort_multiparts
from assetlane_server.uploads.multipart import open_multiparts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.url_signer import UrlSigner


class UploadRequests:
    """Accepts uploads, and renews the write targets of those that were accepted."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        changes: StatusChanges,
        store: ObjectStore,
        urls: UrlSigner,
        terms: Terms,
        new_id: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._changes = changes
        self._store = store
        self._urls = urls
        self._terms = terms
        self._new_id = new_id
        self._now = now
        self._openings: Work[Upload | None] = Work()

    async def request_upload(self, request: UploadRequest, access: Access) -> tuple[Upload, tuple[WriteTarget, ...]]:
        """Accepts an upload and signs its targets; repeated with its request id, renews them.

        Raises InvalidRequest, UidMismatch, PartitionNotFound, PartitionReadOnly, RequestIdReused.
        """
        access = acting_for(access, request.uid)
        now = self._now()
        try:
            upload = admit(request, self._terms, self._new_id(), now, access.actor)
        except BeyondTerms as refusal:
            return await self._accepted_before(request, refusal, access)
        check_may_write(access, upload.partition)
        check_may_write(access, upload.asset_partition)
        targets: tuple[WriteTarget, ...] = ()
        if not upload.is_multipart:
            # Nothing has to be opened at the store for a single PUT, so PENDING and INITIALIZED become durable
            # in one write; the history shows both. What cannot be signed is not stored.
            upload = upload.initialized(now, self._terms.write_url_lifetime, access.actor)
            targets = self._urls.write_targets(upload)
        stored = await self._changes.insert(upload)
        if stored.upload_id == upload.upload_id and stored.status is Status.INITIALIZED:
            return upload, targets
        if stored.request_sha256 != upload.request_sha256:
            raise RequestIdReused(request.request_id)
        if opened := await self._opened(stored, access.actor):
            return opened, self._urls.write_targets(opened)
        return await self._renewed(stored.upload_id, access)

    async def _accepted_before(
        self, request: UploadRequest, refusal: BeyondTerms, access: Access
    ) -> tuple[Upload, tuple[WriteTarget, ...]]:
        """Renews the targets of a request that this server would refuse and one with other settings has accepted.

        Raises the refusal when there is no such upload, otherwise as request_upload does.
        """
        check_may_write(access, refusal.upload.partition)
        check_may_write(access, refusal.upload.asset_partition)
        stored = await self._uploads.find_requested(request.uid, request.request_id) if request.request_id else None
        if stored is None:
            raise refusal
        if stored.request_sha256 != refusal.upload.request_sha256:
            raise RequestIdReused(request.request_id)
        return await self._renewed(stored.upload_id, access)

    async def _opened(self, upload: Upload, acted_by: str) -> Upload | None:
        """Opens what a PENDING upload needs at the store; None when it is not PENDING, or not any more.

        Goes on when the caller hangs up: what is open at the store and nowhere else would be in nobody's hands.
        """
        if upload.status is not Status.PENDING:
            return None
        return await self._openings.run(upload.upload_id, lambda: self._open(upload, acted_by))

    async def _open(self, upload: Upload, acted_by: str) -> Upload | None:
        multipart_ids = await open_multiparts(self._store, upload)
        opened = replace(upload, multipart_ids=multipart_ids)
        opened = opened.initialized(self._now(), self._terms.write_url_lifetime, acted_by)
        if await self._changes.advance(opened):
            return opened
        # Another server was faster, or the upload is over.
        await abort_multiparts(self._store, upload, multipart_ids)
        return None

    async def _renewed(self, upload_id: str, access: Access) -> tuple[Upload, tuple[WriteTarget, ...]]:
        for _ in range(MAX_ROUNDS):
            upload = await owned_upload(self._uploads, upload_id, access)
            if upload.status is Status.PENDING:
                await self._opened(upload, access.actor)
                continue
            if upload.status is not Status.INITIALIZED:
                return upload, ()
            renewed = upload.renewed(self._now(), self._terms.write_url_lifetime)
            targets = self._urls.write_targets(renewed)
            if await self._uploads.renew_targets(renewed):
                return renewed, targets
        raise too_many_rounds(upload_id)

    async def finish(self) -> None:
        """Waits for what is being opened at the store; the caller bounds the wait."""
        await self._openings.finish()
