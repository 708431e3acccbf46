"""Every writing RPC as a scenario: what is there before, the call, and what is to be there after."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, put, request_for
from tests.pictures import gradient

from assetlane.v1.asset_service_pb2 import DeleteAssetRequest, RefreshAssetRequest
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, UploadStatus, WriteTarget
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    PartPromise,
    RequestUploadRequest,
    SignPartsRequest,
)
from assetlane_server.composition.app import utc_now

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

STATUS_PREFIX: Final = "UPLOAD_STATUS_"
CALL_LIMIT_S: Final = 12.0
BODIES: Final = {"original": b"five!", "small": b"tiny"}
PICTURE: Final = gradient((1000, 800))
FILM: Final = {"original": b"in parts" * len(PICTURE)}  # one part, of which only the last may be so small
IN_PARTS: Final[dict[str, Any]] = {"multipart_threshold_bytes": 1 + len(PICTURE)}
HOUR: Final = timedelta(hours=1)


class ScenarioContext:
    """What scenarios are prepared and looked at with: a server that is well, plain HTTP, the keys to both stores."""

    def __init__(
        self, well: Stubs, web: aiohttp.ClientSession, bucket: Bucket, database: "AsyncIOMotorDatabase[dict[str, Any]]"
    ) -> None:
        self.well = well
        self.web = web
        self.bucket = bucket
        self.database = database

    async def request(self, request_id: str, content_type: str = "text/plain") -> tuple[str, Sequence[WriteTarget]]:
        """Requests an upload; returns its id and the ways in."""
        request = request_for(BODIES, content_type=content_type, request_id=request_id)
        answer = await self.well.uploads.RequestUpload(request)
        return answer.upload.upload_id, answer.write_targets

    async def film(self, request_id: str) -> str:
        """Requests an upload that arrives in parts; returns its id."""
        return (await self.well.uploads.RequestUpload(_film_request(request_id))).upload.upload_id

    async def put_film(self, request_id: str) -> str:
        """Requests it and PUTs its part; returns its id."""
        upload_id = await self.film(request_id)
        (part,) = (await self.well.uploads.SignParts(_film_parts(upload_id))).parts
        way = WriteTarget(variant="original", single_put=part.request)
        assert await put(self.web, way, FILM["original"], skip_auto_headers=("content-type",)) == 200
        return upload_id

    async def put(self, targets: Sequence[WriteTarget]) -> None:
        """PUTs the promised bytes."""
        for target in targets:
            assert await put(self.web, target, BODIES[target.variant]) == 200

    async def uploaded(self, request_id: str, content_type: str = "text/plain") -> str:
        """Requests an upload and PUTs its bytes; returns its id."""
        upload_id, targets = await self.request(request_id, content_type)
        await self.put(targets)
        return upload_id

    async def picture(self, request_id: str, body: bytes) -> str:
        """Requests an upload whose cuts the server makes, and PUTs its bytes; returns its id."""
        plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
        request = request_for({"original": body}, content_type="image/jpeg", request_id=request_id, cut_plan=plan)
        answer = await self.well.uploads.RequestUpload(request)
        assert await put(self.web, answer.write_targets[0], body) == 200
        return answer.upload.upload_id

    async def completed(self, request_id: str) -> str:
        """Leads an upload to its asset, whose read URLs are then an hour old."""
        upload_id = await self.uploaded(request_id)
        await self.well.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))
        await self.database["uploads"].update_one(
            {"_id": upload_id}, {"$set": {"asset.refresh_time": utc_now() - HOUR}}
        )
        return upload_id

    async def look(self, request_id: str) -> str:
        """Returns what MongoDB has: of the uploads of this request their histories, and their assets."""
        seen = []
        async for upload in self.database["uploads"].find({"request_key": request_id}):
            asset = upload.get("asset")
            seen.append(" ".join(change["status"] for change in upload["history"]))
            if asset is not None:
                names = [variant["name"] for variant in asset["variants"]]
                is_fresh = utc_now() - asset["refresh_time"].replace(tzinfo=UTC) < HOUR / 2
                state = "deleted" if asset.get("delete_time") else "fresh" if is_fresh else "stale"
                seen.append(f"{state} asset of {' '.join(names)}")
        return ", ".join(seen)


def _film_request(request_id: str) -> RequestUploadRequest:
    request = request_for(FILM, request_id=request_id)
    request.variants[0].promises_parts = True
    return request


def _film_parts(upload_id: str) -> SignPartsRequest:
    promise = PartPromise(part_number=1, sha256=hashlib.sha256(FILM["original"]).digest())
    return SignPartsRequest(upload_id=upload_id, variant="original", parts=[promise])


Prepare = Callable[[ScenarioContext, str], Awaitable[str]]
Call = Callable[[Stubs, str, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One writing RPC in one situation. `call` returns what the answer says, for one to compare."""

    name: str
    prepare: Prepare
    call: Call
    keeps_objects: int
    """How many objects of it are in the bucket once the sweeper has passed."""


async def _nothing(context: ScenarioContext, request_id: str) -> str:
    return ""


