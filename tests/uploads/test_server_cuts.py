"""What becomes of a plan: cuts, a notice, or a failure. On a store in memory, with a cutter that does as scripted."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from tests.memory.object_store import MemoryObjectStore
from tests.refusals import numbers_in
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.model.cut_plan import CutPlan, MadeCut, MadePicture
from assetlane_server.model.errors import (
    CutDiffers,
    CuttingTimedOut,
    LedgerUnavailable,
    PictureRefused,
    StoreUnavailable,
)
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import Failure, Upload, VariantPromise
from assetlane_server.uploads.server_cuts import CutOutcome, ServerCuts

CUTS = {"small": b"a small picture", "medium": b"a medium picture"}
ORIGINAL = b"\xff\xd8\xff the original"


def made(name: str) -> MadeCut:
    """A cut that a worker has made."""
    return MadeCut(name, "image/jpeg", len(CUTS[name]), hashlib.sha256(CUTS[name]).digest(), 30, 20)


class Picture:
    """A CutPicture."""

    made = MadePicture(40, 30, "#102030", (made("small"), made("medium")))

    def __init__(self, store: MemoryObjectStore) -> None:
        self._store = store

    async def store(self, requests: Sequence[PresignedRequest]) -> list[bool]:
        """See CutPicture."""
        answers = [
            await self._store.send(request, CUTS[cut.name])
            for cut, request in zip(self.made.cuts, requests, strict=True)
        ]
        assert {answer.status for answer in answers} <= {200, 412}
        return [answer.status == 200 for answer in answers]


@dataclass
class Cutter:
    """A PictureCutter that fails as scripted, once for each fault, and then makes the cuts."""

    store: MemoryObjectStore
    faults: list[Exception] = field(default_factory=list)
    begun: int = 0

    @asynccontextmanager
    async def cut(
        self, original: PresignedRequest, size_bytes: int, content_type: str, plan: CutPlan
    ) -> AsyncIterator[Picture]:
        """See PictureCutter."""
        self.begun += 1
        if self.faults:
            raise self.faults.pop(0)
        answer = await self.store.send(original)
        assert (answer.status, len(answer.body), content_type) == (200, size_bytes, "image/jpeg")
        assert plan.sizes
        yield Picture(self.store)


class Records:
    """What ServerCuts needs of SweepRecords; outlives a server, as the ledger does."""

    def __init__(self) -> None:
        self.timeouts: dict[str, int] = {}
        self.is_down = False

    async def count_cut_timeout(self, upload_id: str) -> int:
        """See SweepRecords."""
        if self.is_down:
            raise LedgerUnavailable("down")
        self.timeouts[upload_id] = self.timeouts.get(upload_id, 0) + 1
        return self.timeouts[upload_id]

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        return upload.sweep_time != sweep_time or is_swept


@dataclass
class Bench:
    """A room, with all that is around it."""

    store: MemoryObjectStore
    cutter: Cutter
    records: Records
    upload: Upload

    def limit(self, **limits: object) -> ServerCuts:
        """Another server's, or the same one's after a restart."""
        return ServerCuts(
            cutter=self.cutter,
            store=self.store,
            records=self.records,  # type: ignore[arg-type]  # the part of it that is used
            at_once=1,
            now=lambda: NOW,
            **limits,  # type: ignore[arg-type]  # a test's own
        )

    async def cut(self, *, required: bool = False, **limits: object) -> CutOutcome | Failure:
        """What becomes of the upload."""
        plan = self.upload.cut_plan
        assert plan is not None
        return await self.limit(**limits).cut(self.upload, replace(plan, required=required))


@pytest.fixture
async def bench() -> Bench:
    """An upload whose original is stored."""
    store = MemoryObjectStore(lambda: NOW)
    variant = VariantPromise("original", "image/jpeg", len(ORIGINAL))
    upload = requested(variants=(variant,), cut_plan=CutPlan(), notices=())
    request = store.presign_put(upload.variants[0], NOW, QUARTER)
    assert (await store.send(request, ORIGINAL)).status == 200
    return Bench(store, Cutter(store), Records(), upload)


def reasons(outcome: CutOutcome | Failure) -> list[str]:
    """Why there are no cuts, as the asset says."""
    assert isinstance(outcome, CutOutcome)
    assert not outcome.stored
    return [notice.reason for notice in outcome.notices]


async def test_cuts_are_stored_by_signed_requests_and_proved_by_the_store(bench: Bench) -> None:
    """Under the plan's keys, with type, length and hash; the upload learns of them, and of its own measures."""
    outcome = await bench.cut()
    assert isinstance(outcome, CutOutcome)
    assert [variant.name for variant in outcome.upload.variants] == ["original", "small", "medium"]
    assert (outcome.upload.variants[0].width_px, outcome.upload.variants[0].height_px) == (40, 30)
    assert [found.sha256 for found in outcome.stored] == [made("small").sha256, made("medium").sha256]
    for variant in outcome.upload.variants[1:]:
        found = bench.store.objects[variant.key]
        assert (found.data, found.headers["content-type"]) == (CUTS[variant.name], "image/jpeg")
    assert not outcome.notices


