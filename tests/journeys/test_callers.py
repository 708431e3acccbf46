"""Every caller: users, back ends that act for them, and devices with a scoped token, over every RPC.

The rows are compared with the services' descriptors, and so are the fields that name a user or a partition: a new RPC
or field without a row fails.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from tests.conftest import Figures
from tests.journeys.backends import backends_server
from tests.journeys.guarded import TEAM, Person
from tests.journeys.lanes import put, request_for
from tests.journeys.test_authorisation import OK, REQUESTS, ROWS, SERVICES, outcome
from tests.log_events import seen

from assetlane.v1 import access_service_pb2 as access
from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope, TokenOptions
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane_server.config.settings import Settings

LIMIT_S = 30.0
NO_UPLOAD = "NOT_FOUND UPLOAD_NOT_FOUND"
NO_ASSET = "NOT_FOUND ASSET_NOT_FOUND"
NO_PARTITION = "NOT_FOUND PARTITION_NOT_FOUND"
READ_ONLY = "PERMISSION_DENIED PARTITION_READ_ONLY"
NOT_ALLOWED = "PERMISSION_DENIED RPC_NOT_ALLOWED"
MISMATCH = "PERMISSION_DENIED UID_MISMATCH"
INVALID = "INVALID_ARGUMENT INVALID_FIELD"
TOKEN_INVALID = "UNAUTHENTICATED TOKEN_INVALID"  # noqa: S105 - a status

CALLERS = (
    "its back end",  # acts for ann, in the team's partition
    "another back end",  # neither
    "restricted back end",  # may do all for all, by three RPCs alone
    "token for the upload",
    "token for another upload",
    "token for the team",
    "token to read the team",
    "token of a dropped ring",
)
OF_UPLOADS = (OK, NO_UPLOAD, NOT_ALLOWED, OK, NO_UPLOAD, OK, NO_UPLOAD, TOKEN_INVALID)
OF_PARTS = (INVALID, NO_UPLOAD, NOT_ALLOWED, INVALID, NO_UPLOAD, INVALID, NO_UPLOAD, TOKEN_INVALID)
OF_ASSETS = (OK, NO_ASSET, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, OK, OK, TOKEN_INVALID)
MATRIX = {
    "RequestUpload": (OK, MISMATCH, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, OK, READ_ONLY, TOKEN_INVALID),
    "WatchUpload": OF_UPLOADS,
    "ReportProgress": OF_UPLOADS,
    "SignParts": OF_PARTS,
    "ListParts": OF_PARTS,
    "CompleteUpload": OF_UPLOADS,
    "CancelUpload": OF_UPLOADS,
    "GetUpload": (OK, NO_UPLOAD, OK, OK, NO_UPLOAD, OK, NO_UPLOAD, TOKEN_INVALID),
    "ListUploads": (OK, OK, OK, NOT_ALLOWED, NOT_ALLOWED, OK, OK, TOKEN_INVALID),
    "GetAsset": OF_ASSETS,
    "ListAssets": (OK, NO_PARTITION, OK, NOT_ALLOWED, NOT_ALLOWED, OK, OK, TOKEN_INVALID),
    "WatchAssets": (OK, NO_PARTITION, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, OK, OK, TOKEN_INVALID),
    "RefreshAsset": OF_ASSETS,
    "BatchRefreshAssets": OF_ASSETS,
    "DeleteAsset": (OK, NO_ASSET, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, OK, READ_ONLY, TOKEN_INVALID),
    "CreateToken": (OK, NO_UPLOAD, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, NOT_ALLOWED, TOKEN_INVALID),
}
CHANGING = {"CompleteUpload", "CancelUpload", "DeleteAsset"}
ASKED: dict[str, Callable[[str], Message]] = {
    **REQUESTS,
    "RequestUpload": lambda _: request_for(uid="ann", partition=TEAM),
}
TEAM_SCOPE = PartitionScope(read=[TEAM], write=[TEAM])


def test_every_rpc_has_a_row() -> None:
    """From the descriptors."""
    methods = {method.name for service in SERVICES.values() for method in service.methods}
    assert methods == MATRIX.keys() == ROWS.keys()


@pytest.mark.timeout(240)
async def test_the_matrix_of_back_ends_and_devices(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, figures: Figures
) -> None:
    """Each cell has its exact status and reason."""
    async with backends_server(settings, web, tmp_path) as there:
        ann = there.user("ann", writes="42")

        async def uploaded() -> str:
            return str((await ann.upload(partition=TEAM)).upload.upload_id)

        async def subject_of(method: str) -> str:
            if method in {row.name for row in SERVICES["AssetService"].methods}:
                return str((await ann.asset(partition=TEAM)).asset_id)
            return await uploaded()

        async def callers(upload_id: str) -> dict[str, Person]:
            team = CreateTokenRequest(uid="ann", partitions=TEAM_SCOPE)
            reading = CreateTokenRequest(uid="ann", partitions=PartitionScope(read=[TEAM]))
            return {
                "its back end": there.backend(),
                "another back end": there.backend("other"),
                "restricted back end": there.backend("reader"),
                "token for the upload": await there.device(CreateTokenRequest(upload_id=upload_id)),
                "token for another upload": await there.device(CreateTokenRequest(upload_id=await uploaded())),
                "token for the team": await there.device(team),
                "token to read the team": await there.device(reading),
                "token of a dropped ring": there.person(dropped.token),
            }

        gone = CreateTokenRequest(uid="ann", partitions=PartitionScope(read=["gone/**"]))
        dropped = await there.device(gone, "gone")
        await there.rings.drop_ring("gone")
        await until_refused(dropped, TOKEN_INVALID)

        wrong: list[str] = []
        seen: Counter[str] = Counter()
        for method, statuses in MATRIX.items():
            is_of_assets = method in {row.name for row in SERVICES["AssetService"].methods}
            subject = await subject_of(method)
            people = await callers(await uploaded() if is_of_assets else subject)
            for name, status in zip(CALLERS, statuses, strict=True):
                if method in CHANGING:
                    subject = await subject_of(method)
                    people = await callers(await uploaded() if is_of_assets else subject)
                found = await outcome_of(people[name], method, subject)
                seen[found] += 1
                if found != status:
                    wrong.append(f"{method} by {name}: {found}, not {status}")
    cells = len(MATRIX) * len(CALLERS)
    counted = ", ".join(f"{count} {status}" for status, count in seen.most_common())
    figures(f"matrix of back ends and devices: {cells} cells, {len(wrong)} wrong ({counted})")
    assert wrong == []


async def outcome_of(person: Person, method: str, subject: str) -> str:
    """Returns status and reason; of RequestUpload in ann's name."""
    if method == "RequestUpload":
        failure = await person.refusal(method, ASKED[method](subject))
        return OK if failure is None else f"{failure.code.name} {failure.reason}"
    return await outcome(person, method, subject)


