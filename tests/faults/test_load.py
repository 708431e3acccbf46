"""More than a server can take: it refuses at once, goes on answering, and is as before when the load ends."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles
from typing import Final

import grpc
import psutil
import pytest
from tests.faults.clients import NARROW
from tests.faults.conftest import Report
from tests.faults.proxy import proxied
from tests.faults.scale import scaled
from tests.faults.server_process import environment_for, server_process
from tests.faults.silence import PREFACE, closed_by_the_server, silent_connections
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, request_for

from assetlane.v1.asset_pb2 import AssetDetails
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    WatchUploadRequest,
)
from assetlane_server.local import EmbeddedStack

pytestmark = pytest.mark.faults

DEADLINE_S: Final = 5.0
CALLERS: Final = 200
SILENT: Final = 10_000
HANDSHAKE_S: Final = 20.0
KEEPALIVE_S: Final = 5.0
MIB: Final = 1024**2
OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)


def memory_bytes(pid: int) -> int:
    """Returns what would be free if the process ended."""
    return int(psutil.Process(pid).memory_full_info().uss)


@pytest.mark.timeout(300)
async def test_above_its_limit_a_server_refuses_answers_in_time_and_recovers(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """200 callers without a pause where eight are taken at a time: no answer is late, each is one of two."""
    environment = environment_for(own_stack.address, "loaded", max_calls=8)
    async with (
        server_process(environment, directory / "server.log") as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        stub = Stubs.on(channel).uploads
        outcomes: Counter[str] = Counter()
        taken_ms: list[float] = []
        todo = iter(range(scaled(20_000)))

        async def call() -> None:
            for number in todo:
                begun = time.perf_counter()
                try:
                    if number % 4:
                        await stub.ListUploads(ListUploadsRequest(uid="7f3a", page_size=1), timeout=DEADLINE_S)
                    else:
                        await stub.RequestUpload(request_for(), timeout=DEADLINE_S)
                    outcomes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    is_ours = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    outcomes[RpcFailure(error).reason if is_ours else error.code().name] += 1
                taken_ms.append((time.perf_counter() - begun) * 1e3)

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(call())
        rate = len(taken_ms) / (time.perf_counter() - begun)
        cuts = quantiles(taken_ms, n=100)
        for _ in range(50):
            await stub.RequestUpload(request_for(), timeout=DEADLINE_S)
        report(
            f"{CALLERS} callers on 8 places: {rate:.0f} answers a second, {dict(outcomes)}, p50 {cuts[49]:.0f} ms,"
            f" p99 {cuts[98]:.0f} ms; afterwards 50 of 50 calls are answered"
        )
        assert set(outcomes) == {"OK", "TOO_MANY_CALLS"}
        assert server.errors == []


@pytest.mark.parametrize("greeting", [b"", PREFACE], ids=["not a byte", "a preface, and then nothing"])
@pytest.mark.timeout(300)
async def test_10000_connections_that_say_nothing_keep_no_caller_out(
    own_stack: EmbeddedStack, directory: Path, report: Report, greeting: bytes
) -> None:
    """A new caller is served while all of them are open, and the server closes them by itself."""
    count = scaled(SILENT)
    environment = environment_for(
        own_stack.address, "silent", handshake_seconds=HANDSHAKE_S, keepalive_seconds=KEEPALIVE_S
    )
    async with server_process(environment, directory / "server.log") as server:
        before = memory_bytes(server.pid)
        async with silent_connections(server.port, count, greeting) as connections:
            held = len([one for one in psutil.Process(server.pid).net_connections() if one.status == "ESTABLISHED"])
            begun = time.perf_counter()
            async with grpc.aio.insecure_channel(server.target, options=OWN_CONNECTION) as channel:
                await Stubs.on(channel).uploads.RequestUpload(request_for(), timeout=DEADLINE_S)
            taken_ms = (time.perf_counter() - begun) * 1e3
            grown = memory_bytes(server.pid) - before
            closed = await closed_by_the_server(connections, 2 * HANDSHAKE_S + 2 * KEEPALIVE_S + 20)
        how = "a preface" if greeting else "nothing"
        report(
            f"{count:,} connections that say {how}: {held:,} held by the server, {grown / count / 1024:.1f} KiB each; a"
            f" new caller is answered after {taken_ms:.0f} ms; the server has closed {closed:,}"
        )
        assert closed == count
        assert server.errors == []


@pytest.mark.timeout(300)
async def test_readers_that_do_not_read_and_readers_that_are_gone_pin_no_memory(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """Each is sent far more than it takes; the server keeps a few messages for each, and the gone lose their places."""
    watchers, events = 100, scaled(400)
    environment = environment_for(
        own_stack.address, "unread", max_watches=watchers, keepalive_seconds=KEEPALIVE_S, heartbeat_seconds=1
    )
    caption = "c" * 4000
    options = [*NARROW, *OWN_CONNECTION]
    async with AsyncExitStack() as resources, asyncio.timeout(280):
        enter = resources.enter_async_context
        server = await enter(server_process(environment, directory / "server.log"))
        front = await enter(proxied(server.port))
        owner = Stubs.on(await enter(grpc.aio.insecure_channel(server.target))).uploads
        narrow = await enter(grpc.aio.insecure_channel(front.target, options=options))
        watches = [
            Stubs.on(narrow).uploads.WatchUpload(WatchUploadRequest(session_id="phone")) for _ in range(watchers)
        ]
        first = await owner.RequestUpload(request_for(session_id="phone", details=AssetDetails(caption=caption)))
        for watch in watches:
            await watch.read()
        before = memory_bytes(server.pid)
        for _ in range(events):
            request = request_for(session_id="phone", details=AssetDetails(caption=caption))
            reply = await owner.RequestUpload(request, timeout=DEADLINE_S)
            await owner.CancelUpload(CancelUploadRequest(upload_id=reply.upload.upload_id), timeout=DEADLINE_S)
        grown = memory_bytes(server.pid) - before
        due = watchers * events * 3 * len(caption)
        (connection,) = front.connections
        connection.half_open()
        while True:  # until the server has noticed
            late = owner.WatchUpload(WatchUploadRequest(upload_id=first.upload.upload_id), timeout=DEADLINE_S)
            try:
                await late.read()
            except grpc.aio.AioRpcError as error:
                if RpcFailure(error).reason != "TOO_MANY_WATCHES":
                    raise
                await asyncio.sleep(0.2)
            else:
                late.cancel()
                break
        answer = await owner.GetUpload(GetUploadRequest(upload_id=first.upload.upload_id), timeout=DEADLINE_S)
        left = memory_bytes(server.pid) - before
        report(
            f"{watchers} watchers that do not read, {due / MIB:.0f} MiB due: the server has grown by"
            f" {grown / MIB:.1f} MiB, and by {left / MIB:.1f} MiB when it has noticed that they are gone"
        )
        assert answer.upload == first.upload
        assert grown < 64 * MIB
        assert server.errors == []
