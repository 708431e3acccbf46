"""Thousands of watchers while everything goes wrong: none misses a change, sees one twice or out of order."""

import asyncio
import logging
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
import pytest
from tests.faults.conftest import Report
from tests.faults.plan import Plan, planned
from tests.faults.proxy import Proxy, proxied
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.faults.storm import Storm
from tests.faults.traffic import Traffic
from tests.faults.verdict import Verdict, judge
from tests.faults.watchers import FINAL, HEARTBEAT_S, Watcher
from tests.records.stores import mongo
from tests.servers import settings_for

from assetlane import Client
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.app import object_store
from assetlane_server.local import EmbeddedStack
from assetlane_server.records.mongo import MongoRecords

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

pytestmark = pytest.mark.faults

UPLOADS: Final = 2000
WATCHERS: Final = 2000
DURATION_S: Final = 30.0  # within which uploads begin
CATCH_UP_LIMIT_S: Final = 90.0  # a client notices a half-open connection after 40
WATCHES_PER_CONNECTION: Final = 25
DATABASE: Final = "chaos"
APP_NAMES: Final = ("chaos-0", "chaos-1")

# Not gRPC's own, which logs a caller that vanished in the middle of a message.
OUR_ERRORS: Final = re.compile(r"^.* ERROR +assetlane_server.*$", re.MULTILINE)

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)
# Slow readers that make the server wait: next to nothing is on its way that they have not asked for.
NARROW: Final = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))


class LostWatches(logging.Handler):
    """Counts how often a watch of the thin client was lost and went on."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts one."""
        self.count += str(record.msg).startswith("watch lost")


