"""CompleteUpload: what arrived is proved, cuts are made, and the asset is entered into the ledger."""

from collections.abc import Callable
from datetime import datetime

from assetlane_server.concurrency.work import Work
from assetlane_server.model.asset import asset_of
from assetlane_server.model.errors import MAX_ROUNDS, VariantsMissing, WrongStatus, too_many_rounds
from assetlane_server.model.upload import Failure, Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import owned_upload
from assetlane_server.uploads.clean_up import clean_up
from assetlane_server.uploads.progress import ProgressReporter
from assetlane_server.uploads.proving import Prover
from assetlane_server.uploads.server_cuts import CutOutcome, ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges


class UploadCompletions:
    """Proves what arrived and enters the asset; the work goes on when its caller hangs up."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        changes: StatusChanges,
        store: ObjectStore,
        prover: Prover,
        server_cuts: ServerCuts,
        progress: ProgressReporter,
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._changes = changes
        self._store = store
        self._prover = prover
        self._server_cuts = server_cuts
        self._progress = progress
        self._now = now
        self._work: Work[Upload] = Work()

    async def complete_upload(self, upload_id: str, access: Access) -> Upload:
        """Proves what arrived and enters the asset into the ledger. Goes on when the caller hangs up.

        Returns the upload, COMPLETED with its asset, or FAILED.
        Raises UploadNotFound, VariantsMissing (nothing changed), WrongStatus.
        """
        # Read out here: nobody but the owner may start the work, share its outcome, or learn that it is running.
        upload = await owned_upload(self._uploads, upload_id, access)
        return await self._work.run(
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
                    if ended := await self._lead_on(upload, access.actor):
                        return ended
            upload = await owned_upload(self._uploads, upload_id, access)
        raise too_many_rounds(upload_id)

    async def _lead_on(self, upload: Upload, acted_by: str) -> Upload | None:
        """Leads an INITIALIZED or UPLOADED upload to its end; None if another call got ahead."""
        arrival = await self._prover.find(upload)
        known = upload.revision
        if upload.status is Status.INITIALIZED:
            if arrival.missing:
                raise VariantsMissing(arrival.missing)
            upload = upload.uploaded(self._now(), acted_by)
            if arrival.parts or upload.cut_plan is not None:
                # Long work follows: it is shown, and the sweeper of another server takes over after a minute.
                if not await self._changes.advance(upload):
                    return None
                known = upload.revision
        self._progress.verifying(upload, self._now())
        proofs = await self._prover.prove(upload, arrival)
        made: CutOutcome | Failure = CutOutcome(upload)
        if upload.cut_plan is not None and not isinstance(proofs, Failure):
            self._progress.cutting(upload, self._now())
            made = await self._server_cuts.cut(upload, upload.cut_plan)
        now = self._now()
        if isinstance(proofs, Failure):
            ended = upload.failed(now, proofs, acted_by)
        elif isinstance(made, Failure):
            ended = upload.failed(now, made, acted_by)
        else:
            asset = asset_of(made.upload, [*proofs, *made.stored], now, made.notices)
            ended = upload.completed(now, asset, acted_by)
        if not await self._changes.advance(ended, after_revision=known):
            return None
        await clean_up(self._store, ended)
        return ended

    async def finish(self) -> None:
        """Waits for the work under way; the caller bounds the wait."""
        await self._work.finish()
