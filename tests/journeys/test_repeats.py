"""A request that one server accepted, repeated at another one whose settings would refuse it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, request_for
from tests.pictures import gradient
from tests.servers import served

from assetlane.v1.upload_pb2 import CUT_MAKER_SERVER, CutPlan
from assetlane_server.config.settings import Settings

PICTURE = {"original": gradient((60, 40))}
CUTS = {"content_type": "image/jpeg", "cut_plan": CutPlan(maker=CUT_MAKER_SERVER, required=True)}
LONG = "d/" * 440 + "b.jpg"


@asynccontextmanager
async def two_servers(settings: Settings, changes: dict[str, Any]) -> AsyncIterator[tuple[Stubs, Stubs]]:
    """Serves with the settings, and with changed ones."""
    async with (
        served(settings) as here,
        served(settings.model_copy(update=changes)) as there,
        grpc.aio.insecure_channel(here) as first,
        grpc.aio.insecure_channel(there) as second,
    ):
        yield Stubs.on(first), Stubs.on(second)


@pytest.mark.parametrize(
    ("changes", "bodies", "fields", "field"),
    [
        ({"max_upload_bytes": 4}, None, {}, "variants[0].size_bytes"),
        ({"cut_max_bytes": 4}, PICTURE, CUTS, "variants[0].size_bytes"),
        ({"multipart_threshold_bytes": 1, "multipart_part_bytes": 5 * 1024**2}, None, {}, ""),
        ({"key_prefix": "p" * 120 + "/", "public_assets": False}, None, {"file_path": LONG}, "file_path"),
        ({"quota_uid_bytes": 1}, None, {}, "quota"),
        ({"quota_uid_uploads": 1}, None, {}, ""),
        ({"quota_partition_bytes": 1}, None, {}, "quota"),
        ({"upload_hours": 0.5, "write_url_seconds": 5}, None, {}, ""),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) and value else None,
)
async def test_the_repeat_of_an_accepted_request_is_accepted(
    settings: Settings, changes: dict[str, Any], bodies: dict[str, bytes] | None, fields: dict[str, Any], field: str
) -> None:
    """It renews the targets of the same upload; what is new to the stricter server is refused by it."""
    async with two_servers(settings, changes) as (first, second):
        request = request_for(bodies, request_id="once", **fields)
        accepted = await first.uploads.RequestUpload(request)
        again = await second.uploads.RequestUpload(request)
        assert again.upload.upload_id == accepted.upload.upload_id
        assert [target.variant for target in again.write_targets] == ["original"]
        if not field:
            return
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.uploads.RequestUpload(request_for(bodies, request_id="another", **fields))
        failure = RpcFailure(refused.value)
        assert failure.reason == ("TOO_MANY_BYTES" if field == "quota" else "INVALID_FIELD")
        assert field == "quota" or list(failure.fields) == [field]
        changed = request_for(bodies, request_id="once", **{**fields, "expiration_hours": 1})
        with pytest.raises(grpc.aio.AioRpcError) as reused:
            await second.uploads.RequestUpload(changed)
        assert RpcFailure(reused.value).reason == "REQUEST_ID_REUSED"


async def test_a_repeat_with_a_fault_of_its_own_is_invalid(settings: Settings) -> None:
    """The stored request excuses what the settings forbid, and nothing else; nobody else's does."""
    async with two_servers(settings, {"max_upload_bytes": 4}) as (first, second):
        await first.uploads.RequestUpload(request_for(request_id="once"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.uploads.RequestUpload(request_for(request_id="once", expiration_hours=-1))
        assert list(RpcFailure(refused.value).fields) == ["expiration_hours", "variants[0].size_bytes"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await second.uploads.RequestUpload(request_for(uid="bob", request_id="once"))
        assert list(RpcFailure(refused.value).fields) == ["variants[0].size_bytes"]
