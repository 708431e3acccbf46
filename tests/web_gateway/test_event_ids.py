"""The ids of server-sent events: what they name, and where a watch goes on after them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.refusals import raises
from ulid import ULID

from assetlane.v1 import upload_pb2
from assetlane.v1.asset_service_pb2 import WatchAssetsRequest
from assetlane.v1.upload_service_pb2 import GetUploadRequest, WatchUploadRequest, WatchUploadResponse
from assetlane_server.rpc.refusals import FieldRefused
from assetlane_server.rpc.web.event_ids import EventIds, event_ids

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)

AN_ID = "01m8bvm4g0v6d67e6zvdgsnqzc"  # the same in every process that collects tests


def upload_id(minutes: float) -> str:
    """Returns the id of an upload that was requested so long after noon."""
    return str(ULID.from_datetime(NOON + timedelta(minutes=minutes))).lower()


def change(name: str, revision: int, status: str = "INITIALIZED") -> WatchUploadResponse:
    """Returns the event of a status change."""
    event = WatchUploadResponse()
    event.status.upload.upload_id = name
    event.status.upload.revision = revision
    event.status.upload.status = getattr(upload_pb2, f"UPLOAD_STATUS_{status}")
    return event


def ids_of(request: Any) -> EventIds:
    """Returns the ids of the stream that answers a request."""
    ids = event_ids(request)
    assert ids is not None
    return ids


def resumed(last_id: str, **request: Any) -> Any:
    """Returns the request of a watch after it was opened again with this id."""
    message = WatchUploadRequest(**request)
    ids_of(message).resume(last_id)
    return message


def test_a_watch_of_one_upload_goes_on_after_its_revision() -> None:
    """What the browser sends wins over the URL, which stays as it was first."""
    ids = ids_of(WatchUploadRequest(upload_id="u"))
    assert ids.after(change("u", 3)) == "3"
    heartbeat = WatchUploadResponse()
    heartbeat.heartbeat.SetInParent()
    assert ids.after(heartbeat) == ""
    assert resumed("3", upload_id="u", after_revision=1).after_revision == 3


def test_a_watch_of_a_session_names_what_it_has_seen() -> None:
    """Also what an earlier id named; an upload that ended long before the newest one need not be named."""
    ids = ids_of(WatchUploadRequest(session_id="s"))
    old, ended, newest = upload_id(0), upload_id(1), upload_id(20)
    assert ids.after(change(old, 2)) == f"{old}:2"
    assert ids.after(change(ended, 4, "COMPLETED")) == f"{old}:2,{ended}:4."
    last_id = ids.after(change(newest, 1, "PENDING"))
    assert last_id == f"{old}:2,{newest}:1"
    request = WatchUploadRequest(session_id="s")
    again = ids_of(request)
    again.resume(last_id)
    assert dict(request.after_revisions) == {old: 2, newest: 1}
    assert again.after(change(newest, 4, "FAILED")) == f"{old}:2,{newest}:4."


def test_uploads_that_ended_lately_stay_named() -> None:
    """The server sends one that is not named again, unless it ended more than five minutes before the newest."""
    ids = ids_of(WatchUploadRequest(session_id="s"))
    named = [upload_id(minutes) for minutes in (0, 1, 3, 5)]
    for one in named:
        last_id = ids.after(change(one, 4, "CANCELLED"))
    assert last_id == ",".join(f"{one}:4." for one in named)


def test_an_id_that_would_be_too_long_for_a_header_is_left_out() -> None:
    """The browser keeps the one before it: what came since may come again, nothing is lost."""
    ids = ids_of(WatchUploadRequest(session_id="s"))
    sent = [ids.after(change(upload_id(0), 1)) for _ in range(400)]
    assert all(len(one) < 8 * 1024 for one in sent)
    assert [bool(one) for one in sent] == [True] * 250 + [False] * 150


def test_of_many_uploads_the_oldest_that_ended_are_left_out_first() -> None:
    """They come again whole; an open one that is not named could be missed."""
    ids = ids_of(WatchUploadRequest(session_id="s"))
    still_open = upload_id(0)
    ids.after(change(still_open, 2))
    ended = [upload_id(number / 600) for number in range(1, 600)]
    for one in ended:
        last_id = ids.after(change(one, 4, "COMPLETED"))
    assert len(last_id) < 8 * 1024
    assert last_id == ",".join([f"{still_open}:2", *(f"{one}:4." for one in ended[-249:])])


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "9" * 40, "\udcff", "1,2", " 1"])
def test_what_is_no_id_of_an_upload_is_refused(last_id: str) -> None:
    """By the header's name."""
    with raises(FieldRefused, field="last-event-id"):
        resumed(last_id, upload_id="u")


@pytest.mark.parametrize("last_id", ["x", "1", "x:1", f"{'u' * 26}:1", f"{AN_ID}:", f"{AN_ID}:1,", f"{AN_ID}:{10**30}"])
def test_what_is_no_id_of_a_session_is_refused(last_id: str) -> None:
    """Likewise."""
    with raises(FieldRefused, field="last-event-id"):
        resumed(last_id, session_id="s")


def test_a_call_that_is_no_watch_has_no_ids() -> None:
    """A partition's are its tokens."""
    assert event_ids(GetUploadRequest()) is None
    request = WatchAssetsRequest(partition="p", resume_token="old")
    ids_of(request).resume("new")
    assert request.resume_token == "new"  # noqa: S105 - it is not secret
