"""Every request that a writing RPC sends to a store, interrupted in every way: the final result is the same."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import aiohttp
import pytest
from tests.faults.conftest import Report
from tests.faults.fault_proxy import Action, Decide, let_pass
from tests.faults.messages import Message
from tests.faults.proxied_server import ProxiedServer, proxied_server
from tests.faults.scenarios import IN_PARTS, SCENARIOS, Scenario, ScenarioContext, answer_of
from tests.faults.settlement import settled
from tests.journeys.bucket import Bucket
from tests.records.stores import drop, mongo
from tests.servers import settings_for

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import NotReady

pytestmark = pytest.mark.faults

RETRIES: Final = 3
INTERRUPTIONS: Final = (Action.LOSE, Action.DELAY, Action.SWALLOW)
LIMIT_S: Final = 120.0
STARTS: Final = 3
MOMENT_S: Final = 5.0
LATER: Final = timedelta(minutes=30)  # when every write URL has expired, and no deadline has passed
DEADLINE: Final = timedelta(hours=25)


@dataclass(frozen=True, slots=True)
class Boundary:
    """One of the requests of a scenario: the n-th of its name."""

    store: str
    name: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.store} {self.name} {self.occurrence}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scenario ended, as its caller and an operator see it."""

    answer: str | None
    records: str


class Interrupter:
    """Notes the boundaries of one scenario, and interrupts it at one of them."""

    def __init__(self, server: ProxiedServer, boundary: Boundary | None = None, action: Action = Action.PASS) -> None:
        self._proxies = {"MongoDB": server.mongo, "S3": server.s3}
        self._boundary = boundary
        self._action = action
        self._times: Counter[tuple[str, str]] = Counter()
        self.seen: list[Boundary] = []

    def set(self) -> None:
        """Watches from now on."""
        for store, proxy in self._proxies.items():
            proxy.done.clear()
            proxy.decide = self._decider(store)

    def lift(self) -> None:
        """Lets everything through again."""
        for proxy in self._proxies.values():
            proxy.decide = let_pass

    async def wait_until_triggered(self) -> None:
        """Returns when the scenario was interrupted."""
        assert self._boundary is not None
        await self._proxies[self._boundary.store].done.wait()

    async def deliver(self) -> None:
        """Lets the delayed request arrive after all."""
        for proxy in self._proxies.values():
            await proxy.deliver()

    def _decider(self, store: str) -> Decide:
        def decide(message: Message) -> Action:
            self._times[store, message.name] += 1
            boundary = Boundary(store, message.name, self._times[store, message.name])
            self.seen.append(boundary)
            return self._action if boundary == self._boundary else Action.PASS

        return decide


class Servers:
    """One server at a time; when it was killed, the next one is ready. Dead ones are buried in the background."""

    def __init__(self, stack: StackAddress, database_name: str, key_prefix: str, tasks: asyncio.TaskGroup) -> None:
        self._where = (stack, database_name, key_prefix)
        self._tasks = tasks
        self._one_at_a_time = asyncio.Lock()
        self._ends: list[asyncio.Event] = []
        self._ready: list[asyncio.Future[ProxiedServer]] = []
        self._start()
        self._start()

    async def current(self) -> ProxiedServer:
        """Returns the one that runs."""
        return await self._ready[0]

    def kill(self) -> None:
        """Ends the one that runs, in the middle of whatever it does."""
        self._ready.pop(0).result().kill()
        self._ends.pop(0).set()
        self._start()

    def end(self) -> None:
        """Lets all of them end."""
        for end in self._ends:
            end.set()

    def _start(self) -> None:
        ready: asyncio.Future[ProxiedServer] = asyncio.get_running_loop().create_future()
        end = asyncio.Event()
        self._ready.append(ready)
        self._ends.append(end)
        self._tasks.create_task(self._serve(ready, end))

    async def _started(self, life: AsyncExitStack) -> ProxiedServer:
        """Starts a server; again, as its supervisor would, when MongoDB did not answer it in time."""
        for _ in range(STARTS - 1):
            try:
                return await life.enter_async_context(proxied_server(*self._where, **IN_PARTS))
            except BaseExceptionGroup as group:
                if group.split(NotReady)[1] is not None:
                    raise
        return await life.enter_async_context(proxied_server(*self._where, **IN_PARTS))

    async def _serve(self, ready: "asyncio.Future[ProxiedServer]", end: asyncio.Event) -> None:
        async with AsyncExitStack() as life:
            async with self._one_at_a_time:  # SecantusDB hangs when two create the same indexes at once
                server = await self._started(life)
            ready.set_result(server)
            await end.wait()


