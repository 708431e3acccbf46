"""Tells of every status change of an upload, wherever it is decided: they all become durable here."""

from assetlane_server.uploads.meter import Meter
from assetlane_server.uploads.ports import UploadRecords
from assetlane_server.uploads.relay import UploadRelay
from assetlane_server.uploads.upload import Upload


class Chronicle(UploadRelay):
    """The UploadRecords behind it, and a meter that is told what changed in them."""

    def __init__(self, uploads: UploadRecords, meter: Meter) -> None:
        super().__init__(uploads)
        self._meter = meter

    async def insert_upload(self, upload: Upload) -> Upload:
        """See UploadRecords."""
        stored = await super().insert_upload(upload)
        if stored.upload_id == upload.upload_id:
            for revision in range(1, stored.revision + 1):  # PENDING and INITIALIZED may come in one write
                self._meter.moved(stored.as_of(revision))
        return stored

    async def advance_upload(self, upload: Upload) -> bool:
        """See UploadRecords."""
        is_stored = await super().advance_upload(upload)
        if is_stored:
            self._meter.moved(upload)
        return is_stored
