"""Tells of every status change of an upload, wherever it is decided: they all become durable here."""

from collections.abc import Sequence

from assetlane_server.uploads.meter import Meter
from assetlane_server.uploads.ports import UploadRecords
from assetlane_server.uploads.upload import Status, Upload


class Chronicle:
    """The UploadRecords behind it, and a meter that is told what changed in them."""

    def __init__(self, records: UploadRecords, meter: Meter) -> None:
        self._records = records
        self._meter = meter

    async def insert_upload(self, upload: Upload) -> Upload:
        """See UploadRecords."""
        stored = await self._records.insert_upload(upload)
        if stored.upload_id == upload.upload_id:
            self._meter.moved(stored)
        return stored

    async def advance_upload(self, upload: Upload) -> bool:
        """See UploadRecords."""
        is_stored = await self._records.advance_upload(upload)
        if is_stored:
            self._meter.moved(upload)
        return is_stored

    async def renew_targets(self, upload: Upload) -> bool:
        """See UploadRecords."""
        return await self._records.renew_targets(upload)

    async def find_upload(self, upload_id: str) -> Upload | None:
        """See UploadRecords."""
        return await self._records.find_upload(upload_id)

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """See UploadRecords."""
        return await self._records.find_requested(uid, request_id)

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload]:
        """See UploadRecords."""
        return await self._records.find_uploads(upload_ids)

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """See UploadRecords."""
        return await self._records.list_uploads(
            uid=uid, session_id=session_id, statuses=statuses, before_id=before_id, limit=limit
        )
