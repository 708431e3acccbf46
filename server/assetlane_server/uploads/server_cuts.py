"""Makes the cuts that a plan asks the server for, and stores them. Can be done twice: the second time finds them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from assetlane_server.concurrency.gathering import all_at_once
from assetlane_server.model.content_headers import cache_control, content_disposition
from assetlane_server.model.cut_plan import CutPlan, MadeCut, MadePicture
from assetlane_server.model.errors import (
    CutDiffers,
    CuttingTimedOut,
    LedgerUnavailable,
    PictureRefused,
    StoreUnavailable,
)
from assetlane_server.model.proof import StoredObject, difference
from assetlane_server.model.upload import WORK_LEASE, Failure, Notice, Upload, VariantPromise
from assetlane_server.ports.cut_picture import CutPicture
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.picture_cutter import PictureCutter
from assetlane_server.ports.sweep_records import SweepRecords

MAX_CUT_TIMEOUTS = 3  # how often a picture may get no time until it is stored without cuts

_log = logging.getLogger(__name__)
_URL_LIFETIME = timedelta(minutes=30)  # of what a worker fetches and stores by, from the beginning of the work


def _everything(_content_type: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CutOutcome:
    """The upload with its cuts among its variants, what is stored of them, in their order, and what was left out."""

    upload: Upload
    stored: tuple[StoredObject, ...] = ()
    notices: tuple[Notice, ...] = ()


class ServerCuts:
    """Where the cuts of one server's uploads are made."""

    def __init__(
        self,
        *,
        cutter: PictureCutter,
        store: ObjectStore,
        records: SweepRecords,
        at_once: int,
        now: Callable[[], datetime],
        can_cut: Callable[[str], bool] = _everything,
        max_bytes: int | None = None,
        meter: Meter = UNMETERED,
        renewal: timedelta = WORK_LEASE / 3,
    ) -> None:
        """`can_cut` says of a media type whether there can be cuts, `max_bytes` of which originals at most."""
        self._cutter = cutter
        self._store = store
        self._records = records
        self._now = now
        self._can_cut = can_cut
        self._max_bytes = max_bytes
        self._meter = meter
        self._renewal_s = renewal.total_seconds()
        self._turn = asyncio.Semaphore(at_once)

    async def cut(self, upload: Upload, plan: CutPlan) -> CutOutcome | Failure:
        """Returns what became of the plan: cuts, a notice why there are none, or a Failure where they are required.

        Raises StoreUnavailable or LedgerUnavailable: then it is to be done again.
        """
        try:
            return await self._cut(upload, plan)
        except PictureRefused as refusal:
            if plan.required:
                return Failure(refusal.reason, str(refusal))
            _log.info("upload %s is stored without cuts: %s", upload.upload_id, refusal.reason)
            return CutOutcome(upload, notices=(Notice(refusal.reason, str(refusal)),))

    async def _cut(self, upload: Upload, plan: CutPlan) -> CutOutcome:
        original = upload.variants[0]
        if not self._can_cut(original.content_type):
            raise PictureRefused("IMAGE_UNRECOGNIZED", f"The server makes no cuts of {original.content_type}.")
        if self._max_bytes is not None and original.size_bytes > self._max_bytes:
            raise PictureRefused("IMAGE_TOO_LARGE", f"The server makes cuts of at most {self._max_bytes:,} bytes.")
        async with self.lease(upload):
            while True:
                try:
                    async with self._taken_turn():
                        return await self._cut_once(upload, plan)
                except CuttingTimedOut as timeout:
                    # In the ledger: a restart, or another server that goes on, does not begin again at none.
                    count = await self._records.count_cut_timeout(upload.upload_id)
                    _log.warning(
                        "the cuts of upload %s got no time, %d of %d times", upload.upload_id, count, MAX_CUT_TIMEOUTS
                    )
                    if count >= MAX_CUT_TIMEOUTS:
                        raise PictureRefused(timeout.reason, f"{timeout} That was tried {count} times.") from timeout

    async def _cut_once(self, upload: Upload, plan: CutPlan) -> CutOutcome:
        original = upload.variants[0]
        store = self._store.seen_from_here()
        # All URLs end as the first one does: a server that stood still for days, and goes on then, stores nothing of an
        # upload that is long gone.
        signed_at = self._now()
        source = store.presign_get(original.key, signed_at, _URL_LIFETIME)
        async with AsyncExitStack() as stack:
            with self._meter.cutting():
                cutting = self._cutter.cut(source, original.size_bytes, original.content_type, plan)
                picture: CutPicture = await stack.enter_async_context(cutting)
            promises = [_promise(upload, plan, cut) for cut in picture.made.cuts]
            requests = [store.presign_put(promise, signed_at, _URL_LIFETIME) for promise in promises]
            are_new = await picture.store(requests)
        proved = await all_at_once(
            *(self._proved(promise, is_new=is_new) for promise, is_new in zip(promises, are_new, strict=True))
        )
        cuts = [promise for promise, _ in proved]
        return CutOutcome(_shown(upload, picture.made, cuts), tuple(stored for _, stored in proved))

    async def _proved(self, promise: VariantPromise, *, is_new: bool) -> tuple[VariantPromise, StoredObject]:
        """Returns a cut as it is in the store, whatever the worker says."""
        found = await self._store.head(promise.key)
        if found is None:
            raise StoreUnavailable(f"The store has taken the cut {promise.name}, and says that it has none.")
        if not is_new:
            # What is there is an earlier attempt's: no URL that writes this key was ever given away.
            return replace(promise, size_bytes=found.size_bytes, sha256=found.sha256), found
        if fault := difference(promise, found, reports_sha256=self._store.reports_sha256):
            raise CutDiffers(fault.message)
        return promise, found

    @asynccontextmanager
    async def _taken_turn(self) -> AsyncIterator[None]:
        with self._meter.waiting_to_cut():
            await self._turn.acquire()
        try:
            yield
        finally:
            self._turn.release()

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
            await asyncio.sleep(self._renewal_s)
            end = self._now() + WORK_LEASE
            try:
                if not await self._records.reschedule_upload(upload, end, is_swept=upload.is_swept):
                    return  # another one has taken it: both come to the same end
            except LedgerUnavailable as error:
                _log.warning("the lease of upload %s could not be renewed: %s", upload.upload_id, error)
            else:
                upload = replace(upload, sweep_time=end)


def _promise(upload: Upload, plan: CutPlan, cut: MadeCut) -> VariantPromise:
    return VariantPromise(
        name=cut.name,
        content_type=cut.content_type,
        size_bytes=cut.size_bytes,
        sha256=cut.sha256,
        width_px=cut.width_px,
        height_px=cut.height_px,
        key=plan.key(cut.name, cut.content_type),
        content_disposition=content_disposition(upload.file_path, cut.name, cut.content_type),
        cache_control=cache_control(is_public=upload.is_public),
    )


def _shown(upload: Upload, picture: MadePicture, cuts: Sequence[VariantPromise]) -> Upload:
    """Returns the upload with its cuts, and with what the caller did not know of its picture."""
    original, *others = upload.variants
    if not (original.width_px or original.height_px):
        original = replace(original, width_px=picture.width_px, height_px=picture.height_px)
    details = upload.details if upload.details.color else replace(upload.details, color=picture.color)
    return replace(upload, variants=(original, *others, *cuts), details=details)
