"""The hub: the one change stream of a server process, fanned out to its watchers.

A change only says *who* changed. The hub then reads that record once, whatever the number of its watchers,
and puts its state into their mailboxes. As an upload's whole history is in its record, the newest state is
all that a watcher needs: a slow reader misses nothing.

When the stream is lost it is opened anew first; then everything that is watched is read again.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from math import inf
from typing import Any, TypeVar

from assetlane_server.records.changes import AssetChange, Change, SessionKey, UploadChange
from assetlane_server.records.mailbox import HubMailbox
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.records.reading import SharedReading
from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.errors import LedgerUnavailable, ShuttingDown
from assetlane_server.uploads.meter import UNMETERED, Meter
from assetlane_server.uploads.ports import VISIBLE_WITHIN, Snapshot
from assetlane_server.uploads.progress import Progress
from assetlane_server.uploads.upload import Upload

_log = logging.getLogger(__name__)

_READ_BATCH = 200  # records read at once
_SESSION_BATCH = 20  # sessions read at once by watches that begin
_MANY_SLOTS = 64  # of a mailbox for many records
_LIVE_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 10.0

T = TypeVar("T")
K = TypeVar("K")
Boxes = defaultdict[K, set[HubMailbox[Any]]]


class Hub:
    """See ChangeHub. `run` has to run for as long as anything watches."""

    def __init__(self, records: MongoRecords, now: Callable[[], datetime], meter: Meter = UNMETERED) -> None:
        self._records = records
        self._now = now
        self._meter = meter
        self._upload_boxes: Boxes[str] = defaultdict(set)
        self._session_boxes: Boxes[SessionKey] = defaultdict(set)
        self._partition_boxes: Boxes[str] = defaultdict(set)
        self._live = asyncio.Event()
        self._closed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at: float | None = None  # when the stream last answered, with a change or without
        self._last_current = now()  # when the stream last had nothing more to tell
        self._delivered_until = self._last_current
        self._is_delivering = False
        self._upload_reading = SharedReading(records.read_uploads, lambda upload: (upload.upload_id,), _READ_BATCH)
        self._session_reading = SharedReading(records.read_sessions, _sessions_of, _SESSION_BATCH)
        # What is watched and has to be read: ids.
        self._uploads_to_read: set[str] = set()
        self._assets_to_read: set[str] = set()
        self._sessions_to_read: set[SessionKey] = set()
        self._partitions_to_read: dict[str, datetime] = {}  # and since when
        self._has_to_read = asyncio.Event()
        self._waiting_since = inf  # when the oldest change came that watchers were not told yet

    @property
    def silence_seconds(self) -> float:
        """How long the stream has not answered; endless before it was opened. In order it is below one second."""
        return inf if self._heard_at is None else self._clock() - self._heard_at

    async def run(self) -> None:
        """Follows the change stream and delivers, until `close` is called or it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            serving_watches = [
                tasks.create_task(self._deliver(), name="hub delivery"),
                tasks.create_task(self._upload_reading.run(), name="hub uploads"),
                tasks.create_task(self._session_reading.run(), name="hub sessions"),
            ]
            await self._follow()
            for task in serving_watches:
                task.cancel()

    async def opened(self) -> None:
        """Returns once the stream is open."""
        await self._live.wait()

    def close(self) -> None:
        """Ends every watch with ShuttingDown, admits no new one, and lets `run` return within a second."""
        self._closed.set()
        self._live.set()
        for boxes in (*self._upload_boxes.values(), *self._session_boxes.values(), *self._partition_boxes.values()):
            for box in boxes:
                box.close()

    @asynccontextmanager
    async def watch_upload(self, upload_id: str) -> AsyncIterator[HubMailbox[Snapshot | Progress]]:
        """See ChangeHub."""
        box: HubMailbox[Snapshot | Progress] = self._mailbox(1, lambda: self._records.read_uploads([upload_id]))
        async with self._registered(box, self._upload_boxes, upload_id):
            yield box

    @asynccontextmanager
    async def watch_session(self, session_id: str, uid: str) -> AsyncIterator[HubMailbox[Snapshot | Progress]]:
        """See ChangeHub."""
        box: HubMailbox[Snapshot | Progress] = self._mailbox(_MANY_SLOTS, lambda: self.read_session(session_id, uid))
        async with self._registered(box, self._session_boxes, (session_id, uid)):
            yield box

    @asynccontextmanager
    async def watch_partition(self, partition: str) -> AsyncIterator[HubMailbox[Asset]]:
        """See ChangeHub."""

        async def read_again() -> Sequence[Asset]:
            since = self._now() - box.age - VISIBLE_WITHIN
            return await self._records.changed_assets(partition=partition, since=since)

        box: HubMailbox[Asset] = self._mailbox(_MANY_SLOTS, read_again)
        async with self._registered(box, self._partition_boxes, partition):
            yield box

    async def read_upload(self, upload_id: str) -> Snapshot | None:
        """See ChangeHub."""
        return next(iter(await self._upload_reading.read(upload_id)), None)

    async def read_session(self, session_id: str, uid: str) -> list[Snapshot]:
        """See ChangeHub."""
        return await self._session_reading.read((session_id, uid))

    def _mailbox(self, slots: int, read_again: Callable[[], Awaitable[Sequence[T]]]) -> HubMailbox[T]:
        return HubMailbox(slots, read_again, self._all_delivered_until)

    def _all_delivered_until(self) -> datetime:
        if not (self._is_delivering or self._has_more()):
            self._delivered_until = self._last_current
        return self._delivered_until

    @asynccontextmanager
    async def _registered(self, box: HubMailbox[Any], boxes: Boxes[K], key: K) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_LIVE_TIMEOUT_S):
                await self._live.wait()
        except TimeoutError:
            raise LedgerUnavailable("The change stream is not open: try again.") from None
        if self._closed.is_set():
            raise ShuttingDown
        boxes[key].add(box)
        try:
            yield
        finally:
            boxes[key].discard(box)
            if not boxes[key]:
                del boxes[key]

    async def _follow(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._closed.is_set():
            try:
                async with self._records.changes() as feed:
                    self._live.set()
                    self._heard_at = self._clock()
                    self._mark_everything()  # whatever happened while no stream was open
                    backoff_s = _FIRST_BACKOFF_S
                    while not self._closed.is_set():
                        change = await feed.next()
                        self._heard_at = self._clock()
                        if change is None:
                            self._last_current = self._now()
                        else:
                            self._take(change)
            except LedgerUnavailable as error:
                if not self._closed.is_set():
                    self._live.clear()
                    self._meter.stream_lost()
                _log.warning("change stream lost, opening it anew: %s", error)
                await self._pause(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return

    def _take(self, change: Change) -> None:
        match change:
            case UploadChange(upload_id, session_id, uid):
                sessions = _sessions(session_id, uid)
                if upload_id in self._upload_boxes or any(session in self._session_boxes for session in sessions):
                    self._uploads_to_read.add(upload_id)
                    self._wake()
            case AssetChange(asset_id, partition):
                if partition in self._partition_boxes:
                    self._assets_to_read.add(asset_id)
                    self._wake()
            case Progress():
                for box in self._boxes_of(change.upload_id, _sessions(change.session_id, change.uid)):
                    box.put_aside(change.upload_id, change)

    def _mark_everything(self) -> None:
        self._uploads_to_read.update(self._upload_boxes)
        self._sessions_to_read.update(self._session_boxes)
        since = self._last_current - VISIBLE_WITHIN
        for partition in self._partition_boxes:
            self._partitions_to_read.setdefault(partition, since)
        self._wake()

    def _wake(self) -> None:
        self._waiting_since = min(self._waiting_since, self._clock())
        self._has_to_read.set()

    async def _deliver(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._is_delivering = False
            await self._has_to_read.wait()
            self._has_to_read.clear()
            self._is_delivering = True
            uploads, assets = _some(self._uploads_to_read), _some(self._assets_to_read)
            sessions = [self._sessions_to_read.pop()] if self._sessions_to_read else []
            partitions, self._partitions_to_read = self._partitions_to_read, {}
            since_s, self._waiting_since = self._waiting_since, inf
            try:
                # All of them before any newer change: who resumes after that one must have been told these.
                for partition, since in partitions.items():
                    self._put_assets(await self._records.changed_assets(partition=partition, since=since))
                if uploads:
                    self._put_snapshots(await self._records.read_uploads(uploads))
                if assets:
                    self._put_assets((await self._records.find_assets(assets)).values())
                if sessions:
                    self._put_snapshots(await self._records.read_sessions(sessions))
            except LedgerUnavailable as error:
                _log.warning("what is watched could not be read, trying again: %s", error)
                self._uploads_to_read.update(uploads)
                self._assets_to_read.update(assets)
                self._sessions_to_read.update(sessions)
                for partition, since in partitions.items():
                    again = self._partitions_to_read.get(partition, since)
                    self._partitions_to_read[partition] = min(since, again)
                self._waiting_since = since_s
                self._has_to_read.set()
                await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)
                continue
            backoff_s = _FIRST_BACKOFF_S
            self._meter.delivered(self._clock() - since_s)
            if self._has_more():
                self._waiting_since = since_s  # too early for some of them, never too late
                self._has_to_read.set()

    def _has_more(self) -> bool:
        return bool(self._uploads_to_read or self._assets_to_read or self._sessions_to_read or self._partitions_to_read)

    def _put_snapshots(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            upload = snapshot.upload
            for box in self._boxes_of(upload.upload_id, _sessions_of(upload)):
                box.put(upload.upload_id, upload.revision, snapshot)

    def _put_assets(self, assets: Iterable[Asset]) -> None:
        for asset in assets:
            for box in self._partition_boxes.get(asset.partition, ()):
                box.put(asset.asset_id, asset.revision, asset)

    def _boxes_of(self, upload_id: str, sessions: Iterable[SessionKey]) -> Iterable[HubMailbox[Any]]:
        yield from self._upload_boxes.get(upload_id, ())
        for session in sessions:
            yield from self._session_boxes.get(session, ())


def _sessions_of(upload: Upload) -> tuple[SessionKey, SessionKey]:
    return _sessions(upload.session_id, upload.uid)


def _sessions(session_id: str, uid: str) -> tuple[SessionKey, SessionKey]:
    """Returns what an owner's upload in a session is watched by: that owner's watch of it, and everybody's."""
    return (session_id, ""), (session_id, uid)


def _some(ids: set[str]) -> list[str]:
    return [ids.pop() for _ in range(min(len(ids), _READ_BATCH))]
