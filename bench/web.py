"""What the web gateway costs the server, beside the gRPC port of the same process: calls, and watches that wait."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import grpc

from assetlane.v1.upload_service_pb2 import GetUploadRequest, RequestUploadResponse, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.local import StackAddress
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.load import each
from bench.picture_requests import picture_requests
from bench.processes import ServerProcess, server_process
from bench.stores import NOTES, stores, variables
from bench.watches import watches
from bench.web_floor import AIOHTTP, ASYNCIO

ROUNDS: Final = 8
CALLS: Final = 400
IN_FLIGHT: Final = 16
WATCHES: Final = 1000
OPENING_AT_A_TIME: Final = 500  # each waits for its first heartbeat
FIRST_WATCHES: Final = 1000  # these fill what the start of the process has left free, which would hide what one costs
LIMIT_S: Final = 60.0
PATH: Final = "/assetlane.v1.UploadService/"
NATIVE: Final = "gRPC port"
WAYS: Final = (NATIVE, "gRPC-Web", "Connect, protobuf", "Connect, JSON", "REST")


async def measure() -> Finding:
    """Asks for one upload in every way in turn, round after round; then opens watches on both ports."""
    async with stores() as address:
        async with (
            _served(address, "web-calls") as (server, url),
            grpc.aio.insecure_channel(server.target) as channel,
            aiohttp.ClientSession() as session,
        ):
            stub: Any = UploadServiceStub(channel)
            reply: RequestUploadResponse = await stub.RequestUpload(picture_requests(1)[0], timeout=LIMIT_S)
            costs = await _calls(server, url, stub, session, reply.upload.upload_id)
        async with _served(address, "web-native") as (server, _):
            native_kib = await _native_watch_kib(server)
        async with _served(address, "web-watches") as (server, url):
            web_kib = await _web_watch_kib(server, url)
    floors_kib = {}
    for kind in (AIOHTTP, ASYNCIO):
        async with server_process(["bench.web_floor", kind], {}) as server:
            floors_kib[kind] = await _web_watch_kib(server, f"http://{server.target}")
    figures = [Figure(f"{NATIVE}: server CPU of one GetUpload", costs[NATIVE], "µs")]
    goal = Goal(Bound.AT_MOST, 1.1, Measure.RATIO)
    for way in WAYS[1:]:
        peer = Peer(NATIVE, costs[NATIVE])
        wanted = goal if way in ("gRPC-Web", "Connect, protobuf") else None
        figures.append(Figure(f"{way}: server CPU of one GetUpload", costs[way], "µs", peer, wanted))
    figures.append(Figure(f"{NATIVE}: memory of an idle watch", native_kib, "KiB"))
    figures.append(
        Figure(
            "web gateway: memory of an idle watch", web_kib, "KiB", Peer(NATIVE, native_kib), Goal(Bound.AT_MOST, 16)
        )
    )
    bare = {AIOHTTP: "bare aiohttp: memory of a stream that waits", ASYNCIO: "bare asyncio: memory of one"}
    figures += [Figure(bare[kind], kib, "KiB") for kind, kib in floors_kib.items()]
    notes = (
        f"One server process, {IN_FLIGHT} calls in flight, {ROUNDS} interleaved rounds of {CALLS} calls; the sums.",
        "Client and server share the machine; server CPU is that of the whole process.",
        (
            f"{WATCHES:,} watches of sessions in which nothing happens, after the first {FIRST_WATCHES:,}; "
            "through the gateway each has a connection. The bare ones send one event and wait, on the same event loop."
        ),
        *NOTES,
    )
    return Finding("The web gateway beside the gRPC port", tuple(figures), notes)


@asynccontextmanager
async def _served(address: StackAddress, name: str) -> AsyncIterator[tuple[ServerProcess, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        web = f"127.0.0.1:{probe.getsockname()[1]}"
    async with server_process(["assetlane_server", "serve"], _settings(address, name, web)) as server:
        yield server, f"http://{web}"


def _settings(address: StackAddress, name: str, web: str) -> dict[str, str]:
    """Returns the environment of a server; a watch in which nothing happens has its first heartbeat soon."""
    return variables(address, name, web_listen=web, heartbeat_seconds="2")


async def _calls(
    server: ServerProcess, url: str, stub: Any, session: aiohttp.ClientSession, upload_id: str
) -> dict[str, float]:
    request = GetUploadRequest(upload_id=upload_id)
    data = request.SerializeToString()
    framed = struct.pack(">BI", 0, len(data)) + data
    bodies = {
        "gRPC-Web": ("application/grpc-web+proto", framed),
        "Connect, protobuf": ("application/proto", data),
        "Connect, JSON": ("application/json", b'{"uploadId": "%b"}' % upload_id.encode()),
    }

    async def ask(way: str) -> None:
        if way == NATIVE:
            await stub.GetUpload(request, timeout=LIMIT_S)
            return
        if way == "REST":
            asking = session.get(f"{url}/v1/uploads/{upload_id}")
        else:
            kind, body = bodies[way]
            asking = session.post(f"{url}{PATH}GetUpload", data=body, headers={"content-type": kind})
        async with asking as response:
            answer = await response.read()
            assert response.status == 200 and upload_id.encode() in answer  # noqa: PT018

    spent = dict.fromkeys(WAYS, 0.0)
    for number in range(ROUNDS + 1):
        for way in WAYS:
            before_s = server.cpu_seconds()
            async with asyncio.timeout(LIMIT_S):
                await each([way] * CALLS, IN_FLIGHT, ask)
            if number:
                spent[way] += server.cpu_seconds() - before_s
    return {way: spent_s / (ROUNDS * CALLS) * 1e6 for way, spent_s in spent.items()}


async def _native_watch_kib(server: ServerProcess) -> float:
    """Returns the KiB that an idle watch costs the server on the gRPC port."""
    async with watches(server.target) as opened:
        requests = [WatchUploadRequest(session_id=f"s{number}") for number in range(FIRST_WATCHES + WATCHES)]
        await opened.open(requests[:FIRST_WATCHES], first_events=1)
        before = server.memory_bytes()
        await opened.open(requests[FIRST_WATCHES:], first_events=1)
        return (server.memory_bytes() - before) / WATCHES / 1024


async def _web_watch_kib(server: ServerProcess, url: str) -> float:
    """Returns the KiB that an idle watch costs the server through the gateway, its connection included."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        opened: list[aiohttp.ClientResponse] = []

        async def open_one(number: int) -> None:
            message = WatchUploadRequest(session_id=f"s{number}").SerializeToString()
            body = struct.pack(">BI", 0, len(message)) + message
            kind = {"content-type": "application/grpc-web+proto"}
            response = await session.post(f"{url}{PATH}WatchUpload", data=body, headers=kind)
            await response.content.readexactly(5)
            opened.append(response)

        async with asyncio.timeout(2 * LIMIT_S):
            await each(list(range(FIRST_WATCHES)), OPENING_AT_A_TIME, open_one)
            before = server.memory_bytes()
            await each(list(range(FIRST_WATCHES, FIRST_WATCHES + WATCHES)), OPENING_AT_A_TIME, open_one)
        grown = server.memory_bytes() - before
        for response in opened:
            response.close()
    return grown / WATCHES / 1024
