"""The watch of a partition, on bare stubs."""

import asyncio
import time
from datetime import timedelta

import aiohttp
import grpc
import pytest
from tests.journeys.assets import AssetFactory
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure
from tests.records.stores import mongo

from assetlane.v1.asset_service_pb2 import (
    AssetChange,
    DeleteAssetRequest,
    RefreshAssetRequest,
    WatchAssetsRequest,
)
from assetlane_server.config.settings import Settings
from assetlane_server.model.resume_token import TOKEN_LIFETIME, Position, resume_token
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import LedgerTime

LIMIT_S = 20.0
PARTITION = "team/42"
TWO_WEEKS_S = int(2 * TOKEN_LIFETIME / timedelta(seconds=1))


class Watcher:
    """Reads a watch of the partition."""

    def __init__(self, stubs: Stubs, resume_token: str = "") -> None:
        self._call = stubs.assets.WatchAssets(WatchAssetsRequest(partition=PARTITION, resume_token=resume_token))
        self.token = ""

    async def next(self) -> tuple[str, str]:
        """Returns what happened and to which asset; the token after it is kept."""
        async with asyncio.timeout(LIMIT_S):
            async for event in self._call:
                self.token = event.resume_token
                if event.HasField("asset"):
                    kind = AssetChange.Name(event.asset.change).removeprefix("ASSET_CHANGE_")
                    return kind, event.asset.asset.asset_id
                if event.HasField("deleted"):
                    return "DELETED", event.deleted.asset_id
                if event.HasField("synced"):
                    return "SYNCED", ""
        raise AssertionError("the watch ended")

    def close(self) -> None:
        """Hangs up."""
        self._call.cancel()


@pytest.fixture
def assets(stubs: Stubs, web: aiohttp.ClientSession) -> AssetFactory:
    """Where this test's assets come from."""
    return AssetFactory(stubs, web)


async def test_a_watch_sends_what_is_there_then_what_happens(assets: AssetFactory, stubs: Stubs) -> None:
    """Present assets, SYNCED, then additions, refreshes and deletions of this partition alone."""
    present = [(await assets.asset(asset_partition=PARTITION)).asset_id for _ in range(2)]
    watcher = Watcher(stubs)
    assert [await watcher.next() for _ in range(3)] == [
        ("PRESENT", present[1]),
        ("PRESENT", present[0]),
        ("SYNCED", ""),
    ]
    added = await assets.asset(asset_partition=PARTITION, expiration_hours=2 / 3600)
    assert await watcher.next() == ("ADDED", added.asset_id)
    await assets.asset(asset_partition="team/43")
    async with asyncio.timeout(LIMIT_S):
        refresh = RefreshAssetRequest(asset_id=added.asset_id)
        while (await stubs.assets.RefreshAsset(refresh)).asset.revision == 1:
            continue  # until the next whole second
    assert await watcher.next() == ("REFRESHED", added.asset_id)
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=present[0]))
    assert await watcher.next() == ("DELETED", present[0])
    watcher.close()


async def test_a_resumed_watch_sends_what_happened_meanwhile_deletions_too(assets: AssetFactory, stubs: Stubs) -> None:
    """Nothing is left out; what is sent again has the revision that was sent before."""
    gone, kept = [(await assets.asset(asset_partition=PARTITION)).asset_id for _ in range(2)]
    watcher = Watcher(stubs)
    while (await watcher.next())[0] != "SYNCED":
        continue
    watcher.close()
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=gone))
    added = (await assets.asset(asset_partition=PARTITION)).asset_id

    resumed = Watcher(stubs, watcher.token)
    received = []
    while (event := await resumed.next())[0] != "SYNCED":
        received.append(event)
    assert set(received) - {("ADDED", kept)} == {("DELETED", gone), ("ADDED", added)}
    assert len(received) == len(set(received))
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=kept))
    assert await resumed.next() == ("DELETED", kept)
    resumed.close()


@pytest.mark.parametrize(
    ("partition", "token", "code", "reason"),
    [
        (
            PARTITION,
            Position(LedgerTime((int(time.time()) << 32) - (TWO_WEEKS_S << 32))),
            "OUT_OF_RANGE",
            "RESUME_EXPIRED",
        ),
        ("team/43", Position(LedgerTime(int(time.time()) << 32)), "INVALID_ARGUMENT", "INVALID_FIELD"),
        (PARTITION, "made-up", "INVALID_ARGUMENT", "INVALID_FIELD"),
        ("", "", "INVALID_ARGUMENT", "INVALID_FIELD"),
    ],
    ids=["too old", "of another partition", "made up", "no partition"],
)
async def test_a_watch_that_cannot_be_is_refused(
    settings: Settings, stubs: Stubs, partition: str, token: str | Position, code: str, reason: str
) -> None:
    """Too old a token is refused as such: never a silent gap. One of another partition is none."""
    if isinstance(token, Position):
        async with mongo(settings.mongo_uri.get_secret_value()) as client:
            document = await client[settings.mongo_database]["meta"].find_one({"_id": "token_key"})
        assert document is not None
        token = resume_token(TokenSigner(document["key"]), PARTITION, token)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stubs.assets.WatchAssets(WatchAssetsRequest(partition=partition, resume_token=token)).read()
    failure = RpcFailure(failed.value)
    assert (failure.code.name, failure.reason) == (code, reason)