async def _requested(context: ScenarioContext, request_id: str) -> str:
    return (await context.request(request_id))[0]


async def _half_put(context: ScenarioContext, request_id: str) -> str:
    upload_id, targets = await context.request(request_id)
    await context.put(targets[:1])
    return upload_id


async def _put(context: ScenarioContext, request_id: str) -> str:
    return await context.uploaded(request_id)


async def _replaced(context: ScenarioContext, request_id: str) -> str:
    upload_id, targets = await context.request(request_id)
    await context.put(targets)
    await context.bucket.replace(targets[0].single_put.url, b"other", "text/html")
    return upload_id


async def _mislabelled(context: ScenarioContext, request_id: str) -> str:
    return await context.uploaded(request_id, "image/png")


async def _picture(context: ScenarioContext, request_id: str) -> str:
    return await context.picture(request_id, PICTURE)


async def _broken_picture(context: ScenarioContext, request_id: str) -> str:
    return await context.picture(request_id, PICTURE[:1000])


async def _completed(context: ScenarioContext, request_id: str) -> str:
    return await context.completed(request_id)


async def _film(context: ScenarioContext, request_id: str) -> str:
    return await context.film(request_id)


async def _film_put(context: ScenarioContext, request_id: str) -> str:
    return await context.put_film(request_id)


async def _request_film(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.uploads.RequestUpload(_film_request(request_id), timeout=CALL_LIMIT_S)
    parts = sum(target.multipart.part_count for target in answer.write_targets)
    return f"{_status(answer.upload.status)}, {parts} part"


async def _sign(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.uploads.SignParts(_film_parts(upload_id), timeout=CALL_LIMIT_S)
    return f"{len(answer.parts)} signed"


async def _request(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.uploads.RequestUpload(request_for(BODIES, request_id=request_id), timeout=CALL_LIMIT_S)
    return f"{_status(answer.upload.status)}, {len(answer.write_targets)} targets"


async def _complete(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id), timeout=CALL_LIMIT_S)
    asset = f"asset of {len(answer.asset.variants)}" if answer.HasField("asset") else "no asset"
    return f"{_status(answer.upload.status)} {answer.upload.failure.reason}, {asset}"


async def _cancel(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload_id), timeout=CALL_LIMIT_S)
    return _status(answer.upload.status)


async def _refresh(stubs: Stubs, upload_id: str, request_id: str) -> str:
    answer = await stubs.assets.RefreshAsset(RefreshAssetRequest(asset_id=upload_id), timeout=CALL_LIMIT_S)
    is_long = answer.asset.expire_time.ToDatetime(UTC) - utc_now() > 23 * HOUR
    return "expires in a day" if is_long else "expires too soon"


async def _delete(stubs: Stubs, upload_id: str, request_id: str) -> str:
    await stubs.assets.DeleteAsset(DeleteAssetRequest(asset_id=upload_id), timeout=CALL_LIMIT_S)
    return "deleted"


def _status(status: UploadStatus.ValueType) -> str:
    return UploadStatus.Name(status).removeprefix(STATUS_PREFIX)


SCENARIOS: Final = (
    Scenario("RequestUpload", _nothing, _request, 0),
    Scenario("RequestUpload again", _requested, _request, 0),
    Scenario("CompleteUpload", _put, _complete, 2),
    Scenario("CompleteUpload again", _completed, _complete, 2),
    Scenario("CompleteUpload with a variant missing", _half_put, _complete, 1),
    Scenario("CompleteUpload of wrong bytes", _replaced, _complete, 0),
    Scenario("CompleteUpload of a mislabelled picture", _mislabelled, _complete, 0),
    Scenario("CompleteUpload with cuts from the server", _picture, _complete, 4),
    Scenario("CompleteUpload with cuts of a broken picture", _broken_picture, _complete, 1),
    Scenario("CancelUpload", _requested, _cancel, 0),
    Scenario("CancelUpload after the PUTs", _put, _cancel, 0),
    Scenario("RequestUpload in parts", _nothing, _request_film, 0),
    Scenario("RequestUpload in parts again", _film, _request_film, 0),
    Scenario("SignParts", _film, _sign, 0),
    Scenario("CompleteUpload in parts", _film_put, _complete, 1),
    Scenario("CompleteUpload with a part missing", _film, _complete, 0),
    Scenario("CancelUpload in parts", _film_put, _cancel, 0),
    Scenario("RefreshAsset", _completed, _refresh, 2),
    Scenario("DeleteAsset", _completed, _delete, 0),
)

# Answers after which a caller calls again; anything else is an answer to keep.
PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


async def answer_of(scenario: Scenario, stubs: Stubs, upload_id: str, request_id: str) -> str | None:
    """Calls once; returns the answer or the refusal in words, None if the caller has to call again."""
    try:
        return await scenario.call(stubs, upload_id, request_id)
    except grpc.aio.AioRpcError as error:
        if error.code() in PASSING:
            return None
        failure = RpcFailure(error)
        return f"{failure.code.name} {failure.reason} {' '.join(sorted(failure.subjects))}"
