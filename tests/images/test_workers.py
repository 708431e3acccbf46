"""Cuts in processes of their own: what they make, and what does not survive there."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from PIL import Image

from assetlane_server.images.workers import CuttingLimits, PictureWorkers, can_cut
from assetlane_server.uploads.cut_plan import CutPlan, CutSize
from assetlane_server.uploads.errors import PictureRefused

LIMITS = CuttingLimits(workers=2, time=timedelta(seconds=20))
PLAN = CutPlan()
LIMIT_S = 20.0


@pytest.fixture
def workers() -> PictureWorkers:
    """Two workers."""
    return PictureWorkers(LIMITS)


def picture(path: Path, size: tuple[int, int] = (1200, 800), color: str = "teal") -> Path:
    """Writes a JPEG and returns its path."""
    Image.new("RGB", size, color).save(path, "JPEG")
    return path


def worker_processes() -> list[psutil.Process]:
    """The workers of this process that are alive."""
    children = psutil.Process().children()
    return [one for one in children if one.is_running() and "anyio.to_process" in " ".join(one.cmdline())]


@asynccontextmanager
async def stuck(workers: PictureWorkers, pipe: Path) -> AsyncIterator[asyncio.Task[object]]:
    """A cut whose worker waits for ever: for the first byte of a pipe that nobody writes to."""
    os.mkfifo(pipe)
    task: asyncio.Task[object] = asyncio.create_task(workers.cut(pipe, "image/jpeg", PLAN))
    async with asyncio.timeout(LIMIT_S):
        while (writer := opened(pipe)) is None:  # noqa: ASYNC110 - another process tells no event
            await asyncio.sleep(0.01)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        os.close(writer)


def opened(pipe: Path) -> int | None:
    """Opens a pipe to write to it, if somebody waits at its other end."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


async def test_cuts_are_made_in_another_process(workers: PictureWorkers, tmp_path: Path) -> None:
    """The standard ones, with their sizes; the picture's own size and colour are told."""
    made = await workers.cut(picture(tmp_path / "a.jpg"), "image/jpeg", PLAN)
    assert [(cut.name, cut.width_px, cut.height_px) for cut in made.cuts] == [
        ("small", 300, 200),
        ("medium", 600, 400),
        ("large", 900, 600),
    ]
    assert (made.width_px, made.height_px, made.color) == (1200, 800, "#008083")  # teal, as JPEG has it
    for cut in made.cuts:
        with Image.open(io.BytesIO(cut.data)) as image:
            assert image.size == (cut.width_px, cut.height_px)
            assert cut.content_type == "image/jpeg"
    assert worker_processes()


async def test_a_plan_of_ones_own_decides_names_sizes_and_quality(workers: PictureWorkers, tmp_path: Path) -> None:
    """One size by request; less quality is fewer bytes."""
    path = tmp_path / "noise.jpg"
    Image.effect_noise((800, 800), 90).save(path, "JPEG")
    plan = CutPlan(sizes=(CutSize("thumb", 128),), quality=90)
    fine, coarse = [await workers.cut(path, "image/jpeg", replace(plan, quality=quality)) for quality in (90, 20)]
    assert [(cut.name, cut.width_px) for cut in fine.cuts] == [("thumb", 128)]
    assert len(coarse.cuts[0].data) < len(fine.cuts[0].data)


@pytest.mark.parametrize(
    ("content", "content_type", "reason"),
    [
        (b"\xff\xd8\xff\xe0 not a picture", "image/jpeg", "IMAGE_BROKEN"),
        (b"words", "image/jpeg", "IMAGE_UNRECOGNIZED"),
        (b"", "image/jpeg", "IMAGE_EMPTY"),
        (None, "image/png", "IMAGE_MISLABELLED"),
    ],
)
async def test_what_cannot_be_cut_is_refused_with_a_reason(
    workers: PictureWorkers, tmp_path: Path, content: bytes | None, content_type: str, reason: str
) -> None:
    """Broken, something else, empty, mislabelled."""
    path = tmp_path / "odd"
    if content is None:
        picture(path)
    else:
        path.write_bytes(content)
    with pytest.raises(PictureRefused) as refused:
        await workers.cut(path, content_type, PLAN)
    assert refused.value.reason == reason


