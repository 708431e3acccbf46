"""UploadRecords in front of others: all is passed on, and a subclass adds what else happens."""

from collections.abc import Sequence

from assetlane_server.uploads.ports import UploadRecords
from assetlane_server.uploads.upload import Status, Upload


class UploadRelay:
    """Passes everything on to the UploadRecords behind it."""

    def __init__(self, uploads: UploadRecords) -> None:
        self._uploads = uploads

    async def insert_upload(self, upload: Upload) -> Upload:
        """See UploadRecords."""
        return await self._uploads.insert_upload(upload)

    async def advance_upload(self, upload: Upload) -> bool:
        """See UploadRecords."""
        return await self._uploads.advance_upload(upload)

    async def renew_targets(self, upload: Upload) -> bool:
        """See UploadRecords."""
        return await self._uploads.renew_targets(upload)

    async def find_upload(self, upload_id: str) -> Upload | None:
        """See UploadRecords."""
        return await self._uploads.find_upload(upload_id)

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """See UploadRecords."""
        return await self._uploads.find_requested(uid, request_id)

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload]:
        """See UploadRecords."""
        return await self._uploads.find_uploads(upload_ids)

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """See UploadRecords."""
        return await self._uploads.list_uploads(
            uid=uid, session_id=session_id, statuses=statuses, before_id=before_id, limit=limit
        )
