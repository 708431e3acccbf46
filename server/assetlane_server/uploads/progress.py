"""Reports of progress: merged, and written a few times a second."""

import asyncio
from datetime import datetime, timedelta

from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.model.progress import Progress, Stage, stage_of
from assetlane_server.model.upload import Upload
from assetlane_server.ports.progress_records import ProgressRecords

MAX_TRACKED = 10_000  # uploads whose reports one process merges at the same time


class ProgressReporter:
    """Merges the reports of each upload: the first is written at once, then the newest every `interval`."""

    def __init__(self, records: ProgressRecords, interval: timedelta) -> None:
        self._records = records
        self._interval_s = interval.total_seconds()
        self._newest: dict[str, Progress | None] = {}  # None: written, and nothing new since
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, progress: Progress) -> None:
        """Takes a report; it reaches the watchers within the interval unless a newer one does."""
        upload_id = progress.upload_id
        if upload_id not in self._newest:
            if len(self._newest) >= MAX_TRACKED:
                return  # a report is an extra: nothing is lost but freshness
            task = asyncio.get_running_loop().create_task(self._write(upload_id), name=f"progress {upload_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._newest[upload_id] = progress

    def verifying(self, upload: Upload, now: datetime) -> None:
        """Reports the stage to watchers that saw progress: an upload that reported none costs no write."""
        if upload.upload_id in self._newest:
            self.report(stage_of(upload, Stage.VERIFYING, now))

    def cutting(self, upload: Upload, now: datetime) -> None:
        """Reports the stage: it takes long enough to be worth a write."""
        self.report(stage_of(upload, Stage.CUTTING, now))

    async def finish(self) -> None:
        """Ends all writing; what was not written yet is forgotten."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, upload_id: str) -> None:
        try:
            # `report` sets the newest before this task first runs.
            while (progress := self._newest[upload_id]) is not None:
                self._newest[upload_id] = None
                try:
                    await self._records.put_progress(progress)
                except LedgerUnavailable:
                    return  # the next report tries again
                await asyncio.sleep(self._interval_s)
        finally:
            del self._newest[upload_id]
