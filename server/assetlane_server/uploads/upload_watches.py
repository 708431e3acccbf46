"""The watches of one upload, and of all uploads of a session: every status change, once, in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final

from assetlane_server.model.admission import required
from assetlane_server.model.errors import FieldViolation, InvalidRequest, RevisionAhead, UploadNotFound
from assetlane_server.model.ids import earliest_id, is_id
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Status, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.ports.upload_records import UploadRecords

# An id is older than the record that has it by the quotas' claims and the writer's queue, never by minutes; and ids
# of two servers differ by the accuracy of LedgerClock. So once an id was sent, no upload appears that is so much older.
SETTLED_AFTER: Final = timedelta(minutes=5)
_NOTHING: Final[Mapping[str, int]] = {}
_OPEN: Final = tuple(status for status in Status if not status.is_final)
_PAGE: Final = 100  # uploads read at once where a session has many
_PRUNE_AT: Final = 1000  # remembered uploads that are worth a look


class UploadWatches:
    """WatchUpload."""

    def __init__(self, *, uploads: UploadRecords, hub: ChangeHub, heartbeat: timedelta) -> None:
        self._uploads = uploads
        self._hub = hub
        self._heartbeat = heartbeat

    async def watch_upload(
        self, upload_id: str, after_revision: int, access: Access
    ) -> AsyncGenerator[Upload | Progress | None]:
        """Yields the upload as of every revision after that one, in order, and ends after the final one.

        Yields progress between them, newest only, and None when nothing happened for a heartbeat.
        Raises UploadNotFound, RevisionAhead.
        """
        required("upload_id", upload_id)
        _check("after_revision", after_revision)
        # This order is the promise: registered first, then read, then woken. Whatever changes after the
        # read wakes the mailbox, whatever changed before it is in the history that was read.
        async with self._hub.watch_upload(upload_id) as mailbox:
            upload = await self._hub.read_upload(upload_id)
            if upload is None or not access.may_handle(upload):
                raise UploadNotFound(upload_id)
            if after_revision > upload.revision:
                raise RevisionAhead(after_revision, upload.revision)
            sent = after_revision
            news: Sequence[Upload | Progress] = [upload]
            del upload
            while True:
                for item in news:
                    if isinstance(item, Progress):
                        yield item
                    else:
                        if not access.may_handle(item):  # a right was taken away meanwhile
                            raise UploadNotFound(upload_id)
                        for change in item.after(sent):
                            yield change
                            sent = change.revision
                            del change
                        if item.status.is_final:
                            return
                    del item
                news = ()  # and the `del`s: a watch that waits, as thousands do, keeps nothing of what it sent
                news = (await mailbox.next(self._heartbeat)).news
                if not news:
                    yield None

    async def watch_session(
        self, session_id: str, after_revisions: Mapping[str, int], access: Access
    ) -> AsyncGenerator[Upload | Progress | None]:
        """Yields every change of every upload of the caller's in a session, in order; never ends by itself.

        Yields progress between them, newest only, and None when nothing happened for a heartbeat. What it has to
        catch up on is read page by page, as the caller takes it. Raises InvalidRequest, RevisionAhead.
        """
        for upload_id, revision in after_revisions.items():
            _check(f"after_revisions[{upload_id!r}]", revision)
        position = SessionPosition(after_revisions)
        uid = access.uid or ""
        async with self._hub.watch_session(required("session_id", session_id), uid) as mailbox:
            async with aclosing(self._caught_up(access, session_id, position, named=after_revisions)) as changes:
                async for change in changes:
                    yield change
                    del change
            clock = asyncio.get_running_loop().time
            silent_since = clock()
            while True:
                # What the caller may not see does not put off the sign of life either.
                left_s = max(0.0, self._heartbeat.total_seconds() - (clock() - silent_since))
                news, missed_since, _ = await mailbox.next(timedelta(seconds=left_s))
                for item in news:
                    if isinstance(item, Progress):
                        if position.has_sent(item.upload_id):
                            yield item
                            silent_since = clock()
                    elif access.may_handle(item):  # of a service caller's session others may have uploads too
                        for change in position.unsent(item):
                            yield change
                            silent_since = clock()
                            del change
                        position.sent(item)
                    del item
                if missed_since is not None:
                    async with aclosing(self._caught_up(access, session_id, position)) as changes:
                        async for change in changes:
                            yield change
                            silent_since = clock()
                            del change
                elif not news:
                    yield None
                    silent_since = clock()
                news = ()  # as in watch_upload

    async def _caught_up(
        self, access: Access, session_id: str, position: "SessionPosition", named: Mapping[str, int] = _NOTHING
    ) -> AsyncGenerator[Upload]:
        async with aclosing(self._to_catch_up_on(session_id, access.uid or "", position)) as uploads:
            async for upload in uploads:
                if not access.may_handle(upload):
                    position.forget(upload.upload_id)
                    continue
                if (asked := named.get(upload.upload_id, 0)) > upload.revision:
                    raise RevisionAhead(asked, upload.revision, f"after_revisions[{upload.upload_id!r}]")
                for change in position.unsent(upload):
                    yield change
                position.sent(upload)

    async def _to_catch_up_on(self, session_id: str, uid: str, position: "SessionPosition") -> AsyncGenerator[Upload]:
        """Yields every upload of which something may not have been sent."""
        uploads = await self._hub.read_session(session_id, uid)
        if uploads is not None:
            for upload in uploads:
                yield upload
            return
        settled_below, old_ids = position.settled_below, position.old_ids()
        # Below that bound only what was open when it was last sent, and what is open now.
        for start in range(0, len(old_ids), _PAGE):
            found = await self._uploads.find_uploads(old_ids[start : start + _PAGE])
            for known in found.values():
                if known is not None and known.session_id == session_id and uid in ("", known.uid):
                    yield known
        if settled_below:
            async for upload in self._scanned(session_id, uid, _OPEN, "", settled_below):
                yield upload
        async for upload in self._scanned(session_id, uid, (), settled_below, ""):
            yield upload

    async def _scanned(
        self, session_id: str, uid: str, statuses: Sequence[Status], after_id: str, below: str
    ) -> AsyncIterator[Upload]:
        while not below or after_id < below:
            page = await self._uploads.scan_uploads(
                uid=uid, session_id=session_id, statuses=statuses, after_id=after_id, limit=_PAGE
            )
            for upload in page:
                if below and upload.upload_id >= below:
                    return
                yield upload
            if len(page) < _PAGE:
                return
            after_id = page[-1].upload_id


class SessionPosition:
    """Which changes of a session's uploads were sent. Bounded by what is open, and what ended lately.

    An upload that has ended and is settled (SETTLED_AFTER older than the newest one) was sent to its end, or its
    caller would name it: it is not remembered, and not sent.
    """

    def __init__(self, after_revisions: Mapping[str, int]) -> None:
        """The caller names at least the uploads that had not ended when it saw them, and the newest one."""
        self._open = dict(after_revisions)
        self._ended: dict[str, int] = {}
        self._newest_id = max(filter(is_id, after_revisions), default="")
        self._prune_at = _PRUNE_AT

    @property
    def settled_below(self) -> str:
        """The id below which uploads are settled."""
        return earliest_id(self._newest_id, SETTLED_AFTER) if self._newest_id else ""

    def old_ids(self) -> list[str]:
        """Returns the ids that are remembered though they are settled, in order."""
        bound = self.settled_below
        return sorted(upload_id for upload_id in (*self._open, *self._ended) if upload_id < bound)

    def unsent(self, upload: Upload) -> Sequence[Upload]:
        """Returns the upload as of each revision that was not sent."""
        upload_id = upload.upload_id
        revision = self._open.get(upload_id, self._ended.get(upload_id))
        if revision is None and upload.status.is_final and upload_id < self.settled_below:
            return ()
        return upload.after(revision or 0)

    def has_sent(self, upload_id: str) -> bool:
        """Returns whether the upload is open and something of it was sent: its progress may be sent too."""
        return upload_id in self._open

    def forget(self, upload_id: str) -> None:
        """Forgets an upload that the caller named and may not see."""
        self._open.pop(upload_id, None)

    def sent(self, upload: Upload) -> None:
        """Notes that the upload was sent as it is."""
        upload_id, revision = upload.upload_id, upload.revision
        if upload.status.is_final:
            is_known = self._open.pop(upload_id, None) is not None or upload_id in self._ended
            if is_known or upload_id >= self.settled_below:
                self._ended[upload_id] = max(revision, self._ended.get(upload_id, 0))
        elif upload_id not in self._ended:  # a mailbox may hold an older state than was read meanwhile
            self._open[upload_id] = max(revision, self._open.get(upload_id, 0))
        self._newest_id = max(self._newest_id, upload_id)
        if len(self._ended) > self._prune_at:
            bound = self.settled_below
            self._ended = {one: revision for one, revision in self._ended.items() if one >= bound}
            self._prune_at = max(_PRUNE_AT, 2 * len(self._ended))


def _check(field: str, revision: int) -> None:
    if revision < 0:
        raise InvalidRequest([FieldViolation(field, f"is {revision}, it must be 0 or more")])
