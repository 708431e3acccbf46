"""One server process: every use case as `app.py` puts them together, on simulated stores. It may die at any step."""

import asyncio
import hashlib
import traceback
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from detangle import SimLoop
from tests.simulation.auditor import Auditor
from tests.simulation.mongo import SimDatabase, SimMongo, taken_event
from tests.simulation.network import FAULT, Faults, Link, Observer
from tests.simulation.store import SimStore, StoreClient, png
from typing_extensions import override

from assetlane_server.access.quota_enforcer import QuotaEnforcer
from assetlane_server.access.quotas import Quotas
from assetlane_server.composition.use_cases import use_cases
from assetlane_server.model.admission import Terms
from assetlane_server.model.cut_plan import CutPlan, MadeCut, MadePicture
from assetlane_server.model.errors import CuttingTimedOut, PictureRefused, StoreUnavailable
from assetlane_server.model.ids import _DIGITS
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import LedgerTime, Status, Upload
from assetlane_server.ports.meter import Meter
from assetlane_server.records.clock import LedgerClock
from assetlane_server.records.hub import Hub
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.asset_watches import AssetWatches
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper
from assetlane_server.uploads.upload_watches import UploadWatches

T = TypeVar("T")
MIB: Final = 1024**2
SWEEP_INTERVAL: Final = timedelta(seconds=30)
CLAIM_LEASE: Final = timedelta(seconds=90)
KEY: Final = b"a key of every server"
BATCH_WRITES: Final = 3  # of a bulk write
SLOTS: Final = 2  # of a mailbox for many records
SESSION_UPLOADS: Final = 2  # of a session that are read at once
TERMS: Final = Terms(
    multipart_threshold_bytes=32 * MIB,
    multipart_part_bytes=16 * MIB,
    can_cut=lambda content_type: content_type == "image/png",
)


class ConnectionLost(Exception):  # noqa: N818 - what happened
    """The server died, or its answer was lost: whether the call was carried out is not known."""


@dataclass
class Environment:
    """What a server finds when it starts."""

    loop: SimLoop
    mongo: SimMongo
    store: SimStore
    faults: Faults
    auditor: Auditor
    quotas: Quotas
    movers: dict[str, str]  # which server made the newest status change of an upload
    heartbeat: timedelta
    utc: Callable[[timedelta], datetime]  # the time of a clock that is so much ahead
    monotonic: Callable[[], float]


