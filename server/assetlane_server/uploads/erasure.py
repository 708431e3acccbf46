"""Erases everything of one owner: a right that privacy law gives. Can be repeated; what has to wait is reported.

What people said, and every object, goes at once. A record that others may still need goes later: as long as a URL lives
that can write one of its objects, the keys are needed to delete what arrives, and for 8 days a watcher that resumes has
to be sent the deletion. The sweeper of any server removes these records in their time; until then they hold ids, the
owner's name and partitions.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from assetlane_server.model.admission import check_uid
from assetlane_server.model.errors import MAX_ROUNDS, too_many_rounds
from assetlane_server.model.upload import LONGEST_PUT, Failure, Status, Upload
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.owner_records import OwnerRecords
from assetlane_server.ports.quota_records import QuotaRecords
from assetlane_server.uploads.clean_up import discard_upload
from assetlane_server.uploads.status_changes import StatusChanges

_PAGE: Final = 100
_AT_ONCE: Final = 8
_ERASED: Final = Failure("ERASED", "Everything of its owner was erased.")


@dataclass
class ErasureReport:
    """What one run did, and what is left."""

    uploads_ended: int = 0  # that were open
    assets_deleted: int = 0
    records_removed: int = 0
    records_left: int = 0
    left_until: datetime | None = None  # when the last of these goes
    records_unreadable: int = 0  # not touched: another version has written them, or something has damaged them
    partitions: set[str] = field(default_factory=set)


class Erasure:
    """Erases what one owner has, while servers serve."""

    def __init__(
        self,
        *,
        records: OwnerRecords,
        accounts: QuotaRecords,
        changes: StatusChanges,
        store: ObjectStore,
        now: Callable[[], datetime],
    ) -> None:
        self._records = records
        self._accounts = accounts
        self._changes = changes
        self._store = store
        self._now = now
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def erase(self, uid: str) -> ErasureReport:
        """Erases; returns what was done. Raises InvalidRequest.

        Raises LedgerUnavailable, StoreUnavailable: then run it again.
        """
        check_uid(uid)  # an empty one would be everybody's
        report = ErasureReport()
        after_id = ""
        while page := await self._records.scan_uploads(
            uid=uid, session_id="", statuses=(), after_id=after_id, limit=_PAGE
        ):
            async with asyncio.TaskGroup() as tasks:
                for upload in page:
                    tasks.create_task(self._erase_in_turn(upload, report))
            after_id = page[-1].upload_id
        await self._records.erase_progress(uid)
        report.records_unreadable = len(await self._records.unreadable_of(uid))
        # Whatever was open has ended, and what nobody gave back of it counts for nothing.
        await self._accounts.remove_account(f"uid:{uid}")
        for partition in report.partitions:
            await self._accounts.close_account(f"partition:{partition}")
        return report

    async def _erase_in_turn(self, upload: Upload, report: ErasureReport) -> None:
        async with self._turn:
            for _ in range(MAX_ROUNDS):
                if await self._erase(upload, report):
                    report.partitions.add(upload.asset_partition)
                    return
                known = await self._records.find_upload(upload.upload_id)
                if known is None:
                    return
                upload = known
            raise too_many_rounds(upload.upload_id)

    async def _erase(self, upload: Upload, report: ErasureReport) -> bool:
        """Returns whether the upload is erased as far as it can be now; False: it has changed meanwhile."""
        if not upload.status.is_final:
            if not await self._changes.advance(upload.failed(self._now(), _ERASED)):
                return False
            report.uploads_ended += 1
        elif (asset := upload.readable_asset) is not None:
            if not await self._records.advance_asset(asset.deleted(self._now())):
                return False
            report.assets_deleted += 1
        known = await self._records.find_upload(upload.upload_id)
        if known is None:
            return True
        await discard_upload(self._store, known)
        return await self._remove(known, report)

    async def _remove(self, upload: Upload, report: ErasureReport) -> bool:
        """Removes the record, or as much of it as nobody needs any more."""
        now = self._now()
        can_come_back = upload.next_deletion(now) is not None
        goes_at = upload.purge_time
        if upload.asset is None:
            ended = upload.history[-1].time
            kept_for = max(upload.write_end + LONGEST_PUT - ended, timedelta(0))
            goes_at = ended + kept_for
            if can_come_back and not await self._records.erase_words(replace(upload, kept_for=kept_for)):
                return False
        elif upload.asset.is_deleted and not can_come_back and not upload.is_swept and now < goes_at:
            if not await self._records.erase_places(upload, goes_at):
                return False
        elif not upload.asset.is_deleted or upload.status is not Status.COMPLETED:
            return False  # it has come back: look again
        if now >= goes_at and not can_come_back:
            if not await self._records.purge_upload(upload):
                return False
            report.records_removed += 1
            return True
        report.records_left += 1
        report.left_until = max(report.left_until or goes_at, goes_at)
        return True
