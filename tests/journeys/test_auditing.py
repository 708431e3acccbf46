"""The audit log of a server: each URL, token and deletion that left it, and nothing secret."""

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.access.tokens import Issuer
from tests.conftest import Figures
from tests.faults.server_process import environment_for, server_process
from tests.journeys.backends import add_rings, backends_server, with_services
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import Person
from tests.refusals import raises
from tests.servers import served

from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope, TokenOptions
from assetlane.v1.asset_pb2 import Asset
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import NotReady

LIMIT_S = 60.0


def lines(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_way_in_which_a_url_leaves_is_recorded(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """With who asked, for whom; what hands out none is not in it."""
    path = tmp_path / "audit.jsonl"
    async with backends_server(settings, web, tmp_path, audit_file=path) as there:
        clinic = there.backend()
        reply = await clinic.upload(uid="ann", issue_token=TokenOptions())
        device = there.person(reply.token.token)
        upload_id = reply.upload.upload_id
        await device.call("CompleteUpload", uploads.CompleteUploadRequest(upload_id=upload_id))
        token = await clinic.call(
            "CreateToken", CreateTokenRequest(uid="ann", partitions=PartitionScope(read=["user/ann"]))
        )
        for method, request in (
            ("GetAsset", assets.GetAssetRequest(asset_id=upload_id)),
            ("ListAssets", assets.ListAssetsRequest(partition="user/ann")),
            ("WatchAssets", assets.WatchAssetsRequest(partition="user/ann")),
            ("RefreshAsset", assets.RefreshAssetRequest(asset_id=upload_id)),
            ("BatchRefreshAssets", assets.BatchRefreshAssetsRequest(asset_ids=[upload_id, "0" * 26])),
            ("GetUpload", uploads.GetUploadRequest(upload_id=upload_id)),
            ("DeleteAsset", assets.DeleteAssetRequest(asset_id=upload_id)),
        ):
            await clinic.call(method, request)
        found = lines(path)
        assert [record["action"] for record in found] == [
            "token", "read_url", "token", "read_url", "read_url", "read_url", "refresh", "refresh", "delete", "delete",
        ]  # fmt: skip
        assert [record.get("acted_by") for record in found][:3] == ["clinic", "token:clinic", "clinic"]
        assert found[1]["caller"] == "uid:ann"
        assert found[1]["token_id"] == found[0]["issued_token_id"]
        assert {record["owner"] for record in found if "owner" in record} == {"ann"}
        assert [record["stage"] for record in found[-2:]] == ["asked", "done"]
        text = path.read_text()
        for secret in (reply.token.token, token.token.token, "http", "Signature"):
            assert secret not in text


async def test_a_call_fails_rather_than_go_unrecorded(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """UNAVAILABLE (AUDIT_UNAVAILABLE), with a time to wait; what hands out nothing goes on."""
    path = tmp_path / "folder" / "audit.jsonl"
    path.parent.mkdir()
    async with backends_server(settings, web, tmp_path, audit_file=path) as there:
        ann = there.user("ann")
        asset_id = (await ann.asset()).asset_id
        path.unlink()
        path.parent.rmdir()
        failure = await ann.refusal("GetAsset", assets.GetAssetRequest(asset_id=asset_id))
        assert failure is not None
        assert (failure.code.name, failure.reason) == ("UNAVAILABLE", "AUDIT_UNAVAILABLE")
        assert failure.retry_after_s is not None
        failure = await ann.refusal("DeleteAsset", assets.DeleteAssetRequest(asset_id=asset_id))
        assert failure is not None
        assert failure.reason == "AUDIT_UNAVAILABLE"
        assert await ann.refusal("GetUpload", uploads.GetUploadRequest(upload_id=asset_id)) is None
        path.parent.mkdir()
        assert (await ann.call("GetAsset", assets.GetAssetRequest(asset_id=asset_id))).asset.asset_id == asset_id


KILL_AFTER = (30, 60)  # answers that carried an asset, in each life of the server
CALLERS = 6


async def test_every_url_that_left_a_server_is_recorded_whenever_it_is_killed(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, stack: StackAddress, figures: Figures
) -> None:
    """By kill -9, under calls and watches of users, a back end and a device: as often as it left, and by whom."""
    issuer, path = Issuer(), tmp_path / "audit.jsonl"
    await add_rings(tmp_path, "clinic")
    guard = with_services(settings, tmp_path, issuer)
    given = {
        name: str(getattr(guard, name)) for name in ("key_prefix", "jwt_key_file", "policy_file", "token_keys")
    } | {"audit_file": str(path)}
    environment = environment_for(stack, settings.mongo_database, settings=given, heartbeat_seconds=0.2)
    handed_out: Counter[tuple[str, str]] = Counter()  # by caller's name in the audit log, and asset

    async with server_process(environment, tmp_path / "server.log") as server:
        for count in KILL_AFTER:
            channel = grpc.aio.insecure_channel(server.target)
            stubs = Stubs.on(channel)
            ann, clinic = (Person(stubs, web, issuer.token(name)) for name in ("ann", "clinic-backend"))
            scope = PartitionScope(read=["user/ann"], write=["user/ann"])
            token = (await clinic.call("CreateToken", CreateTokenRequest(uid="ann", partitions=scope))).token.token
            people = ((ann, "uid:ann"), (clinic, "service:clinic"), (Person(stubs, web, token), "uid:ann"))
            crowd = Crowd(handed_out, count)
            work = [
                asyncio.create_task(does(*people[number % len(people)]))
                for does, number in itertools.product((crowd.brings_in, crowd.watches), range(CALLERS))
            ]
            async with asyncio.timeout(LIMIT_S):
                await crowd.enough.wait()
            await server.kill()
            ended = await asyncio.gather(*work, return_exceptions=True)
            assert {type(one) for one in ended} == {grpc.aio.AioRpcError}, ended
            await channel.close()
            if count != KILL_AFTER[-1]:
                await server.start()
    recorded = Counter(
        (record["caller"], record["asset_id"])
        for record in map(json.loads, filter(None, path.read_bytes().split(b"\n")[:-1]))
        if record["action"] in ("read_url", "refresh")
    )
    missing = handed_out - recorded
    figures(
        f"audit under kill -9: {handed_out.total()} answers with read URLs in {len(KILL_AFTER)} lives of a server,"
        f" {recorded.total()} records, {missing.total()} missing"
    )
    assert missing == Counter()


class Crowd:
    """Callers that count what they are handed out, until their server is gone."""

    def __init__(self, handed_out: Counter[tuple[str, str]], count: int) -> None:
        self._handed_out = handed_out
        self._last = handed_out.total() + count
        self.enough = asyncio.Event()
        """Set once so many answers more have carried read URLs."""

    def took(self, caller: str, asset: Asset) -> None:
        """Counts an asset, whose URLs are handed out with it."""
        assert all(variant.read_url for variant in asset.variants)
        self._handed_out[caller, asset.asset_id] += 1
        if self._handed_out.total() >= self._last:
            self.enough.set()

    async def brings_in(self, person: Person, caller: str) -> None:
        """Brings assets in, gets and refreshes them."""
        while True:
            asset = await person.asset(uid="ann")
            self.took(caller, asset)
            got = await person.call("GetAsset", assets.GetAssetRequest(asset_id=asset.asset_id))
            self.took(caller, got.asset)
            refreshed = await person.call("RefreshAsset", assets.RefreshAssetRequest(asset_id=asset.asset_id))
            self.took(caller, refreshed.asset)

    async def watches(self, person: Person, caller: str) -> None:
        """Watches the partition that they go to."""
        request = assets.WatchAssetsRequest(partition="user/ann")
        watch: Any = person.stubs.assets.WatchAssets(request, metadata=person.metadata)
        async for event in watch:
            if event.WhichOneof("event") == "asset":
                self.took(caller, event.asset.asset)


async def test_a_server_that_cannot_write_its_audit_log_does_not_start(settings: Settings, tmp_path: Path) -> None:
    """Naming the setting."""
    with raises(NotReady, reason="FILE_UNWRITABLE", setting="ASSETLANE_AUDIT_FILE", names=["audit.jsonl"]):
        async with served(settings.model_copy(update={"audit_file": tmp_path / "missing" / "audit.jsonl"})):
            pytest.fail("it serves")
