"""What one process takes on, asked over the wire: calls, watches, health, reflection, connections, headers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from tests.conftest import Figures
from tests.journeys.steps import RpcFailure

from assetlane.v1.asset_service_pb2_grpc import AssetServiceServicer
from assetlane.v1.upload_service_pb2 import (
    GetUploadRequest,
    GetUploadResponse,
    Heartbeat,
    WatchUploadRequest,
    WatchUploadResponse,
)
from assetlane.v1.upload_service_pb2_grpc import UploadServiceServicer, UploadServiceStub
from assetlane_server.access.identity import MAX_TOKEN_BYTES, Anonymous
from assetlane_server.model.errors import TokenMissing, TokenTooLarge
from assetlane_server.ports.access import Access
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.limits import PROBE_STREAMS_PER_CONNECTION, Limits
from assetlane_server.rpc.server import MAX_METADATA_BYTES, RpcServer, server_options, serving
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.metrics import Metrics
from assetlane_server.uploads.access import UNRESTRICTED

LIMIT_S = 60.0
REPEATS = 20
GET = "/assetlane.v1.UploadService/GetUpload"
WATCH = "/assetlane.v1.UploadService/WatchUpload"
CHECK = "/grpc.health.v1.Health/Check"
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Uploads(UploadServiceServicer):
    """Answers at once, or watches without an end."""

    async def GetUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers after a moment, so that the calls of a burst are in flight together."""
        await asyncio.sleep(0.05)
        return GetUploadResponse()

    async def WatchUpload(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One heartbeat, then silence."""
        yield WatchUploadResponse(heartbeat=Heartbeat())
        await asyncio.Event().wait()


class Guard:
    """See Authenticator: refuses callers without a token, and tokens that are too large."""

    async def access_of(self, authorization: str | None, certificate_names: Sequence[str] = ()) -> Access:
        """See Authenticator."""
        if authorization is None:
            raise TokenMissing
        if len(authorization) > MAX_TOKEN_BYTES + len("Bearer "):
            raise TokenTooLarge(len(authorization), MAX_TOKEN_BYTES)
        return UNRESTRICTED


@asynccontextmanager
async def server(
    *, authenticator: Authenticator | None = None, metrics: Metrics | None = None, **limits: Any
) -> AsyncIterator[RpcServer]:
    """Serves with these limits; `max_connections` and `max_streams_per_connection` are among them."""
    of_core = ("max_connections", "max_streams_per_connection")
    channel = {name: limits.pop(name) for name in of_core if name in limits}
    standard = {"max_calls": 1000, "max_watches": 10_000, "max_watches_per_uid": 1000, "max_message_bytes": 2**20}
    async with serving(
        cast(UploadServicer, Uploads()),  # type: ignore[abstract]  # two methods are enough
        cast(AssetServicer, AssetServiceServicer()),  # type: ignore[abstract]
        listen="127.0.0.1:0",
        authenticator=authenticator or Anonymous(),
        credentials=None,
        is_reflecting=True,
        limits=Limits(**{**standard, **limits}),
        observer=Instruments(metrics, None),
        options=server_options(max_message_bytes=2**20, keepalive_seconds=30, shares_port=False, **channel),
    ) as one:
        one.say_serving(is_serving=True)
        yield one


@asynccontextmanager
async def connection(server: RpcServer, *options: tuple[str, int]) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[*OWN_CONNECTION, *options]) as channel:
        yield channel


def health_on(channel: grpc.aio.Channel) -> Any:
    """Returns the health service on a channel."""
    return HealthStub(channel)


async def outcome(call: Any) -> str:
    """Returns `OK` or the reason of the refusal of a call; a bare status fails the test."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        failure = RpcFailure(error)
        assert failure.code is not grpc.StatusCode.RESOURCE_EXHAUSTED or failure.retry_after_s is not None
        return failure.reason
    return "OK"


async def test_a_burst_of_calls_and_watches_is_answered_by_the_server_itself(figures: Figures) -> None:
    """3,000 calls and 2,000 watches at once: each is served, or refused with a reason and a time to wait."""
    metrics = Metrics()
    async with server(metrics=metrics, max_watches=1500, max_calls=100) as one, connection(one) as channel:
        stub: Any = UploadServiceStub(channel)
        request = GetUploadRequest(upload_id="x")
        calls = Counter(await asyncio.gather(*(outcome(stub.GetUpload(request, timeout=LIMIT_S)) for _ in range(3000))))
        watches = [stub.WatchUpload(WatchUploadRequest(upload_id="x")) for _ in range(2000)]
        begun = Counter(await asyncio.gather(*(outcome(watch.read()) for watch in watches)))
        figures(f"bursts: 3,000 calls at once {dict(calls)}, 2,000 watches at once {dict(begun)}")
        assert set(calls) == {"OK", "TOO_MANY_CALLS"}
        assert calls.total() == 3000
        assert begun == {"OK": 1500, "TOO_MANY_WATCHES": 500}
        counted = metrics.registry.get_sample_value(
            "assetlane_calls_total", {"method": "UploadService/WatchUpload", "code": "RESOURCE_EXHAUSTED"}
        )
        assert counted == 500
        for watch in watches:
            watch.cancel()


async def test_health_is_answered_while_all_places_are_taken() -> None:
    """Its budget is apart from calls and watches, and checks are apart from health watches."""
    async with server(max_watches=3, max_calls=1, max_probes=20) as one, connection(one) as channel:
        stub: Any = UploadServiceStub(channel)
        watches = [stub.WatchUpload(WatchUploadRequest(upload_id="x")) for _ in range(3)]
        for watch in watches:
            await watch.read()
        assert await outcome(stub.WatchUpload(WatchUploadRequest(upload_id="x")).read()) == "TOO_MANY_WATCHES"
        async with connection(one) as other, connection(one) as third:
            held = [health_on(on).Watch(HealthCheckRequest()) for on in [channel] * 15 + [other] * 5]
            for watch in held:
                assert (await watch.read()).status == HealthCheckResponse.SERVING
            assert await outcome(health_on(third).Watch(HealthCheckRequest()).read()) == "TOO_MANY_PROBES"
            answer = await health_on(third).Check(HealthCheckRequest(), timeout=LIMIT_S)
            assert answer.status == HealthCheckResponse.SERVING
            for watch in [*held, *watches]:
                watch.cancel()


async def test_one_connection_holds_few_probes_and_gives_their_places_back(figures: Figures) -> None:
    """Streams of health and reflection: 16 each connection, and as many again once those have ended."""
    metrics = Metrics()
    async with server(metrics=metrics) as one, connection(one) as channel:
        health: Any = health_on(channel)
        watches = [health.Watch(HealthCheckRequest()) for _ in range(300)]
        begun = Counter(await asyncio.gather(*(outcome(watch.read()) for watch in watches)))
        figures(f"300 health watches on one connection: {dict(begun)}")
        assert begun == {"OK": PROBE_STREAMS_PER_CONNECTION, "TOO_MANY_PROBES": 300 - PROBE_STREAMS_PER_CONNECTION}
        reflection: Any = ServerReflectionStub(cast(Any, channel))
        listing = reflection.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
        assert await outcome(listing.read()) == "TOO_MANY_PROBES"
        labels = {"method": "Health/Watch", "code": "RESOURCE_EXHAUSTED"}
        assert metrics.registry.get_sample_value("assetlane_calls_total", labels) == 300 - PROBE_STREAMS_PER_CONNECTION
        for watch in watches:
            watch.cancel()
        async with asyncio.timeout(LIMIT_S):
            while await outcome(health.Watch(HealthCheckRequest()).read()) != "OK":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        listing = reflection.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
        names = {service.name for service in (await listing.read()).list_services_response.service}
        assert "assetlane.v1.UploadService" in names


async def silent(channel: grpc.aio.Channel, method: str, count: int) -> list[Any]:
    """Begins calls whose request message never comes."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    return [cast(Any, channel.stream_stream(method))(nothing()) for _ in range(count)]


async def test_calls_without_a_message_take_places_and_end_in_time() -> None:
    """A client that begins calls and sends nothing is refused above the limit, and cut off after the time."""
    async with server(max_calls=5, max_watches=5, max_probes=5, request_seconds=0.5) as one, connection(one) as channel:
        for method, refusal in ((GET, "TOO_MANY_CALLS"), (WATCH, "TOO_MANY_WATCHES"), (CHECK, "TOO_MANY_PROBES")):
            ended = await asyncio.gather(*(outcome(call.read()) for call in await silent(channel, method, 20)))
            assert Counter(ended) == {"MESSAGE_LATE": 5, refusal: 15}
        stub: Any = UploadServiceStub(channel)
        assert await outcome(stub.GetUpload(GetUploadRequest(upload_id="x"), timeout=LIMIT_S)) == "OK"


async def test_a_call_that_ends_without_its_message_is_malformed() -> None:
    """The client closed its side."""
    async with server() as one, connection(one) as channel:

        async def nothing() -> AsyncIterator[bytes]:
            for message in list[bytes]():
                yield message

        for method in (GET, WATCH, CHECK):
            assert await outcome(cast(Any, channel.stream_stream(method))(nothing()).read()) == "MESSAGE_MALFORMED"


async def test_a_caller_without_a_token_is_refused_before_its_message_is_read() -> None:
    """It takes nobody's place, however many calls it begins."""
    async with server(authenticator=Guard(), max_calls=1, max_watches=1) as one, connection(one) as channel:
        for method in (GET, WATCH):
            ended = await asyncio.gather(*(outcome(call.read()) for call in await silent(channel, method, 50)))
            assert Counter(ended) == {"TOKEN_MISSING": 50}


@pytest.mark.parametrize(
    ("size_bytes", "answer"),
    [
        (4 * 1024, "OK"),
        (9 * 1024, "OK"),
        (12 * 1024, "OK"),
        (MAX_TOKEN_BYTES, "OK"),
        (MAX_TOKEN_BYTES + 1, "TOKEN_TOO_LARGE"),
        (20 * 1024, "TOKEN_TOO_LARGE"),
        (MAX_METADATA_BYTES - 2048, "TOKEN_TOO_LARGE"),
        (MAX_METADATA_BYTES, "RESOURCE_EXHAUSTED"),
        (2 * MAX_METADATA_BYTES, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_a_token_of_one_size_always_meets_the_same_answer(size_bytes: int, answer: str) -> None:
    """Up to 16 KiB it is read, above it is refused by us, above 64 KiB of metadata by gRPC: always the same."""
    async with server(authenticator=Guard()) as one, connection(one) as channel:
        stub: Any = UploadServiceStub(channel)
        metadata = (("authorization", f"Bearer {'x' * size_bytes}"),)
        outcomes: Counter[str] = Counter()
        for _ in range(REPEATS):
            try:
                await stub.GetUpload(GetUploadRequest(upload_id="x"), metadata=metadata, timeout=LIMIT_S)
                outcomes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                is_bare = "grpc-status-details-bin" not in dict(error.trailing_metadata() or ())
                outcomes[error.code().name if is_bare else RpcFailure(error).reason] += 1
        assert outcomes == {answer: REPEATS}


async def test_connections_above_the_limit_are_closed_and_a_place_is_free_again() -> None:
    """The server holds as many as it may; when some end, others get in."""
    async with server(max_connections=5) as one:
        idle = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(20)]
        closed = 0
        for reader, _ in idle:  # the server greets those that it keeps with its settings
            try:
                closed += not await asyncio.wait_for(reader.read(1), LIMIT_S)
            except ConnectionError:
                closed += 1
        assert closed >= 15
        for _, writer in idle:
            writer.close()
        async with connection(one) as channel:
            stub: Any = UploadServiceStub(channel)
            call = stub.GetUpload(GetUploadRequest(upload_id="x"), wait_for_ready=True, timeout=LIMIT_S)
            assert await outcome(call) == "OK"


async def test_a_connection_carries_no_more_streams_than_it_may() -> None:
    """The client holds the others back until one ends."""
    async with server(max_streams_per_connection=4) as one, connection(one) as channel:
        stub: Any = UploadServiceStub(channel)
        await stub.GetUpload(GetUploadRequest(upload_id="x"))  # the client has heard of the limit
        watches = [stub.WatchUpload(WatchUploadRequest(upload_id="x")) for _ in range(4)]
        for watch in watches:
            await watch.read()
        fifth = asyncio.ensure_future(stub.WatchUpload(WatchUploadRequest(upload_id="x")).read())
        async with connection(one) as other:  # others are served meanwhile
            assert await outcome(cast(Any, UploadServiceStub(other)).GetUpload(GetUploadRequest(upload_id="x"))) == "OK"
        assert not fifth.done()
        watches[0].cancel()
        assert (await asyncio.wait_for(fifth, LIMIT_S)).HasField("heartbeat")
        for watch in watches:
            watch.cancel()


async def test_liveness_does_not_follow_readiness() -> None:
    """An outage makes the server not ready; it is alive all the same."""
    async with server() as one, connection(one) as channel:
        stub: Any = health_on(channel)

        async def status(service: str) -> int:
            return int((await stub.Check(HealthCheckRequest(service=service))).status)

        serving_now = HealthCheckResponse.SERVING
        assert [await status(name) for name in ("", "readyz", "livez")] == [serving_now] * 3
        one.say_serving(is_serving=False)
        not_serving = HealthCheckResponse.NOT_SERVING
        assert [await status(name) for name in ("", "readyz", "livez")] == [not_serving, not_serving, serving_now]
        one.say_stopping()
        assert [await status(name) for name in ("readyz", "livez")] == [not_serving, serving_now]
