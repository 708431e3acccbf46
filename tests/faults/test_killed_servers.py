"""Two servers are killed again and again: nothing acknowledged is lost, nothing is false, nothing stays."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import pytest
from tests.faults.callers import Caller, reason_of
from tests.faults.conftest import Report
from tests.faults.inventory import taken
from tests.faults.proxy import Proxy, proxied
from tests.faults.scale import scaled
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.faults.settlement import settled
from tests.journeys.conftest import Stubs
from tests.records.stores import drop
from tests.servers import settings_for

from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

UPLOADS: Final = scaled(2000)
AT_ONCE: Final = 16
RETRIES: Final = 100
UPLOADS_PER_KILL: Final = 40  # on average; a server is up again before the next one is killed
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)


class ServerKiller:
    """Kills one server after the other while uploads go on, and starts each again."""

    def __init__(self, servers: Sequence[ServerProcess], balancer: Proxy, dice: random.Random) -> None:
        self._servers = servers
        self._balancer = balancer
        self._dice = dice
        self._due = asyncio.Semaphore(0)
        self._ready = asyncio.Semaphore(2)
        self._is_over = False
        self.kills = 0

    async def before_upload(self) -> None:
        """Makes a kill due from time to time; waits while two are due, so that traffic does not run ahead."""
        if self._dice.random() < 1 / UPLOADS_PER_KILL:
            await self._ready.acquire()
            self._due.release()

    def end(self) -> None:
        """Lets `run` return once the server that it killed last is up again."""
        self._is_over = True
        self._due.release()

    async def run(self) -> None:
        """Kills until the end."""
        while True:
            await self._due.acquire()
            if self._is_over:
                return
            server = self._dice.choice(self._servers)
            await server.kill()
            self.kills += 1
            await server.start()
            self._balancer.upstreams = tuple(one.port for one in self._servers)
            self._ready.release()


@pytest.mark.timeout(900)
async def test_whatever_is_killed_no_upload_is_lost_false_or_left_behind(
    stack: StackAddress, database_name: str, key_prefix: str, directory: Path, seed: int, report: Report
) -> None:
    """Completed, cancelled and forgotten uploads; in the end the sweeper settles what is left."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    dice = random.Random(seed)
    settings = settings_for(stack, database_name, key_prefix)
    turn = asyncio.Semaphore(AT_ONCE)
    acknowledged: set[str] = set()
    ends: Counter[str] = Counter()
    refused: list[str] = []
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        web = await enter(aiohttp.ClientSession())
        environment = environment_for(stack, database_name, settings={"key_prefix": key_prefix}, sweep_seconds=0.5)
        servers = [await enter(server_process(environment, directory / f"{number}.log")) for number in range(2)]
        balancer = await enter(proxied(*(server.port for server in servers)))
        # Several channels: one connection would tie all callers to the same server.
        channels = [await enter(grpc.aio.insecure_channel(balancer.target, options=CHANNEL_OPTIONS)) for _ in range(8)]
        turns = iter(range(10**9))
        killer = ServerKiller(servers, balancer, dice)
        caller = Caller(lambda: Stubs.on(channels[next(turns) % len(channels)]), web, RETRIES)

        async def lead(number: int, action: str) -> None:
            body = f"the bytes of {number}".encode()
            async with turn:
                await killer.before_upload()
                try:
                    upload, target = await caller.request(f"r-{number}", body)
                    if action != "left":
                        await caller.put(target, body)
                    if action == "completed":
                        await caller.complete(upload.upload_id)
                        acknowledged.add(upload.upload_id)
                    elif action == "cancelled":
                        await caller.cancel(upload.upload_id)
                except grpc.aio.AioRpcError as error:
                    refused.append(f"{action} {number}: {error.code()} {reason_of(error)} {error.details()}")
                ends[action] += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(killer.run())
            async with asyncio.TaskGroup() as leading:
                for number in range(UPLOADS):
                    action = dice.choices(("completed", "cancelled", "put and left", "left"), (80, 10, 5, 5))[0]
                    leading.create_task(lead(number, action))
            traffic_s = loop.time() - began
            killer.end()
    await settled(settings, timedelta(hours=25))
    await settled(settings, timedelta(hours=26))
    inventory = await taken(settings)
    lost = [one for one in acknowledged if inventory.uploads[one]["history"][-1]["status"] != "COMPLETED"]
    report(
        f"{UPLOADS} uploads in {traffic_s:.0f} s, {killer.kills} servers killed: {dict(ends)}\n"
        f"{len(acknowledged)} acknowledged completions, {len(lost)} lost, {len(refused)} refused calls;"
        f" {sum(caller.retries.values()) - caller.retries[0]} calls needed retries, at most {max(caller.retries)}\n"
        f"{inventory}"
    )
    assert not refused
    assert not lost
    assert not inventory.faults
    assert killer.kills >= UPLOADS // UPLOADS_PER_KILL // 3, "too calm"
    await drop(stack.mongo_uri, database_name)