@asynccontextmanager
async def counting_lost_watches() -> AsyncIterator[LostWatches]:
    """Counts as long as the block lasts."""
    logger, handler = logging.getLogger("assetlane.watching"), LostWatches()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class Doors:
    """Connections to the servers through the storm: each carries some watches, and prefers one of the servers."""

    def __init__(self, resources: AsyncExitStack, fronts: Sequence[Proxy]) -> None:
        self._resources = resources
        addresses = [front.target for front in fronts]
        self._targets = [f"ipv4:{','.join(order)}" for order in (addresses, addresses[::-1])]
        self._opened: Counter[str] = Counter()
        self._lane: Client | None = None
        self._stubs: dict[bool, UploadServiceAsyncStub] = {}

    async def lane(self) -> Client:
        """Returns a thin client for the next watch."""
        if self._lane is None or self._is_full("thin"):
            self._lane = await self._resources.enter_async_context(Client(self._target("thin"), uid="7f3a"))
        return self._lane

    async def stub(self, *, is_narrow: bool) -> "UploadServiceAsyncStub":
        """Returns a bare stub for the next watch."""
        kind = f"bare {is_narrow}"
        if is_narrow not in self._stubs or self._is_full(kind):
            options = [*CHANNEL_OPTIONS, *(NARROW if is_narrow else ())]
            channel = grpc.aio.insecure_channel(self._target(kind), options=options)
            self._stubs[is_narrow] = UploadServiceStub(await self._resources.enter_async_context(channel))
        return self._stubs[is_narrow]

    def _is_full(self, kind: str) -> bool:
        self._opened[kind] += 1
        return self._opened[kind] % WATCHES_PER_CONNECTION == 0

    def _target(self, kind: str) -> str:
        return self._targets[self._opened[kind] // WATCHES_PER_CONNECTION % len(self._targets)]


class Histories:
    """What happened, as MongoDB has it."""

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._all: dict[str, tuple[str, ...]] = {}
        self._sessions: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for document in documents:
            statuses = tuple(change["status"] for change in document["history"])
            assert [change["revision"] for change in document["history"]] == list(range(1, len(statuses) + 1))
            self._all[document["_id"]] = self._sessions[document["session_id"]][document["_id"]] = statuses
        self.ends = Counter(statuses[-1] for statuses in self._all.values())

    @classmethod
    async def of(cls, stack: EmbeddedStack) -> "Histories":
        """Reads them."""
        async with mongo(stack.address.mongo_uri) as client:
            return cls(await client[DATABASE]["uploads"].find({}, {"history": 1, "session_id": 1}).to_list(None))

    def due(self, watcher: Watcher, upload_ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Returns what a watcher had to see."""
        if watcher.plan.upload is None:
            return self._sessions[watcher.plan.session_id]
        upload_id = upload_ids[watcher.plan.upload]
        return {upload_id: self._all[upload_id]}

    def owed(self, watcher: Watcher, upload_ids: Sequence[str]) -> int:
        """Returns how many events those are."""
        due = self.due(watcher, upload_ids)
        return sum(len(statuses) for statuses in due.values()) - watcher.plan.after_revision

    def verdict(self, watcher: Watcher, upload_ids: Sequence[str]) -> Verdict:
        """Judges a watcher's record."""
        due = self.due(watcher, upload_ids)
        return judge(watcher.seen, due, dict.fromkeys(due, watcher.plan.after_revision))


async def watch_all(plan: Plan, watchers: Sequence[Watcher], traffic: Traffic, doors: Doors) -> None:
    """Runs every watcher until it ends or is cancelled."""

    async def watch(watcher: Watcher) -> None:
        number = watcher.plan.upload
        upload_id = "" if number is None else await asyncio.shield(traffic.upload_ids[number])
        if watcher.plan.is_thin:
            await watcher.watch_thin(await doors.lane(), upload_id)
        else:
            await watcher.watch_bare(await doors.stub(is_narrow=watcher.plan.is_slow), upload_id)

    async with asyncio.TaskGroup() as tasks:
        for watcher in watchers:
            tasks.create_task(watch(watcher))


async def caught_up(watchers: Sequence[Watcher], histories: Histories, upload_ids: Sequence[str]) -> None:
    """Returns when every watcher has seen as much as it was owed and heard that nothing else is new.

    Raises TimeoutError.
    """
    waiting = {watcher: histories.owed(watcher, upload_ids) for watcher in watchers}
    async with asyncio.timeout(CATCH_UP_LIMIT_S):
        while waiting := {watcher: owed for watcher, owed in waiting.items() if not is_content(watcher, owed)}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def is_content(watcher: Watcher, owed: int) -> bool:
    """Whether a watcher has seen enough, and it was quiet or the end that came after."""
    return len(watcher.seen) >= owed and (watcher.has_ended or watcher.is_quiet or watcher.plan.is_thin)


@pytest.mark.timeout(400)
async def test_no_watcher_misses_a_change_whatever_goes_wrong(
    own_stack: EmbeddedStack, directory: Path, seed: int, report: Report
) -> None:
    """Connections cut, delayed and half-open, servers killed, change streams lost, readers slow: 0 missed,
    0 repeated, 0 out of order, in every record.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    plan = planned(seed, uploads=UPLOADS, watchers=WATCHERS, duration_s=DURATION_S)
    watchers = [Watcher(one, seed) for one in plan.watchers]
    address = own_stack.address
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        lost = await enter(counting_lost_watches())
        servers: list[ServerProcess] = []
        for app_name in APP_NAMES:
            environment = environment_for(address, DATABASE, app_name=app_name, heartbeat_seconds=HEARTBEAT_S)
            servers.append(await enter(server_process(environment, directory / f"{app_name}.log")))
        fronts = [await enter(proxied(server.port)) for server in servers]
        balancer = await enter(proxied(*(server.port for server in servers)))
        storm = Storm(seed, servers, fronts, [balancer], address.mongo_uri, APP_NAMES)
        traffic = Traffic(
            plan.uploads,
            [await enter(Client(balancer.target, uid="7f3a")) for _ in range(4)],
            await enter(aiohttp.ClientSession()),
            await enter(object_store(settings_for(address, DATABASE, ""))),
            await enter(MongoRecords.open(address.mongo_uri, DATABASE, call_timeout=timedelta(seconds=20))),
        )
        doors = Doors(await enter(AsyncExitStack()), fronts)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch_all(plan, watchers, traffic, doors), name="watchers")
            blowing = tasks.create_task(storm.blow(), name="storm")
            await traffic.run()
            traffic_s = loop.time() - began
            storm.calm()
            await blowing
            histories = await Histories.of(own_stack)
            upload_ids = [one.result() for one in traffic.upload_ids]
            try:
                await caught_up(watchers, histories, upload_ids)
            except TimeoutError:
                report("not every watcher caught up")
            watching.cancel()
        streams_lost = sum(server.log.count("opening it anew") for server in servers)
        errors = [error for server in servers for error in OUR_ERRORS.findall(server.log)]

    verdicts = {watcher: histories.verdict(watcher, upload_ids) for watcher in watchers}
    total = sum(verdicts.values(), Verdict())
    thin = sum(watcher.plan.is_thin for watcher in watchers)
    sessions = sum(watcher.plan.upload is None for watcher in watchers)
    report(
        f"uploads           {len(upload_ids)}: {_told(traffic.ends)}; in MongoDB {_told(histories.ends)}\n"
        f"watchers          {len(watchers)}: {sessions} of sessions, {thin} thin,"
        f" {sum(watcher.plan.is_slow for watcher in watchers)} slow"
        f" ({sum(watcher.pauses for watcher in watchers)} pauses)\n"
        f"events            {sum(len(watcher.seen) for watcher in watchers)}\n"
        f"reconnects        {lost.count} thin, {sum(watcher.reconnects for watcher in watchers)} bare\n"
        f"faults            {_told(storm.faults)}\n"
        f"streams lost      {streams_lost}\n"
        f"missed            {len(total.missed)}\n"
        f"repeated          {len(total.repeated)}\n"
        f"out of order      {len(total.out_of_order)}\n"
        f"foreign           {len(total.foreign)}\n"
        f"seconds           {loop.time() - began:.0f}, traffic and storm {traffic_s:.0f}"
    )
    assert set(histories.ends) <= FINAL
    assert not total, [(watcher.plan, verdict) for watcher, verdict in verdicts.items() if verdict][:5]
    assert not errors
    assert min(storm.faults["servers killed"], storm.faults["connections cut"], streams_lost) >= 3, "too calm"


def _told(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
