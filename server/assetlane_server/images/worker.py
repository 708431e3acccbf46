"""What runs in a process of its own: one picture at a time, with a limit of memory. No asyncio, no gRPC.

A worker that crashes, or is killed for taking too long, takes nothing with it.
"""

import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from assetlane.cuts import CutOptions, CutSize, ImageRefused, Picture, make_cuts

_NICENESS = 19
_STATM = Path("/proc/self/statm")
_AUTOGROUP = Path("/proc/self/autogroup")


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
    if os.getpriority(os.PRIO_PROCESS, 0) < _NICENESS:
        _step_back()
    if _STATM.exists():
        pages = int(_STATM.read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, hard))


def _step_back() -> None:
    """Lets everything else on this machine go before pictures; a Ctrl-C at the server's terminal is not for them."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    os.setsid()
    # Linux weighs sessions first and only then the processes within each, see sched(7).
    with suppress(OSError):  # there are none where control groups divide the machine
        _AUTOGROUP.write_text(f"{_NICENESS}")
