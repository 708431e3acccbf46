"""The sweeper: settles what clients, servers and networks left behind, so that every upload ends.

Every server runs one. Work is taken by moving its `sweep_time` one lease ahead, conditionally: one sweeper wins,
and if it dies the work comes up again. Nothing here is done that could not be done twice.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.broker import UploadBroker
from assetlane_server.uploads.errors import LedgerUnavailable, Refusal, VariantsMissing
from assetlane_server.uploads.meter import UNMETERED, Meter
from assetlane_server.uploads.multipart import abort_all, discard_asset, discard_upload
from assetlane_server.uploads.ports import ObjectStore, SweepRecords, UploadRecords
from assetlane_server.uploads.upload import WORK_LEASE, Failure, Status, Upload

_log = logging.getLogger(__name__)

_BATCH = 100  # uploads and assets looked for at once
_AT_ONCE = 8  # settled at the same time


class Sweeper:
    """Looks for work every `interval`, half to one and a half times: servers must not all look at once."""

    def __init__(
        self,
        *,
        records: SweepRecords,
        uploads: UploadRecords,
        store: ObjectStore,
        broker: UploadBroker,
        interval: timedelta,
        now: Callable[[], datetime],
        meter: Meter = UNMETERED,
    ) -> None:
        self._records = records
        self._uploads = uploads
        self._store = store
        self._broker = broker
        self._interval_s = interval.total_seconds()
        self._now = now
        self._meter = meter
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            try:
                while await self.sweep() >= _BATCH:
                    continue
            except LedgerUnavailable as error:
                _log.warning("nothing swept: %s", error)

    async def sweep(self) -> int:
        """Settles one batch of what has come up; returns how much that was. Raises LedgerUnavailable."""
        until = self._now()
        with self._meter.sweeping():
            uploads = await self._records.uploads_to_sweep(until=until, limit=_BATCH)
            assets = await self._records.assets_to_sweep(until=until, limit=_BATCH)
            async with asyncio.TaskGroup() as tasks:
                for upload in uploads:
                    kind = upload.status.lower()
                    tasks.create_task(self._guarded(kind, upload.upload_id, partial(self._take_upload, upload)))
                for asset in assets:
                    tasks.create_task(self._guarded("asset", asset.asset_id, partial(self._take_asset, asset)))
        return max(len(uploads), len(assets))

    async def _guarded(self, kind: str, record_id: str, work: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        async with self._turn:  # the work begins here: a coroutine that waited for its turn could be left unawaited
            is_settled = False
            try:
                if not await work():
                    return  # another server has taken it
                is_settled = True
            except Refusal as error:
                # The lease runs out and it comes up again.
                _log.warning("%s could not be settled yet: %s", record_id, error)
            except Exception:
                # One record that nobody can settle must not end the sweeping of all others, on every server in turn.
                _log.exception("%s cannot be settled", record_id)
            self._meter.swept(kind, is_settled=is_settled)

    async def _take_upload(self, upload: Upload) -> bool:
        lease = self._now() + WORK_LEASE
        if not await self._records.reschedule_upload(upload, lease, is_swept=upload.is_swept):
            return False
        await self._settle(replace(upload, sweep_time=lease))
        return True

    async def _settle(self, upload: Upload) -> None:
        match upload.status:
            case Status.PENDING:
                failure = Failure("ABANDONED", "The server that was to sign the write targets died.")
                if await self._uploads.advance_upload(upload.failed(self._now(), failure)):
                    await discard_upload(self._store, upload)
            case Status.INITIALIZED | Status.UPLOADED:
                await self._finish(upload)
            case Status.COMPLETED:
                # A server may have died that opened a second one in the same place.
                for variant in upload.variants:
                    if variant.part_size_bytes:
                        await abort_all(self._store, variant.key)
                await self._records.purge_upload(upload)
            case Status.FAILED | Status.CANCELLED | Status.EXPIRED:
                # Again before the record goes: a slow PUT may have ended long after its URL.
                await discard_upload(self._store, upload)
                if upload.is_swept:
                    await self._records.purge_upload(upload)
                else:
                    gone_at = upload.history[-1].time + upload.kept_for
                    await self._records.reschedule_upload(upload, gone_at, is_swept=True)

    async def _finish(self, upload: Upload) -> None:
        """Completes an upload whose client vanished after its PUTs; expires one whose client did before."""
        try:
            await self._broker.complete_upload(upload.upload_id, UNRESTRICTED)
        except VariantsMissing as missing:
            now = self._now()
            if now < upload.expire_time:
                # Its bytes may still come, or its owner may renew the targets.
                await self._records.reschedule_upload(upload, upload.next_look(now), is_swept=False)
            elif await self._uploads.advance_upload(upload.expired(now)):
                await discard_upload(self._store, upload)
                _log.info("upload %s expired without %s", upload.upload_id, ", ".join(missing.names))

    async def _take_asset(self, asset: Asset) -> bool:
        lease = self._now() + WORK_LEASE
        if not await self._records.reschedule_asset(asset, lease):
            return False
        await discard_asset(self._store, asset)
        swept = asset.swept(self._now())
        await self._records.reschedule_asset(replace(asset, sweep_time=lease), swept.sweep_time)
        return True
