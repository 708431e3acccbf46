"""Any sequence of calls, PUTs, restarts and time leads where DESIGN's state table says."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeVar

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.faults.conftest import Report
from tests.faults.life_model import Ledger, Life, Stored
from tests.faults.scale import SCALE
from tests.records.stores import drop
from tests.servers import settings_for
from yarl import URL

from assetlane_server.composition.app import new_id, object_store, server_cuts, utc_now
from assetlane_server.composition.use_cases import use_cases
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress
from assetlane_server.model.admission import UploadRequest
from assetlane_server.model.errors import Refusal
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import ORIGINAL, Upload, VariantPromise
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.sweeper import Sweeper

pytestmark = pytest.mark.faults

EXAMPLES: Final = round(100 * SCALE)
STEPS: Final = 30
MOST_UPLOADS: Final = 4  # without a request id
BODY: Final = b"five!"
OTHER_BODY: Final = b"not five"
LIFETIME: Final = timedelta(minutes=15)
SECOND: Final = timedelta(seconds=1)
TIMES: Final = (
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=14),
    timedelta(minutes=16),
    timedelta(hours=25),
    timedelta(days=31),
)
ACTIONS: Final = [
    action
    for action, weight in {
        "request": 4,
        "put": 6,
        "complete": 4,
        "die": 2,
        "cancel": 2,
        "refresh": 2,
        "delete": 2,
        "time": 4,
        "restart": 1,
    }.items()
    for _ in range(weight)
]
T = TypeVar("T")
numbers = st.integers(0, 3)


class ServerUnderTest:
    """The use cases on real stores, with a clock that stands still until it is moved."""

    def __init__(
        self, records: MongoRecords, store: S3ObjectStore, web: aiohttp.ClientSession, settings: Settings
    ) -> None:
        self.now_is = utc_now().replace(microsecond=0)
        self.records = records
        self.store = store
        self._web = web
        self._settings = settings

    def now(self) -> datetime:
        """The clock."""
        return self.now_is

    async def restart(self) -> None:
        """A new server on the same stores."""
        changes = StatusChanges(self.records)
        cases = use_cases(
            records=self.records,
            changes=changes,
            store=self.store,
            server_cuts=server_cuts(self._settings, self.records, self.store, self.now),
            terms=self._settings.terms,
            signer=TokenSigner(self.records.token_key),
            new_id=new_id,
            now=self.now,
            progress_interval=SECOND,
        )
        self.requests, self.completions, self.uploads = cases.requests, cases.completions, cases.uploads
        self.assets = cases.assets
        self._sweepers = [
            Sweeper(
                records=self.records,
                changes=changes,
                store=self.store,
                completions=self.completions,
                interval=SECOND,
                now=self.now,
            )
            for _ in range(2)
        ]

    async def sweep(self) -> None:
        """Two sweepers look until neither finds anything."""
        while any(await asyncio.gather(*(sweeper.sweep() for sweeper in self._sweepers))):
            pass

    async def put(self, key: str, body: bytes) -> int:
        """PUTs through a URL that the store takes for living: its clock stands where the cluster's does."""
        promise = VariantPromise(ORIGINAL, "text/plain", len(body), key=key)
        signed = self.store.presign_put(promise, utc_now(), LIFETIME)
        url = URL(signed.url, encoded=True)
        async with self._web.request(signed.method, url, headers=signed.headers, data=body) as answer:
            return answer.status


class Cluster:
    """A server in an event loop of its own, and the steps that were taken on it."""

    def __init__(self, runner: asyncio.Runner, stack: StackAddress, database_name: str, key_prefix: str) -> None:
        self._runner = runner
        self._resources = AsyncExitStack()
        self._where = (stack.mongo_uri, database_name)
        self.server = self.run(self._open(settings_for(stack, database_name, key_prefix)))
        self.steps: Counter[str] = Counter()

    def run(self, work: Awaitable[T]) -> T:
        """Returns what the work returns."""

        async def wait() -> T:
            return await work

        return self._runner.run(wait())

    def close(self) -> None:
        """Ends it; its records go."""
        self.run(self._resources.aclose())
        self.run(drop(*self._where))

    async def _open(self, config: Settings) -> ServerUnderTest:
        enter = self._resources.enter_async_context
        records = await enter(MongoRecords.open(*self._where, call_timeout=20 * SECOND))
        store = await enter(object_store(config))
        server = ServerUnderTest(records, store, await enter(aiohttp.ClientSession()), config)
        await server.restart()
        return server


