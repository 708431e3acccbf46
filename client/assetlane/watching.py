"""A watch that goes on: reopens a lost stream where it stopped, without a gap and without a repeat."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Protocol, TypeVar, cast

import grpc
import grpc.aio

from assetlane.backoff import Backoff
from assetlane.errors import CallFailed, ResourceExhausted, TokenExpired, Unavailable
from assetlane.statuses import error_from, retry_after
from assetlane.v1.asset_service_pb2 import WatchAssetsRequest, WatchAssetsResponse
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane.v1.upload_service_pb2 import ProgressEvent, StatusEvent, WatchUploadRequest, WatchUploadResponse

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
SILENCE = 100.0  # seconds; the server sends a heartbeat every 30, so three were missed and the peer is dead

REMEMBERED = 10_000  # assets of one partition; a resumed watch repeats about the last minute before its token

SETTLED_AFTER_MS = 5 * 60_000  # as `WatchUploadRequest.after_revisions` has it
_PRUNE_AT = 1000  # remembered uploads that are worth a look
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(f"[0-7][{_DIGITS}]{{25}}")

FINAL_STATUSES = frozenset(
    {
        UploadStatus.UPLOAD_STATUS_COMPLETED,
        UploadStatus.UPLOAD_STATUS_FAILED,
        UploadStatus.UPLOAD_STATUS_CANCELLED,
        UploadStatus.UPLOAD_STATUS_EXPIRED,
    }
)

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,  # by the other end or a proxy: our own arrives as CancelledError
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
# A broken connection can look like these, and so can a bug that a repeat meets again.
_DOUBTFUL = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
_DOUBTS = 5
_ACCEPTED_AFTER = 1.0  # seconds; a stream that lived so long was not refused for its token

Request_co = TypeVar("Request_co", covariant=True)
Event_contra = TypeVar("Event_contra", contravariant=True)
News_co = TypeVar("News_co", covariant=True)
Request = TypeVar("Request")
Event = TypeVar("Event")
News = TypeVar("News")

OpenStream = Callable[[Request], Awaitable[grpc.aio.UnaryStreamCall[Request, Event]]]
"""Starts one stream; awaited so that it can fetch a token first."""
Explain = Callable[[grpc.aio.AioRpcError], Awaitable[tuple[CallFailed, bool]]]
"""Returns the error of a lost stream, and whether the next one would certainly be lost the same way."""


class Cursor(Protocol[Request_co, Event_contra, News_co]):
    """Where a watch stands: asks for what is still to come, and knows what has come already."""

    endless: bool
    """Whether the server never ends this watch by itself."""

    def request(self) -> Request_co:
        """Returns the request that continues after everything taken so far."""

    def take(self, event: Event_contra) -> News_co | None:
        """Returns what the watcher receives of `event`, None for a repeat or a heartbeat."""

    def finished(self) -> bool:
        """Returns whether nothing can come any more."""


class UploadCursor:
    """A watch of one upload: over after its final status."""

    endless = False

    def __init__(self, upload_id: str, after_revision: int = 0) -> None:
        self._upload_id = upload_id
        self._revision = after_revision
        self._finished = False

    def request(self) -> WatchUploadRequest:
        """Returns a request for the changes after the last one taken."""
        return WatchUploadRequest(upload_id=self._upload_id, after_revision=self._revision)

    def take(self, event: WatchUploadResponse) -> StatusEvent | None:
        """Returns the status change, None if it is not a new one."""
        if event.WhichOneof("event") != "status" or event.status.upload.revision <= self._revision:
            return None
        self._revision = event.status.upload.revision
        self._finished = event.status.upload.status in FINAL_STATUSES
        return event.status

    def finished(self) -> bool:
        """Returns whether the final status was taken."""
        return self._finished


class SessionCursor:
    """A watch of all uploads of a session; never over.

    It remembers the uploads that have not ended, and those whose ids are at most SETTLED_AFTER_MS older than the
    newest one: of the others the server sends nothing to a watch that names a newer one.
    """

    endless = True

    def __init__(self, session_id: str, after_revisions: Mapping[str, int] | None = None) -> None:
        self._session_id = session_id
        self._open = dict(after_revisions or {})
        self._ended: dict[str, int] = {}
        self._newest_id = max(filter(_ID.fullmatch, self._open), default="")
        self._prune_at = _PRUNE_AT

    def request(self) -> WatchUploadRequest:
        """Returns a request for what is new, upload by upload."""
        return WatchUploadRequest(session_id=self._session_id, after_revisions={**self._ended, **self._open})

    def take(self, event: WatchUploadResponse) -> StatusEvent | None:
        """Returns the status change, None if it is not a new one."""
        upload = event.status.upload
        upload_id = upload.upload_id
        seen = self._open.get(upload_id, self._ended.get(upload_id, 0))
        if event.WhichOneof("event") != "status" or upload.revision <= seen:
            return None
        if upload.status in FINAL_STATUSES:
            self._open.pop(upload_id, None)
            self._ended[upload_id] = upload.revision
        else:
            self._open[upload_id] = upload.revision
        if _ID.fullmatch(upload_id):
            self._newest_id = max(self._newest_id, upload_id)
        self._prune()
        return event.status

    def _prune(self) -> None:
        """Forgets what ended long before the newest upload was requested."""
        if len(self._ended) <= self._prune_at or not self._newest_id:
            return
        bound = _time_ms(self._newest_id) - SETTLED_AFTER_MS
        self._ended = {
            upload_id: revision
            for upload_id, revision in self._ended.items()
            if not _ID.fullmatch(upload_id) or _time_ms(upload_id) >= bound
        }
        self._prune_at = max(_PRUNE_AT, 2 * len(self._ended))

    def finished(self) -> bool:
        """Returns False."""
        return False


class WithProgress:
    """A watch of uploads that also reports how far they are, in between their status changes."""

    def __init__(self, cursor: UploadCursor | SessionCursor) -> None:
        self._cursor = cursor
        self.endless = cursor.endless

    def request(self) -> WatchUploadRequest:
        """Returns a request for the status changes that are new: progress is not sent again."""
        return self._cursor.request()

    def take(self, event: WatchUploadResponse) -> StatusEvent | ProgressEvent | None:
        """Returns the progress or the status change, None if it is not a new one."""
        return event.progress if event.HasField("progress") else self._cursor.take(event)

    def finished(self) -> bool:
        """Returns whether no status change can come any more."""
        return self._cursor.finished()


class AssetsCursor:
    """A watch of a partition; never over.

    A resumed watch receives again what changed shortly before its token. The REMEMBERED assets that were delivered
    last are known by their revision and not delivered twice.
    """

    endless = True

    def __init__(self, partition: str, resume_token: str = "") -> None:
        self._partition = partition
        self._token = resume_token
        self._revisions: OrderedDict[str, int] = OrderedDict()

    def request(self) -> WatchAssetsRequest:
        """Returns a request that goes on after the newest token."""
        return WatchAssetsRequest(partition=self._partition, resume_token=self._token)

    def take(self, event: WatchAssetsResponse) -> WatchAssetsResponse | None:
        """Returns the event, None for a heartbeat, a repeat, or a kind that is not known."""
        self._token = event.resume_token or self._token
        match event.WhichOneof("event"):
            case "asset":
                is_new = self._learn(event.asset.asset.asset_id, event.asset.asset.revision)
            case "deleted":
                is_new = self._learn(event.deleted.asset_id, event.deleted.revision)
            case kind:
                is_new = kind == "synced"
        return event if is_new else None

    def finished(self) -> bool:
        """Returns False."""
        return False

    def _learn(self, asset_id: str, revision: int) -> bool:
        if revision <= self._revisions.get(asset_id, 0):
            return False
        self._revisions[asset_id] = revision
        self._revisions.move_to_end(asset_id)
        if len(self._revisions) > REMEMBERED:
            self._revisions.popitem(last=False)
        return True


def _time_ms(upload_id: str) -> int:
    """Returns when an id was made: the first ten characters of a ULID are milliseconds (github.com/ulid/spec)."""
    milliseconds = 0
    for digit in upload_id[:10]:
        milliseconds = milliseconds * 32 + _DIGITS.index(digit)
    return milliseconds


async def watch(
    open_stream: OpenStream[Request, Event],
    cursor: Cursor[Request, Event, News],
    *,
    silence: float = SILENCE,
    renews_token: bool = False,
    explain: Explain | None = None,
) -> AsyncGenerator[News, None]:
    """Yields what is new, across lost connections, restarted servers and peers gone silent.

    With `renews_token`, reopening a stream fetches another token, and so the watch outlives each of them.

    Ends when `cursor` is finished or the server ends the watch. Raises the `AssetlaneError` of a status
    that a repeat would only meet again. Closing or cancelling it cancels the call.
    """
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    doubts = 0
    clock = asyncio.get_running_loop().time
    while not cursor.finished():
        delay = 0.0
        stream: grpc.aio.UnaryStreamCall[Request, Event] | None = None
        opened_at = clock()
        try:
            stream = await open_stream(cursor.request())
            while (event := await _next_event(stream, silence)) is not None:
                backoff.reset()
                doubts = 0
                news = cursor.take(event)
                if news is not None:
                    yield news
                if cursor.finished():
                    return
            if not cursor.endless:
                return
        except grpc.aio.AioRpcError as error:
            failed, is_permanent = await explain(error) if explain else (error_from(error), False)
            expired = renews_token and isinstance(failed, TokenExpired)
            if expired and clock() - opened_at > _ACCEPTED_AFTER:
                doubts = 0  # it was a good one
                backoff.reset()
            # A place may be free after the wait that the server asks for. Without one the message may stay too large.
            is_too_much = isinstance(failed, ResourceExhausted) and failed.retry_after is None
            doubts += expired or is_too_much or error.code() in _DOUBTFUL
            if is_permanent or not (expired or error.code() in _TRANSIENT | _DOUBTFUL) or doubts > _DOUBTS:
                raise failed from error
            logger.debug("watch lost: %s", error.code().name)
            delay = retry_after(error)
        except TimeoutError:
            logger.debug("watch lost: nothing came for %s s", silence)
        finally:
            if stream is not None:
                stream.cancel()
        await asyncio.sleep(backoff.next_delay(delay))


async def _next_event(stream: grpc.aio.UnaryStreamCall[Request, Event], silence: float) -> Event | None:
    """Returns the next event, None at the end; raises TimeoutError after `silence` seconds without one."""
    try:
        async with asyncio.timeout(silence):
            event = await stream.read()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this task: closing the channel ends its calls as if they were cancelled.
        raise Unavailable("the client was closed while watching", reason="CLIENT_CLOSED") from None
    return None if event is grpc.aio.EOF else cast(Event, event)
