"""How a watch of a partition goes on."""

import asyncio
from contextlib import aclosing

import grpc
import pytest
from tests.client.lane_server import Fault, LaneServer

from assetlane import Asset, AssetChange, Client, OutOfRange, ResumeExpired, WatchAssetsResponse, watching
from assetlane.v1.asset_service_pb2 import AssetDeletedEvent, AssetEvent, SyncedEvent
from assetlane.v1.upload_service_pb2 import Heartbeat

LIMIT_S = 60.0


pytestmark = pytest.mark.timeout(20)

PRESENT, ADDED, REFRESHED = (
    AssetChange.ASSET_CHANGE_PRESENT,
    AssetChange.ASSET_CHANGE_ADDED,
    AssetChange.ASSET_CHANGE_REFRESHED,
)
LOST = Fault(grpc.StatusCode.UNAVAILABLE)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the waits between streams short."""
    monkeypatch.setattr(watching, "FIRST_DELAY", 0.001)


def there(change: "AssetChange.ValueType", asset_id: str, revision: int, token: str = "") -> WatchAssetsResponse:
    """Returns the event of an asset that is there."""
    asset = Asset(asset_id=asset_id, revision=revision)
    return WatchAssetsResponse(asset=AssetEvent(change=change, asset=asset), resume_token=token)


def gone(asset_id: str, revision: int, token: str) -> WatchAssetsResponse:
    """Returns the event of an asset that is no more."""
    return WatchAssetsResponse(deleted=AssetDeletedEvent(asset_id=asset_id, revision=revision), resume_token=token)


def synced(token: str) -> WatchAssetsResponse:
    """Returns the mark that all is sent."""
    return WatchAssetsResponse(synced=SyncedEvent(), resume_token=token)


def heartbeat(token: str) -> WatchAssetsResponse:
    """Returns a sign of life."""
    return WatchAssetsResponse(heartbeat=Heartbeat(), resume_token=token)


async def received(lane: Client, count: int, token: str = "") -> list[WatchAssetsResponse]:
    """Returns the first events of a watch of team/42."""
    async with aclosing(lane.watch_assets("team/42", token)) as events:
        return [await anext(events) for _ in range(count)]


async def test_a_watch_goes_on_at_its_newest_token_and_repeats_nothing(lane: Client, server: LaneServer) -> None:
    """What the server repeats at the same or an older revision is dropped; heartbeats only move the token."""
    first = [there(PRESENT, "A1", 1), there(PRESENT, "A2", 3), synced("t1"), heartbeat("t2")]
    again = [there(ADDED, "A1", 1, "t1"), there(REFRESHED, "A2", 2, "t1"), synced("t2")]
    after = [there(REFRESHED, "A1", 2, "t3"), gone("A2", 4, "t4"), there(ADDED, "A3", 1, "t5")]
    repeat = [gone("A2", 4, "t4"), there(ADDED, "A3", 1, "t5"), there(ADDED, "A4", 1, "t6")]
    server.asset_streams.extend([[*first, LOST], [*again, *after, LOST], repeat])
    assert await received(lane, 8) == [*first[:3], again[2], *after, repeat[2]]
    asked = [(request.partition, request.resume_token) for request in server.called("WatchAssets")]
    assert asked == [("team/42", ""), ("team/42", "t2"), ("team/42", "t5")]


async def test_a_watch_begins_at_the_token_it_is_given(lane: Client, server: LaneServer) -> None:
    """A token kept by an earlier process is handed in."""
    server.asset_streams.append([synced("t8")])
    assert await received(lane, 1, "t7") == [synced("t8")]
    assert [request.resume_token for request in server.called("WatchAssets")] == ["t7"]


async def test_an_expired_token_is_reported_to_the_caller(lane: Client, server: LaneServer) -> None:
    """Only the caller knows what to throw away: the watch ends with ResumeExpired and is not opened again."""
    server.faults["WatchAssets"].append(Fault(grpc.StatusCode.OUT_OF_RANGE, "RESUME_EXPIRED"))
    with pytest.raises(ResumeExpired) as expired:
        await received(lane, 1, "old")
    assert isinstance(expired.value, OutOfRange)
    assert expired.value.reason == "RESUME_EXPIRED"
    assert len(server.called("WatchAssets")) == 1


async def test_silence_means_a_dead_peer(lane: Client, server: LaneServer) -> None:
    """A stream without heartbeats is opened again."""
    server.asset_streams.extend([[synced("t1")], [synced("t2")]])
    events = watching.watch(lane._server.open_asset_watch, watching.AssetsCursor("team/42"), silence=0.05)
    async with aclosing(events):
        assert [(await anext(events)).resume_token for _ in range(2)] == ["t1", "t2"]


async def test_closing_a_watch_ends_its_call(lane: Client, server: LaneServer) -> None:
    """The server sees the call end when the reader calls `aclose`."""
    server.asset_streams.append([synced("t1")])
    await received(lane, 1)
    async with asyncio.timeout(LIMIT_S):
        await server.watch_closed.wait()
    assert server.open_watches == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch remembers the assets that it sent last, however many there are."""
    monkeypatch.setattr(watching, "REMEMBERED", 3)
    cursor = watching.AssetsCursor("team/42")
    for number in range(10):
        assert cursor.take(there(ADDED, f"A{number}", 1)) is not None
    assert len(cursor._revisions) == 3
    assert cursor.take(there(ADDED, "A9", 1)) is None
