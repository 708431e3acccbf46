"""Leads every upload through its life. Decides in pure code (upload.py, asset.py), then does the I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from assetlane_server.concurrency.gathering import all_settled
from assetlane_server.concurrency.work import Work
from assetlane_server.model.admission import BeyondTerms, Terms, UploadRequest, admit
from assetlane_server.model.asset import asset_of
from assetlane_server.model.errors import MAX_ROUNDS, RequestIdReused, VariantsMissing, WrongStatus, too_many_rounds
from assetlane_server.model.pages import last_id_of, page_size, page_token
from assetlane_server.model.presigned import WriteTarget
from assetlane_server.model.progress import progress_of
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Failure, Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import acting_for, check_may_write, owned_upload, owns
from assetlane_server.uploads.cutting import CutOutcome, CutRoom
from assetlane_server.uploads.lanes import Lanes
from assetlane_server.uploads.multipart import (
    assemble,
    discard_upload,
    drop_multiparts,
    open_multiparts,
    whole_multiparts,
)
from assetlane_server.uploads.progress import ProgressBoard
from assetlane_server.uploads.proving import Prover
from assetlane_server.uploads.status_changes import StatusChanges

_MOST_READS = 10  # of one page; where they do not fill it, its token goes on


class UploadBroker:
    """One method per RPC of UploadService, but for its watches and parts."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        changes: StatusChanges,
        store: ObjectStore,
        lanes: Lanes,
        board: ProgressBoard,
        cut_room: CutRoom,
        terms: Terms,
        signer: TokenSigner,
        new_id: Callable[[], str],
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._changes = changes
        self._store = store
        self._lanes = lanes
        self._board = board
        self._cut_room = cut_room
        self._terms = terms
        self._signer = signer
        self._prover = Prover(store, accept_mislabelled=terms.accept_mislabelled)
        self._new_id = new_id
        self._now = now
        self._completions: Work[Upload] = Work()
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
            targets = self._lanes.write_targets(upload)
        stored = await self._changes.insert(upload)
        if stored.upload_id == upload.upload_id and stored.status is Status.INITIALIZED:
            return upload, targets
        if stored.request_sha256 != upload.request_sha256:
            raise RequestIdReused(request.request_id)
        if opened := await self._opened(stored, access.actor):
            return opened, self._lanes.write_targets(opened)
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
        await drop_multiparts(self._store, upload.variants, multipart_ids)
        return None

    async def _renewed(self, upload_id: str, access: Access) -> tuple[Upload, tuple[WriteTarget, ...]]:
        for _ in range(MAX_ROUNDS):
            upload = await self.get_upload(upload_id, access)
            if upload.status is Status.PENDING:
                await self._opened(upload, access.actor)
                continue
            if upload.status is not Status.INITIALIZED:
                return upload, ()
            renewed = upload.renewed(self._now(), self._terms.write_url_lifetime)
            targets = self._lanes.write_targets(renewed)
            if await self._uploads.renew_targets(renewed):
                return renewed, targets
        raise too_many_rounds(upload_id)

    async def complete_upload(self, upload_id: str, access: Access) -> Upload:
        """Proves what arrived and enters the asset into the ledger. Goes on when the caller hangs up.

        Returns the upload, COMPLETED with its asset, or FAILED.
        Raises UploadNotFound, VariantsMissing (nothing changed), WrongStatus.
        """
        # Read out here: nobody but the owner may start the work, share its outcome, or learn that it is running.
        upload = await self.get_upload(upload_id, access)
        return await self._completions.run(
            upload_id,
            lambda: self._complete(upload, access),
            # A caller that joins may have stored the last variant after the running work had looked for it.
            stale=(VariantsMissing,),
        )

    async def _complete(self, upload: Upload, access: Access) -> Upload:
        upload_id = upload.upload_id
        for _ in range(MAX_ROUNDS):
            match upload.status:
                case Status.COMPLETED | Status.FAILED:
                    return upload
                case Status.PENDING | Status.CANCELLED | Status.EXPIRED:
                    raise WrongStatus(upload_id, upload.status, "completed")
                case Status.INITIALIZED | Status.UPLOADED:
                    if ended := await self._prove(upload, access.actor):
                        return ended
            upload = await self.get_upload(upload_id, access)
        raise too_many_rounds(upload_id)

    async def _prove(self, upload: Upload, acted_by: str) -> Upload | None:
        """Leads an INITIALIZED or UPLOADED upload to its end; None if another call got ahead."""
        evidence = await self._prover.evidence(upload.variants)
        # Parts are looked for only where there is no object: it may have been made of them already.
        missing = [variant.name for variant in upload.variants if variant.name not in evidence]
        parts = await whole_multiparts(self._store, upload, missing)
        known = upload.revision
        if upload.status is Status.INITIALIZED:
            if missing := [name for name in missing if name not in parts]:
                raise VariantsMissing(missing)
            upload = upload.uploaded(self._now(), acted_by)
            if parts or upload.cut_plan is not None:
                # Long work follows: it is shown, and the sweeper of another server takes over after a minute.
                if not await self._changes.advance(upload):
                    return None
                known = upload.revision
        self._board.verifying(upload, self._now())

        failure = None
        if parts:
            failure = await assemble(self._store, upload, parts)
            evidence = await self._prover.evidence(upload.variants)
        if failure := failure or await self._prover.broken_promise(upload, evidence):
            return await self._failed(upload, known, failure, acted_by)

        proofs = [evidence[variant.name].stored for variant in upload.variants]
        made = CutOutcome(upload)
        if upload.cut_plan is not None:
            self._board.cutting(upload, self._now())
            outcome = await self._cut_room.cut(upload, upload.cut_plan)
            if isinstance(outcome, Failure):
                return await self._failed(upload, known, outcome, acted_by)
            made = outcome

        now = self._now()
        asset = asset_of(made.upload, [*proofs, *made.stored], now, made.notices)
        completed = upload.completed(now, asset, acted_by)
        return completed if await self._changes.advance(completed, after_revision=known) else None

    async def _failed(self, upload: Upload, known: int, failure: Failure, acted_by: str) -> Upload | None:
        upload = upload.failed(self._now(), failure, acted_by)
        if not await self._changes.advance(upload, after_revision=known):
            return None
        await discard_upload(self._store, upload)
        return upload

    async def cancel_upload(self, upload_id: str, access: Access) -> Upload:
        """Gives an upload up and deletes what arrived. Raises UploadNotFound, WrongStatus."""
        for _ in range(MAX_ROUNDS):
            upload = await self.get_upload(upload_id, access)
            if upload.status is not Status.CANCELLED:
                if not upload.may_become(Status.CANCELLED):
                    raise WrongStatus(upload_id, upload.status, "cancelled")
                upload = upload.cancelled(self._now(), access.actor)
                if not await self._changes.advance(upload):
                    continue
            await discard_upload(self._store, upload)
            return upload
        raise too_many_rounds(upload_id)

    async def get_upload(self, upload_id: str, access: Access) -> Upload:
        """Returns one upload of the caller's. Raises UploadNotFound, also for somebody else's."""
        return await owned_upload(self._uploads, upload_id, access)

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], size: int, token: str, access: Access
    ) -> tuple[list[Upload], str]:
        """Returns a page of the caller's uploads, newest first, and the token of the next page (empty: the last)."""
        filters = ("uploads", uid, session_id, *sorted(statuses))
        limit = page_size(size)
        before_id = last_id_of(self._signer, token, filters)
        if access.uid is not None:
            if uid not in ("", access.uid):
                return [], ""  # whatever that owner has
            uid = access.uid
        elif uid and access.acting_for(uid) is None:
            return [], ""
        page: list[Upload] = []
        # A service caller, or a token, may see some of them: read on for the others, but not for ever.
        for _ in range(_MOST_READS):
            uploads = await self._uploads.list_uploads(
                uid=uid, session_id=session_id, statuses=statuses, before_id=before_id, limit=limit + 1
            )
            for upload in uploads[:limit]:
                before_id = upload.upload_id
                if owns(access, upload):
                    page.append(upload)
                    if len(page) == limit:
                        break
            if len(uploads) <= limit and (not uploads or before_id == uploads[-1].upload_id):
                return page, ""
            if len(page) == limit:
                break
        return page, page_token(self._signer, before_id, filters)

    async def report_progress(self, upload_id: str, sent_bytes: Mapping[str, int], access: Access) -> None:
        """Reports to the watchers how many bytes of each variant were sent so far; newest only.

        Raises InvalidRequest, UploadNotFound, WrongStatus.
        """
        upload = await self.get_upload(upload_id, access)
        progress = progress_of(upload, sent_bytes, self._now())
        if upload.status is not Status.INITIALIZED:
            raise WrongStatus(upload_id, upload.status, "reported on")
        self._board.report(progress)

    async def finish(self) -> None:
        """Waits for the work under way; the caller bounds the wait."""
        await all_settled(self._openings.finish(), self._completions.finish())
        await self._board.finish()
