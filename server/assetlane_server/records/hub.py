"""The hub: the one change stream of a server process, fanned out to its watchers.

A change only says *who* changed. The hub then reads the upload once, whatever the number of its watchers,
and puts that snapshot into their mailboxes. As the whole history is in the upload, the newest snapshot is
all that a watcher needs: a mailbox has one slot per upload, and a slow reader misses nothing.

When the stream is lost it is opened anew first; then everything that is watched is read again.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from assetlane_server.records.mongo import Change, MongoRecords
from assetlane_server.uploads.errors import LedgerUnavailable, ShuttingDown
from assetlane_server.uploads.ports import Snapshot

_log = logging.getLogger(__name__)

_READ_BATCH = 200  # uploads read at once
_SESSION_SLOTS = 64  # what a session's mailbox holds before its reader has to read the session again
_LIVE_TIMEOUT_S = 10.0
_FIRST_BACKOFF_S = 0.1
_LAST_BACKOFF_S = 10.0


class HubMailbox:
    """The newest snapshot of each upload that changed since its watcher last looked."""

    def __init__(self, slots: int, read_again: Callable[[], Awaitable[Sequence[Snapshot]]]) -> None:
        self._slots = slots
        self._read_again = read_again
        self._news: dict[str, Snapshot] = {}
        self._has_overflowed = False
        self._is_closed = False
        self._bell = asyncio.Event()

    def put(self, snapshot: Snapshot) -> None:
        """Keeps the snapshot unless a newer one is there; merges when there is no slot left."""
        upload_id = snapshot.upload.upload_id
        kept = self._news.get(upload_id)
        if kept is None and len(self._news) >= self._slots:
            self._news.clear()
            self._has_overflowed = True
        elif not self._has_overflowed and (kept is None or kept.upload.revision < snapshot.upload.revision):
            self._news[upload_id] = snapshot
        self._bell.set()

    def close(self) -> None:
        """Ends the watch: its next look raises ShuttingDown."""
        self._is_closed = True
        self._bell.set()

    async def next(self, timeout: timedelta) -> Sequence[Snapshot]:
        """See Mailbox."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._bell.wait()
        except TimeoutError:
            return ()
        if self._is_closed:
            raise ShuttingDown
        self._bell.clear()
        if self._has_overflowed:
            self._has_overflowed = False
            self._news.clear()
            return await self._read_again()
        news = tuple(self._news.values())
        self._news.clear()
        return news


class Hub:
    """See ChangeHub. `run` has to run for as long as anything watches."""

    def __init__(self, records: MongoRecords) -> None:
        self._records = records
        self._upload_boxes: defaultdict[str, set[HubMailbox]] = defaultdict(set)
        self._session_boxes: defaultdict[str, set[HubMailbox]] = defaultdict(set)
        self._live = asyncio.Event()
        self._closed = asyncio.Event()
        self._changed: set[str] = set()  # ids of watched uploads to be read
        self._changed_sessions: set[str] = set()  # ids of watched sessions to be read as a whole
        self._has_changed = asyncio.Event()

    async def run(self) -> None:
        """Follows the change stream and delivers, until `close` is called or it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            delivering = tasks.create_task(self._deliver(), name="hub delivery")
            await self._follow()
            delivering.cancel()

    def close(self) -> None:
        """Ends every watch with ShuttingDown, admits no new one, and lets `run` return within a second."""
        self._closed.set()
        self._live.set()
        for boxes in (*self._upload_boxes.values(), *self._session_boxes.values()):
            for box in boxes:
                box.close()

    @asynccontextmanager
    async def watch_upload(self, upload_id: str) -> AsyncIterator[HubMailbox]:
        """See ChangeHub."""
        box = HubMailbox(1, lambda: self._records.read_uploads([upload_id]))
        async with self._registered(box, self._upload_boxes, upload_id):
            yield box

    @asynccontextmanager
    async def watch_session(self, session_id: str) -> AsyncIterator[HubMailbox]:
        """See ChangeHub."""
        box = HubMailbox(_SESSION_SLOTS, lambda: self.read_session(session_id))
        async with self._registered(box, self._session_boxes, session_id):
            yield box

    async def read_upload(self, upload_id: str) -> Snapshot | None:
        """See ChangeHub."""
        return next(iter(await self._records.read_uploads([upload_id])), None)

    async def read_session(self, session_id: str) -> list[Snapshot]:
        """See ChangeHub."""
        return await self._records.read_sessions([session_id])

    @asynccontextmanager
    async def _registered(
        self, box: HubMailbox, boxes: defaultdict[str, set[HubMailbox]], key: str
    ) -> AsyncIterator[None]:
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
                    self._mark_everything()  # whatever happened while no stream was open
                    backoff_s = _FIRST_BACKOFF_S
                    while not self._closed.is_set():
                        change = await feed.next()
                        if change is not None:
                            self._mark(change)
            except LedgerUnavailable as error:
                if self._closed.is_set():
                    return
                self._live.clear()
                _log.warning("change stream lost, opening it anew: %s", error)
                await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)

    def _mark(self, change: Change) -> None:
        if change.upload_id in self._upload_boxes or change.session_id in self._session_boxes:
            self._changed.add(change.upload_id)
            self._has_changed.set()

    def _mark_everything(self) -> None:
        self._changed.update(self._upload_boxes)
        self._changed_sessions.update(self._session_boxes)
        self._has_changed.set()

    async def _deliver(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            upload_ids = [self._changed.pop() for _ in range(min(len(self._changed), _READ_BATCH))]
            session_ids = [self._changed_sessions.pop() for _ in range(min(len(self._changed_sessions), 1))]
            if self._changed or self._changed_sessions:
                self._has_changed.set()
            try:
                snapshots = await self._records.read_uploads(upload_ids) if upload_ids else []
                if session_ids:
                    snapshots += await self._records.read_sessions(session_ids)
            except LedgerUnavailable as error:
                _log.warning("watched uploads could not be read, trying again: %s", error)
                self._changed.update(upload_ids)
                self._changed_sessions.update(session_ids)
                self._has_changed.set()
                await asyncio.sleep(random.uniform(0, backoff_s))  # noqa: S311 - full jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)
                continue
            backoff_s = _FIRST_BACKOFF_S
            for snapshot in snapshots:
                self._put(snapshot)

    def _put(self, snapshot: Snapshot) -> None:
        for box in self._upload_boxes.get(snapshot.upload.upload_id, ()):
            box.put(snapshot)
        for box in self._session_boxes.get(snapshot.upload.session_id, ()):
            box.put(snapshot)