class ScenarioRunner:
    """Runs scenarios, each on fresh records."""

    def __init__(self, context: ScenarioContext, servers: Servers) -> None:
        self._site = context
        self._servers = servers
        self.upload_ids: dict[str, str] = {}
        """Of every run, by its request id."""

    async def calm(self, scenario: Scenario) -> tuple[Outcome, list[Boundary]]:
        """Runs a scenario that nothing interrupts; returns its end and its boundaries."""
        request_id = f"{scenario.name}, calm"
        upload_id = await scenario.prepare(self._site, request_id)
        server = await self._servers.current()
        interrupter = Interrupter(server)
        interrupter.set()
        answer = await answer_of(scenario, server.stubs, upload_id, request_id)
        interrupter.lift()
        return await self._outcome(request_id, answer), interrupter.seen

    async def interrupted(self, scenario: Scenario, boundary: Boundary, action: Action, *, is_killed: bool) -> Outcome:
        """Runs a scenario that is interrupted once; its caller calls again, at most three times."""
        request_id = f"{scenario.name}, {boundary}, {action.name}, {is_killed}"
        upload_id = await scenario.prepare(self._site, request_id)
        server = await self._servers.current()
        interrupter = Interrupter(server, boundary, action)
        interrupter.set()
        answer: str | None = None
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(answer_of(scenario, server.stubs, upload_id, request_id))
            triggered = tasks.create_task(interrupter.wait_until_triggered())
            await asyncio.wait((call, triggered), return_when=asyncio.FIRST_COMPLETED)
            # A request that left after its call was answered comes within a moment.
            await asyncio.wait((triggered,), timeout=MOMENT_S)
            assert triggered.done(), f"{request_id}: the call ended before, {call}, saw {interrupter.seen}"
            if is_killed:
                call.cancel()
                self._servers.kill()
        if not is_killed:
            answer = call.result()
        interrupter.lift()
        for _ in range(RETRIES):
            if answer is None:
                answer = await answer_of(scenario, (await self._servers.current()).stubs, upload_id, request_id)
        await interrupter.deliver()
        return await self._outcome(request_id, answer)

    async def _outcome(self, request_id: str, answer: str | None) -> Outcome:
        document = await self._site.database["uploads"].find_one({"request_key": request_id})
        self.upload_ids[request_id] = document["_id"] if document else ""
        return Outcome(answer, await self._site.look(request_id))


@asynccontextmanager
async def opened_runner(
    stack: StackAddress, database_name: str, key_prefix: str
) -> AsyncIterator[tuple[ScenarioRunner, ScenarioContext]]:
    """Opens everything that scenarios need."""
    async with AsyncExitStack() as resources:
        bucket = Bucket(settings_for(stack, database_name, key_prefix))
        resources.callback(bucket.close)
        client = await resources.enter_async_context(mongo(stack.mongo_uri))
        web = await resources.enter_async_context(aiohttp.ClientSession())
        well = await resources.enter_async_context(proxied_server(stack, database_name, key_prefix, **IN_PARTS))
        tasks = await resources.enter_async_context(asyncio.TaskGroup())
        servers = Servers(stack, database_name, key_prefix, tasks)
        resources.callback(servers.end)
        context = ScenarioContext(well.stubs, web, bucket, client[database_name])
        yield ScenarioRunner(context, servers), context
    await drop(stack.mongo_uri, database_name)


@pytest.mark.timeout(1800)
async def test_a_call_interrupted_anywhere_ends_as_if_it_had_not_been(
    stack: StackAddress, database_name: str, key_prefix: str, report: Report
) -> None:
    """Before the request left, after it left, before the reply arrived; the server lives on or is killed."""
    began = asyncio.get_running_loop().time()
    lines: list[str] = []
    differences: list[str] = []
    total = 0
    kept: dict[str, int] = {}
    async with opened_runner(stack, database_name, key_prefix) as (runner, context):
        for scenario in SCENARIOS:
            expected, boundaries = await runner.calm(scenario)
            assert expected.answer is not None, scenario.name
            lines.append(f"{scenario.name}: {expected.answer}; {expected.records}")
            kept[f"{scenario.name}, calm"] = scenario.keeps_objects
            for boundary in boundaries:
                flaws = 0
                for action in INTERRUPTIONS:
                    for is_killed in (False, True):
                        where = f"{scenario.name}, {boundary}, {action}, killed: {is_killed}"
                        async with asyncio.timeout(LIMIT_S):
                            outcome = await runner.interrupted(scenario, boundary, action, is_killed=is_killed)
                        kept[f"{scenario.name}, {boundary}, {action.name}, {is_killed}"] = scenario.keeps_objects
                        total += 1
                        if outcome != expected:
                            flaws += 1
                            differences.append(f"{where}: {outcome}")
                lines.append(f"    {boundary}: {2 * len(INTERRUPTIONS) - flaws} of {2 * len(INTERRUPTIONS)} the same")
        await settled(settings_for(stack, database_name, key_prefix), LATER)
        keys = await context.bucket.keys()
        for request_id, count in kept.items():
            found = sum(f"/{runner.upload_ids[request_id]}/" in key for key in keys)
            if found != count:
                differences.append(f"{request_id}: {found} objects instead of {count}")
        await settled(settings_for(stack, database_name, key_prefix), DEADLINE)
        # The next server may be in the middle of its probe.
        left = [key for key in await context.bucket.open_multiparts() if "/probe/" not in key]
        differences += [f"left behind: parts of {key}" for key in left]
    seconds = asyncio.get_running_loop().time() - began
    report("\n".join([f"{total} interruptions, {len(differences)} differences, {seconds:.0f} s", *lines, *differences]))
    assert not differences