class LifeMachine(RuleBasedStateMachine):
    """Drives a server and a model side by side."""

    cluster: ClassVar[Cluster]

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[str, Life] = {}
        self.keys: dict[str, str] = {}
        self.requested: dict[str, str] = {}
        self.round = new_id()

    @property
    def now(self) -> datetime:
        """The server's clock."""
        return self.cluster.server.now_is

    def one(self, number: int) -> tuple[str, Life]:
        """Returns one of the uploads there are."""
        # Counted from the newest: what is old has mostly ended.
        upload_id = list(self.lives)[-1 - number % len(self.lives)]
        return upload_id, self.lives[upload_id]

    def answer(self, work: Awaitable[T], describe: Callable[[T], str]) -> str:
        """Returns what a call answers, or the reason of its refusal."""
        try:
            return describe(self.cluster.run(work))
        except Refusal as refusal:
            return refusal.reason

    def step(self, name: str) -> None:
        """Counts a step."""
        self.cluster.steps[name] += 1

    @initialize()
    def begin(self) -> None:
        """There is one upload at least."""
        self.request(None)

    @rule(action=st.sampled_from(ACTIONS), number=numbers, is_odd=st.booleans(), later=st.sampled_from(TIMES))
    def do(self, action: str, number: int, later: timedelta, *, is_odd: bool) -> None:
        """One step. Not a rule each: hypothesis leaves some rules out of whole runs, and dwells on others."""
        match action:
            case "request":
                self.request(number if is_odd or len(self.lives) >= MOST_UPLOADS else None)
            case "put":
                self.put(number, is_other=is_odd and number == 0)
            case "complete":
                self.complete(number)
            case "die":
                self.die_while_completing(number)
            case "cancel":
                self.cancel(number)
            case "refresh":
                self.refresh(number)
            case "delete":
                self.delete(number)
            case "time":
                self.pass_time(later)
            case _:
                self.restart()

    def request(self, number: int | None) -> None:
        """RequestUpload, with one of few request ids or none."""
        self.step("RequestUpload")
        request_id = "" if number is None else f"{self.round}-{number}"
        promise = VariantPromise(ORIGINAL, "text/plain", len(BODY))
        request = UploadRequest(uid="7f3a", file_path="a.txt", variants=(promise,), request_id=request_id)
        upload, targets = self.cluster.run(self.cluster.server.requests.request_upload(request, UNRESTRICTED))
        known = self.requested.get(request_id)
        if known is not None and self.lives[known].has_record:
            assert upload.upload_id == known
            self.lives[known].renew(self.now, LIFETIME)
            assert upload.status == self.lives[known].status
            assert bool(targets) is (upload.status == "INITIALIZED" and self.lives[known].may_put(self.now))
            return
        assert upload.upload_id not in self.lives
        assert len(targets) == 1
        self.lives[upload.upload_id] = Life(upload.expire_time, self.now + LIFETIME, upload.kept_for)
        self.keys[upload.upload_id] = upload.variants[0].key
        if request_id:
            self.requested[request_id] = upload.upload_id

    def put(self, number: int, *, is_other: bool) -> None:
        """A PUT through a URL that still lives; bytes of another length only an operator can put there."""
        upload_id, life = self.one(number)
        if not life.may_put(self.now):
            return
        self.step("PUT")
        status = self.cluster.run(self.cluster.server.put(self.keys[upload_id], OTHER_BODY if is_other else BODY))
        assert status == life.put()
        if status == 200 and is_other:
            life.stored = Stored.OTHER

    def complete(self, number: int) -> None:
        """CompleteUpload."""
        self.step("CompleteUpload")
        upload_id, life = self.one(number)

        def describe(upload: Upload) -> str:
            assert (upload.readable_asset is not None) is (expected == "COMPLETED" and life.ledger is Ledger.THERE)
            return upload.status

        expected = life.complete(self.now)
        assert (
            self.answer(self.cluster.server.completions.complete_upload(upload_id, UNRESTRICTED), describe) == expected
        )

    def die_while_completing(self, number: int) -> None:
        """CompleteUpload on a server that dies in the middle of long work."""
        upload_id, life = self.one(number)
        if life.status == "INITIALIZED" and life.stored is Stored.PROMISED:
            self.step("CompleteUpload, killed")
            self.cluster.run(self._die(upload_id))
            life.die_uploaded(self.now)

    async def _die(self, upload_id: str) -> None:
        upload = (await self.cluster.server.uploads.get_upload(upload_id, UNRESTRICTED)).uploaded(self.now)
        assert await self.cluster.server.records.advance_upload(upload)

    def cancel(self, number: int) -> None:
        """CancelUpload."""
        self.step("CancelUpload")
        upload_id, life = self.one(number)
        expected = life.cancel(self.now)
        assert (
            self.answer(
                self.cluster.server.uploads.cancel_upload(upload_id, UNRESTRICTED), lambda upload: upload.status
            )
            == expected
        )

    def refresh(self, number: int) -> None:
        """RefreshAsset."""
        self.step("RefreshAsset")
        upload_id, life = self.one(number)
        expected = life.refresh(self.now)
        work = self.cluster.server.assets.refresh_asset(upload_id, None, UNRESTRICTED)
        assert self.answer(work, lambda asset: asset.refresh_time.isoformat()) == expected

    def delete(self, number: int) -> None:
        """DeleteAsset."""
        self.step("DeleteAsset")
        upload_id, life = self.one(number)
        expected = life.delete(self.now)
        assert (
            self.answer(self.cluster.server.assets.delete_asset(upload_id, UNRESTRICTED), lambda nothing: "")
            == expected
        )

    def pass_time(self, later: timedelta) -> None:
        """Time passes, then the sweepers look."""
        self.step("time")
        self.cluster.server.now_is += later
        self.cluster.run(self.cluster.server.sweep())
        for life in self.lives.values():
            life.settle(self.now)

    def restart(self) -> None:
        """The server is another one."""
        self.step("restart")
        self.cluster.run(self.cluster.server.restart())

    @invariant()
    def is_as_the_model_says(self) -> None:
        """Every record, every asset, every object."""
        self.cluster.run(self._compare())

    async def _compare(self) -> None:
        assets = await self.cluster.server.records.find_assets(list(self.lives))
        uploads = await asyncio.gather(
            *(self.cluster.server.records.find_upload(upload_id) for upload_id in self.lives)
        )
        objects = await asyncio.gather(
            *(self.cluster.server.store.head(self.keys[upload_id]) for upload_id in self.lives)
        )
        for (upload_id, life), upload, found in zip(self.lives.items(), uploads, objects, strict=True):
            asset = assets.get(upload_id)
            assert (upload is not None) is life.has_record
            assert upload is None or upload.status == life.status
            assert asset == (None if upload is None else upload.asset)
            ledger = Ledger.NOTHING if asset is None else Ledger.DELETED if asset.is_deleted else Ledger.THERE
            assert ledger is life.ledger
            assert asset is None or asset.refresh_time == life.refreshed
            assert upload is None or bool(upload.file_path) is not life.is_erased
            sizes = {len(BODY): Stored.PROMISED, len(OTHER_BODY): Stored.OTHER}
            assert life.stored is (Stored.NOTHING if found is None else sizes[found.size_bytes])


@pytest.mark.timeout(600)
def test_uploads_lead_the_lives_of_the_state_table(
    stack: StackAddress, database_name: str, key_prefix: str, seed: int, report: Report
) -> None:
    """Requests, PUTs, completions, cancels, refreshes, deletes, deaths, restarts, time: the model agrees."""
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner, closing(Cluster(runner, stack, database_name, key_prefix)) as here:

        class Machine(LifeMachine):
            cluster = here

        try:
            run_state_machine_as_test(seeded(seed)(Machine), settings=limits)
        finally:
            taken = ", ".join(f"{count} {name}" for name, count in sorted(here.steps.items()))
            report(f"{here.steps.total()} steps as the model says: {taken}")