async def until_refused(person: Person, status: str) -> None:
    """Returns once the server has read what makes it refuse this caller."""
    async with asyncio.timeout(LIMIT_S):
        found = ""
        while found != status:
            failure = await person.refusal("ListUploads", uploads.ListUploadsRequest())
            found = OK if failure is None else f"{failure.code.name} {failure.reason}"


# Every field of a request that names a user or a partition: what a service caller is answered for a foreign one.
FIELDS: dict[str, tuple[Callable[[], Message], str]] = {
    "RequestUploadRequest.uid": (lambda: request_for(uid="bob", partition=TEAM), MISMATCH),
    "RequestUploadRequest.partition": (lambda: request_for(uid="ann", partition="user/bob"), NO_PARTITION),
    "RequestUploadRequest.asset_partition": (
        lambda: request_for(uid="ann", partition=TEAM, asset_partition="user/patient-7"),
        NO_PARTITION,  # a user that it acts for, and not the one that it acts for now
    ),
    "ListUploadsRequest.uid": (lambda: uploads.ListUploadsRequest(uid="bob"), "empty"),
    "ListAssetsRequest.partition": (lambda: assets.ListAssetsRequest(partition="user/bob"), NO_PARTITION),
    "WatchAssetsRequest.partition": (lambda: assets.WatchAssetsRequest(partition="user/bob"), NO_PARTITION),
    "CreateTokenRequest.uid": (lambda: CreateTokenRequest(uid="bob", partitions=TEAM_SCOPE), MISMATCH),
    "PartitionScope.read": (
        lambda: CreateTokenRequest(uid="ann", partitions=PartitionScope(read=["user/bob"])),
        "PERMISSION_DENIED SCOPE_TOO_WIDE",
    ),
    "PartitionScope.write": (
        lambda: CreateTokenRequest(uid="ann", partitions=PartitionScope(write=["clinic/**"])),
        "PERMISSION_DENIED SCOPE_TOO_WIDE",
    ),
}


