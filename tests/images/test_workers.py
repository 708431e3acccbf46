"""Cuts in processes of their own: what they fetch, make and store, and what does not survive there."""

import asyncio
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from PIL import Image
from tests.objects.servers import http_server
from tests.refusals import raises

from assetlane_server.images.worker import CPU_LIMIT_FILE, NICENESS
from assetlane_server.images.workers import CuttingLimits, PictureWorkers, can_cut
from assetlane_server.model.cut_plan import CutFormat, CutPlan, CutSize, MadePicture
from assetlane_server.model.errors import CuttingTimedOut, PictureRefused, StoreUnavailable
from assetlane_server.model.presigned import PresignedRequest

LIMITS = CuttingLimits(workers=2, cpu_time=timedelta(seconds=60), time=timedelta(seconds=300))
PLAN = CutPlan()
LIMIT_S = 120.0
# Eight PNGs of noise, each of which takes a second or so of CPU time.
SLOW = CutPlan(tuple(CutSize(f"c{edge}", edge) for edge in range(2000, 2008)), CutFormat.PNG)


@dataclass
class ImageStore:
    """A store over HTTP that looks at no signature: what is asked of it, and what it answers."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # of each PUT
    faults: list[int] = field(default_factory=list)  # statuses of the next answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        name = request.path.strip("/")
        if self.faults:
            await request.read()
            return web.Response(status=self.faults.pop(0))
        if request.method == "PUT":
            body = await request.read()
            self.headers[name] = {key.lower(): value for key, value in request.headers.items()}
            if name in self.files:
                return web.Response(status=412)
            self.files[name] = body
            return web.Response()
        if name == "elsewhere":
            return web.Response(status=307, headers={"Location": f"{self.address}/a.jpg"})
        return web.Response(body=self.files[name]) if name in self.files else web.Response(status=404)

    def get(self, name: str) -> PresignedRequest:
        """A request that reads a file."""
        return PresignedRequest("GET", f"{self.address}/{name}", {}, datetime.now(UTC))

    def put(self, name: str, **headers: str) -> PresignedRequest:
        """A request that stores a file."""
        return PresignedRequest("PUT", f"{self.address}/{name}", headers, datetime.now(UTC))


@pytest.fixture
async def store() -> AsyncIterator[ImageStore]:
    """A store with one picture, `a.jpg`."""
    store = ImageStore(files={"a.jpg": picture()})
    async with http_server(store.answer) as store.address:
        yield store


@pytest.fixture
def workers() -> PictureWorkers:
    """Two workers."""
    return PictureWorkers(LIMITS)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """Returns which folders of workers there are now."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return lambda: list(place.iterdir())


def picture(size: tuple[int, int] = (1200, 800), color: str = "teal", format: str = "JPEG") -> bytes:
    """Returns a picture of one colour."""
    encoded = io.BytesIO()
    Image.new("RGB", size, color).save(encoded, format)
    return encoded.getvalue()


def noise(edge: int) -> bytes:
    """Returns a picture that no encoder makes small."""
    encoded = io.BytesIO()
    Image.effect_noise((edge, edge), 90).convert("RGB").save(encoded, "PNG", compress_level=0)
    return encoded.getvalue()


async def cut(
    workers: PictureWorkers,
    store: ImageStore,
    name: str = "a.jpg",
    content_type: str = "image/jpeg",
    plan: CutPlan = PLAN,
) -> MadePicture:
    """Makes cuts and drops them."""
    size = len(store.files.get(name, b""))
    async with workers.cut(store.get(name), size, content_type, plan) as picture:
        return picture.made


