"""The use cases on the ledger and the store in memory, with a clock that the test moves."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from tests.memory.ledger import MemoryLedger
from tests.memory.object_store import MemoryObjectStore
from tests.uploads.samples import NOW

from assetlane_server.composition.use_cases import use_cases
from assetlane_server.model.admission import Terms, UploadRequest
from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.errors import PictureRefused
from assetlane_server.model.presigned import PresignedRequest, WriteTarget
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Upload, VariantPromise
from assetlane_server.ports.cut_picture import CutPicture
from assetlane_server.ports.upload_quotas import UploadQuotas
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper

BYTES = b"the promised bytes"
SECOND = timedelta(seconds=1)


class MemoryServer:
    """One server's use cases; `restarted` gives another server's on the same ledger and store."""

    def __init__(
        self,
        ledger: MemoryLedger | None = None,
        store: MemoryObjectStore | None = None,
        *,
        terms: Terms | None = None,
        upload_quotas: UploadQuotas | None = None,
    ) -> None:
        self.now_is = NOW
        self.records = ledger or MemoryLedger()
        self.store = store or MemoryObjectStore(self.now)
        self._terms = terms or Terms()
        self.changes = StatusChanges(self.records, upload_quotas)
        cases = use_cases(
            records=self.records,
            changes=self.changes,
            store=self.store,
            server_cuts=ServerCuts(cutter=NoCutter(), store=self.store, records=self.records, at_once=1, now=self.now),
            terms=self._terms,
            signer=TokenSigner(b"k" * 32),
            new_id=self.records.clock.new_id,
            now=self.now,
            progress_interval=SECOND,
        )
        self.requests, self.completions, self.uploads = cases.requests, cases.completions, cases.uploads
        self.assets = cases.assets
        self.sweeper = Sweeper(
            records=self.records,
            changes=self.changes,
            store=self.store,
            completions=self.completions,
            interval=SECOND,
            now=self.now,
        )

    def now(self) -> datetime:
        """The clock."""
        return self.now_is

    async def request(self, data: bytes = BYTES, **fields: Any) -> tuple[Upload, tuple[WriteTarget, ...]]:
        """Requests an upload of one variant with this data."""
        promise = VariantPromise("original", "text/plain", len(data))
        request = UploadRequest(**{"uid": "7f3a", "file_path": "a.txt", "variants": (promise,), **fields})
        return await self.requests.request_upload(request, UNRESTRICTED)

    async def put(self, target: WriteTarget, data: bytes = BYTES) -> int:
        """PUTs as the target says; returns the HTTP status."""
        assert target.single_put is not None
        return (await self.store.send(target.single_put, data)).status

    async def uploaded(self, **fields: Any) -> Upload:
        """Returns an upload whose bytes are in the store."""
        upload, targets = await self.request(**fields)
        assert await self.put(targets[0]) == 200
        return upload

    async def completed(self, **fields: Any) -> Upload:
        """Returns a completed upload."""
        upload = await self.uploaded(**fields)
        return await self.completions.complete_upload(upload.upload_id, UNRESTRICTED)

    async def sweep_after(self, later: timedelta) -> None:
        """Moves the clock, then sweeps until nothing is settled any more."""
        self.now_is += later
        while await self.sweeper.sweep():
            pass

    async def stored(self, upload: Upload) -> Upload | None:
        """Returns the record as it is."""
        return await self.records.find_upload(upload.upload_id)

    def holds(self, upload: Upload) -> bool:
        """Whether an object of the upload is in the store."""
        return any(f"/{upload.upload_id}/" in key for key in self.store.objects)


class NoCutter:
    """See PictureCutter: there is none."""

    def cut(
        self, original: PresignedRequest, size_bytes: int, content_type: str, plan: CutPlan
    ) -> AbstractAsyncContextManager[CutPicture]:
        """See PictureCutter."""
        raise PictureRefused("IMAGE_UNRECOGNIZED", "Nothing is cut here.")
