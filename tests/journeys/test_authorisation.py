"""The authorisation matrix: every RPC of the contract, called by everybody, answers with exactly one status.

The rows are compared with the services' descriptors: an RPC without a row fails.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.access.tokens import Issuer, confused, unsigned
from tests.conftest import Figures
from tests.journeys.guarded import TEAM, Person, guarded, guarded_server
from tests.journeys.steps import request_for
from tests.servers import served

from assetlane.v1 import access_service_pb2 as access
from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane_server.config.settings import Settings

OK = "OK"
NO_UPLOAD = "NOT_FOUND UPLOAD_NOT_FOUND"
NO_ASSET = "NOT_FOUND ASSET_NOT_FOUND"
NO_PARTITION = "NOT_FOUND PARTITION_NOT_FOUND"
READ_ONLY = "PERMISSION_DENIED PARTITION_READ_ONLY"
NOT_ALLOWED = "PERMISSION_DENIED RPC_NOT_ALLOWED"

STRANGERS = {
    "no token": "UNAUTHENTICATED TOKEN_MISSING",
    "expired": "UNAUTHENTICATED TOKEN_EXPIRED",
    "wrong key": "UNAUTHENTICATED TOKEN_INVALID",
    "alg none": "UNAUTHENTICATED TOKEN_INVALID",
    "HS/RS confusion": "UNAUTHENTICATED TOKEN_INVALID",
}
PERSONS = ("other user", "reader", "writer", "owner")

OWNERS_ALONE = (NO_UPLOAD, NO_UPLOAD, NO_UPLOAD, OK)
READERS = (NO_ASSET, OK, OK, OK)

# RPC to its statuses for other user, reader, writer and owner. What it is asked about is the owner's, in the team's
# partition; the writer is another member of the team.
OF_ONE_PUT = (*OWNERS_ALONE[:3], "INVALID_ARGUMENT INVALID_FIELD")  # the owner learns that there are no parts
ROWS = {
    "RequestUpload": (NO_PARTITION, READ_ONLY, OK, OK),
    "WatchUpload": OWNERS_ALONE,
    "ReportProgress": OWNERS_ALONE,
    "SignParts": OF_ONE_PUT,
    "ListParts": OF_ONE_PUT,
    "CompleteUpload": OWNERS_ALONE,
    "CancelUpload": OWNERS_ALONE,
    "GetUpload": OWNERS_ALONE,
    "ListUploads": (OK, OK, OK, OK),  # each sees their own, see test_isolation.py
    "GetAsset": READERS,
    "ListAssets": (NO_PARTITION, OK, OK, OK),
    "WatchAssets": (NO_PARTITION, OK, OK, OK),
    "RefreshAsset": READERS,
    "BatchRefreshAssets": READERS,  # a result for each: here it stands for the status
    "DeleteAsset": (NO_ASSET, READ_ONLY, OK, OK),
    "CreateToken": (NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED),  # service callers: see test_callers.py
}
REQUESTS: dict[str, Callable[[str], Message]] = {
    "RequestUpload": lambda _: request_for(uid="", partition=TEAM),
    "WatchUpload": lambda subject: uploads.WatchUploadRequest(upload_id=subject),
    "ReportProgress": lambda subject: uploads.ReportProgressRequest(upload_id=subject),
    "SignParts": lambda subject: uploads.SignPartsRequest(upload_id=subject, variant="original"),
    "ListParts": lambda subject: uploads.ListPartsRequest(upload_id=subject, variant="original"),
    "CompleteUpload": lambda subject: uploads.CompleteUploadRequest(upload_id=subject),
    "CancelUpload": lambda subject: uploads.CancelUploadRequest(upload_id=subject),
    "GetUpload": lambda subject: uploads.GetUploadRequest(upload_id=subject),
    "ListUploads": lambda _: uploads.ListUploadsRequest(),
    "GetAsset": lambda subject: assets.GetAssetRequest(asset_id=subject),
    "ListAssets": lambda _: assets.ListAssetsRequest(partition=TEAM),
    "WatchAssets": lambda _: assets.WatchAssetsRequest(partition=TEAM),
    "RefreshAsset": lambda subject: assets.RefreshAssetRequest(asset_id=subject),
    "BatchRefreshAssets": lambda subject: assets.BatchRefreshAssetsRequest(asset_ids=[subject]),
    "DeleteAsset": lambda subject: assets.DeleteAssetRequest(asset_id=subject),
    "CreateToken": lambda subject: access.CreateTokenRequest(upload_id=subject),
}
CHANGING = {"CompleteUpload", "CancelUpload", "DeleteAsset"}  # each call that succeeds wants a subject of its own

SERVICES = {
    "UploadService": uploads.DESCRIPTOR.services_by_name["UploadService"],
    "AssetService": assets.DESCRIPTOR.services_by_name["AssetService"],
    "AccessService": access.DESCRIPTOR.services_by_name["AccessService"],
}


def test_every_rpc_of_the_contract_has_a_row() -> None:
    """From the descriptors: nobody adds an RPC without saying who may call it."""
    methods = {method.name for service in SERVICES.values() for method in service.methods}
    assert methods == ROWS.keys() == REQUESTS.keys()


async def outcome(person: Person, method: str, subject: str) -> str:
    """Returns the status and the reason of a call, that of the only result of a batch."""
    failure = await person.refusal(method, REQUESTS[method](subject))
    if failure is not None:
        return f"{failure.code.name} {failure.reason}"
    if method == "BatchRefreshAssets":
        (result,) = (await person.call(method, REQUESTS[method](subject))).results
        if result.WhichOneof("outcome") == "failure":
            return f"NOT_FOUND {result.failure.reason}"
    return OK


@pytest.mark.timeout(240)
async def test_the_matrix(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path, figures: Figures
) -> None:
    """Each cell has its exact status and reason."""
    issuer = Issuer("RS256")
    tokens = {
        "no token": None,
        "expired": issuer.token("ann", lifetime_s=-1, writes="42"),
        "wrong key": Issuer("RS256").token("ann", writes="42"),
        "alg none": unsigned("ann"),
        "HS/RS confusion": confused(issuer.file, "ann"),
        "other user": issuer.token("bob", reads=["41"], writes=["43"]),
        "reader": issuer.token("rae", reads=[42]),
        "writer": issuer.token("wes", writes=["7", "42"]),
        "owner": issuer.token("ann", writes="42"),
    }
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        people = {name: person_with(token) for name, token in tokens.items()}
        owner = people["owner"]

        async def subject_of(method: str) -> str:
            if method in {row.name for row in SERVICES["AssetService"].methods}:
                return str((await owner.asset(partition=TEAM)).asset_id)
            return str((await owner.upload(partition=TEAM)).upload.upload_id)

        wrong: list[str] = []
        seen: Counter[str] = Counter()
        for method, statuses in ROWS.items():
            expected = {**STRANGERS, **dict(zip(PERSONS, statuses, strict=True))}
            subject = await subject_of(method)
            for name, status in expected.items():
                if status == OK and method in CHANGING:
                    subject = await subject_of(method)
                found = await outcome(people[name], method, subject)
                seen[found] += 1
                if found != status:
                    wrong.append(f"{method} by {name}: {found}, not {status}")
    cells = len(ROWS) * (len(STRANGERS) + len(PERSONS))
    counted = ", ".join(f"{count} {status}" for status, count in seen.most_common())
    figures(f"authorisation matrix: {cells} cells, {len(wrong)} wrong ({counted})")
    assert wrong == []
    assert seen.total() == cells


async def test_what_is_forbidden_answers_as_what_is_missing(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path, figures: Figures
) -> None:
    """The same code, reason, sentence and details, but for the id that was asked for."""
    issuer = Issuer()
    missing = "0" * 26
    compared = 0
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        owner, other = person_with(issuer.token("ann", writes="42")), person_with(issuer.token("bob"))
        upload_id = (await owner.upload(partition=TEAM)).upload.upload_id
        asset_id = (await owner.asset(partition=TEAM)).asset_id
        for method, (status, *_) in ROWS.items():
            if status not in (NO_UPLOAD, NO_ASSET):
                continue
            there = upload_id if status == NO_UPLOAD else asset_id
            if method == "BatchRefreshAssets":
                request = assets.BatchRefreshAssetsRequest(asset_ids=[there, missing])
                forbidden, absent = (result.failure for result in (await other.call(method, request)).results)
                assert (forbidden.reason, forbidden.message.replace(there, missing)) == (absent.reason, absent.message)
            else:
                failures = [await other.refusal(method, REQUESTS[method](one)) for one in (there, missing)]
                shapes = [vars(one) for one in failures if one is not None]
                assert len(shapes) == 2
                shapes[0]["message"] = shapes[0]["message"].replace(there, missing)
                assert shapes[0] == shapes[1]
            compared += 1
    figures(f"forbidden and missing answer alike in {compared} RPCs")
    assert compared == 11


async def test_nobody_requests_in_anothers_name(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path
) -> None:
    """The uid is the token's subject, said or unsaid."""
    issuer = Issuer()
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        ann = person_with(issuer.token("ann"))
        assert [(await ann.upload(uid=uid)).upload.uid for uid in ("", "ann")] == ["ann", "ann"]
        failure = await ann.refusal("RequestUpload", request_for(uid="bob"))
        assert failure is not None
        assert (failure.code.name, failure.reason) == ("PERMISSION_DENIED", "UID_MISMATCH")


async def test_an_asset_is_not_moved_where_its_owner_may_not_write(
    settings: Settings, web: aiohttp.ClientSession, over: str, tmp_path: Path
) -> None:
    """`asset_partition` is looked at as `partition` is, and a refused call stores nothing."""
    issuer = Issuer()
    async with guarded_server(guarded(settings, tmp_path, issuer), web, over) as person_with:
        ann = person_with(issuer.token("ann"))
        failure = await ann.refusal("RequestUpload", request_for(uid="", asset_partition="user/bob"))
        assert failure is not None
        assert (failure.code.name, failure.reason) == ("NOT_FOUND", "PARTITION_NOT_FOUND")
        assert not (await ann.call("ListUploads", uploads.ListUploadsRequest())).uploads


async def test_health_and_reflection_ask_for_no_token(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A load balancer has none; the contract is public unless the operator says otherwise."""
    for reflection in (True, False):
        guard = guarded(settings, tmp_path, Issuer(), reflection=reflection)
        async with served(guard) as target, grpc.aio.insecure_channel(target) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert reply.status in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # of asyncio's too
            call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            if reflection:
                assert (await call.read()).HasField("list_services_response")
            else:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call.read()
                assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            call.cancel()
