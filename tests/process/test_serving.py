"""Serving and stopping, by a process of its own and from outside."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from tests.faults.proxy import proxied
from tests.journeys import scraping
from tests.journeys.conftest import Stubs
from tests.journeys.lanes import RpcFailure, put, request_for
from tests.log_events import logged
from tests.pictures import gradient
from tests.processes import LOOK_S, command, is_alive, until
from tests.records.stores import drop, mongo
from tests.servers import LIMIT_S, prepare_bucket, served, settings_for
from tests.valve import Valve, valve

from assetlane.v1.upload_pb2 import CutMaker, CutPlan, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    WatchUploadRequest,
)
from assetlane_server.composition.app import application
from assetlane_server.local import StackAddress
from assetlane_server.records.hub import Hub

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
HEARTBEAT_S = 0.2


@pytest.fixture
async def place(stack: StackAddress, database_name: str, key_prefix: str) -> AsyncIterator[dict[str, Any]]:
    """The settings of a database and a prefix of this test's own."""
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    yield {"mongo_database": database_name, "key_prefix": key_prefix, "heartbeat_seconds": HEARTBEAT_S}
    await drop(stack.mongo_uri, database_name)


@asynccontextmanager
async def slow_store(stack: StackAddress) -> AsyncIterator[tuple[Valve, dict[str, str]]]:
    """A valve that the server reaches the store through, and the settings for it."""
    # The signatures of the server's own calls name this host, and it is the host that the store sees.
    async with valve(int(stack.s3_endpoint.rpartition(":")[2])) as relay:
        yield relay, {"s3_endpoint": f"http://127.0.0.1:{relay.port}", "s3_public_endpoint": stack.s3_endpoint}


async def uploaded(stubs: Stubs) -> str:
    """Returns an upload whose bytes are in the store."""
    response = await stubs.uploads.RequestUpload(request_for(), timeout=LIMIT_S)
    async with aiohttp.ClientSession() as web:
        assert await put(web, response.write_targets[0]) == 200
    return response.upload.upload_id


async def held_completion(stubs: Stubs, relay: Valve) -> Any:
    """Returns a CompleteUpload that waits for the store, until the valve is opened again."""
    upload_id = await uploaded(stubs)
    relay.shut()
    call = stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id), timeout=LIMIT_S)
    await asyncio.wait_for(relay.holds.wait(), LIMIT_S)
    return call


async def failure_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Returns how a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await asyncio.wait_for(call, LIMIT_S)
    return failed.value


async def is_open(watch: Any) -> None:
    """Returns once the server has taken a watch up: its first word is a heartbeat."""
    assert (await asyncio.wait_for(watch.read(), LIMIT_S)).HasField("heartbeat")


async def to_its_end(watch: Any) -> None:
    """Reads a watch up."""
    while await watch.read() is not grpc.aio.EOF:
        continue


def health_watch(channel: grpc.aio.Channel) -> Any:
    """Watches the health of a server."""
    stub: Any = HealthStub(channel)
    return stub.Watch(HealthCheckRequest())


async def health(watch: Any) -> Any:
    """Returns the next word of a health watch."""
    return (await asyncio.wait_for(watch.read(), LIMIT_S)).status


async def is_serving(watch: Any) -> None:
    """Returns once the server says that it serves."""
    while await health(watch) != SERVING:
        continue


async def test_sigterm_drains(stack: StackAddress, place: dict[str, Any]) -> None:
    """Health turns, watchers are sent elsewhere, the call in flight finishes, nothing new begins, status 0."""
    metered = {"metrics_listen": scraping.HERE}
    async with slow_store(stack) as (relay, through), command(stack, "serve", **place, **through, **metered) as server:
        target = await server.serves()
        (metrics,) = scraping.addresses(server.log)
        async with grpc.aio.insecure_channel(target) as channel, grpc.aio.insecure_channel(target) as other:
            stubs = Stubs.on(channel)
            watching_health = health_watch(other)
            await is_serving(watching_health)
            assert await scraping.health(metrics) == (200, "SERVING")
            watch = stubs.uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
            await is_open(watch)
            completion = await held_completion(stubs, relay)
            server.signal(signal.SIGTERM)
            assert await health(watching_health) == NOT_SERVING
            assert await watching_health.read() is grpc.aio.EOF
            assert await scraping.health(metrics) == (503, "NOT_SERVING")
            ended = RpcFailure(await failure_of(to_its_end(watch)))
            assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
            refused = await failure_of(Stubs.on(other).uploads.ListUploads(ListUploadsRequest()))
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
            assert not completion.done()
            relay.open()
            assert (await completion).upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
        assert await server.ends() == 0
        assert not server.events("CALLS_CANCELLED") + server.events("COMPLETIONS_CANCELLED")


