"""Thousands of watchers while everything goes wrong: none misses a change, sees one twice or out of order."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from tests.faults.clients import ClientPool, counted_lost_watches
from tests.faults.conftest import Report
from tests.faults.fault_injector import GUST_S, FaultInjector
from tests.faults.histories import Histories
from tests.faults.plan import planned
from tests.faults.planned_watchers import PlannedWatchers
from tests.faults.proxy import proxied
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.faults.traffic import Traffic
from tests.faults.verdict import Verdict
from tests.faults.watchers import FINAL, HEARTBEAT_S
from tests.servers import settings_for

from assetlane import Client
from assetlane_server.composition.app import object_store
from assetlane_server.local import EmbeddedStack
from assetlane_server.records.mongo import MongoRecords

pytestmark = pytest.mark.faults

UPLOADS: Final = 2000
WATCHERS: Final = 2000
DURATION_S: Final = 30.0  # within which uploads begin
STORM_LIMIT_S: Final = 60.0  # a slow machine finishes its uploads in the calm after it
CATCH_UP_LIMIT_S: Final = 90.0  # a client notices a half-open connection after 40
DATABASE: Final = "chaos"
APP_NAMES: Final = ("chaos-0", "chaos-1")


@pytest.mark.timeout(400)
async def test_no_watcher_misses_a_change_whatever_goes_wrong(
    own_stack: EmbeddedStack, directory: Path, seed: int, report: Report
) -> None:
    """Connections cut, delayed and half-open, servers killed, change streams lost, readers slow: 0 missed,
    0 repeated, 0 out of order, in every record.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    plan = planned(seed, uploads=UPLOADS, watchers=WATCHERS, duration_s=DURATION_S)
    planned_watchers = PlannedWatchers(plan.watchers, seed)
    address = own_stack.address
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        lost = resources.enter_context(counted_lost_watches())
        servers: list[ServerProcess] = []
        for app_name in APP_NAMES:
            environment = environment_for(address, DATABASE, app_name=app_name, heartbeat_seconds=HEARTBEAT_S)
            servers.append(await enter(server_process(environment, directory / f"{app_name}.log")))
        fronts = [await enter(proxied(server.port)) for server in servers]
        balancer = await enter(proxied(*(server.port for server in servers)))
        fault_injector = FaultInjector(seed, servers, fronts, [balancer], address.mongo_uri, APP_NAMES)
        traffic = Traffic(
            plan.uploads,
            [await enter(Client(balancer.target, uid="7f3a")) for _ in range(4)],
            await enter(aiohttp.ClientSession()),
            await enter(object_store(settings_for(address, DATABASE, ""))),
            await enter(MongoRecords.open(address.mongo_uri, DATABASE, call_timeout=timedelta(seconds=20))),
        )
        # A watcher knows both servers; half of them prefer the one, half the other.
        ways = [front.target for front in fronts]
        clients = ClientPool(await enter(AsyncExitStack()), [f"ipv4:{','.join(order)}" for order in (ways, ways[::-1])])
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(planned_watchers.watch(clients, traffic.upload_ids), name="watchers")
            blowing = tasks.create_task(fault_injector.blow(), name="fault_injector")
            asyncio.get_running_loop().call_later(STORM_LIMIT_S, fault_injector.calm)
            await traffic.run()
            fault_injector.calm()
            await blowing
            async with asyncio.TaskGroup() as closing:
                closing.create_task(traffic.close(GUST_S), name="traffic")
                closing.create_task(fault_injector.last_gust(), name="last gust")
            traffic_s = clock() - began
            histories = await Histories.of(address.mongo_uri, DATABASE, [one.result() for one in traffic.upload_ids])
            try:
                await planned_watchers.caught_up(histories, CATCH_UP_LIMIT_S)
            except TimeoutError:
                report("not every watcher caught up")
            watching.cancel()
        streams_lost = sum(len(server.events("STREAM_LOST")) for server in servers)
        errors = [error for server in servers for error in server.errors]

    verdicts = planned_watchers.verdicts(histories)
    total = sum(verdicts.values(), Verdict())
    report(
        f"uploads           {len(plan.uploads)}: {_counted(traffic.ends)}; in MongoDB {_counted(histories.ends)}\n"
        f"watchers          {planned_watchers.summary()}\n"
        f"events            {planned_watchers.events}: {total}\n"
        f"reconnects        {lost.count} thin, {planned_watchers.reconnects} bare\n"
        f"faults            {_counted(fault_injector.faults)}\n"
        f"streams lost      {streams_lost}\n"
        f"seconds           {clock() - began:.0f}, {traffic_s:.0f} of them until the last upload ended"
    )
    assert set(histories.ends) <= FINAL
    assert not total, [(plan, verdict) for plan, verdict in verdicts.items() if verdict][:5]
    assert not errors
    assert min(fault_injector.faults["servers killed"], fault_injector.faults["connections cut"], streams_lost) >= 1, (
        "too calm"
    )


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
