"""A new version goes live: watchers move on, calls do not fail, the old servers leave in time."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest
from tests.faults.clients import ClientPool, counted_lost_watches
from tests.faults.conftest import Report
from tests.faults.histories import Histories
from tests.faults.plan import WatcherPlan
from tests.faults.planned_watchers import PlannedWatchers
from tests.faults.proxy import Proxy, proxied
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.faults.verdict import Verdict
from tests.faults.watchers import HEARTBEAT_S
from tests.journeys.steps import put, request_for

from assetlane import Client, Unavailable
from assetlane.v1.asset_pb2 import Asset
from assetlane_server.local import EmbeddedStack
from assetlane_server.process.serving import SECOND_SIGNAL_STATUS

pytestmark = pytest.mark.faults

WATCHERS: Final = 1000
SESSIONS: Final = 100
VISITORS: Final = 8  # uploads under way at the same time
RESUME_LIMIT_S: Final = 15.0
GRACE_S: Final = 12.0
CATCH_UP_LIMIT_S: Final = 30.0
STORE_DELAY_S: Final = 3.0  # each way
PROMPTLY_S: Final = 4.0
DATABASE: Final = "rolling"


class Stuck(NamedTuple):
    """A server that drains while a call waits for the store, which can be let go."""

    server: ServerProcess
    completing: "asyncio.Task[Asset | Unavailable]"
    store: Proxy


class Visitors:
    """Uploads under way, without a pause, from the first call to the last."""

    def __init__(self, clients: Sequence[Client], web: aiohttp.ClientSession) -> None:
        self._clients = clients
        self._web = web
        self._leave = asyncio.Event()
        self._numbers = itertools.count()
        self.uploads = 0

    async def run(self) -> None:
        """Uploads until `leave`. Raises what a call raises after the client's own retries."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(VISITORS):
                tasks.create_task(self._visit())

    def leave(self) -> None:
        """Lets `run` return after the uploads under way."""
        self._leave.set()

    async def greet(self) -> dict[str, str]:
        """Requests one upload in every session; returns their ids by session."""
        async with asyncio.TaskGroup() as tasks:
            greetings = {session: tasks.create_task(self._request(session)) for session in SESSION_IDS}
        return {session: task.result() for session, task in greetings.items()}

    async def _request(self, session_id: str) -> str:
        client = self._clients[next(self._numbers) % len(self._clients)]
        return (await client.request_upload(request_for(session_id=session_id))).upload.upload_id

    async def _visit(self) -> None:
        while not self._leave.is_set():
            number = next(self._numbers)
            client = self._clients[number % len(self._clients)]
            asked = await client.request_upload(request_for(session_id=SESSION_IDS[number % SESSIONS]))
            if number % 4:
                assert await put(self._web, asked.write_targets[0]) == 200
                await client.complete_upload(asked.upload.upload_id)
            else:
                await client.cancel_upload(asked.upload.upload_id)
            self.uploads += 1


SESSION_IDS: Final = [f"session-{number}" for number in range(SESSIONS)]
PLANS: Final = [
    WatcherPlan(
        number=number,
        upload=None,
        session_id=SESSION_IDS[number % SESSIONS],
        is_thin=number // SESSIONS % 2 == 0,
        is_slow=False,
        pause_share=0,
        after_revision=0,
        delay_s=0,
    )
    for number in range(WATCHERS)
]


async def have_seen(planned_watchers: PlannedWatchers, greetings: dict[str, str], limit_s: float) -> None:
    """Returns when every watcher has seen the greeting in its session. Raises TimeoutError."""
    waiting = planned_watchers.watchers
    async with asyncio.timeout(limit_s):
        while waiting := [  # noqa: ASYNC110
            watcher
            for watcher in waiting
            if not any(one.upload_id == greetings[watcher.plan.session_id] for one in reversed(watcher.seen))
        ]:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def replaced(
    old: ServerProcess, balancer: Proxy, stack: EmbeddedStack, log: Path
) -> AsyncIterator[ServerProcess]:
    """Starts a new server, registers it with the balancer, and stops the old one with SIGTERM, as a roll-out does."""
    async with server_process(environment(stack), log) as new:
        balancer.upstreams = (*(port for port in balancer.upstreams if port != old.port), new.port)
        old.terminate()
        yield new


def environment(stack: EmbeddedStack, **changes: str) -> dict[str, str]:
    """The environment of every server here."""
    return environment_for(
        stack.address, DATABASE, heartbeat_seconds=HEARTBEAT_S, grace_seconds=GRACE_S, settings=changes
    )


