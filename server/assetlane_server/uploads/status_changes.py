"""Where the status changes of uploads become durable, and what follows from each of them."""

import asyncio

from assetlane_server.model.upload import Upload
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.upload_quotas import UploadQuotas
from assetlane_server.ports.upload_records import UploadRecords


class StatusChanges:
    """Stores new uploads and their status changes; counts them, and gives back the quotas of those that ended."""

    def __init__(
        self, uploads: UploadRecords, upload_quotas: UploadQuotas | None = None, meter: Meter = UNMETERED
    ) -> None:
        self._uploads = uploads
        self._quotas = upload_quotas
        self._meter = meter
        self._releasing: set[asyncio.Task[None]] = set()

    async def insert(self, upload: Upload) -> Upload:
        """Stores a new upload, or returns the one of the same request; see UploadRecords. Raises QuotaExceeded."""
        stored = await (self._quotas or self._uploads).insert_upload(upload)
        if stored.upload_id == upload.upload_id:
            self._meter.moved(stored, after_revision=0)
        return stored

    async def advance(self, upload: Upload, *, after_revision: int | None = None) -> bool:
        """Stores the newest status changes of an upload; see UploadRecords."""
        before = upload.revision - 1 if after_revision is None else after_revision
        if not await self._uploads.advance_upload(upload, after_revision=before):
            return False
        self._meter.moved(upload, after_revision=before)
        if upload.status.is_final and self._quotas is not None:
            # Not cut short by a caller who hangs up: the next one who asks may need the room.
            task = asyncio.create_task(self._quotas.release(upload), name=f"release {upload.upload_id}")
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)
            await asyncio.shield(task)
        return True

    async def finish(self) -> None:
        """Waits for what is being given back; the caller bounds the wait."""
        if self._releasing:
            await asyncio.wait(set(self._releasing))
