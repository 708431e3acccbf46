"""The ids of server-sent events: where a watch goes on that a browser opens again with `Last-Event-ID`.

https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
"""

import re
from datetime import timedelta
from typing import Any, Protocol

from typing_extensions import override

from assetlane.v1.asset_service_pb2 import WatchAssetsRequest
from assetlane.v1.upload_pb2 import (
    UPLOAD_STATUS_CANCELLED,
    UPLOAD_STATUS_COMPLETED,
    UPLOAD_STATUS_EXPIRED,
    UPLOAD_STATUS_FAILED,
)
from assetlane.v1.upload_service_pb2 import WatchUploadRequest
from assetlane_server.model.ids import earliest_id, is_id
from assetlane_server.rpc.refusals import FieldRefused

HEADER = "last-event-id"
_MOST_NAMED = 250  # uploads: 8 KiB, half of what a header may have in most proxies
_FINAL = frozenset((UPLOAD_STATUS_CANCELLED, UPLOAD_STATUS_COMPLETED, UPLOAD_STATUS_EXPIRED, UPLOAD_STATUS_FAILED))
_REVISION = re.compile(r"[0-9]{1,18}")
_SEEN = re.compile(r"([0-9a-z]{26}):([0-9]{1,18})(\.?)")
# The contract: an upload that is not named has ended more than five minutes before the newest one that is.
_SETTLED_AFTER = timedelta(minutes=6)


class EventIds(Protocol):
    """The ids of the events of one stream."""

    def resume(self, last_id: str) -> None:
        """Makes the request one for what comes after the event with this id. Raises FieldRefused."""
        ...

    def after(self, event: Any) -> str:
        """Returns the id of an event; empty: the id before it still holds."""
        ...


def event_ids(request: Any) -> EventIds | None:
    """Returns the ids of a stream that answers this request, None where it cannot be resumed."""
    match request:
        case WatchAssetsRequest():
            return _Tokens(request)
        case WatchUploadRequest():
            return _Revisions(request) if request.WhichOneof("target") == "session_id" else _Revision(request)
    return None


class _Tokens(EventIds):
    """The resume tokens of a partition."""

    def __init__(self, request: Any) -> None:
        self._request = request

    @override
    def resume(self, last_id: str) -> None:
        self._request.resume_token = last_id  # the server proves it

    @override
    def after(self, event: Any) -> str:
        return str(event.resume_token)


class _Revision(EventIds):
    """The revisions of one upload."""

    def __init__(self, request: Any) -> None:
        self._request = request

    @override
    def resume(self, last_id: str) -> None:
        if _REVISION.fullmatch(last_id) is None:
            raise _unknown()
        self._request.after_revision = int(last_id)

    @override
    def after(self, event: Any) -> str:
        return str(event.status.upload.revision) if event.HasField("status") else ""


class _Revisions(EventIds):
    """Those of a session: `<upload_id>:<revision>` of each upload, with a dot after one that has ended."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._seen: dict[str, tuple[int, bool]] = {}
        self._are_too_many = False
        for upload_id, revision in request.after_revisions.items():
            self._seen[upload_id] = (revision, False)

    @override
    def resume(self, last_id: str) -> None:
        for text in last_id.split(","):
            match = _SEEN.fullmatch(text)
            if match is None or not is_id(match[1]):
                raise _unknown()
            self._seen[match[1]] = (int(match[2]), bool(match[3]))
        self._request.after_revisions.clear()
        for upload_id, (revision, _) in self._seen.items():
            self._request.after_revisions[upload_id] = revision

    @override
    def after(self, event: Any) -> str:
        """Of more open uploads than fit, the last id stays: what came since then may come again."""
        if self._are_too_many or not event.HasField("status"):
            return ""
        upload = event.status.upload
        self._seen[upload.upload_id] = (upload.revision, upload.status in _FINAL)
        newest = max(self._seen)
        settled = earliest_id(newest, _SETTLED_AFTER) if is_id(newest) else ""
        ended = sorted(one for one, (_, has_ended) in self._seen.items() if has_ended and one != newest)
        # One that has ended and is not named comes again whole, or is not sent at all. One that is open must be named.
        for one in ended:
            if one < settled or len(self._seen) > _MOST_NAMED:
                del self._seen[one]
        if len(self._seen) > _MOST_NAMED:
            self._are_too_many = True
            self._seen.clear()
            return ""
        return ",".join(f"{one}:{revision}{'.' * has_ended}" for one, (revision, has_ended) in self._seen.items())


def _unknown() -> FieldRefused:
    return FieldRefused(HEADER, "must be the id of an event of this stream, or be left out")
