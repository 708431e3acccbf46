"""The ledger, on bare stubs and plain HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.journeys.assets import AssetFactory
from tests.journeys.conftest import Stubs
from tests.journeys.steps import BODY, RpcFailure, get

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import (
    BatchRefreshAssetsRequest,
    DeleteAssetRequest,
    GetAssetRequest,
    ListAssetsRequest,
    RefreshAssetRequest,
)
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, WatchUploadRequest

LIMIT_S = 20.0


@pytest.fixture
def assets(stubs: Stubs, web: aiohttp.ClientSession) -> AssetFactory:
    """Where this test's assets come from."""
    return AssetFactory(stubs, web)


async def until_status(web: aiohttp.ClientSession, url: str, status: int) -> datetime:
    """Reads a URL again and again until the store answers so; returns when it did."""
    async with asyncio.timeout(LIMIT_S):
        while (await get(web, url))[0] != status:
            continue  # each round waits for the store; the clock that decides is its own
        return datetime.now(UTC)


async def test_a_read_url_dies_at_its_instant_and_refresh_brings_a_living_one(
    assets: AssetFactory, stubs: Stubs, web: aiohttp.ClientSession
) -> None:
    """403 from the `expire_time` that was returned, not before; the refreshed URL reads again."""
    asset = await assets.asset(expiration_hours=2 / 3600)
    url = asset.variants[0].read_url
    assert await get(web, url) == (200, BODY)
    died = await until_status(web, url, 403)
    expiry = asset.expire_time.ToDatetime(UTC)
    assert expiry <= died < expiry + timedelta(seconds=2)
    refreshed = (await stubs.assets.RefreshAsset(RefreshAssetRequest(asset_id=asset.asset_id))).asset
    assert refreshed.expire_time.ToDatetime(UTC) > died
    assert await get(web, refreshed.variants[0].read_url) == (200, BODY)
    assert (await get(web, url))[0] == 403


async def test_a_private_object_answers_403_unsigned(assets: AssetFactory, web: aiohttp.ClientSession) -> None:
    """Without its signature the URL opens nothing."""
    asset = await assets.asset()
    assert (await get(web, asset.variants[0].read_url.partition("?")[0]))[0] == 403


async def test_a_public_asset_reads_unsigned_and_never_expires(
    assets: AssetFactory, stubs: Stubs, web: aiohttp.ClientSession
) -> None:
    """Zero hours: no signature, no expiry, and nothing for a refresh to do."""
    asset = await assets.asset(expiration_hours=0, partition="public")
    assert "?" not in asset.variants[0].read_url
    assert not asset.HasField("expire_time")
    assert await get(web, asset.variants[0].read_url) == (200, BODY)
    assert (await stubs.assets.RefreshAsset(RefreshAssetRequest(asset_id=asset.asset_id))).asset == asset


async def test_read_urls_are_the_same_until_refreshed(assets: AssetFactory, stubs: Stubs) -> None:
    """Caches work: get, list and a refresh that is not due give the URL that was given before."""
    asset = await assets.asset(partition="team/42")
    get_reply = await stubs.assets.GetAsset(GetAssetRequest(asset_id=asset.asset_id))
    page = await stubs.assets.ListAssets(ListAssetsRequest(partition="team/42"))
    not_due = RefreshAssetRequest(asset_id=asset.asset_id, if_expires_within=Duration(seconds=3600))
    kept = await stubs.assets.RefreshAsset(not_due)
    assert get_reply.asset == page.assets[0] == kept.asset == asset


async def test_a_refresh_that_is_due_signs_again(assets: AssetFactory, stubs: Stubs) -> None:
    """`if_expires_within` longer than the URL's life moves its expiry to a full life from now."""
    asset = await assets.asset(expiration_hours=0.5)
    due = RefreshAssetRequest(asset_id=asset.asset_id, if_expires_within=Duration(seconds=3600))
    async with asyncio.timeout(LIMIT_S):
        while (refreshed := (await stubs.assets.RefreshAsset(due)).asset).refresh_time == asset.refresh_time:
            continue  # until the next whole second: SigV4 knows no finer time
    life = refreshed.expire_time.ToDatetime(UTC) - refreshed.refresh_time.ToDatetime(UTC)
    assert life == timedelta(minutes=30)
    assert refreshed.variants[0].read_url != asset.variants[0].read_url


