"""Two servers on one MongoDB, one with a wrong clock: the ledger's own clock orders what they write."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import aiohttp
import grpc
import pytest
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put, request_for
from tests.servers import served

from assetlane.v1.asset_service_pb2 import DeleteAssetRequest, ListAssetsRequest, WatchAssetsRequest
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest
from assetlane_server.composition import app
from assetlane_server.config.settings import Settings

LIMIT_S = 30.0
PARTITION = "team/42"


class Watch:
    """Reads a watch of the partition; what it has been sent, and the token after each."""

    def __init__(self, stubs: Stubs, resume_token: str = "") -> None:
        request = WatchAssetsRequest(partition=PARTITION, resume_token=resume_token)
        self._call = stubs.assets.WatchAssets(request)
        self.tokens: list[str] = []

    async def next(self) -> tuple[str, str]:
        """Returns the next event that is no heartbeat: its kind, and which asset."""
        async with asyncio.timeout(LIMIT_S):
            async for event in self._call:
                kind = event.WhichOneof("event") or ""
                if kind == "heartbeat":
                    continue
                self.tokens.append(event.resume_token)
                asset_id = event.asset.asset.asset_id or event.deleted.asset_id
                return kind, asset_id
        raise AssertionError("the watch ended")

    async def until_synced(self) -> set[tuple[str, str]]:
        """Returns all that is sent before SYNCED, and hangs up."""
        events = set()
        while (event := await self.next())[0] != "synced":
            events.add(event)
        self._call.cancel()
        return events


@pytest.fixture(params=[120, 7200, -120, -7200], ids="{:+}s".format)
async def servers(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Stubs, Stubs]]:
    """One server whose clock is right, and one whose clock is off."""
    right, skew = app.utc_now, timedelta(0)

    def wrong() -> datetime:
        return right() + skew

    async with served(settings) as first:
        monkeypatch.setattr(app, "utc_now", wrong)
        async with (
            served(settings) as second,
            grpc.aio.insecure_channel(first) as to_first,
            grpc.aio.insecure_channel(second) as to_second,
        ):
            skew = timedelta(seconds=request.param)  # not at the start, where it tries the store with URLs of its own
            yield Stubs.on(to_first), Stubs.on(to_second)


async def test_a_resumed_watch_misses_nothing(servers: tuple[Stubs, Stubs], web: aiohttp.ClientSession) -> None:
    """Assets completed and deleted by either, every token resumed at either: all that came after it is sent."""
    right, _ = servers
    watch = Watch(right)
    assert await watch.next() == ("synced", "")
    added = []
    for number in range(6):
        reply = await right.uploads.RequestUpload(request_for(asset_partition=PARTITION))
        assert await put(web, reply.write_targets[0]) == 200
        completion = CompleteUploadRequest(upload_id=reply.upload.upload_id)
        added.append((await servers[number % 2].uploads.CompleteUpload(completion)).asset.asset_id)
        assert await watch.next() == ("asset", added[-1])
    for number, stubs in enumerate(servers):
        await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=added[number]))
        assert await watch.next() == ("deleted", added[number])
    gone = {("deleted", one) for one in added[:2]}
    assert len(watch.tokens) == 9
    for place, token in enumerate(watch.tokens[:7]):
        missed = gone | {("asset", one) for one in added[max(2, place) :]}
        for stubs in servers:
            assert await Watch(stubs, token).until_synced() >= missed
    for stubs in servers:
        listed = await stubs.assets.ListAssets(ListAssetsRequest(partition=PARTITION))
        assert [one.asset_id for one in listed.assets] == added[:1:-1]