async def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    """By its header, before it is decoded."""
    workers = PictureWorkers(replace(LIMITS, max_pixels=1_000))
    with pytest.raises(PictureRefused, match="1200 x 800") as refused:
        await workers.cut(picture(tmp_path / "a.jpg"), "image/jpeg", PLAN)
    assert refused.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded on Linux only")
async def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_is_cut(tmp_path: Path) -> None:
    """The limit is the worker's: what it refuses takes nothing else down."""
    workers = PictureWorkers(replace(LIMITS, memory_bytes=64 * 1024**2))
    path = tmp_path / "large.png"
    Image.new("RGB", (6000, 5000)).save(path, "PNG", compress_level=1)  # 90 MB of pixels
    with pytest.raises(PictureRefused) as refused:
        await workers.cut(path, "image/png", PLAN)
    assert refused.value.reason == "IMAGE_TOO_LARGE"
    assert len((await workers.cut(picture(tmp_path / "a.jpg"), "image/jpeg", PLAN)).cuts) == 3


async def test_a_picture_that_takes_too_long_is_given_up_and_its_worker_killed(tmp_path: Path) -> None:
    """No worker is left with it."""
    workers = PictureWorkers(replace(LIMITS, time=timedelta(seconds=2)))
    os.mkfifo(tmp_path / "pipe")
    before = {one.pid for one in worker_processes()}
    with pytest.raises(PictureRefused) as refused:
        await workers.cut(tmp_path / "pipe", "image/jpeg", PLAN)
    assert refused.value.reason == "CUTTING_TIMED_OUT"
    assert {one.pid for one in worker_processes()} <= before


async def test_the_death_of_a_worker_touches_no_other_picture(workers: PictureWorkers, tmp_path: Path) -> None:
    """A killed worker is replaced once; killed again, that picture is refused. Others are cut all along."""
    async with stuck(workers, tmp_path / "pipe") as task, asyncio.timeout(LIMIT_S):
        other = asyncio.create_task(workers.cut(picture(tmp_path / "a.jpg"), "image/jpeg", PLAN))
        assert len((await other).cuts) == 3
        while not task.done():
            for one in worker_processes():
                one.kill()
            await asyncio.sleep(0.05)  # until there is another one to kill
        error = task.exception()
        assert isinstance(error, PictureRefused)
        assert error.reason == "CUTTING_CRASHED"
    assert len((await workers.cut(picture(tmp_path / "b.jpg"), "image/jpeg", PLAN)).cuts) == 3


async def test_a_cancelled_cut_leaves_no_worker_behind(workers: PictureWorkers, tmp_path: Path) -> None:
    """The process ends with the wait."""
    async with stuck(workers, tmp_path / "pipe") as task:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not worker_processes()


def test_it_is_told_which_types_can_be_cut() -> None:
    """Pictures that Pillow reads here; no drawing, no film."""
    assert can_cut("image/jpeg")
    assert can_cut("IMAGE/PNG; charset=x")
    assert not can_cut("image/svg+xml")
    assert not can_cut("video/mp4")


async def test_a_worker_that_dies_as_it_starts_is_replaced(
    workers: PictureWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever killed it, another one makes the cuts."""
    picture = tmp_path / "a.png"
    Image.new("RGB", (400, 400)).save(picture)
    python, died = tmp_path / "python", tmp_path / "died"
    python.write_text(f'#!/bin/sh\ntest -e {died} || {{ touch {died}; exit 1; }}\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    made = await workers.cut(picture, "image/png", PLAN)
    assert died.exists()
    assert [one.name for one in made.cuts] == ["small", "medium"]


def test_grpc_does_nothing_between_fork_and_exec() -> None:
    """It would kill some of the workers that are started under load, see the package."""
    code = "import assetlane_server.cli, os; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])"
    own = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert told.stdout == "0\n"
