"""The hub: the one change stream of a server process, fanned out to its watchers.

A change only says *who* changed. The hub then reads that record once, whatever the number of its watchers,
and puts its state into their mailboxes. As an upload's whole history is in its record, the newest state is
all that a watcher needs: a slow reader misses nothing.

When the stream is lost it is reopened first; then every watcher reads again what it watches. While nobody watches, it
is read less often: its answers then show the time only.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any, Generic, TypeVar

from typing_extensions import override

from assetlane_server.model.errors import LedgerUnavailable, RecordNotReadable, ShuttingDown
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Asset, LedgerTime, Upload
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.records.change_source import ChangeFeed, ChangeSource
from assetlane_server.records.changes import Change, RecordChange, SessionKey
from assetlane_server.records.documents import RecordUnreadable
from assetlane_server.records.mailbox import HubMailbox
from assetlane_server.records.reading import SharedReading

_log = logging.getLogger(__name__)

_READ_BATCH = 200  # records read at once
_SESSION_BATCH = 20  # sessions read at once by watches that begin
_SESSION_UPLOADS = 500  # of all these together; of more, each watch reads its own, page by page
_MANY_SLOTS = 64  # of a mailbox for many records
_LIVE_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 10.0
_UNWATCHED_PAUSE_S = 0.05  # between two answers of the stream while nobody waits for them

K = TypeVar("K")
T = TypeVar("T")
Boxes = defaultdict[K, dict[HubMailbox[Any], None]]
"""A set that keeps its order: the order in which watchers are woken must not depend on where objects lie in memory."""


@dataclass(slots=True)
class _Reasons:
    """Why a record is to be read: what of it has changed."""

    status: bool = False
    asset: bool = False


class Registration(Generic[K, T]):
    """A mailbox that is registered under a key for as long as its block runs.

    A class, not an asynccontextmanager: an open watch would hold the frame of its generator.
    """

    __slots__ = ("_box", "_boxes", "_key", "_opened", "_slots")

    def __init__(
        self, opened: Callable[[int], Awaitable[HubMailbox[Any]]], slots: int, boxes: Boxes[K], key: K
    ) -> None:
        self._opened = opened
        self._slots = slots
        self._boxes = boxes
        self._key = key
        self._box: HubMailbox[T]

    async def __aenter__(self) -> HubMailbox[T]:
        self._box = await self._opened(self._slots)
        self._boxes[self._key][self._box] = None
        return self._box

    async def __aexit__(self, *_raised: object) -> None:
        self._box.discard()
        boxes = self._boxes[self._key]
        del boxes[self._box]
        if not boxes:
            del self._boxes[self._key]


class Hub(ChangeHub):
    """Delivers what one change stream brings. `run` has to run for as long as anything watches."""

    def __init__(
        self,
        source: ChangeSource,
        meter: Meter = UNMETERED,
        *,
        slots: int = _MANY_SLOTS,
        session_uploads: int = _SESSION_UPLOADS,
    ) -> None:
        """`slots` is how many records a mailbox for many holds, `session_uploads` how many `read_session` returns."""
        self._source = source
        self._meter = meter
        self._slots = slots
        self._session_uploads = session_uploads
        self._upload_boxes: Boxes[str] = defaultdict(dict)
        self._session_boxes: Boxes[SessionKey] = defaultdict(dict)
        self._partition_boxes: Boxes[str] = defaultdict(dict)
        self._live = asyncio.Event()
        self._closed = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at: float | None = None  # when the stream last answered, with a change or without
        self._taken_until = LedgerTime(0)  # every change until then was taken from the stream
        self._delivered_until = LedgerTime(0)  # and every one until then put into the mailboxes
        self._is_delivering = False
        self._upload_reading = SharedReading(self._read_uploads, _READ_BATCH)
        self._session_reading = SharedReading(self._read_sessions, _SESSION_BATCH)
        # What is watched and has to be read, in the order in which it changed.
        self._to_read: dict[str, _Reasons] = {}
        self._has_to_read = asyncio.Event()
        self._waiting_since = inf  # when the oldest change came that is not delivered yet

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

    @override
    def watch_upload(self, upload_id: str) -> "Registration[str, Upload | Progress]":
        return Registration(self._mailbox, 1, self._upload_boxes, upload_id)

    @override
    def watch_session(self, session_id: str, uid: str) -> "Registration[SessionKey, Upload | Progress]":
        return Registration(self._mailbox, self._slots, self._session_boxes, (session_id, uid))

    @override
    def watch_partition(self, partition: str) -> "Registration[str, Asset]":
        return Registration(self._mailbox, self._slots, self._partition_boxes, partition)

    @override
    async def read_upload(self, upload_id: str) -> Upload | None:
        is_there, upload = await self._upload_reading.read(upload_id)
        if is_there and upload is None:
            raise RecordNotReadable(upload_id)
        return upload

    @override
    async def read_session(self, session_id: str, uid: str) -> list[Upload] | None:
        return await self._session_reading.read((session_id, uid))

    async def _mailbox(self, slots: int) -> HubMailbox[Any]:
        """Returns a new mailbox once the stream is open. Raises LedgerUnavailable, ShuttingDown."""
        if not self._live.is_set():
            try:
                async with asyncio.timeout(_LIVE_TIMEOUT_S):
                    await self._live.wait()
            except TimeoutError:
                raise LedgerUnavailable("The change stream is not open: try again.") from None
        if self._closed.is_set():
            raise ShuttingDown
        return HubMailbox(slots, self._all_delivered_until)

    def _all_delivered_until(self) -> LedgerTime:
        if not (self._is_delivering or self._to_read):
            self._delivered_until = self._taken_until
        return self._delivered_until

    async def _read_uploads(self, upload_ids: Sequence[str]) -> dict[str, tuple[bool, Upload | None]]:
        """Returns of each whether it exists, and what it is if this version can read it."""
        found = await self._source.find_uploads(upload_ids)
        return {upload_id: (upload_id in found, found.get(upload_id)) for upload_id in upload_ids}

    async def _read_sessions(self, sessions: Sequence[SessionKey]) -> dict[SessionKey, list[Upload] | None]:
        uploads = await self._source.read_sessions(sessions, self._session_uploads)
        if uploads is None:
            if len(sessions) == 1:
                return {sessions[0]: None}
            alone = [await self._read_sessions([session]) for session in sessions]
            return {session: uploads for one in alone for session, uploads in one.items()}
        found: dict[SessionKey, list[Upload] | None] = {}
        for session_id, uid in sessions:
            found[session_id, uid] = [
                upload for upload in uploads if upload.session_id == session_id and uid in ("", upload.uid)
            ]
        return found

    async def _follow(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._closed.is_set():
            try:
                async with self._source.changes() as feed:
                    self._have_all_read_again()  # whatever happened while no stream was open
                    self._hear(feed)
                    self._live.set()
                    backoff_s = _FIRST_BACKOFF_S
                    while not self._closed.is_set():
                        await self._take_next(feed)
            except LedgerUnavailable as error:
                if not self._closed.is_set():
                    self._live.clear()
                    self._meter.stream_lost()
                _log.warning("change stream lost, reopening it: %s", error, extra={"event_code": "STREAM_LOST"})
                await self._pause(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return

    async def _take_next(self, feed: ChangeFeed) -> None:
        try:
            change = await feed.next()
        except RecordUnreadable as error:
            self._source.skip("a change", error)
            change = None
        if change is not None:
            self._take(change)
        self._hear(feed)
        if change is not None and feed.is_drained and not self._is_watched:
            # Each answer costs a thread's work, also for one change: let more of them come.
            await asyncio.sleep(_UNWATCHED_PAUSE_S)

    def _hear(self, feed: ChangeFeed) -> None:
        self._heard_at = self._clock()
        self._taken_until = max(self._taken_until, feed.time)
        self._source.clock.learn(feed.time)

    def _take(self, change: Change) -> None:
        match change:
            case RecordChange(upload_id, session, partition):
                if session is not None and (
                    upload_id in self._upload_boxes or any(one in self._session_boxes for one in _watched_as(*session))
                ):
                    self._reasons_to_read(upload_id).status = True
                if partition is not None and partition in self._partition_boxes:
                    self._reasons_to_read(upload_id).asset = True
            case Progress():
                for box in self._boxes_of(change.upload_id, _watched_as(change.session_id, change.uid)):
                    box.put_aside(change.upload_id, change)

    @property
    def _is_watched(self) -> bool:
        return bool(self._upload_boxes or self._session_boxes or self._partition_boxes)

    def _reasons_to_read(self, upload_id: str) -> _Reasons:
        self._waiting_since = min(self._waiting_since, self._clock())
        self._has_to_read.set()
        return self._to_read.setdefault(upload_id, _Reasons())

    def _have_all_read_again(self) -> None:
        since = self._all_delivered_until()
        for upload_id in self._upload_boxes:
            self._reasons_to_read(upload_id).status = True
        for boxes in (*self._session_boxes.values(), *self._partition_boxes.values()):
            for box in boxes:
                box.miss(since)

    async def _deliver(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._is_delivering = False
            await self._has_to_read.wait()
            self._has_to_read.clear()
            self._is_delivering = True
            batch = {upload_id: self._to_read.pop(upload_id) for upload_id in list(islice(self._to_read, _READ_BATCH))}
            # What the stream sent so far is delivered with this batch, if this is all of it.
            until = self._delivered_until if self._to_read else self._taken_until
            since_s, self._waiting_since = self._waiting_since, inf
            try:
                uploads = await self._source.read_uploads(list(batch))
            except LedgerUnavailable as error:
                _log.warning("what is watched will be read again: %s", error, extra={"event_code": "READING_FAILED"})
                self._put_back(batch)
                self._waiting_since = since_s
                self._has_to_read.set()
                await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)
                continue
            backoff_s = _FIRST_BACKOFF_S
            for upload in uploads:
                self._put(upload, batch[upload.upload_id])
            self._delivered_until = until
            self._meter.delivered(self._clock() - since_s)
            if self._to_read:
                self._waiting_since = min(self._waiting_since, since_s)  # too early for some of them, never too late
                self._has_to_read.set()

    def _put_back(self, batch: dict[str, _Reasons]) -> None:
        for upload_id, newer in self._to_read.items():
            reasons = batch.setdefault(upload_id, newer)
            reasons.status |= newer.status
            reasons.asset |= newer.asset
        self._to_read = batch  # in front of what came meanwhile

    def _put(self, upload: Upload, reasons: _Reasons) -> None:
        if reasons.status:
            for box in self._boxes_of(upload.upload_id, _watched_as(upload.session_id, upload.uid)):
                box.put(upload.upload_id, upload.revision, upload)
        if reasons.asset and (asset := upload.asset) is not None:
            for box in self._partition_boxes.get(asset.partition, ()):
                box.put(asset.asset_id, asset.revision, asset)

    def _boxes_of(self, upload_id: str, sessions: Iterable[SessionKey]) -> Iterable[HubMailbox[Any]]:
        yield from self._upload_boxes.get(upload_id, ())
        for session in sessions:
            yield from self._session_boxes.get(session, ())


def _watched_as(session_id: str, uid: str) -> tuple[SessionKey, SessionKey]:
    """Returns what an owner's upload in a session is watched by: that owner's watch of it, and everybody's."""
    return (session_id, ""), (session_id, uid)
