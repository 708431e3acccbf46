"""Makes the cuts that a plan asks the server for, and stores them. Can be done twice: the second time finds them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from assetlane_server.uploads.asset import StoredObject
from assetlane_server.uploads.cut_plan import CutPlan, MadeCut, MadePicture
from assetlane_server.uploads.errors import LedgerUnavailable, PictureRefused, StoreUnavailable
from assetlane_server.uploads.meter import UNMETERED, Meter
from assetlane_server.uploads.ports import ObjectStore, PictureCutter, SweepRecords
from assetlane_server.uploads.upload import WORK_LEASE, Failure, Upload, VariantPromise
from assetlane_server.uploads.work import all_at_once

_log = logging.getLogger(__name__)
_RENEWAL_S = WORK_LEASE.total_seconds() / 3


class CutRoom:
    """Where the cuts of one server's uploads are made."""

    def __init__(
        self,
        *,
        cutter: PictureCutter,
        store: ObjectStore,
        records: SweepRecords,
        at_once: int,
        now: Callable[[], datetime],
        meter: Meter = UNMETERED,
    ) -> None:
        self._cutter = cutter
        self._store = store
        self._records = records
        self._now = now
        self._meter = meter
        self._turn = asyncio.Semaphore(at_once)

    async def cut(self, upload: Upload, plan: CutPlan) -> tuple[Upload, list[StoredObject]] | Failure:
        """Returns the upload with its cuts among its variants, and what is stored of them, in their order.

        Returns a Failure for a picture that cannot be cut. Raises StoreUnavailable: then it is to be done again.
        """
        async with self.lease(upload):
            original = upload.variants[0]
            try:
                async with self._taken_turn(), self._store.local_copy(original.key, original.size_bytes) as path:
                    with self._meter.cutting():
                        picture = await self._cutter.cut(path, original.content_type, plan)
            except PictureRefused as refusal:
                return Failure(refusal.reason, str(refusal))
            stored = await all_at_once(*(self._put(plan, cut) for cut in picture.cuts))
        promises = (_promise(plan, cut, found) for cut, found in zip(picture.cuts, stored, strict=True))
        return _shown(upload, picture, tuple(promises)), stored

    @asynccontextmanager
    async def _taken_turn(self) -> AsyncIterator[None]:
        with self._meter.waiting_to_cut():
            await self._turn.acquire()
        try:
            yield
        finally:
            self._turn.release()

    async def _put(self, plan: CutPlan, cut: MadeCut) -> StoredObject:
        key = plan.key(cut.name, cut.content_type)
        if stored := await self._store.put(key, cut.data, cut.content_type):
            return stored
        # What is there is an earlier attempt's: no URL that writes this key was ever given away.
        found = await self._store.head(key)
        if found is None:
            raise StoreUnavailable(f"The store has the cut {cut.name}, and says that it does not.")
        return found

    @asynccontextmanager
    async def lease(self, upload: Upload) -> AsyncIterator[None]:
        """Keeps other servers' sweepers away for as long as the block runs."""
        keeping = asyncio.create_task(self._keep_lease(upload), name=f"lease {upload.upload_id}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep_lease(self, upload: Upload) -> None:
        while True:
            await asyncio.sleep(_RENEWAL_S)
            end = self._now() + WORK_LEASE
            try:
                if not await self._records.reschedule_upload(upload, end, is_swept=upload.is_swept):
                    return  # another one has taken it: both come to the same end
            except LedgerUnavailable as error:
                _log.warning("the lease of upload %s could not be renewed: %s", upload.upload_id, error)
            else:
                upload = replace(upload, sweep_time=end)


def _promise(plan: CutPlan, cut: MadeCut, found: StoredObject) -> VariantPromise:
    return VariantPromise(
        name=cut.name,
        content_type=cut.content_type,
        size_bytes=found.size_bytes,
        sha256=found.sha256,
        width_px=cut.width_px,
        height_px=cut.height_px,
        key=plan.key(cut.name, cut.content_type),
    )


def _shown(upload: Upload, picture: MadePicture, cuts: tuple[VariantPromise, ...]) -> Upload:
    """Returns the upload with its cuts, and with what the caller did not know of its picture."""
    original, *others = upload.variants
    if not (original.width_px or original.height_px):
        original = replace(original, width_px=picture.width_px, height_px=picture.height_px)
    details = upload.details if upload.details.color else replace(upload.details, color=picture.color)
    return replace(upload, variants=(original, *others, *cuts), details=details)
