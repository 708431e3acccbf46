"""Makes cuts in worker processes: started when first needed, replaced when they die, killed when they take too long."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
from anyio import BrokenWorkerProcess, CapacityLimiter, to_process

from assetlane.cuts import CutOptions, CutSize, Format, Picture, readable
from assetlane_server.images.worker import cut
from assetlane_server.uploads.cut_plan import CutFormat, CutPlan, MadeCut, MadePicture
from assetlane_server.uploads.errors import PictureRefused

_log = logging.getLogger(__name__)

can_cut = readable
_FORMATS: Mapping[CutFormat, Format] = {
    CutFormat.AUTO: "auto",
    CutFormat.JPEG: "jpeg",
    CutFormat.PNG: "png",
    CutFormat.WEBP: "webp",
}


@dataclass(frozen=True, slots=True)
class CuttingLimits:
    """What pictures may cost."""

    workers: int = 1  # processes, so pictures at the same time
    time: timedelta = timedelta(seconds=20)  # of one picture
    memory_bytes: int = 1024**3  # of one picture, beyond what the process itself takes; on Linux
    max_pixels: int = 100_000_000  # of one picture


class PictureWorkers:
    """A PictureCutter. Its processes end with the event loop."""

    def __init__(self, limits: CuttingLimits) -> None:
        self._limits = limits
        self._limiter = CapacityLimiter(limits.workers)

    async def cut(self, path: Path, content_type: str, plan: CutPlan) -> MadePicture:
        """See PictureCutter."""
        limits = self._limits
        sizes = [CutSize(size.name, size.max_edge_px) for size in plan.sizes]
        options = CutOptions(_FORMATS[plan.format], plan.quality, limits.max_pixels)
        async with self._limiter:
            for is_last in (False, True):
                try:
                    # The limit is one of work: waiting for a worker does not count.
                    with anyio.fail_after(limits.time.total_seconds()):
                        made = await to_process.run_sync(
                            cut, str(path), content_type, sizes, options, limits.memory_bytes,
                            cancellable=True, limiter=CapacityLimiter(1),
                        )  # fmt: skip
                    break
                except TimeoutError as error:
                    seconds = limits.time.total_seconds()
                    message = f"Its cuts took more than {seconds:g} seconds."
                    raise PictureRefused("CUTTING_TIMED_OUT", message) from error
                except (BrokenWorkerProcess, ProcessLookupError) as error:  # the latter: it died as it started
                    _log.warning("a worker died while it cut a picture of type %s", content_type)
                    if is_last:  # the first time somebody else may have killed it
                        raise PictureRefused("CUTTING_CRASHED", "The process that made its cuts died.") from error
        if not isinstance(made, Picture):
            reason, message = made
            raise PictureRefused(reason, f"No cuts can be made: {message}.")
        return MadePicture(
            width_px=made.width_px,
            height_px=made.height_px,
            color=made.color,
            cuts=tuple(MadeCut(one.name, one.content_type, one.data, one.width_px, one.height_px) for one in made.cuts),
        )