@pytest.mark.timeout(300)
async def test_a_rolling_restart_loses_nobody(
    own_stack: EmbeddedStack, directory: Path, seed: int, report: Report
) -> None:
    """A thousand watchers follow both servers' successors within 15 s and miss nothing, no call fails after the
    client's own retries, and each old server ends with status 0 within its grace period.
    """
    clock = asyncio.get_running_loop().time
    planned_watchers = PlannedWatchers(PLANS, seed)
    resumed_s: list[float] = []
    left_s: list[float] = []
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        lost = resources.enter_context(counted_lost_watches())
        olds = [
            await enter(server_process(environment(own_stack), directory / f"old-{number}.log")) for number in range(2)
        ]
        balancer = await enter(proxied(*(old.port for old in olds)))
        visitors = Visitors(
            [await enter(Client(balancer.target, uid="7f3a")) for _ in range(4)],
            await enter(aiohttp.ClientSession()),
        )
        clients = ClientPool(await enter(AsyncExitStack()), [balancer.target])
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(planned_watchers.watch(clients, ()), name="watchers")
            visiting = tasks.create_task(visitors.run(), name="visitors")
            await have_seen(planned_watchers, await visitors.greet(), CATCH_UP_LIMIT_S)
            servers = [*olds]
            for number, old in enumerate(olds):
                servers.append(
                    await enter(replaced(old, balancer, own_stack, directory / f"new-{number}.log")),
                )
                stopped_at = clock()
                # Only a watcher that has resumed sees what is requested from now on.
                greetings = await visitors.greet()
                await have_seen(planned_watchers, greetings, RESUME_LIMIT_S)
                resumed_s.append(clock() - stopped_at)
                assert await old.wait(GRACE_S) == 0
                left_s.append(clock() - stopped_at)
            visitors.leave()
            await visiting
            histories = await Histories.of(own_stack.address.mongo_uri, DATABASE, ())
            await planned_watchers.caught_up(histories, CATCH_UP_LIMIT_S)
            watching.cancel()
        errors = [error for server in servers for error in server.errors]
    verdicts = planned_watchers.verdicts(histories)
    total = sum(verdicts.values(), Verdict())
    report(
        f"uploads           {visitors.uploads} by {VISITORS} at a time, no call failed\n"
        f"watchers          {planned_watchers.summary()}\n"
        f"events            {planned_watchers.events}: {total}\n"
        f"reconnects        {lost.count} thin, {planned_watchers.reconnects} bare\n"
        f"all resumed       {', '.join(f'{one:.1f} s' for one in resumed_s)} after SIGTERM\n"
        f"servers ended     {', '.join(f'{one:.1f} s' for one in left_s)} after SIGTERM at the latest, status 0"
    )
    assert max(resumed_s) <= RESUME_LIMIT_S
    assert not total, [(plan, verdict) for plan, verdict in verdicts.items() if verdict][:5]
    assert not errors


async def completed(client: Client, upload_id: str) -> Asset | Unavailable:
    """Returns the asset, or that nobody was there."""
    try:
        return await client.complete_upload(upload_id)
    except Unavailable as unavailable:
        return unavailable


@asynccontextmanager
async def stuck_completion(stack: EmbeddedStack, directory: Path) -> AsyncIterator[Stuck]:
    """A server that was asked to stop, with a call in flight that waits for the store."""
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        address = stack.address
        store = await enter(proxied(int(address.s3_endpoint.rpartition(":")[2])))
        endpoints = {"s3_endpoint": f"http://{store.target}", "s3_public_endpoint": address.s3_endpoint}
        server = await enter(server_process(environment(stack, **endpoints), directory / "server.log"))
        client = await enter(Client(server.target, uid="7f3a", complete_timeout=GRACE_S))
        web = await enter(aiohttp.ClientSession())
        asked = await client.request_upload(request_for())
        assert await put(web, asked.write_targets[0]) == 200
        async with asyncio.TaskGroup() as tasks:
            store.delay_s = STORE_DELAY_S
            completing = tasks.create_task(completed(client, asked.upload.upload_id))
            async with asyncio.timeout(PROMPTLY_S):
                while not store.chunks_held:  # noqa: ASYNC110 - the proxy signals nothing
                    await asyncio.sleep(0.01)
            server.terminate()
            await server.logs("DRAINING", PROMPTLY_S)
            yield Stuck(server, completing, store)


async def test_a_call_in_flight_is_finished_before_the_server_leaves(own_stack: EmbeddedStack, directory: Path) -> None:
    """SIGTERM, and the store takes its time: the completion succeeds, the status is 0."""
    async with stuck_completion(own_stack, directory) as stuck:
        stuck.store.delay_s = 0.0
        assert isinstance(await stuck.completing, Asset)
        assert await stuck.server.wait(GRACE_S) == 0


async def test_a_second_signal_ends_at_once(own_stack: EmbeddedStack, directory: Path) -> None:
    """With a call still in flight, whose caller sees that nobody is there."""
    async with stuck_completion(own_stack, directory) as stuck:
        assert stuck.server.is_running
        stuck.server.terminate()
        assert await stuck.server.wait(PROMPTLY_S) == SECOND_SIGNAL_STATUS
        assert isinstance(await stuck.completing, Unavailable)