async def begun(folders: Callable[[], list[Path]]) -> None:
    """Waits until a worker has an original and is about to cut it."""
    async with asyncio.timeout(LIMIT_S):
        while not any((folder / CPU_LIMIT_FILE).exists() for folder in folders()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process signals nothing


def worker_processes() -> list[psutil.Process]:
    """The workers of this process that are alive."""
    children = psutil.Process().children()
    return [one for one in children if one.is_running() and "anyio.to_process" in " ".join(one.cmdline())]


async def test_cuts_are_made_and_stored_by_another_process(
    workers: PictureWorkers, store: ImageStore, folders: Callable[[], list[Path]]
) -> None:
    """The standard ones, with their sizes and hashes; each is sent with its own request as it stands."""
    async with workers.cut(store.get("a.jpg"), len(store.files["a.jpg"]), "image/jpeg", PLAN) as found:
        made = found.made
        assert [(one.name, one.width_px, one.height_px) for one in made.cuts] == [
            ("small", 300, 200),
            ("medium", 600, 400),
            ("large", 900, 600),
        ]
        assert (made.width_px, made.height_px, made.color) == (1200, 800, "#008083")  # teal, as JPEG has it
        requests = [
            store.put(one.name, **{"content-length": str(one.size_bytes), "if-none-match": "*"}) for one in made.cuts
        ]
        assert await found.store(requests) == [True, True, True]
        assert await found.store(requests) == [False, False, False]
    for one in made.cuts:
        body = store.files[one.name]
        assert (len(body), hashlib.sha256(body).digest()) == (one.size_bytes, one.sha256)
        assert store.headers[one.name]["if-none-match"] == "*"
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (one.width_px, one.height_px)
            assert one.content_type == "image/jpeg"
    assert worker_processes()
    assert not folders()


async def test_a_plan_of_ones_own_decides_names_sizes_and_quality(workers: PictureWorkers, store: ImageStore) -> None:
    """One size by request; less quality is fewer bytes. A name of ours may be a cut's name too."""
    store.files["noise.png"] = noise(800)
    plan = CutPlan(sizes=(CutSize(CPU_LIMIT_FILE, 128),), quality=90)
    fine, coarse = [
        await cut(workers, store, "noise.png", "image/png", replace(plan, quality=quality)) for quality in (90, 20)
    ]
    assert [(one.name, one.width_px) for one in fine.cuts] == [(CPU_LIMIT_FILE, 128)]
    assert coarse.cuts[0].size_bytes < fine.cuts[0].size_bytes


@pytest.mark.parametrize(
    ("content", "content_type", "reason"),
    [
        (b"\xff\xd8\xff\xe0 not a picture", "image/jpeg", "IMAGE_BROKEN"),
        (b"words", "image/jpeg", "IMAGE_UNRECOGNIZED"),
        (b"", "image/jpeg", "IMAGE_EMPTY"),
        (picture(), "image/png", "IMAGE_MISLABELLED"),
        (picture((3000, 2000))[:-5_000], "image/jpeg", "IMAGE_BROKEN"),
    ],
)
async def test_what_cannot_be_cut_is_refused_with_a_reason(
    workers: PictureWorkers,
    store: ImageStore,
    folders: Callable[[], list[Path]],
    content: bytes,
    content_type: str,
    reason: str,
) -> None:
    """Broken, something else, empty, mislabelled, truncated; nothing of it stays."""
    store.files["odd"] = content
    with pytest.raises(PictureRefused) as refused:
        await cut(workers, store, "odd", content_type)
    assert refused.value.reason == reason
    assert not folders()


async def test_a_picture_of_too_many_pixels_is_refused(store: ImageStore) -> None:
    """By its header, before it is decoded."""
    workers = PictureWorkers(replace(LIMITS, max_pixels=1_000))
    with raises(PictureRefused, reason="IMAGE_TOO_LARGE", limits=[1200, 800]):
        await cut(workers, store)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded on Linux only")
async def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_is_cut(store: ImageStore) -> None:
    """The limit is the worker's: what it refuses takes nothing else down."""
    workers = PictureWorkers(replace(LIMITS, memory_bytes=64 * 1024**2))
    store.files["large.png"] = picture((6000, 5000), format="PNG")  # 90 MB of pixels
    with pytest.raises(PictureRefused) as refused:
        await cut(workers, store, "large.png", "image/png")
    assert refused.value.reason == "IMAGE_TOO_LARGE"
    assert len((await cut(workers, store)).cuts) == 3


async def test_a_picture_that_takes_too_much_cpu_time_is_refused_for_good(store: ImageStore) -> None:
    """Also in the middle of one long step of an encoder; the next picture has a worker again."""
    workers = PictureWorkers(replace(LIMITS, cpu_time=timedelta(seconds=1)))
    store.files["noise.png"] = noise(2100)
    with raises(PictureRefused, reason="CUTTING_TIMED_OUT", limits=[1]) as refused:
        await cut(workers, store, "noise.png", "image/png", SLOW)
    assert not isinstance(refused.value, CuttingTimedOut), "another try takes as long"
    assert len((await cut(workers, store)).cuts) == 3


async def test_the_cpu_time_of_one_picture_is_not_charged_to_the_next(store: ImageStore) -> None:
    """One worker may cut pictures all its life."""
    workers = PictureWorkers(replace(LIMITS, workers=1, cpu_time=timedelta(seconds=2)))
    store.files["noise.png"] = noise(2100)
    plan = replace(SLOW, sizes=SLOW.sizes[:1])
    pids = set()
    for _ in range(4):
        assert (await cut(workers, store, "noise.png", "image/png", plan)).cuts
        pids |= {one.pid for one in worker_processes()}
    (worker,) = worker_processes()
    assert pids == {worker.pid}
    assert worker.cpu_times().user > 2


async def test_a_picture_that_finds_no_time_may_be_tried_again_and_its_worker_is_killed(
    store: ImageStore, folders: Callable[[], list[Path]]
) -> None:
    """Waiting is no work: the machine, not the picture, is at fault."""
    workers = PictureWorkers(replace(LIMITS, time=timedelta(milliseconds=1)))
    before = {one.pid for one in worker_processes()}
    with raises(CuttingTimedOut, reason="CUTTING_TIMED_OUT"):
        await cut(workers, store)
    assert {one.pid for one in worker_processes()} <= before
    assert not folders()


async def test_the_death_of_a_worker_touches_no_other_picture(
    workers: PictureWorkers, store: ImageStore, folders: Callable[[], list[Path]]
) -> None:
    """A killed worker is replaced once; killed again, that picture is refused. Others are cut all along."""
    store.files["noise.png"] = noise(2100)
    task = asyncio.create_task(cut(workers, store, "noise.png", "image/png", SLOW))
    await begun(folders)
    slow = {one.pid for one in worker_processes()}
    async with asyncio.timeout(LIMIT_S):
        assert len((await cut(workers, store)).cuts) == 3
        for one in worker_processes():
            if one.pid in slow:
                one.kill()
        while not task.done():
            for one in worker_processes():
                if one.pid not in slow:
                    one.kill()
            await asyncio.sleep(0.05)  # until there is another one to kill
    error = task.exception()
    assert isinstance(error, PictureRefused)
    assert error.reason == "CUTTING_CRASHED"
    assert len((await cut(workers, store)).cuts) == 3


async def test_a_cancelled_cut_leaves_no_worker_and_no_file_behind(
    workers: PictureWorkers, store: ImageStore, folders: Callable[[], list[Path]]
) -> None:
    """The process ends with the wait."""
    store.files["noise.png"] = noise(2100)
    task = asyncio.create_task(cut(workers, store, "noise.png", "image/png", SLOW))
    await begun(folders)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not worker_processes()
    assert not folders()


@pytest.mark.parametrize("name", ["nothing", "elsewhere", "a.jpg"])
async def test_an_original_that_is_not_what_the_store_reports_is_not_cut(
    workers: PictureWorkers, store: ImageStore, folders: Callable[[], list[Path]], name: str
) -> None:
    """Not there, a redirect, too long: the store is at fault, and the upload is tried again."""
    with pytest.raises(StoreUnavailable) as fault:
        async with workers.cut(store.get(name), 1000, "image/jpeg", PLAN):
            pytest.fail("there is nothing to cut")
    assert store.address not in str(fault.value)
    assert not folders()


async def test_a_store_in_trouble_for_a_moment_is_asked_again(workers: PictureWorkers, store: ImageStore) -> None:
    """Both ways; two conditional PUTs that met are sent again too."""
    store.faults += [503, 500]
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            workers.cut(store.get("a.jpg"), len(store.files["a.jpg"]), "image/jpeg", PLAN)
        )
        store.faults += [409, 503]
        assert await found.store([store.put(one.name) for one in found.made.cuts]) == [True, True, True]
        store.faults += [403]
        with raises(StoreUnavailable, limits=[403]):
            await found.store([store.put(one.name) for one in found.made.cuts])


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone knows it")
async def test_workers_let_callers_go_first_and_are_not_starved(workers: PictureWorkers, store: ImageStore) -> None:
    """Batch work at a slightly lower priority, in a session of its own."""
    await cut(workers, store)
    for one in worker_processes():
        assert os.sched_getscheduler(one.pid) == os.SCHED_BATCH
        assert one.nice() == max(NICENESS, psutil.Process().nice())
        assert os.getsid(one.pid) == one.pid


def test_it_is_known_which_types_can_be_cut() -> None:
    """Pictures that Pillow reads here; no drawing, no film."""
    assert can_cut("image/jpeg")
    assert can_cut("IMAGE/PNG; charset=x")
    assert not can_cut("image/svg+xml")
    assert not can_cut("video/mp4")


async def test_a_worker_that_dies_as_it_starts_is_replaced(
    workers: PictureWorkers, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever killed it, another one makes the cuts."""
    python, died = tmp_path / "python", tmp_path / "died"
    python.write_text(f'#!/bin/sh\ntest -e {died} || {{ touch {died}; exit 1; }}\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    assert len((await cut(workers, store)).cuts) == 3
    assert died.exists()


def test_grpc_does_nothing_between_fork_and_exec() -> None:
    """It would kill some of the workers that are started under load, see the package."""
    code = "import assetlane_server.command.cli, os; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])"
    own = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert result.stdout == "0\n"