async def test_a_batch_refreshes_each_by_itself(assets: AssetFactory, stubs: Stubs) -> None:
    """One result per id in the order asked, repeats included; a missing one fails alone."""
    one, two = await assets.asset(), await assets.asset()
    request = BatchRefreshAssetsRequest(
        asset_ids=[two.asset_id, "missing", one.asset_id, two.asset_id], if_expires_within=Duration(seconds=60)
    )
    results = (await stubs.assets.BatchRefreshAssets(request)).results
    assert [result.asset_id for result in results] == list(request.asset_ids)
    assert [result.asset for result in results] == [two, Asset(), one, two]
    assert results[1].failure.reason == "ASSET_NOT_FOUND"


async def test_a_deleted_asset_is_gone_and_stays_gone(
    assets: AssetFactory, stubs: Stubs, web: aiohttp.ClientSession
) -> None:
    """Not found, not listed, its bytes deleted; deleting again succeeds, and completing does not revive it."""
    asset = await assets.asset(partition="team/42")
    for _ in range(2):
        await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=asset.asset_id))
    assert (await get(web, asset.variants[0].read_url))[0] == 404
    assert not (await stubs.assets.ListAssets(ListAssetsRequest(partition="team/42"))).assets
    for call, request in [
        (stubs.assets.GetAsset, GetAssetRequest(asset_id=asset.asset_id)),
        (stubs.assets.RefreshAsset, RefreshAssetRequest(asset_id=asset.asset_id)),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(request)  # type: ignore[operator]  # two calls, each with its own request
        assert RpcFailure(failed.value).reason == "ASSET_NOT_FOUND"
    again = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=asset.asset_id))
    assert not again.HasField("asset")
    events = [e.status async for e in stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=asset.asset_id))]
    assert not events[-1].HasField("asset")


async def test_lists_hold_one_partition_in_pages(assets: AssetFactory, stubs: Stubs) -> None:
    """Newest first, every asset once, other partitions never."""
    ids = [(await assets.asset(asset_partition="team/42")).asset_id for _ in range(5)]
    await assets.asset(asset_partition="team/43")
    first = await stubs.assets.ListAssets(ListAssetsRequest(partition="team/42", page_size=3))
    second = await stubs.assets.ListAssets(
        ListAssetsRequest(partition="team/42", page_size=3, page_token=first.next_page_token)
    )
    assert [asset.asset_id for asset in (*first.assets, *second.assets)] == sorted(ids, reverse=True)
    assert not second.next_page_token


BAD = [
    ("GetAsset", GetAssetRequest(asset_id="missing"), "ASSET_NOT_FOUND"),
    ("GetAsset", GetAssetRequest(), "INVALID_FIELD"),
    ("RefreshAsset", RefreshAssetRequest(asset_id="missing"), "ASSET_NOT_FOUND"),
    ("RefreshAsset", RefreshAssetRequest(asset_id="x", if_expires_within=Duration(seconds=-1)), "INVALID_FIELD"),
    ("RefreshAsset", RefreshAssetRequest(asset_id="x", if_expires_within=Duration(seconds=2**62)), "INVALID_FIELD"),
    ("DeleteAsset", DeleteAssetRequest(asset_id="missing"), "ASSET_NOT_FOUND"),
    ("ListAssets", ListAssetsRequest(), "INVALID_FIELD"),
    ("ListAssets", ListAssetsRequest(partition="a/../b"), "INVALID_FIELD"),
    ("ListAssets", ListAssetsRequest(partition="a", page_size=-1), "INVALID_FIELD"),
    ("BatchRefreshAssets", BatchRefreshAssetsRequest(), "INVALID_FIELD"),
    ("BatchRefreshAssets", BatchRefreshAssetsRequest(asset_ids=["a"] * 101), "INVALID_FIELD"),
]


@pytest.mark.parametrize(("method", "request_", "reason"), BAD, ids=[f"{m} {r}" for m, _, r in BAD])
async def test_a_bad_call_gets_its_reason(stubs: Stubs, method: str, request_: object, reason: str) -> None:
    """Exactly one ErrorInfo, with the reason that the contract names."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await getattr(stubs.assets, method)(request_)
    assert RpcFailure(failed.value).reason == reason