def test_every_field_that_names_a_user_or_a_partition_has_a_row() -> None:
    """From the descriptors of all requests."""
    found = set()
    for module in (uploads, assets, access):
        for name, message in module.DESCRIPTOR.message_types_by_name.items():
            if name.endswith("Request"):
                names = {field.name for field in message.fields}
                found |= {f"{name}.{field}" for field in names & {"uid", "partition", "asset_partition"}}
    scope = {f"PartitionScope.{field.name}" for field in PartitionScope.DESCRIPTOR.fields}
    assert found | scope == FIELDS.keys()


def expected_of(caller: str, field: str, of_backend: str) -> str:
    """Returns what a caller is answered for a foreign user or partition in a field; a back end has it in FIELDS."""
    match caller, field.partition("Request.")[0]:
        case "back end", _:
            return of_backend
        case "nobody", _:
            return "UNAUTHENTICATED TOKEN_MISSING"
        case (("user" | "device"), ("CreateToken" | "PartitionScope.read" | "PartitionScope.write")):
            return NOT_ALLOWED
        case (("user" | "device"), _):
            return of_backend
        case _:
            return NOT_ALLOWED  # the holder of a token for one upload names neither users nor partitions


async def test_nobody_gets_further_by_naming_somebody_else(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, figures: Figures
) -> None:
    """Each field by itself, for each kind of caller; and a back end's request that names nobody."""
    cells, wrong = 0, []
    async with backends_server(settings, web, tmp_path) as there:
        clinic = there.backend()
        await there.user("bob").upload()
        own = (await there.user("ann").upload()).upload.upload_id
        callers = {
            "back end": clinic,
            "user": there.user("ann", writes="42"),
            "device": await there.device(CreateTokenRequest(uid="ann", partitions=TEAM_SCOPE)),
            "device for an upload": await there.device(CreateTokenRequest(upload_id=own)),
            "nobody": there.person(None),
        }
        for caller, person in callers.items():
            for field, (request, of_backend) in FIELDS.items():
                method = next(name for name, made in ASKED.items() if type(made("x")) is type(request()))
                failure = await person.refusal(method, request())
                found = OK if failure is None else f"{failure.code.name} {failure.reason}"
                if failure is None and method == "ListUploads":
                    found = "not empty" if (await person.call(method, request())).uploads else "empty"
                cells += 1
                if found != (status := expected_of(caller, field, of_backend)):
                    wrong.append(f"{field} by {caller}: {found}, not {status}")
        figures(f"fields that name a user or a partition: {cells} cells, {len(wrong)} wrong")
        assert wrong == []
        failure = await clinic.refusal("RequestUpload", request_for(uid=""))
        assert failure is not None
        assert (failure.reason, list(failure.fields)) == ("INVALID_FIELD", ["uid"])