async def test_a_second_signal_ends_at_once(stack: StackAddress, place: dict[str, Any]) -> None:
    """Ctrl-C twice is meant: status 130, whatever is in flight."""
    async with (
        slow_store(stack) as (relay, through),
        command(stack, "serve", **place, **through) as server,
        grpc.aio.insecure_channel(await server.serves()) as channel,
    ):
        completion = await held_completion(Stubs.on(channel), relay)
        server.signal(signal.SIGTERM)
        await until(lambda: bool(server.events("DRAINING")))
        server.signal(signal.SIGINT)
        assert await server.ends() == 130
        assert (await failure_of(completion)).code() is grpc.StatusCode.UNAVAILABLE


async def test_the_end_of_the_grace_period_cuts_off_what_is_left(stack: StackAddress, place: dict[str, Any]) -> None:
    """Still in order, with a line in the log, and status 0: the sweeper finishes it later."""
    hasty = {"grace_seconds": 0.5, "s3_timeout_seconds": 2}
    async with slow_store(stack) as (relay, through), command(stack, "serve", **place, **through, **hasty) as server:
        async with grpc.aio.insecure_channel(await server.serves()) as channel:
            completion = await held_completion(Stubs.on(channel), relay)
            server.signal(signal.SIGTERM)
            await failure_of(completion)
        assert await server.ends() == 0
        assert len(server.events("CALLS_CANCELLED")) == 1
        assert len(server.events("COMPLETIONS_CANCELLED")) == 1
        assert "Traceback" not in server.log


async def test_a_signal_before_it_serves_ends_it(stack: StackAddress) -> None:
    """Nobody waits for a MongoDB that does not answer."""
    async with proxied() as nowhere:
        unreachable = f"mongodb://{nowhere.target}/?directConnection=true"
        patient = {"mongo_uri": unreachable, "mongo_timeout_seconds": 60, "log_level": "debug"}
        async with command(stack, "serve", **patient) as server:
            await until(lambda: bool(server.events("SIGNALS_HANDLED")))
            server.signal(signal.SIGTERM)
            assert await server.ends() == 0


async def test_what_is_not_ready_is_reported_in_one_sentence(stack: StackAddress) -> None:
    """Status 1, no traceback."""
    unreachable = {"mongo_uri": "mongodb://127.0.0.1:1/?directConnection=true", "mongo_timeout_seconds": 0.5}
    for arguments in (["serve"], ["serve", "--workers", "3"]):
        async with command(stack, *arguments, **unreachable, log_level="error") as server:
            assert await server.ends() == 1
            await until(lambda server=server: bool(server.log))  # type: ignore[misc]  # the value of this round
        assert server.log.count("MongoDB cannot be used") == 1
        assert "Traceback" not in server.log


