"""Makes cuts in worker processes: started when first needed, replaced when they die, killed when they take too long."""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from typing_extensions import override

from assetlane.cuts import CutOptions, CutSize, Format, readable
from assetlane_server.images.worker import (
    CPU_LIMIT_FILE,
    Costs,
    Refused,
    Request,
    Route,
    WrittenPicture,
    cut,
    fetch,
    send,
)
from assetlane_server.model.cut_plan import CutFormat, CutPlan, MadeCut, MadePicture
from assetlane_server.model.errors import CuttingTimedOut, PictureRefused, StoreUnavailable
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.ports.cut_picture import CutPicture
from assetlane_server.ports.picture_cutter import PictureCutter

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

can_cut = readable
_FORMATS: Mapping[CutFormat, Format] = {
    CutFormat.AUTO: "auto",
    CutFormat.JPEG: "jpeg",
    CutFormat.PNG: "png",
    CutFormat.WEBP: "webp",
}
_TRANSFER_S = 60.0  # of an original or all its cuts, and a second for each MiB
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class CuttingLimits:
    """What pictures may cost."""

    workers: int = 1  # processes, so pictures at the same time
    cpu_time: timedelta = timedelta(seconds=20)  # of one picture, rounded up to whole seconds
    time: timedelta = timedelta(seconds=60)  # of one picture, however little CPU it had; its transfer does not count
    memory_bytes: int = 1024**3  # of one picture, beyond what the process itself takes; on Linux
    max_pixels: int = 100_000_000  # of one picture


class PictureWorkers(PictureCutter):
    """Its processes end with the event loop."""

    def __init__(self, limits: CuttingLimits, route: Route | None = None) -> None:
        self._limits = limits
        self._route = route or Route()
        self._limiter = CapacityLimiter(limits.workers)

    @asynccontextmanager
    @override
    async def cut(
        self, original: PresignedRequest, size_bytes: int, content_type: str, plan: CutPlan
    ) -> AsyncIterator["WorkersPicture"]:
        async with self._limiter:  # waiting for a worker counts for no limit
            folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="assetlane-")
            try:
                await self._fetch(original, size_bytes, folder)
                made = await self._cut(folder, content_type, plan)
                yield WorkersPicture(made, folder, self._route)
            finally:
                await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def _fetch(self, original: PresignedRequest, size_bytes: int, folder: str) -> None:
        request = Request(original.url, dict(original.headers))
        if fault := await _transferred(size_bytes, partial(fetch, request, size_bytes, folder, self._route)):
            raise StoreUnavailable(fault)

    async def _cut(self, folder: str, content_type: str, plan: CutPlan) -> MadePicture:
        limits = self._limits
        sizes = [CutSize(size.name, size.max_edge_px) for size in plan.sizes]
        options = CutOptions(_FORMATS[plan.format], plan.quality, limits.max_pixels)
        costs = Costs(limits.cpu_time.total_seconds(), limits.memory_bytes)
        made = await self._made(folder, content_type, partial(cut, folder, content_type, sizes, options, costs))
        if isinstance(made, Refused):
            raise PictureRefused(made.reason, f"No cuts can be made: {made.message}.")
        cuts = (
            MadeCut(one.name, one.content_type, one.size_bytes, one.sha256, one.width_px, one.height_px)
            for one in made.cuts
        )
        return MadePicture(made.width_px, made.height_px, made.color, tuple(cuts))

    async def _made(
        self, folder: str, content_type: str, work: Callable[[], WrittenPicture | Refused]
    ) -> WrittenPicture | Refused:
        last_word = Path(folder, CPU_LIMIT_FILE)
        is_last = False
        while True:
            try:
                return await _in_worker(self._limits.time, work)
            except TimeoutError as error:
                raise CuttingTimedOut(
                    f"Its cuts were not made within {self._limits.time.total_seconds():g} seconds."
                ) from error
            except (BrokenWorkerProcess, ProcessLookupError) as error:  # the latter: it died as it started
                if where := await asyncio.to_thread(_text_of, last_word):
                    _log.warning("a picture of type %s took all its CPU time; it was at\n%s", content_type, where)
                    seconds = self._limits.cpu_time.total_seconds()
                    raise PictureRefused(
                        "CUTTING_TIMED_OUT", f"Its cuts take more than {seconds:g} seconds of CPU time."
                    ) from error
                _log.warning("a worker died while it cut a picture of type %s", content_type)
                if is_last:  # the first time somebody else may have killed it
                    raise PictureRefused("CUTTING_CRASHED", "The process that made its cuts died.") from error
                is_last = True


class WorkersPicture(CutPicture):
    """A picture whose cuts lie in the folder of a worker."""

    def __init__(self, made: MadePicture, folder: str, route: Route) -> None:
        self.made = made
        self._folder = folder
        self._route = route

    @override
    async def store(self, requests: Sequence[PresignedRequest]) -> list[bool]:
        cuts = self.made.cuts
        by_name = {cut.name: Request(one.url, dict(one.headers)) for cut, one in zip(cuts, requests, strict=True)}
        size_bytes = sum(cut.size_bytes for cut in cuts)
        stored, fault = await _transferred(size_bytes, partial(send, self._folder, by_name, self._route))
        if fault:
            raise StoreUnavailable(fault)
        return [stored[cut.name] for cut in cuts]


async def _transferred(size_bytes: int, transfer: Callable[[], _T]) -> _T:
    """Returns what a worker that talks to the store returns. Raises StoreUnavailable for one that does not."""
    limit = timedelta(seconds=_TRANSFER_S + size_bytes / _MIB)
    is_last = False
    while True:
        try:
            return await _in_worker(limit, transfer)
        except TimeoutError as error:
            raise StoreUnavailable(f"A worker's transfer took more than {limit.total_seconds():.0f} s.") from error
        except (BrokenWorkerProcess, ProcessLookupError) as error:
            if is_last:
                raise StoreUnavailable("A worker died while it talked to the store.") from error
            is_last = True


async def _in_worker(limit: timedelta, work: Callable[[], _T]) -> _T:
    """Returns what `work` returns in a worker process. Raises TimeoutError, and the process is gone."""
    with anyio.fail_after(limit.total_seconds()):
        return await to_process.run_sync(work, cancellable=True, limiter=CapacityLimiter(1))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:  # it died before it had begun
        return ""
