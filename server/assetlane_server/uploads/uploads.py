"""What callers do with uploads of theirs besides bringing them in: get, list, cancel, report progress."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from assetlane_server.model.errors import MAX_ROUNDS, WrongStatus, too_many_rounds
from assetlane_server.model.pages import last_id_of, page_size, page_token
from assetlane_server.model.progress import progress_of
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import owned_upload
from assetlane_server.uploads.clean_up import clean_up
from assetlane_server.uploads.progress import ProgressReporter
from assetlane_server.uploads.status_changes import StatusChanges

_MOST_READS = 10  # of one page; where they do not fill it, its token goes on


class Uploads:
    """GetUpload, ListUploads, CancelUpload, ReportProgress."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        changes: StatusChanges,
        store: ObjectStore,
        progress: ProgressReporter,
        signer: TokenSigner,
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._changes = changes
        self._store = store
        self._progress = progress
        self._signer = signer
        self._now = now

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
            await clean_up(self._store, upload)
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
                if access.may_handle(upload):
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
        self._progress.report(progress)
