"""The audit log of a server: each URL, token and deletion that left it, and nothing secret."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.journeys.backends import backends_server
from tests.servers import served

from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope, TokenOptions
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import NotReady


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
        told = await ann.refusal("GetAsset", assets.GetAssetRequest(asset_id=asset_id))
        assert told is not None
        assert (told.code.name, told.reason) == ("UNAVAILABLE", "AUDIT_UNAVAILABLE")
        assert told.retry_after_s is not None
        told = await ann.refusal("DeleteAsset", assets.DeleteAssetRequest(asset_id=asset_id))
        assert told is not None
        assert told.reason == "AUDIT_UNAVAILABLE"
        assert await ann.refusal("GetUpload", uploads.GetUploadRequest(upload_id=asset_id)) is None
        path.parent.mkdir()
        assert (await ann.call("GetAsset", assets.GetAssetRequest(asset_id=asset_id))).asset.asset_id == asset_id


async def test_a_server_that_cannot_write_its_audit_log_does_not_start(settings: Settings, tmp_path: Path) -> None:
    """Naming the setting."""
    with pytest.raises(NotReady, match=r"ASSETLANE_AUDIT_FILE: .*No such file"):
        async with served(settings.model_copy(update={"audit_file": tmp_path / "missing" / "audit.jsonl"})):
            pytest.fail("it serves")
