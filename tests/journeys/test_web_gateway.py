"""The web gateway of a whole server: workers share its port, a drain ends its watches, and it answers as gRPC does."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import grpc
import hypothesis
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given
from tests.conftest import Figures
from tests.faults.fuzzing import requests
from tests.faults.test_fuzzing import GOOD, METHODS
from tests.journeys.steps import RpcFailure, request_for
from tests.processes import command, until
from tests.records.stores import drop
from tests.servers import LIMIT_S, served_twice
from tests.web_gateway.channels import WebChannel

from assetlane.v1.upload_service_pb2 import CancelUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress

WORKERS = 2
MAX_BYTES = 2**19  # above twice the limit gRPC itself refuses, without a reason
EXAMPLES = 25  # of each method


async def test_workers_share_the_web_port_and_a_drain_ends_its_watches(
    stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """Both answer on one port; each watch ends with SHUTTING_DOWN, and status 0."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix, "web_listen": "127.0.0.1:0"}
    async with command(stack, "serve", "--workers", str(WORKERS), **place, workers=1, log_calls="all") as run:
        await run.serves("WORKERS_SERVE")
        ports = set(re.findall(r"web gateway on 127\.0\.0\.1:(\d+)", run.log))
        assert len(ports) == 1
        url = f"http://127.0.0.1:{ports.pop()}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            watches = [await session.get(f"{url}/v1/assets:watch?partition=public") for _ in range(16)]
            for watch in watches:
                assert b"synced" in await watch.content.readline()
            run.signal(signal.SIGTERM)
            for watch in watches:
                async with asyncio.timeout(LIMIT_S):
                    last = (await watch.content.read()).splitlines()[-1]
                assert b'"SHUTTING_DOWN"' in last
        assert await run.ends() == 0
        await until(lambda: len(run.events("STOPPED")) == WORKERS)
    await drop(stack.mongo_uri, database_name)


async def answer_of(call: Any) -> str:
    """Returns the status and the reason of a call, or OK."""
    try:
        if hasattr(call, "read"):
            await call.read()
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        failure = RpcFailure(error)
        return f"{failure.code.name} {failure.reason}"
    return "OK"


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
# Hypothesis runs in a thread here, and takes for its own what the server's loop draws meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.timeout(600)
async def test_it_answers_any_message_as_the_grpc_port_does(settings: Settings, figures: Figures) -> None:
    """Messages of every shape, to every method, both ways: the same status with the same reason."""
    loop = asyncio.get_running_loop()
    seen: Counter[str] = Counter()
    differing: list[str] = []
    async with (
        # A watch that has nothing to say answers with a heartbeat.
        served_twice(settings.model_copy(update={"heartbeat_seconds": 0.1})) as (target, url),
        grpc.aio.insecure_channel(target) as channel,
        aiohttp.ClientSession() as session,
    ):
        web: Any = WebChannel(session, url)

        async def both(path: str, data: bytes, *, streams: bool) -> tuple[str, str]:
            answers = []
            for on in (channel, web):
                make = on.unary_stream if streams else on.unary_unary
                call = make(path, request_serializer=bytes, response_deserializer=bytes)
                answers.append(await answer_of(call(data, timeout=LIMIT_S)))
            return answers[0], answers[1]

        def look(method: Any) -> None:
            path = f"/{method.containing_service.full_name}/{method.name}"
            kinds = requests(method.input_type, lambda: ["user/ann", "public"], GOOD.get(method.name))

            @hypothesis.settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
            @given(kinds)
            def ask(data: bytes) -> None:
                hypothesis.assume(len(data) < MAX_BYTES)
                asking = both(path, data, streams=method.server_streaming)
                native, gateway = asyncio.run_coroutine_threadsafe(asking, loop).result(LIMIT_S)
                seen[gateway] += 1
                if native != gateway:
                    differing.append(f"{path} {data[:80]!r}: {native}, through the gateway {gateway}")

            ask()

        for method in METHODS:
            GetMessageClass(method.input_type)
            await asyncio.to_thread(look, method)
    figures(f"{seen.total()} messages through the gateway and the gRPC port alike: {dict(seen.most_common(4))}")
    assert differing == []
    assert not {answer for answer in seen if answer.startswith(("INTERNAL", "UNKNOWN"))}


class EventSource:
    """Reads server-sent events as a browser's does: opened again, it sends the id that it has seen last."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._last_id = ""

    async def read(self, is_enough: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Opens the stream and returns its events until one is enough; then the connection is cut."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": self._last_id} if self._last_id else {})
        events: list[dict[str, Any]] = []
        async with asyncio.timeout(LIMIT_S), self._session.get(self._url, headers=headers) as response:
            assert response.status == 200
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    self._last_id = value
                elif name == "data":
                    events.append(json.loads(value))
                    if is_enough(events[-1]):
                        response.close()
                        return events
        raise AssertionError("the stream ended")


def changes(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Returns upload and revision of each status change."""
    uploads = [event["status"]["upload"] for event in events if "status" in event]
    return [(upload["uploadId"], int(upload["revision"])) for upload in uploads]


async def test_an_event_source_that_lost_its_connection_misses_and_repeats_no_change(settings: Settings) -> None:
    """Of one upload and of a whole session, whatever happened while nobody watched."""
    async with (
        served_twice(settings.model_copy(update={"heartbeat_seconds": 0.1})) as (target, url),
        grpc.aio.insecure_channel(target) as channel,
        aiohttp.ClientSession() as session,
    ):
        stub: Any = UploadServiceStub(channel)

        async def requested(session_id: str) -> str:
            reply = await stub.RequestUpload(request_for(session_id=session_id))
            return str(reply.upload.upload_id)

        async def cancelled(upload_id: str) -> None:
            await stub.CancelUpload(CancelUploadRequest(upload_id=upload_id))

        def reaches(upload_id: str, revision: int) -> Callable[[dict[str, Any]], bool]:
            return lambda event: (upload_id, revision) in changes([event])

        first = await requested("s1")
        one = EventSource(session, f"{url}/v1/uploads/{first}:watch?afterRevision=1")
        assert changes(await one.read(reaches(first, 2))) == [(first, 2)]
        whole = EventSource(session, f"{url}/v1/sessions/s1:watch")
        assert changes(await whole.read(reaches(first, 2))) == [(first, 1), (first, 2)]
        second = await requested("s1")
        await cancelled(first)
        assert changes(await one.read(reaches(first, 3))) == [(first, 3)]
        seen = changes(await whole.read(lambda event: "heartbeat" in event))
        assert sorted(seen) == sorted([(first, 3), (second, 1), (second, 2)])
        await cancelled(second)
        assert changes(await whole.read(lambda event: "heartbeat" in event)) == [(second, 3)]
