"""Numbers, instants and durations at the edges of their types: each is taken, or refused by the name of its field."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tests.conftest import Figures
from tests.journeys.conftest import Stubs
from tests.journeys.lanes import RpcFailure, put, request_for
from tests.refusals import numbers_in, shows
from tests.servers import served

from assetlane.v1 import asset_service_pb2, upload_service_pb2
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, WatchUploadRequest, WatchUploadResponse
from assetlane_server.config.settings import Settings

LIMIT_S: Final = 30.0
METHODS: Final[tuple[MethodDescriptor, ...]] = tuple(
    method
    for module in (upload_service_pb2, asset_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
INT32 = (-(2**31), -1, 0, 2**31 - 1)
INT64 = (-(2**63), -(2**31) - 1, -1, 0, 2**53 + 1, 2**63 - 1)
DOUBLES = (
    -1.7976931348623157e308,
    -1.0,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    float("inf"),
    float("-inf"),
    float("nan"),
)
EDGES: Final[dict[int, tuple[float, ...]]] = {
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_ENUM: INT32,
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: DOUBLES,
    FieldDescriptor.TYPE_FLOAT: (float("nan"), float("inf"), 3.4e38),
}
DEPTH: Final = 6


def edge_cases(message: Message, depth: int = DEPTH) -> Iterator[tuple[str, Message]]:
    """Yields the message again and again, each time with another number in it at an edge, and the number's place."""
    descriptor: Any = message.DESCRIPTOR
    for field in descriptor.fields:
        for place, value in values(field, message, depth):
            changed = GetMessageClass(descriptor)()
            changed.CopyFrom(message)
            changed.ClearField(field.name)
            if is_map(field):
                for key, item in value.items():
                    if isinstance(item, Message):
                        getattr(changed, field.name)[key].CopyFrom(item)
                    else:
                        getattr(changed, field.name)[key] = item
            elif field.is_repeated:
                getattr(changed, field.name).extend(value)
            elif isinstance(value, Message):
                getattr(changed, field.name).CopyFrom(value)
                getattr(changed, field.name).SetInParent()
            else:
                setattr(changed, field.name, value)
            yield place, changed


def is_map(field: Any) -> bool:
    """Returns whether it is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def values(field: Any, message: Message, depth: int) -> Iterator[tuple[str, Any]]:
    """Yields what one field may hold, with a number at an edge somewhere in it."""
    if is_map(field):
        of_value = field.message_type.fields_by_name["value"]
        for place, value in single(of_value, None, depth):
            yield f"{field.name}[]{place}", {"original": value}
    elif field.is_repeated:
        items = list(getattr(message, field.name))
        for place, value in single(field, items[0] if items else None, depth):
            yield f"{field.name}[]{place}", [value, *items[1:]]
    else:
        there = (
            getattr(message, field.name) if field.message_type is not None and message.HasField(field.name) else None
        )
        for place, value in single(field, there, depth):
            yield f"{field.name}{place}", value


def single(field: Any, there: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yields the values of a field that is not repeated."""
    if field.message_type is not None:
        if depth:
            base = there if isinstance(there, Message) else GetMessageClass(field.message_type)()
            for place, changed in edge_cases(base, depth - 1):
                yield f".{place}", changed
    else:
        for value in EDGES.get(field.type, ()):
            yield f" = {value!r}", value


async def test_every_number_of_every_request_may_lie_at_the_edge_of_its_type(
    settings: Settings, web: aiohttp.ClientSession, figures: Figures
) -> None:
    """No answer is INTERNAL or UNKNOWN, none is without its reason, and a refused field has its name."""
    eager = settings.model_copy(update={"heartbeat_seconds": 0.1})
    statuses: Counter[str] = Counter()
    async with served(eager) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        done = await stubs.uploads.RequestUpload(request_for())
        assert await put(web, done.write_targets[0]) == 200
        await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=done.upload.upload_id))
        begun = await stubs.uploads.RequestUpload(request_for())
        for method in METHODS:
            for place, request in edge_cases(base_of(method, begun.upload.upload_id, done.upload.upload_id)):
                outcome = await answer(channel, method, request)
                statuses[outcome] += 1
                assert outcome.partition(" ")[0] not in ("INTERNAL", "UNKNOWN", "CANCELLED"), (
                    f"{method.name} {place}: {outcome}"
                )
    figures(f"edges of numbers: {statuses.total()} requests, {dict(statuses.most_common())}")
    assert statuses["INVALID_ARGUMENT INVALID_FIELD"] > 50


def base_of(method: MethodDescriptor, upload_id: str, asset_id: str) -> Message:
    """Returns a good request, but for what is put into it."""
    if method.name == "RequestUpload":
        return request_for()
    request = GetMessageClass(method.input_type)()
    fields = method.input_type.fields_by_name
    if "upload_id" in fields:
        setattr(request, "upload_id", asset_id if method.name == "CancelUpload" else upload_id)  # noqa: B010
    for name, value in (("asset_id", asset_id), ("partition", "user/7f3a"), ("variant", "original")):
        if name in fields:
            setattr(request, name, value)
    if "asset_ids" in fields:
        getattr(request, "asset_ids").append(asset_id)  # noqa: B009
    return request


async def answer(channel: grpc.aio.Channel, method: MethodDescriptor, request: Message) -> str:
    """Returns `OK`, or the status and its reason."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    data, read = request.SerializeToString(), GetMessageClass(method.output_type).FromString
    try:
        if method.server_streaming:
            begin: Any = channel.unary_stream(path, response_deserializer=read)
            watch = begin(data, timeout=LIMIT_S)
            await watch.read()
            watch.cancel()
        else:
            call: Any = channel.unary_unary(path, response_deserializer=read)
            await call(data, timeout=LIMIT_S)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {RpcFailure(error).reason}"
    return "OK"


@pytest.mark.parametrize("revision", [-1, -(2**63)])
async def test_a_negative_revision_of_a_session_is_refused_by_name(stubs: Stubs, revision: int) -> None:
    """As that of one upload is."""
    watch = stubs.uploads.WatchUpload(
        WatchUploadRequest(session_id="phone", after_revisions={"01k8": revision, "b": 1})
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await watch.read()
    failure = RpcFailure(refused.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {field: numbers_in(limit) for field, limit in failure.fields.items()} == {
        "after_revisions['01k8']": {abs(revision), 0}
    }


async def test_a_revision_of_a_session_that_is_ahead_is_reported(stubs: Stubs) -> None:
    """Of an upload of the session; what is remembered of others, such as purged ones, does no harm."""
    reply = await stubs.uploads.RequestUpload(request_for(session_id="phone"))
    upload_id, revision = reply.upload.upload_id, reply.upload.revision
    for ahead in (revision + 1, 2**63 - 1):
        request = WatchUploadRequest(session_id="phone", after_revisions={upload_id: ahead})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs.uploads.WatchUpload(request).read()
        assert (RpcFailure(refused.value).code, RpcFailure(refused.value).reason) == (
            grpc.StatusCode.OUT_OF_RANGE,
            "REVISION_AHEAD",
        )
        shows(RpcFailure(refused.value).message, upload_id)
    request = WatchUploadRequest(session_id="phone", after_revisions={upload_id: revision - 1, "gone": 2**63 - 1})
    watch = stubs.uploads.WatchUpload(request)
    event = await watch.read()
    assert isinstance(event, WatchUploadResponse)
    assert event.status.upload.revision == revision
    watch.cancel()