async def test_a_back_end_hands_an_upload_to_a_device(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """In one answer; the device watches and completes it, and history says who acted for whom."""
    async with backends_server(settings, web, tmp_path) as there:
        clinic, ann = there.backend(), there.user("ann")
        reply = await clinic.call("RequestUpload", request_for(uid="ann", issue_token=TokenOptions()))
        device = there.person(reply.token.token)
        assert reply.token.expire_time.ToDatetime() <= reply.upload.expire_time.ToDatetime()
        for target in reply.write_targets:
            assert await put(web, target) == 200
        done = await device.call("CompleteUpload", uploads.CompleteUploadRequest(upload_id=reply.upload.upload_id))
        assert done.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
        acted = [change.acted_by for change in done.upload.history]
        assert acted == ["clinic", "clinic", "token:clinic", "token:clinic"]
        request = uploads.GetUploadRequest(upload_id=reply.upload.upload_id)
        assert (await ann.call("GetUpload", request)).upload == done.upload
        listed = await clinic.call("ListUploads", uploads.ListUploadsRequest())
        assert [upload.upload_id for upload in listed.uploads] == [reply.upload.upload_id]


async def test_a_back_end_sees_its_users_uploads_and_no_others(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """In lists, page by page, and in watches of a session whose id others use as well."""
    async with backends_server(settings, web, tmp_path, heartbeat_seconds=0.3) as there:
        clinic, ann, bob = there.backend(), there.user("ann"), there.user("bob")
        ours = set()
        for _ in range(4):
            ours.add((await ann.upload(session_id="s")).upload.upload_id)
            await bob.upload(session_id="s")
        found: list[str] = []
        page = uploads.ListUploadsRequest(page_size=3)
        while True:
            reply = await clinic.call("ListUploads", page)
            found += [upload.upload_id for upload in reply.uploads]
            if not reply.next_page_token:
                break
            page.page_token = reply.next_page_token
        assert set(found) == ours
        assert len(found) == len(ours)
        call: Any = there.stubs.uploads.WatchUpload(
            uploads.WatchUploadRequest(session_id="s"), metadata=clinic.metadata
        )
        seen: set[str] = set()
        async with asyncio.timeout(LIMIT_S):
            while (event := await call.read()).WhichOneof("event") != "heartbeat":
                seen.add(event.status.upload.upload_id)
            assert seen == ours
            await bob.upload(session_id="s")
            late = (await ann.upload(session_id="s")).upload.upload_id
            while (event := await call.read()).WhichOneof("event") == "heartbeat":
                continue
        assert event.status.upload.upload_id == late
        call.cancel()


async def test_a_dropped_ring_ends_open_watches(settings: Settings, web: aiohttp.ClientSession, tmp_path: Path) -> None:
    """At their next event at the latest, before anything more is sent."""
    async with backends_server(settings, web, tmp_path, heartbeat_seconds=0.2) as there:
        upload_id = (await there.user("ann").upload()).upload.upload_id
        device = await there.device(CreateTokenRequest(upload_id=upload_id))
        call: Any = there.stubs.uploads.WatchUpload(
            uploads.WatchUploadRequest(upload_id=upload_id), metadata=device.metadata
        )
        await call.read()
        await there.rings.drop_ring("clinic")

        async def read_on() -> None:
            while True:
                await call.read()

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_on(), LIMIT_S)
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
        failure = await there.backend().refusal("CreateToken", CreateTokenRequest(upload_id=upload_id))
        assert failure is not None
        assert failure.reason == "NO_SIGNING_KEY"


async def test_a_policy_that_changes_is_followed_by_a_server_that_goes_on(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A maker that loses a right takes it from its tokens; a mistake in the file changes nothing."""
    async with backends_server(settings, web, tmp_path) as there:
        policy_file = tmp_path / "policy.toml"
        good = policy_file.read_text()
        device = await there.device(CreateTokenRequest(uid="ann", partitions=TEAM_SCOPE))
        request = assets.ListAssetsRequest(partition=TEAM)
        assert await device.refusal("ListAssets", request) is None
        policy_file.write_text("read = [")
        await seen(caplog, "POLICY_REFUSED")
        assert await device.refusal("ListAssets", request) is None
        policy_file.write_text(good.replace('read = ["user/{uid}", "team/42", "clinic/**"]', 'read = ["user/{uid}"]'))
        async with asyncio.timeout(LIMIT_S):
            while (failure := await device.refusal("ListAssets", request)) is None:
                continue
        assert failure.reason == "PARTITION_NOT_FOUND"
        policy_file.write_text(good.replace('"ann", "patient-*"', '"patient-*"'))
        await until_refused(device, "UNAUTHENTICATED TOKEN_REVOKED")


@pytest.mark.parametrize("seconds", [0, 1, -60, 8 * 86_400])
async def test_lifetimes_that_none_may_have_are_refused_by_field(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, seconds: int
) -> None:
    """Of tokens and of write URLs; nothing is stored."""
    async with backends_server(settings, web, tmp_path) as there:
        clinic, lifetime = there.backend(), Duration(seconds=seconds)
        asked = {
            "lifetime": ("CreateToken", CreateTokenRequest(uid="ann", partitions=TEAM_SCOPE, lifetime=lifetime)),
            "issue_token.lifetime": (
                "RequestUpload", request_for(uid="ann", issue_token=TokenOptions(lifetime=lifetime)),
            ),
            "write_url_lifetime": ("RequestUpload", request_for(uid="ann", write_url_lifetime=lifetime)),
        }  # fmt: skip
        for field, (method, request) in asked.items():
            failure = await clinic.refusal(method, request)
            assert failure is not None
            assert (failure.reason, list(failure.fields)) == ("INVALID_FIELD", [field])
        assert not (await clinic.call("ListUploads", uploads.ListUploadsRequest())).uploads


async def test_write_urls_live_as_long_as_was_asked(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """And the deadline is never before their end; a repeat renews them for as long again."""
    async with backends_server(settings, web, tmp_path, upload_hours=1.0) as there:
        request = request_for(uid="ann", request_id="r", write_url_lifetime=Duration(seconds=6 * 3600))
        reply = await there.backend().call("RequestUpload", request)
        life = reply.write_targets[0].single_put.expire_time.ToDatetime() - reply.upload.create_time.ToDatetime()
        assert timedelta(hours=6) - timedelta(seconds=2) <= life <= timedelta(hours=6)
        assert reply.upload.expire_time.ToDatetime() >= reply.write_targets[0].single_put.expire_time.ToDatetime()
        assert reply.upload.write_url_lifetime.seconds == 6 * 3600
        again = await there.backend().call("RequestUpload", request)
        assert again.upload.upload_id == reply.upload.upload_id
        request.write_url_lifetime.seconds = 3600
        failure = await there.backend().refusal("RequestUpload", request)
        assert failure is not None
        assert failure.reason == "REQUEST_ID_REUSED"


async def test_only_back_ends_get_tokens_with_an_upload(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A user's request is refused before anything is stored."""
    async with backends_server(settings, web, tmp_path) as there:
        ann = there.user("ann")
        failure = await ann.refusal("RequestUpload", request_for(uid="", issue_token=TokenOptions()))
        assert failure is not None
        assert f"{failure.code.name} {failure.reason}" == NOT_ALLOWED
        assert not (await ann.call("ListUploads", uploads.ListUploadsRequest())).uploads


async def test_what_a_back_end_or_a_device_may_not_see_answers_as_what_is_missing(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, figures: Figures
) -> None:
    """The same code, reason, sentence and details, but for the id that was asked for."""
    missing = "0" * 26
    compared = 0
    async with backends_server(settings, web, tmp_path) as there:
        bob = there.user("bob")
        upload_id, asset_id = (await bob.upload()).upload.upload_id, (await bob.asset()).asset_id
        strangers = {
            "back end": there.backend(),
            "token": await there.device(CreateTokenRequest(uid="ann", partitions=TEAM_SCOPE)),
            "upload token": await there.device(
                CreateTokenRequest(upload_id=(await there.user("ann").upload()).upload.upload_id)
            ),
        }
        for name, caller in strangers.items():
            for method, statuses in MATRIX.items():
                if statuses[1] not in (NO_UPLOAD, NO_ASSET) or method in ("BatchRefreshAssets", "CreateToken"):
                    continue
                there_id = upload_id if statuses[1] == NO_UPLOAD else asset_id
                failures = [await caller.refusal(method, ASKED[method](one)) for one in (there_id, missing)]
                shapes = [vars(one) for one in failures if one is not None]
                assert len(shapes) == 2, (name, method)
                shapes[0]["message"] = shapes[0]["message"].replace(there_id, missing)
                assert shapes[0] == shapes[1], (name, method)
                compared += 1
    figures(f"forbidden and missing answer alike in {compared} calls of back ends and devices")
    assert compared == 3 * 10