async def test_the_second_time_finds_the_cuts_of_the_first(bench: Bench) -> None:
    """A server died after it had stored them; perhaps its encoder was another one."""
    plan = bench.upload.cut_plan
    assert plan is not None
    bench.store.store(plan.key("small", "image/jpeg"), b"of another encoder", {"content-type": "image/jpeg"}, b"")
    outcome = await bench.cut()
    assert isinstance(outcome, CutOutcome)
    small = outcome.upload.variants[1]
    assert (small.size_bytes, small.sha256) == (len(b"of another encoder"), b"")
    again = await bench.cut()
    assert isinstance(again, CutOutcome)
    assert again.stored == outcome.stored


async def test_a_cut_that_the_store_has_otherwise_is_not_recorded(bench: Bench) -> None:
    """What the worker says is no proof: what the store says is."""

    class Forgetful(MemoryObjectStore):
        async def send(self, request: PresignedRequest, body: bytes = b"") -> object:  # type: ignore[override]
            """Stores something else."""
            answer = await super().send(request, body)
            if request.method == "PUT":
                for key in self.objects:
                    if not key.endswith("original.jpg"):
                        self.objects[key] = replace(self.objects[key], data=b"another")
            return answer

    store = Forgetful(lambda: NOW)
    store.objects = bench.store.objects
    forgetful = Bench(store, Cutter(store), bench.records, bench.upload)
    with pytest.raises(CutDiffers):
        await forgetful.cut()


async def test_a_picture_without_cuts_is_stored_with_a_notice_and_fails_where_they_are_required(bench: Bench) -> None:
    """The notice of the asset and the failure of the upload have the same reason."""
    refusal = PictureRefused("IMAGE_BROKEN", "No cuts can be made: truncated.")
    bench.cutter.faults = [refusal, refusal]
    assert reasons(await bench.cut()) == ["IMAGE_BROKEN"]
    assert await bench.cut(required=True) == Failure("IMAGE_BROKEN", str(refusal))


async def test_no_process_is_begun_for_what_can_have_no_cuts(bench: Bench) -> None:
    """A file whose type or size allows no cuts is settled without a cutting process."""
    assert reasons(await bench.cut(can_cut=lambda _type: False)) == ["IMAGE_UNRECOGNIZED"]
    assert reasons(await bench.cut(max_bytes=len(ORIGINAL) - 1)) == ["IMAGE_TOO_LARGE"]
    assert isinstance(await bench.cut(max_bytes=1, required=True), Failure)
    assert bench.cutter.begun == 0
    assert isinstance(await bench.cut(max_bytes=len(ORIGINAL)), CutOutcome)
    assert bench.cutter.begun == 1


async def test_a_picture_that_got_no_time_is_tried_again(bench: Bench) -> None:
    """Two tries run out of time, the third one makes the cuts."""
    bench.cutter.faults = [CuttingTimedOut("none"), CuttingTimedOut("none")]
    outcome = await bench.cut()
    assert isinstance(outcome, CutOutcome)
    assert len(outcome.stored) == 2
    assert bench.cutter.begun == 3


async def test_three_times_without_time_are_enough_across_restarts_too(bench: Bench) -> None:
    """The count is in the ledger: whichever server goes on knows of the tries before."""
    bench.cutter.faults = [CuttingTimedOut("none"), StoreUnavailable("down")]
    with pytest.raises(StoreUnavailable):
        await bench.cut()
    bench.cutter.faults = [CuttingTimedOut("none")] * 5
    outcome = await bench.cut()
    assert reasons(outcome) == ["CUTTING_TIMED_OUT"]
    assert isinstance(outcome, CutOutcome)
    assert 3 in numbers_in(outcome.notices[0].message)
    assert bench.cutter.begun == 4
    assert isinstance(await bench.cut(required=True), Failure)


async def test_a_store_that_is_down_counts_for_no_try(bench: Bench) -> None:
    """Nothing is the picture's fault there: ten outages, and it is cut all the same."""
    for _ in range(10):
        bench.cutter.faults = [StoreUnavailable("down")]
        with pytest.raises(StoreUnavailable):
            await bench.cut()
    assert not bench.records.timeouts
    assert isinstance(await bench.cut(), CutOutcome)


async def test_a_ledger_that_is_down_ends_the_work_for_now(bench: Bench) -> None:
    """What cannot be counted is not tried on and on."""
    bench.records.is_down = True
    bench.cutter.faults = [CuttingTimedOut("none")] * 5
    with pytest.raises(LedgerUnavailable):
        await bench.cut()
    assert bench.cutter.begun == 1


async def test_while_one_waits_for_another_try_others_are_cut(bench: Bench) -> None:
    """A turn is given back after each try."""
    bench.cutter.faults = [CuttingTimedOut("none")]
    limit, plan = bench.limit(), bench.upload.cut_plan
    assert plan is not None
    outcomes = await asyncio.gather(limit.cut(bench.upload, plan), limit.cut(bench.upload, plan))
    assert [isinstance(outcome, CutOutcome) for outcome in outcomes] == [True, True]
