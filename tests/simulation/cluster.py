"""One schedule: servers, clients, watchers, and what goes wrong. Everything in it is a choice of the event loop."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from detangle import current_loop
from tests.simulation.auditor import Auditor
from tests.simulation.clients import (
    DATA,
    Device,
    PartitionWatcher,
    Person,
    Sending,
    SessionWatcher,
    UploadWatcher,
    Watcher,
    new_sending,
)
from tests.simulation.mongo import SimMongo
from tests.simulation.network import Faults
from tests.simulation.scenes import SCENES
from tests.simulation.server import SLOTS, ConnectionLost, Environment, SimServer
from tests.simulation.store import SimStore

from assetlane_server.access.quotas import Quotas
from assetlane_server.model.errors import LedgerUnavailable, StoreUnavailable
from assetlane_server.model.quotas import QuotaLimit
from assetlane_server.model.state_table import FINAL

BASE: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_LEVELS: Final = (0.0, 0.02, 0.08, 0.2)
_AHEAD: Final = (timedelta(0), timedelta(seconds=2), timedelta(seconds=-20), timedelta(hours=1), timedelta(hours=-1))
_PAUSES: Final = (timedelta(0), timedelta(minutes=2), timedelta(minutes=16), timedelta(hours=25), timedelta(days=8))
_END: Final = tuple(
    timedelta(hours=hours) for hours in (0.3, 1.5, 25, 26, 8 * 24, 31 * 24, 10 * 24)
)  # of the schedule: until nothing is left to do
_NOTICED: Final = timedelta(minutes=10)
_THINKING_S: Final = (0.0, 0.01, 1.0, 30.0)
_HURRIED_S: Final = (0.0, 0.01, 0.4)
_CATCH_UP_S: Final = 600.0
_QUIET_S: Final = 300.0
_MOST_ROUNDS: Final = 60  # of a sweep at the end


class Cluster:
    """What is there in one schedule."""

    def __init__(self) -> None:
        self.loop = current_loop()
        self.is_hurried = False
        self.is_ending = False
        self.are_clocks_right = True  # to a few minutes
        self.may_clocks_differ = True
        self.is_faultless = False  # so far nothing went wrong
        self.faults = Faults()
        self._past = timedelta(0)  # what was skipped
        quotas = Quotas(
            of_uid=(None, QuotaLimit(2), QuotaLimit(1))[self.pick(3)],
            of_partition=(None, QuotaLimit(100, 60 * 1024**2), QuotaLimit(1))[self.pick(3)],
        )
        self.auditor = Auditor(quotas, self.loop.time, self.utc)
        self.auditor.lines = LINES
        self.mongo = SimMongo(self.loop, lambda: self.utc().timestamp(), self.auditor)
        self.store = SimStore(self.loop, self.utc, self.auditor)  # type: ignore[arg-type]  # it is one
        self.auditor.on_write = self._check_all_mailboxes
        self.auditor.uploads = self.mongo.collections["uploads"]
        self.auditor.objects = self.store.objects
        self.loop.add_invariant(self.auditor.assert_holds, "the auditor")
        self._around = Environment(
            loop=self.loop,
            mongo=self.mongo,
            store=self.store,
            faults=self.faults,
            auditor=self.auditor,
            quotas=quotas,
            movers={},
            heartbeat=timedelta(seconds=(900, 900, 20)[self.pick(3)]),
            utc=lambda ahead: self.utc() + ahead,
            monotonic=lambda: self.loop.time() + self._past.total_seconds(),
        )
        self.servers: list[SimServer] = []
        self._started = 0
        self.people = [Person("ada"), Person("bob")]
        self.sendings: list[Sending] = []
        self.watchers: list[Watcher] = []
        self._watching: list[asyncio.Task[None]] = []
        self.requests_running = 0  # calls of RequestUpload

    def pick(self, count: int) -> int:
        """Returns a number from 0 to one below that: a choice of the schedule. 0 is the plainest."""
        return self.loop.choose(count, DATA)

    async def think(self) -> None:
        """A client does something else for a while."""
        choices = _HURRIED_S if self.is_hurried else _THINKING_S
        await asyncio.sleep(choices[self.pick(len(choices))])

    def utc(self) -> datetime:
        """The true time, to the millisecond."""
        now = BASE + self._past + timedelta(seconds=self.loop.time())
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def server(self) -> SimServer:
        """Returns a server, perhaps one that has just died."""
        return self.servers[self.pick(len(self.servers))]

    def start(self) -> SimServer:
        """Starts a server."""
        self._started += 1
        return SimServer(self._around, f"server {self._started}", self._ahead())

    def _ahead(self) -> timedelta:
        ahead = _AHEAD[self.pick(len(_AHEAD))] if self.may_clocks_differ else timedelta(0)
        self.are_clocks_right &= abs(ahead) < _NOTICED
        return ahead

    def _check_all_mailboxes(self) -> None:
        for server in self.servers:
            self.check_mailboxes(server)

    def check_mailboxes(self, server: SimServer) -> None:
        """No mailbox holds more than it has room for."""
        hub = server.hub
        for kinds, slots in ((hub._upload_boxes, 1), (hub._session_boxes, SLOTS), (hub._partition_boxes, SLOTS)):
            for boxes in kinds.values():
                for box in boxes:
                    if box._missed_since is not None:
                        self.auditor.reach("a mailbox had no room: its reader has to read again")
                    self.auditor.check(len(box._news) <= slots and len(box._asides) <= slots, "a mailbox is too full")

    async def run(self) -> None:
        """Lives through the schedule. What does not hold is in `auditor.violations`."""
        pick = self.pick
        if SCENE:
            await SCENES[SCENE](self)
        elif pick(5) < 3:
            await self._anything()
        else:
            await list(SCENES.values())[pick(len(SCENES))](self)
        await self._settle()
        for task in self._watching:
            task.cancel()
        await self._end()

    async def _anything(self) -> None:
        """Whatever the schedule chooses, in any order."""
        pick = self.pick
        self.is_hurried = pick(3) == 2  # many writes at once, of few servers
        self.open((2, 1, 3)[pick(2 if self.is_hurried else 3)], _LEVELS[pick(len(_LEVELS))])
        self.faults.write_s = 0.5 if self.is_hurried else 0.0
        devices = []
        for number in range((4 if self.is_hurried else 2) + pick(2)):
            person = self.people[pick(2)]
            devices.append(self.device(person, new_sending(self, person, f"session {pick(2)}", number)))
        for _ in range(1 + pick(3)):
            self.watch(self._watcher())
        actions = [device.run() for device in devices]
        actions += [device.interfere() for device in devices]
        await self.all_of([*actions, self._chaos()])
        for _ in range(pick(2)):
            await self.skip(_PAUSES[pick(len(_PAUSES))])
            await self.all_of([*(device.interfere() for device in devices), self._chaos()])

    # What schedules are made of

    def open(self, servers: int, level: float | None = None) -> None:
        """Starts servers, and how often something goes wrong."""
        self.servers = [self.start() for _ in range(servers)]
        if level is None:
            level = _LEVELS[(0, 0, 1, 2)[self.pick(4)]]
        self.faults.request, self.faults.call, self.faults.put, self.faults.cut = level, level, level, level
        self.faults.stream = level / 8
        self.is_faultless = level == 0.0

    def use_heartbeat(self, heartbeat: timedelta) -> None:
        """Has servers that start from now on give a sign of life that often."""
        self._around.heartbeat = heartbeat

    def device(self, person: Person, sending: Sending) -> Device:
        """Returns a device that has something to send."""
        self.sendings.append(sending)
        return Device(self, person, sending)

    def watch(self, watcher: Watcher) -> None:
        """Has a watcher begin."""
        self.watchers.append(watcher)
        self._watching.append(self.loop.create_task(watcher.run(), name="a watcher"))

    async def all_of(self, actions: Sequence[Coroutine[Any, Any, object]]) -> None:
        """Waits for all of them. What none of them expected is a violation."""
        for outcome in await asyncio.gather(*actions, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def sweeps(self) -> list[Coroutine[Any, Any, object]]:
        """Returns a look of each server at what is to be swept now."""
        return [self._swept(server) for server in self.servers]

    async def _swept(self, server: SimServer) -> None:
        try:
            await server.call(lambda server: server.sweeper.sweep())
            await server.call(lambda server: server.upload_quotas.sweep())
        except (LedgerUnavailable, ConnectionLost):
            return

    def kill_at_work(self) -> None:
        """Every server dies that has a request under way."""
        if self.is_ending:
            return  # what asks for the last sweeps would wait for ever
        for number, server in enumerate(self.servers):
            if not server.is_idle:
                self._kill(number)

    async def skip(self, pause: timedelta) -> None:
        """Time goes by in which nobody does anything."""
        await self._quiet()
        self._check_quotas()
        self._past += pause

    def lose_streams(self) -> None:
        """Every change stream loses its history."""
        self.mongo.lose_streams()

    def check_claims(self) -> None:
        """Where nothing has gone wrong and nobody waits, every claim is that of an upload that was stored."""
        if not self.is_faultless or self.requests_running:
            return
        uploads = self.mongo.collections["uploads"]
        for name, account in self.mongo.collections["quotas"].items():
            for claim in account.get("claims", {}).values():
                is_there = any(one in uploads for one in claim["upload_ids"])
                self.auditor.check(is_there, f"{name} is charged for what was refused")

    def _watcher(self) -> Watcher:
        person = self.people[self.pick(2)]
        match self.pick(3):
            case 0:
                mine = [one for one in self.sendings if one.request.uid == person.uid]
                if mine:
                    return UploadWatcher(self, person, mine[self.pick(len(mine))])
                return SessionWatcher(self, person, "session 0")
            case 1:
                return SessionWatcher(self, person, f"session {self.pick(2)}")
            case _:
                return PartitionWatcher(self, person, "team/all" if self.pick(2) else person.partition)

    async def _chaos(self) -> None:
        actions: list[Callable[[], None]] = [
            self._nothing,
            self._crash,
            self._crash_at_work,
            self.mongo.lose_streams,
            self._turn_clock,
            self.hold_back,
            self._revoke,
        ]
        for _ in range(self.pick(4)):
            await asyncio.sleep((0.01, 0.3, 2.0, 35.0)[self.pick(4)])
            actions[self.pick(len(actions))]()

    def _nothing(self) -> None:
        pass

    def _crash(self) -> None:
        self._kill(self.pick(len(self.servers)))

    def _kill(self, number: int) -> None:
        dying = self.servers[number]
        self.is_faultless = False
        if not dying.is_idle:
            self.auditor.reach("a server died with requests under way")
        uploads = self.mongo.collections["uploads"].values()
        if any(document["status"] == "UPLOADED" for document in uploads):
            self.auditor.reach("a server died while an upload was UPLOADED")
        if any(document["status"] == "PENDING" for document in uploads):
            self.auditor.reach("a server died while an upload was PENDING")
        dying.kill()
        self.servers[number] = self.start()

    def _crash_at_work(self) -> None:
        """A server dies while an upload is UPLOADED, if one is so within a minute."""
        self.loop.create_task(self._crash_when_uploaded(), name="a crash at work")

    async def _crash_when_uploaded(self) -> None:
        uploads = self.mongo.collections["uploads"]
        for _ in range(60):
            await asyncio.sleep(1.0)
            if self.is_ending:
                return
            for document in uploads.values():
                if document["status"] == "UPLOADED":
                    name = self._around.movers.get(document["_id"])
                    number = next((n for n, one in enumerate(self.servers) if one.name == name), 0)
                    self._kill(number)
                    return

    def _turn_clock(self) -> None:
        server = self.server()
        ahead = self._ahead()
        self.auditor.reach("a server's clock jumped back" if ahead < server.ahead else "a server's clock jumped ahead")
        server.ahead = ahead

    def hold_back(self) -> None:
        """A server of a newer version holds an upload back, which this version cannot read, and then refuses it."""
        uploads = self.mongo.collections["uploads"]
        held = [one for one in uploads.values() if one["status"] == "INITIALIZED"]
        if held:
            upload_id = held[self.pick(len(held))]["_id"]
            self.is_faultless = False
            self._move(upload_id, "HELD")
            self.loop.call_later(10.0, self._move, upload_id, "FAILED")

    def _move(self, upload_id: str, status: str) -> None:
        document = self.mongo.collections["uploads"].get(upload_id)
        if document is None:
            return
        revision, now = document["revision"] + 1, self.utc()
        route = {**document["route"], "revision": revision}
        entry = {"id": secrets.token_bytes(9), "revision": revision, "status": status, "time": now}
        entry["time"] = max(now, document["history"][-1]["time"])
        self.mongo.update(
            "uploads",
            {"_id": upload_id, "revision": revision - 1},
            {
                "$set": {
                    "status": status,
                    "revision": revision,
                    "route": route,
                    "sweep_time": max(now, document.get("targets_expire_time", now)) + timedelta(seconds=5),
                    "of_a_newer_version": {"asked": "a reviewer"},
                },
                "$push": {"history": {"$each": [entry]}},
            },
        )

    def _revoke(self) -> None:
        """A right is taken away, for good."""
        person = self.people[1]
        if not person.is_revoked:
            person.is_revoked, person.revoked_at = True, self.utc()

    async def _quiet(self) -> None:
        ends_at = self.loop.time() + _QUIET_S
        uploads = self.mongo.collections["uploads"]
        while not (
            self.mongo.is_heard
            and all(server.is_idle for server in self.servers)
            and all(document["status"] != "HELD" for document in uploads.values())
        ):
            await asyncio.sleep(0.5)
            if self.loop.time() > ends_at:
                self.auditor.fail("requests go on and on")
                return

    def _check_quotas(self) -> None:
        """Where nothing has gone wrong, what is claimed is what is open, at the store too."""
        if not self.is_faultless:
            return
        uploads = self.mongo.collections["uploads"].values()
        known = {one for document in uploads for one in document.get("multipart_ids", {}).values()}
        for multipart_id in self.store.open:
            self.auditor.check(multipart_id in known, f"{multipart_id} is open, and no upload knows it")
        open_of = Counter(
            document["uid"]
            for document in self.mongo.collections["uploads"].values()
            if document["status"] not in FINAL
        )
        for name, account in self.mongo.collections["quotas"].items():
            kind, _, uid = name.partition(":")
            if kind == "uid":
                self.auditor.check(
                    account["open_uploads"] == open_of[uid],
                    f"{name} is charged for {account['open_uploads']}, and has {open_of[uid]} open",
                )

    async def _settle(self) -> None:
        """Nothing goes wrong any more: every watcher catches up."""
        self.is_ending = True
        for server in self.servers:
            for link in server.links:
                link.is_cut, link.slow_s = False, 0.0
        self.faults.calm()
        for server in self.servers:
            if abs(server.ahead) > _NOTICED:
                server.ahead = timedelta(0)  # stores refuse what such a server signs: somebody has set its clock
        ends_at = self.loop.time() + _CATCH_UP_S
        await asyncio.sleep(5.0)
        while not all(watcher.is_up_to_date for watcher in self.watchers):
            await asyncio.sleep(5.0)
            if self.loop.time() > ends_at:
                late = next(watcher for watcher in self.watchers if not watcher.is_up_to_date)
                self.auditor.fail(f"a watcher was not sent everything: {late.describe()}")
                return

    async def _end(self) -> None:
        """Days go by, sweepers do what is left, and nothing is left."""
        for server in self.servers:
            server.rest()
        await self._quiet()
        for later in _END:
            self._past += later
            server = self.server()
            for _ in range(_MOST_ROUNDS):
                try:
                    has_work = await server.sweeper.sweep() + await server.upload_quotas.sweep()
                except (LedgerUnavailable, StoreUnavailable) as error:
                    self.auditor.fail(f"without faults: {error}")
                    return
                if not has_work:
                    break
            else:
                self.auditor.fail("a sweep never ends")
            self._check_strays()
        self._check_end()

    def _check_strays(self) -> None:
        """What was sent through URLs of an upload that ended is deleted soon after their end."""
        if not self.are_clocks_right:
            return  # a server whose clock is ahead has looked too early: it looks again before the record goes
        uploads = self.mongo.collections["uploads"]
        for key in self.store.objects:
            document = next((one for upload_id, one in uploads.items() if f"/{upload_id}/" in key), None)
            if (
                key in self.auditor.owned
                or document is None
                or document["status"] not in ("FAILED", "CANCELLED", "EXPIRED")
            ):
                continue
            ended = max(document["history"][-1]["time"], document.get("targets_expire_time", BASE))
            self.auditor.check(
                self.utc() < ended + timedelta(hours=4), f"{key} lies there long after its URLs have ended"
            )

    def _check_end(self) -> None:
        auditor, uploads = self.auditor, self.mongo.collections["uploads"]
        for upload_id, document in uploads.items():
            auditor.check(document["status"] in FINAL, f"{upload_id} never ended: {document['status']}")
            is_there = "asset" in document and "delete_time" not in document["asset"]
            auditor.check(is_there, f"{upload_id}: its record never went, it is {document['status']}")
        for key in self.store.objects:
            auditor.check(key in auditor.owned, f"{key} belongs to nobody")
        for key in auditor.owned:
            auditor.check(key in self.store.objects, f"{key} is lost")
        for multipart_id, one in self.store.open.items():
            auditor.fail(f"{multipart_id} of {one.promise.key} stays open")
        for account in self.mongo.collections["quotas"].values():
            auditor.check(account["open_uploads"] == 0, f"{account['_id']} is charged for what has ended")


LINES: list[str] | None = None  # of the next cluster
SCENE = ""  # of the next cluster, by its name; empty: the schedule chooses
BROKEN: Callable[[], str] = str  # which invariant the newest cluster broke; empty: none of the auditor's


async def main() -> Cluster:
    """Runs one schedule, as the loop chooses."""
    global BROKEN
    cluster = Cluster()
    BROKEN = lambda: cluster.auditor.broken  # noqa: E731 - it holds on to the cluster until the next one
    await cluster.run()
    return cluster
