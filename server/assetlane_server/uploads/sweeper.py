"""The sweeper: settles what clients, servers and networks left behind, so that every upload ends.

Every server runs one. Work is taken by moving its `sweep_time` one lease ahead, conditionally: one sweeper wins,
and if it dies the work comes up again. Nothing here is done that could not be done twice.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from assetlane_server.model.errors import LedgerUnavailable, Refusal, VariantsMissing
from assetlane_server.model.upload import SWEEP_MARGIN, WORK_LEASE, Failure, Status, Upload
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.sweep_records import SweepRecords
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.clean_up import abort_all, discard_upload
from assetlane_server.uploads.completions import UploadCompletions
from assetlane_server.uploads.status_changes import StatusChanges

_log = logging.getLogger(__name__)

_BATCH: Final = 100  # uploads looked for at once
_AT_ONCE: Final = 8  # settled at the same time
_LONGEST_BACKOFF: Final = timedelta(hours=1)
_MOST_BACKED_OFF: Final = 1000  # uploads that this process leaves alone for a while
_MOST_DOUBLINGS: Final = 5  # of the interval, while nothing can be settled


@dataclass
class _Batch:
    """How far one sweep is."""

    settled: int = 0
    is_ledger_away: bool = False


class Sweeper:
    """Looks for work every `interval`, half to one and a half times: servers must not all look at once.

    While nothing can be settled it looks ever more rarely, and so it does at each upload that cannot be settled.
    """

    def __init__(
        self,
        *,
        records: SweepRecords,
        changes: StatusChanges,
        store: ObjectStore,
        completions: UploadCompletions,
        interval: timedelta,
        now: Callable[[], datetime],
        meter: Meter = UNMETERED,
    ) -> None:
        self._records = records
        self._changes = changes
        self._store = store
        self._completions = completions
        self._interval_s = interval.total_seconds()
        self._now = now
        self._meter = meter
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._backed_off: dict[str, tuple[int, datetime]] = {}  # failures so far, and when it is looked at again
        self._failures = 0
        self._doublings = 0

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            pause_s = self._interval_s * 2**self._doublings
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            await self.look()

    async def look(self) -> None:
        """Sweeps for as long as something is settled, and notes how long to wait until it looks again."""
        failures = self._failures
        try:
            while await self.sweep():
                failures = self._failures
        except LedgerUnavailable as error:
            _log.warning("nothing swept: %s", error)
            self._failures += 1
        is_failing = self._failures > failures
        self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS) if is_failing else 0

    async def sweep(self) -> int:
        """Settles one batch of what has come up; returns how many it settled. Raises LedgerUnavailable."""
        now = self._now()
        self._backed_off = {one: entry for one, entry in self._backed_off.items() if entry[1] + _LONGEST_BACKOFF > now}
        left_alone = {one for one, (_, again) in self._backed_off.items() if again > now}
        batch = _Batch()
        with self._meter.sweeping():
            due = await self._records.uploads_to_sweep(until=now, limit=_BATCH + len(left_alone))
            async with asyncio.TaskGroup() as tasks:
                for upload in due:
                    if upload.upload_id not in left_alone:
                        tasks.create_task(self._guarded(upload, batch))
        return batch.settled

    async def _guarded(self, upload: Upload, batch: "_Batch") -> None:
        is_deleted = upload.asset is not None and upload.asset.is_deleted
        kind = "asset" if is_deleted else upload.status.lower()
        async with self._turn:
            if batch.is_ledger_away:
                return  # the others would fail too
            is_settled = False
            try:
                if not await self._take(upload):
                    return  # another server has taken it
                is_settled = True
                batch.settled += 1
                self._backed_off.pop(upload.upload_id, None)
            except Refusal as error:
                batch.is_ledger_away = isinstance(error, LedgerUnavailable)
                _log.warning("%s could not be settled yet: %s", upload.upload_id, error)
                self._back_off(upload.upload_id)
            except Exception:
                # One record that nobody can settle must not end the sweeping of all others, on every server in turn.
                _log.exception("%s cannot be settled", upload.upload_id)
                self._back_off(upload.upload_id)
            self._meter.swept(kind, is_settled=is_settled)

    def _back_off(self, upload_id: str) -> None:
        self._failures += 1
        failures = self._backed_off.pop(upload_id, (0,))[0] + 1
        self._backed_off[upload_id] = (failures, self._now() + min(WORK_LEASE * 2 ** (failures - 1), _LONGEST_BACKOFF))
        if len(self._backed_off) > _MOST_BACKED_OFF:
            del self._backed_off[next(iter(self._backed_off))]

    async def _take(self, upload: Upload) -> bool:
        lease = self._now() + WORK_LEASE
        if not await self._records.reschedule_upload(upload, lease, is_swept=upload.is_swept):
            return False
        await self._settle(replace(upload, sweep_time=lease))
        return True

    async def _settle(self, upload: Upload) -> None:
        match upload.status:
            case Status.PENDING:
                failure = Failure("ABANDONED", "The server that was to sign the write targets died.")
                if await self._changes.advance(upload.failed(self._now(), failure)):
                    await discard_upload(self._store, upload)
            case Status.INITIALIZED | Status.UPLOADED:
                await self._finish(upload)
            case Status.COMPLETED if upload.asset is not None and upload.asset.is_deleted:
                await self._settle_deleted(upload)
            case Status.COMPLETED:
                # Two servers may have worked on it: one opened a second multipart upload in the same place, or made
                # cuts that the other one had no time for.
                await abort_all(self._store, [one.key for one in upload.variants if one.part_size_bytes])
                if unused := upload.unused_keys:
                    await self._store.delete(unused)
                await self._records.reschedule_upload(upload, None, is_swept=False)
            case Status.FAILED | Status.CANCELLED | Status.EXPIRED:
                # Again before the record goes: a slow PUT may have ended long after its URL.
                await discard_upload(self._store, upload)
                if upload.is_swept:
                    await self._records.purge_upload(upload)
                elif (end := upload.write_end + SWEEP_MARGIN) > self._now():
                    # Its targets were renewed just before it ended: more may come.
                    await self._records.reschedule_upload(upload, end, is_swept=False)
                else:
                    await self._records.reschedule_upload(upload, upload.purge_time, is_swept=True)

    async def _settle_deleted(self, upload: Upload) -> None:
        """Deletes the objects of a deleted asset until none can come back, then where they were, then the record."""
        now = self._now()
        if upload.is_swept:
            if now < upload.purge_time:
                await self._records.reschedule_upload(upload, upload.purge_time, is_swept=True)
            else:
                await self._records.purge_upload(upload)
            return
        await discard_upload(self._store, upload)
        if again := upload.next_deletion(now):
            await self._records.reschedule_upload(upload, again, is_swept=False)
        else:
            await self._records.erase_places(upload, upload.purge_time)

    async def _finish(self, upload: Upload) -> None:
        """Completes an upload whose client vanished after its PUTs; expires one whose client did before."""
        try:
            await self._completions.complete_upload(upload.upload_id, UNRESTRICTED)
        except VariantsMissing as missing:
            now = self._now()
            if now < upload.expire_time:
                # Its bytes may still come, or its owner may renew the targets.
                await self._records.reschedule_upload(upload, upload.next_look(now), is_swept=False)
            elif await self._changes.advance(upload.expired(now)):
                await discard_upload(self._store, upload)
                _log.info("upload %s expired without %s", upload.upload_id, ", ".join(missing.names))
