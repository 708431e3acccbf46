"""How far an upload is, as its caller reports it: newest only, merged before it is written, never history."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from assetlane_server.uploads.errors import FieldViolation, InvalidRequest, LedgerUnavailable
from assetlane_server.uploads.upload import Upload

if TYPE_CHECKING:
    from assetlane_server.uploads.ports import ProgressRecords

MAX_TRACKED = 10_000  # uploads whose reports one process merges at the same time


class Stage(StrEnum):
    """What is being done for an upload right now."""

    UPLOADING = "UPLOADING"
    VERIFYING = "VERIFYING"
    CUTTING = "CUTTING"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is."""

    upload_id: str
    session_id: str
    uid: str
    stage: Stage
    sent_bytes: Mapping[str, int]  # by variant name, all variants
    size_bytes: Mapping[str, int]  # by variant name, all variants
    time: datetime


def progress_of(upload: Upload, sent_bytes: Mapping[str, int], now: datetime) -> Progress:
    """Returns what a report means. Raises InvalidRequest for an unknown variant or an impossible count."""
    sizes = {variant.name: variant.size_bytes for variant in upload.variants}
    violations = []
    for name, count in sent_bytes.items():
        field = f"sent_bytes[{name!r}]"
        if name not in sizes:
            violations.append(FieldViolation(field, f"the upload has only {', '.join(sizes)}"))
        elif not 0 <= count <= sizes[name]:
            violations.append(FieldViolation(field, f"is {count:,}, it must be from 0 to {sizes[name]:,}"))
    if violations:
        raise InvalidRequest(violations)
    sent = {name: sent_bytes.get(name, 0) for name in sizes}
    return Progress(upload.upload_id, upload.session_id, upload.uid, Stage.UPLOADING, sent, sizes, now)


class ProgressBoard:
    """Merges the reports of each upload: the first is written at once, then the newest every `interval`."""

    def __init__(self, records: "ProgressRecords", interval: timedelta) -> None:
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
            self._tell(upload, Stage.VERIFYING, now)

    def cutting(self, upload: Upload, now: datetime) -> None:
        """Reports the stage: it takes long enough to be worth a write."""
        self._tell(upload, Stage.CUTTING, now)

    def _tell(self, upload: Upload, stage: Stage, now: datetime) -> None:
        whole = progress_of(upload, {variant.name: variant.size_bytes for variant in upload.variants}, now)
        self.report(replace(whole, stage=stage))

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