async def test_a_broken_hub_ends_the_server(
    stack: StackAddress,
    database_name: str,
    key_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that cannot report changes any more must not look alive."""
    is_up = asyncio.Event()

    async def broken(_hub: Hub) -> None:
        await is_up.wait()
        raise RuntimeError("the hub is broken")

    monkeypatch.setattr(Hub, "run", broken)
    settings = settings_for(stack, database_name, key_prefix)
    await prepare_bucket(settings)

    async def serve() -> None:
        async with application(settings):
            is_up.set()
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await asyncio.wait([serving], timeout=LIMIT_S)
    # grpcio's own stop may be what is cancelled last.
    assert serving.done()
    assert serving.cancelled() or isinstance(serving.exception(), ExceptionGroup)
    assert [(record.levelname, record.part) for record in logged(caplog, "PART_FAILED")] == [("CRITICAL", "hub")]
    await drop(stack.mongo_uri, database_name)


async def test_a_record_that_cannot_be_read_ends_no_server(stack: StackAddress, place: dict[str, Any]) -> None:
    """None of our servers writes it, and no server can make sense of it: uploads and their watches go on."""
    async with command(stack, "serve", **place) as server:
        async with grpc.aio.insecure_channel(await server.serves()) as channel:
            await is_serving(health_watch(channel))
            async with mongo(stack.mongo_uri) as client:
                await client[place["mongo_database"]]["uploads"].insert_one({"_id": "alien", "route": {"no": "way"}})
            stubs = Stubs.on(channel)
            upload = (await stubs.uploads.RequestUpload(request_for(), timeout=LIMIT_S)).upload
            watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload.upload_id), timeout=LIMIT_S)
            seen = []
            async for event in watch:
                if event.HasField("status"):
                    seen.append(event.status.upload.revision)
                    if event.status.upload.revision == 2:
                        await stubs.uploads.CancelUpload(CancelUploadRequest(upload_id=upload.upload_id))
            assert seen == [1, 2, 3]
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0


async def test_health_follows_the_change_stream(stack: StackAddress, database_name: str, key_prefix: str) -> None:
    """NOT_SERVING while changes cannot be heard for long, SERVING again after."""
    async with proxied(int(stack.mongo_uri.rpartition(":")[2].partition("/")[0])) as proxy:
        uri = f"mongodb://{proxy.target}/?directConnection=true"
        settings = settings_for(stack, database_name, key_prefix, mongo_uri=uri, mongo_timeout_seconds=2)
        async with served(settings, deaf_after_s=1.0) as target, grpc.aio.insecure_channel(target) as channel:
            watch = health_watch(channel)
            await is_serving(watch)
            upstreams, proxy.upstreams = proxy.upstreams, ()
            proxy.cut()
            assert await health(watch) == NOT_SERVING
            proxy.upstreams = upstreams
            assert await health(watch) == SERVING
    await drop(stack.mongo_uri, database_name)


async def test_a_full_server_refuses_and_frees_its_places(
    stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """Watches never starve calls, nor calls watches; who ends, gives up or vanishes makes room."""
    settings = settings_for(stack, database_name, key_prefix, max_watches=1, max_calls=1, heartbeat_seconds=HEARTBEAT_S)
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        for leave in (cancelled, vanished):
            async with grpc.aio.insecure_channel(target) as strangers:
                watch = Stubs.on(strangers).uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
                await is_open(watch)
                refused = await failure_of(stubs.uploads.WatchUpload(WatchUploadRequest(session_id="phone")).read())
                failure = RpcFailure(refused)
                assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES")
                assert failure.retry_after_s == 1
                await stubs.uploads.ListUploads(ListUploadsRequest(), timeout=LIMIT_S)
                assert await health(health_watch(channel)) == SERVING
                await leave(watch, strangers)
            await has_room(stubs)
        calls = [stubs.uploads.GetUpload(GetUploadRequest(upload_id="none"), timeout=LIMIT_S) for _ in range(20)]
        answers = {RpcFailure(await failure_of(call)).reason for call in calls}
        assert answers == {"TOO_MANY_CALLS", "UPLOAD_NOT_FOUND"}
        assert RpcFailure(await failure_of(stubs.uploads.GetUpload(GetUploadRequest(upload_id="none")))).reason == (
            "UPLOAD_NOT_FOUND"
        )
    await drop(stack.mongo_uri, database_name)


async def cancelled(watch: Any, channel: grpc.aio.Channel) -> None:
    """Gives a watch up."""
    watch.cancel()


async def vanished(watch: Any, channel: grpc.aio.Channel) -> None:
    """Closes the connection under a watch."""
    await channel.close()


async def has_room(stubs: Stubs) -> None:
    """Returns once a watch is let in again."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id="none"))
            if RpcFailure(await failure_of(watch.read())).reason == "UPLOAD_NOT_FOUND":
                return
            await asyncio.sleep(LOOK_S)


async def test_a_client_that_went_silent_loses_its_watch(
    stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """A half-open connection holds a place no longer than two keepalives."""
    settings = settings_for(stack, database_name, key_prefix, max_watches=1, keepalive_seconds=0.5, heartbeat_seconds=1)
    async with (
        served(settings) as target,
        proxied(int(target.rpartition(":")[2])) as proxy,
        grpc.aio.insecure_channel(proxy.target) as silent,
        grpc.aio.insecure_channel(target) as channel,
    ):
        watch = Stubs.on(silent).uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
        await is_open(watch)
        for connection in proxy.connections:
            connection.half_open()
        await has_room(Stubs.on(channel))
    await drop(stack.mongo_uri, database_name)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_server_that_made_cuts_ends_with_its_cutting_processes(
    stack: StackAddress, place: dict[str, Any], workers: str
) -> None:
    """They are its children; nothing of it outlives a SIGTERM."""
    body = gradient((1000, 800))
    plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
    async with command(stack, "serve", "--workers", workers, **place) as server, aiohttp.ClientSession() as web:
        async with grpc.aio.insecure_channel(await server.serves()) as channel:
            stubs = Stubs.on(channel)
            upload_request = request_for({"original": body}, content_type="image/jpeg", cut_plan=plan)
            requested = await stubs.uploads.RequestUpload(upload_request, timeout=LIMIT_S)
            assert await put(web, requested.write_targets[0], body) == 200
            complete = CompleteUploadRequest(upload_id=requested.upload.upload_id)
            completed = await stubs.uploads.CompleteUpload(complete, timeout=LIMIT_S)
        assert len(completed.asset.variants) == 4, completed
        family = psutil.Process(server.process.pid).children(recursive=True)
        assert any("anyio.to_process" in " ".join(one.cmdline()) for one in family)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
        await until(lambda: not any(is_alive(one) for one in family))