class SimServer:
    """A process that takes calls and watches until it is killed."""

    def __init__(self, around: Environment, name: str, ahead: timedelta) -> None:
        self.name = name
        self.ahead = ahead  # of the true time
        self.is_alive = True
        self._around = around
        self._loop = around.loop
        self._losers: dict[object, Callable[[], None]] = {}  # how to notify those who wait that the server died
        self._tasks: set[asyncio.Task[Any]] = set()
        self.links = [Link(around.loop, around.faults, around.auditor, f"{name} {to}") for to in ("mongo", "store")]
        meter = SimMeter(around.auditor, around.movers, name)
        database = SimDatabase(around.mongo, self.links[0], around.faults)
        self.records = records = MongoRecords(
            database,  # type: ignore[arg-type]  # what Motor is elsewhere
            meter,
            batch_writes=BATCH_WRITES,
            take_events=taken_event,
        )
        records.clock = LedgerClock(around.monotonic)
        stamp = around.mongo.stamp()
        records.clock.learn(LedgerTime((stamp.time << 32) | stamp.inc))
        store = StoreClient(around.store, self.links[1])
        self.upload_quotas = QuotaEnforcer(
            records, records.quotas, around.quotas, lease=CLAIM_LEASE, now=records.clock.utc
        )
        self.changes = StatusChanges(records, self.upload_quotas, meter)
        signer = TokenSigner(KEY)
        self.hub = Hub(records, meter, slots=SLOTS, session_uploads=SESSION_UPLOADS)
        self.upload_watches = UploadWatches(uploads=records, hub=self.hub, heartbeat=around.heartbeat)
        self.asset_watches = AssetWatches(assets=records, hub=self.hub, signer=signer, heartbeat=around.heartbeat)
        cases = use_cases(
            records=records,
            changes=self.changes,
            store=store,
            server_cuts=ServerCuts(
                cutter=SimCutter(around),
                store=store,
                records=records,
                at_once=1,
                now=self.now,
                can_cut=TERMS.can_cut,
                meter=meter,
            ),
            terms=TERMS,
            signer=signer,
            new_id=self._new_id,
            now=self.now,
            progress_interval=timedelta(seconds=0.3),
        )
        self.requests, self.completions, self.uploads = cases.requests, cases.completions, cases.uploads
        self.parts, self.assets = cases.parts, cases.assets
        self.sweeper = Sweeper(
            records=LeasedRecords(records, around.auditor),
            changes=self.changes,
            store=store,
            completions=self.completions,
            interval=SWEEP_INTERVAL,
            now=self.now,
            meter=meter,
        )
        self._essential(self.hub.run(), "hub")
        self._tending = [
            self._essential(self.sweeper.run(), "sweeper"),
            self._essential(self.upload_quotas.run(SWEEP_INTERVAL), "quotas"),
        ]

    def now(self) -> datetime:
        """The time of its own clock."""
        return self._around.utc(self.ahead)

    def kill(self) -> None:
        """It dies: no step of it has an effect any more, and nobody hears of it."""
        self._around.auditor.note(f"{self.name} dies")
        self.is_alive = False
        for link in self.links:
            link.is_alive = False
        for lose in list(self._losers.values()):
            lose()
        self._losers.clear()

    def rest(self) -> None:
        """It sweeps no more by itself."""
        for task in self._tending:
            task.cancel()

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is under way, but for those of its change stream."""
        return all(link.under_way == 0 for link in self.links)

    async def call(self, begin: Callable[["SimServer"], Coroutine[Any, Any, T]]) -> T:
        """Returns what a call returns. Raises ConnectionLost. Cancelled, the call is cancelled too."""
        loop = self._loop
        if not self.is_alive:
            raise ConnectionLost
        is_lost = loop.flip(self._around.faults.call, FAULT)
        work = begin(self)
        name: str = getattr(work, "__name__", "a call")
        self._around.auditor.note(f"{self.name}: {name}{' (its answer will be lost)' if is_lost else ''}")
        task = self._spawn(work, name)
        answer: asyncio.Future[None] = loop.create_future()

        def end(done: object = None) -> None:
            if isinstance(done, asyncio.Task) and not done.cancelled():
                done.exception()  # fetched: its caller may have gone
            if not answer.done():
                answer.set_result(None)

        self._losers[answer] = end
        task.add_done_callback(end)
        try:
            await answer
        except asyncio.CancelledError:
            if self.is_alive:
                task.cancel()
            raise
        finally:
            self._losers.pop(answer, None)
        if not task.done() or (is_lost and self.is_alive):
            raise ConnectionLost
        return task.result()

    def watch(self, events: AsyncGenerator[T]) -> "SimWatch[T]":
        """Begins a watch whose events are taken with `next`."""
        return SimWatch(self, events)

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = self._loop.create_task(work, name=f"{self.name} {name}")
        self._tasks.add(task)
        return task

    def _essential(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._spawn(work, name)

        def broke(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and self.is_alive:
                trace = "".join(traceback.format_exception(done.exception()))
                self._around.auditor.fail(f"the {name} of {self.name} ended: {trace}")

        task.add_done_callback(broke)
        return task

    def _new_id(self) -> str:
        seconds = self.records.clock.now() >> 32
        digits, milliseconds = "", seconds * 1000
        for _ in range(10):
            milliseconds, value = divmod(milliseconds, 32)
            digits = _DIGITS[value] + digits
        chance = hashlib.sha256(str(self._around.store.next_number()).encode()).digest()
        return digits + "".join(_DIGITS[byte % 32] for byte in chance[:16])


class LeasedRecords:
    """SweepRecords that notice a sweeper that ends what it has not taken before."""

    def __init__(self, records: MongoRecords, auditor: Auditor) -> None:
        self._records = records
        self._auditor = auditor
        self._leases: set[tuple[str, datetime | None]] = set()

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """See SweepRecords."""
        return await self._records.uploads_to_sweep(until=until, limit=limit)

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        is_taken = await self._records.reschedule_upload(upload, sweep_time, is_swept=is_swept)
        if is_taken:
            self._auditor.lease_taken(upload.upload_id, upload.sweep_time, sweep_time)
            self._leases.add((upload.upload_id, sweep_time))
        return is_taken

    async def erase_places(self, upload: Upload, sweep_time: datetime) -> bool:
        """See SweepRecords."""
        self._check(upload)
        return await self._records.erase_places(upload, sweep_time)

    async def count_cut_timeout(self, upload_id: str) -> int:
        """See SweepRecords."""
        return await self._records.count_cut_timeout(upload_id)

    async def purge_upload(self, upload: Upload) -> bool:
        """See SweepRecords."""
        self._check(upload)
        return await self._records.purge_upload(upload)

    def _check(self, upload: Upload) -> None:
        if (upload.upload_id, upload.sweep_time) not in self._leases:
            self._auditor.fail(f"{upload.upload_id}: a sweeper ends what it has not taken")


class SimWatch(Generic[T]):
    """A stream of a server to a client, one event at a time."""

    def __init__(self, server: SimServer, events: AsyncGenerator[T]) -> None:
        self._server = server
        self._ready: deque[T] = deque()
        self._end: BaseException | None = None
        self._bell: asyncio.Future[None] | None = None
        self._capacity: asyncio.Future[None] | None = None
        self._task = server._spawn(self._pump(events), "watch")
        server._losers[self] = lambda: self._finish(ConnectionLost())
        if not server.is_alive:
            self._finish(ConnectionLost())

    async def next(self) -> T:
        """Returns the next event. Raises what the watch raises, StopAsyncIteration at its end, ConnectionLost."""
        while not self._ready:
            if self._end is not None:
                raise self._end
            self._bell = self._server._loop.create_future()
            await self._bell
        item = self._ready.popleft()
        if self._capacity is not None and not self._capacity.done():
            self._capacity.set_result(None)
        return item

    def cancel(self) -> None:
        """The client hangs up."""
        self._server._losers.pop(self, None)
        if self._server.is_alive:
            self._task.cancel()

    async def _pump(self, events: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    while self._ready:  # one at a time: a slow reader holds the watch up
                        self._capacity = self._server._loop.create_future()
                        await self._capacity
                    self._ready.append(event)
                    self._ring()
        except asyncio.CancelledError:
            self._finish(ConnectionLost())
            raise
        except Exception as error:
            self._finish(error)
        else:
            self._finish(StopAsyncIteration())
        finally:
            self._server._losers.pop(self, None)

    def _finish(self, end: BaseException) -> None:
        if self._end is None:
            self._end = end
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)


class SimCutter:
    """See PictureCutter: its cuts are labels too, and it has all the ways to fail."""

    def __init__(self, around: Environment) -> None:
        self._around = around

    @asynccontextmanager
    async def cut(
        self, original: PresignedRequest, size_bytes: int, content_type: str, plan: CutPlan
    ) -> AsyncIterator["SimPicture"]:
        """See PictureCutter."""
        loop = self._around.loop
        await asyncio.sleep((0.0, 1.0, 25.0)[loop.choose(3, FAULT)])
        if loop.flip(self._around.faults.cut, FAULT):
            match loop.choose(3, FAULT):
                case 0:
                    raise StoreUnavailable("The original cannot be fetched.")
                case 1:
                    raise PictureRefused("IMAGE_BROKEN", "It cannot be decoded.")
                case _:
                    self._around.auditor.reach("a picture got no time to be cut")
                    raise CuttingTimedOut("It took too long.")
        yield SimPicture(self._around.store, plan)


class SimPicture:
    """See CutPicture."""

    def __init__(self, store: SimStore, plan: CutPlan) -> None:
        self._store = store
        self._bodies = [png(f"{plan.place}{size.name}", 1000 + size.max_edge_px) for size in plan.sizes]
        self.made = MadePicture(
            1200,
            900,
            "#80a0c0",
            tuple(
                MadeCut(size.name, "image/png", body.size_bytes, body.sha256, size.max_edge_px, size.max_edge_px)
                for size, body in zip(plan.sizes, self._bodies, strict=True)
            ),
        )

    async def store(self, requests: Sequence[PresignedRequest]) -> list[bool]:
        """See CutPicture."""
        await asyncio.sleep(0)
        statuses = [self._store.put(request, body) for request, body in zip(requests, self._bodies, strict=True)]
        if any(status not in (200, 412) for status in statuses):
            raise StoreUnavailable("A cut was not stored.")
        if 412 in statuses:
            self._store.auditor.reach("a cut was there from an earlier attempt")
        return [status == 200 for status in statuses]


class SimMeter(Meter):
    """A Meter that notes which situations were reached."""

    def __init__(self, observer: Observer, movers: dict[str, str], name: str) -> None:
        self._observer = observer
        self._movers = movers
        self._name = name

    @override
    def moved(self, upload: Upload, *, after_revision: int) -> None:
        for then in upload.after(after_revision):
            self._moved(then)

    def _moved(self, upload: Upload) -> None:
        earlier, self._movers[upload.upload_id] = self._movers.get(upload.upload_id, ""), self._name
        if upload.status is Status.UPLOADED:
            self._observer.reach("an upload is UPLOADED")
        elif upload.status is Status.COMPLETED and earlier != self._name:
            self._observer.reach("an upload was made UPLOADED by one server and COMPLETED by another")
        if upload.status is Status.FAILED:
            self._observer.reach(f"an upload FAILED: {upload.history[-1].reason}")
        elif upload.status in (Status.EXPIRED, Status.CANCELLED):
            self._observer.reach(f"an upload is {upload.status}")

    @override
    def skipped(self) -> None:
        self._observer.reach("a record of a newer version was skipped")

    @override
    def stream_lost(self) -> None:
        self._observer.reach("a hub opened its change stream again")

    @override
    def swept(self, kind: str, *, is_settled: bool) -> None:
        self._observer.reach(f"a sweeper {'settled' if is_settled else 'could not settle'} {kind}")
