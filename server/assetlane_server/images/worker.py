"""What runs in a process of its own: one picture at a time, with a limit of memory. No asyncio, no gRPC.

A worker that crashes, or is killed for taking too long, takes nothing with it.
"""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

from assetlane.cuts import CutOptions, CutSize, ImageRefused, Picture, make_cuts

_NICENESS = 19  # calls to the server go before pictures
_STATM = Path("/proc/self/statm")


def cut(
    path: str, content_type: str, sizes: Sequence[CutSize], options: CutOptions, memory_bytes: int
) -> Picture | tuple[str, str]:
    """Returns the picture with its cuts, or the reason and the sentence why there are none."""
    _limit(memory_bytes)
    try:
        return make_cuts(Path(path), sizes, content_type=content_type, options=options)
    except ImageRefused as refusal:
        if isinstance(refusal.__cause__, MemoryError):
            return _too_costly(memory_bytes)
        return refusal.reason, str(refusal)
    except MemoryError:
        return _too_costly(memory_bytes)


def _too_costly(memory_bytes: int) -> tuple[str, str]:
    return "IMAGE_TOO_LARGE", f"the picture takes more than {memory_bytes:,} bytes of memory to cut"


def _limit(memory_bytes: int) -> None:
    """Bounds what this process may take beyond what it has; the first time, lets others go before it."""
    # The scheduler's word for it; a worker is never made less nice again.
    if os.getpriority(os.PRIO_PROCESS, 0) < _NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    if _STATM.exists():
        pages = int(_STATM.read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, hard))
