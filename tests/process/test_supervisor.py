"""Several processes on one port: they share the work, one that dies is replaced, and they stop as one."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.processes import Command, command, is_alive, until
from tests.records.stores import drop
from tests.servers import LIMIT_S

from assetlane.v1.upload_service_pb2 import ListUploadsRequest, WatchUploadRequest
from assetlane_server.local import StackAddress

WORKERS = 2
ALL_SERVE = "WORKERS_SERVE"


@pytest.fixture
async def server(stack: StackAddress, database_name: str, key_prefix: str) -> AsyncIterator[Command]:
    """A server whose workers all serve."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix, "heartbeat_seconds": 0.2}
    async with command(stack, "serve", "--workers", str(WORKERS), **place, workers=1) as run:
        await run.serves(ALL_SERVE)
        yield run
    await drop(stack.mongo_uri, database_name)


async def list_uploads(target: str) -> None:
    """Calls on a connection of its own."""
    alone = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=alone) as channel:
        await Stubs.on(channel).uploads.ListUploads(ListUploadsRequest(), wait_for_ready=True, timeout=LIMIT_S)


def callers_of(worker: psutil.Process, target: str) -> int:
    """Returns how many connections a worker holds on the server's port."""
    port = int(target.rpartition(":")[2])
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        for connection in worker.net_connections("tcp")
    )


async def test_connections_spread_over_the_workers(server: Command) -> None:
    """Each worker is a process that takes its share."""
    target = await server.serves()
    workers = server.workers()
    assert len(workers) == WORKERS
    host, _, port = target.rpartition(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(32)]
    try:
        await until(lambda: sum(callers_of(worker, target) for worker in workers) == len(connections))
        assert all(callers_of(worker, target) > 0 for worker in workers)
    finally:
        for _, writer in connections:
            writer.close()
            await writer.wait_closed()


async def test_a_worker_that_dies_is_replaced(server: Command) -> None:
    """Kill -9 of one: another takes its place, and calls go on."""
    target = await server.serves()
    victim, *others = server.workers()
    victim.kill()
    await until(lambda: bool(server.events("WORKER_GONE")))
    await until(lambda: len(server.events("SERVING")) == WORKERS + 1)
    now = server.workers()
    assert len(now) == WORKERS
    assert victim not in now
    assert set(others) < set(now)
    for _ in range(8):
        await list_uploads(target)


async def test_a_signal_to_a_worker_alone_replaces_it_in_order(server: Command) -> None:
    """It drains, however often it is signalled, as systemd and a terminal signal the whole group."""
    victim = server.workers()[0]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        victim.send_signal(number)
    await until(lambda: bool(server.events("WORKER_GONE")))
    (gone,) = server.events("WORKER_GONE")
    assert (gone["delay_s"], gone["exit_code"]) == (0.1, 0)


async def test_sigterm_drains_all_workers(server: Command) -> None:
    """The watchers of each are sent elsewhere; status 0, and nobody is left."""
    target, workers = await server.serves(), server.workers()
    async with grpc.aio.insecure_channel(target) as channel:
        watch = Stubs.on(channel).uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
        await watch.read()
        server.signal(signal.SIGTERM)
        for worker in workers:  # as systemd does
            worker.send_signal(signal.SIGTERM)
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
    assert await server.ends() == 0
    assert not any(is_alive(worker) for worker in workers)
    assert len(server.events("STOPPED")) == WORKERS


async def test_a_second_signal_ends_all_workers_at_once(server: Command) -> None:
    """Also one that hangs: status 130."""
    workers = server.workers()
    workers[0].suspend()
    server.signal(signal.SIGINT)
    await until(lambda: bool(server.events("STOPPING_WORKERS")))
    server.signal(signal.SIGINT)
    assert await server.ends() == 130
    assert not any(is_alive(worker) for worker in workers)


async def test_no_worker_outlives_its_supervisor(server: Command) -> None:
    """Kill -9 of the parent: the workers see that it is gone, and drain."""
    workers = server.workers()
    server.signal(signal.SIGKILL)
    assert await server.ends() == -signal.SIGKILL
    await until(lambda: not any(is_alive(worker) for worker in workers))
    assert len(server.events("DRAINING")) == WORKERS


async def test_a_port_in_use_is_refused_in_one_sentence(stack: StackAddress) -> None:
    """Also when its owner would share it: half of the callers would land there."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with command(stack, "serve", "--workers", "2", listen=listen) as run:
            assert await run.ends() == 1
            await until(lambda: bool(run.log))
    assert run.log == f"assetlane-server: cannot listen on {listen}: {os.strerror(errno.EADDRINUSE)}\n"


async def test_a_worker_that_cannot_start_again_is_tried_again(
    stack: StackAddress, database_name: str, key_prefix: str, tmp_path: Path
) -> None:
    """Each time after a longer wait, until what it needs is back."""
    # A file is there or not. A store that is away is given up after a timeout, and one that is short enough for a test
    # is too short for the first start on a busy machine.
    key_file, elsewhere = tmp_path / "issuer.pem", tmp_path / "elsewhere.pem"
    key_file.write_bytes(Issuer().file)
    place: dict[str, Any] = {"mongo_database": database_name, "key_prefix": key_prefix, "jwt_key_file": key_file}
    async with command(stack, "serve", "--workers", str(WORKERS), **place) as server:
        await server.serves(ALL_SERVE)
        key_file.rename(elsewhere)
        server.workers()[0].kill()
        await until(lambda: any(gone["delay_s"] == 0.4 for gone in server.events("WORKER_GONE")))
        first, *refused = server.events("WORKER_GONE")[:3]
        assert (first["delay_s"], first["exit_code"]) == (0.1, -signal.SIGKILL)
        assert [(gone["delay_s"], gone["exit_code"]) for gone in refused] == [(0.2, 1), (0.4, 1)], "it refused to start"
        assert all("ASSETLANE_JWT_KEY_FILE" in gone["event"] for gone in refused)
        elsewhere.rename(key_file)
        await until(lambda: len(server.events("SERVING")) == WORKERS + 1)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    await drop(stack.mongo_uri, database_name)
