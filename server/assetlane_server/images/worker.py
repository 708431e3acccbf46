"""What runs in a process of its own: one picture at a time, within limits. No asyncio, no gRPC.

It fetches the original and stores its cuts by presigned URLs, so that no byte of them passes the server's process. A
worker that crashes, or is killed for taking too long, takes nothing with it.
"""

import faulthandler
import hashlib
import math
import os
import resource
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import urllib3

from assetlane.cuts import CutOptions, CutSize, ImageRefused, make_cuts

ORIGINAL_FILE = "original"
CPU_LIMIT_FILE = "cpu-limit"  # not empty: the process ended because of it

# A little below what serves callers; SCHED_BATCH never interrupts what wakes up, see sched(7). With 19 a picture
# starves: beside ten busy processes on two cores a HEIC of 12 megapixels was not cut within a minute and a JPEG of
# 6 took 25 s; with 3 it is 14 s and 1 s.
NICENESS = 3
_STATM = Path("/proc/self/statm")
_AUTOGROUP = Path("/proc/self/autogroup")
_PIECE_BYTES = 1024 * 1024
_CONNECT_S = 5.0
_READ_S = 15.0
_MAX_ERROR_BYTES = 64 * 1024
_RETRIES = urllib3.Retry(
    total=3,
    redirect=0,
    backoff_factor=0.2,
    # 409: two conditional PUTs met, and neither has won.
    status_forcelist=(409, 429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    raise_on_redirect=False,
)


@dataclass(frozen=True, slots=True)
class Route:
    """How the store is reached."""

    ca_bundle: str = ""  # the file of accepted certificate authorities; empty: the store is called without TLS
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A presigned request, to be sent as it stands."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WrittenCut:
    """A cut in a file of the folder."""

    name: str
    content_type: str
    size_bytes: int
    sha256: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class WrittenPicture:
    """What a picture turned out to be, and its cuts."""

    width_px: int
    height_px: int
    color: str
    cuts: tuple[WrittenCut, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there are no cuts."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What one picture may cost."""

    cpu_seconds: float
    memory_bytes: int


def fetch(original: Request, size_bytes: int, folder: str, route: Route) -> str:
    """Writes the original into the folder; returns what went wrong, empty if nothing did."""
    _step_back()
    try:
        with (
            _http(route) as http,
            http.request(
                "GET", original.url, headers=dict(original.headers), preload_content=False, retries=_RETRIES
            ) as answer,
            Path(folder, ORIGINAL_FILE).open("wb") as file,
        ):
            if answer.status != 200:
                return f"The store answers {answer.status} to a worker that fetches an original."
            # One byte more than expected shows that there is too much.
            while file.tell() <= size_bytes and (
                piece := answer.read(min(_PIECE_BYTES, size_bytes + 1), decode_content=False)
            ):
                file.write(piece)
            if file.tell() != size_bytes:
                return "The store sends an object of another size than it reports."
    except urllib3.exceptions.HTTPError as error:
        return f"A worker cannot reach the store ({type(error).__name__})."  # its text holds the URL
    except OSError as error:
        return f"A worker cannot write its temporary file: {error.strerror}."
    return ""


def cut(
    folder: str, content_type: str, sizes: Sequence[CutSize], options: CutOptions, costs: Costs
) -> WrittenPicture | Refused:
    """Writes the cuts of the original into its folder and returns what they are, or why there are none.

    A process that takes more CPU time than the limit ends, and leaves CPU_LIMIT_FILE in the folder.
    """
    place = Path(folder)
    _step_back()
    _limit_memory(costs.memory_bytes)
    try:
        with _cpu_limit(costs.cpu_seconds, place / CPU_LIMIT_FILE):
            made = make_cuts(place / ORIGINAL_FILE, sizes, content_type=content_type, options=options)
    except ImageRefused as refusal:
        if isinstance(refusal.__cause__, MemoryError):
            return _too_costly(costs)
        return Refused(refusal.reason, str(refusal))
    except MemoryError:
        return _too_costly(costs)
    for one in made.cuts:
        (place / _file_name(one.name)).write_bytes(one.data)
    return WrittenPicture(
        made.width_px,
        made.height_px,
        made.color,
        tuple(
            WrittenCut(
                one.name,
                one.content_type,
                len(one.data),
                hashlib.sha256(one.data).digest(),
                one.width_px,
                one.height_px,
            )
            for one in made.cuts
        ),
    )


def send(folder: str, requests: Mapping[str, Request], route: Route) -> tuple[dict[str, bool], str]:
    """Sends cuts by their names; returns for each whether it was stored now (else something was there already).

    Then what went wrong, empty if nothing did.
    """
    stored: dict[str, bool] = {}
    try:
        with _http(route) as http:
            for name, request in requests.items():
                data = Path(folder, _file_name(name)).read_bytes()
                answer = http.request("PUT", request.url, headers=dict(request.headers), body=data, retries=_RETRIES)
                if answer.status not in (200, 412):
                    return stored, f"The store answers {answer.status} to a worker that stores a cut."
                stored[name] = answer.status == 200
    except urllib3.exceptions.HTTPError as error:
        return stored, f"A worker cannot reach the store ({type(error).__name__})."
    return stored, ""


def _file_name(cut_name: str) -> str:
    return f"cut-{cut_name}"  # its name is the caller's choice


def _http(route: Route) -> urllib3.PoolManager:
    options: Any = {"timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)}
    if route.ca_bundle:
        options |= {"ca_certs": route.ca_bundle, "cert_reqs": "CERT_REQUIRED"}
    return urllib3.ProxyManager(route.proxy, **options) if route.proxy else urllib3.PoolManager(**options)


def _too_costly(costs: Costs) -> Refused:
    return Refused("IMAGE_TOO_LARGE", f"the picture takes more than {costs.memory_bytes:,} bytes of memory to cut")


def _limit_memory(memory_bytes: int) -> None:
    """Bounds what this process may take beyond what it has. On Linux: elsewhere it cannot be known."""
    if _STATM.exists():
        pages = int(_STATM.read_text().split()[0])
        _set_soft_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)


@contextmanager
def _cpu_limit(seconds: float, last_word: Path) -> Iterator[None]:
    """Ends this process when it takes so much more CPU time, rounded up to whole seconds as the system counts them.

    Python handles a signal between two of its own steps only, and a decoder makes one long one: so the system's own
    signal ends the process, after faulthandler, which is written in C, has left a trace of where it was.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    with last_word.open("w") as file:
        faulthandler.register(signal.SIGXCPU, file, all_threads=False, chain=True)
        _set_soft_limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
            faulthandler.unregister(signal.SIGXCPU)


def _set_soft_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


@cache  # once in the life of a worker
def _step_back() -> None:
    """Lets callers go before pictures; a Ctrl-C at the server's terminal is not for them."""
    with suppress(PermissionError):  # it leads a session already
        os.setsid()
    with suppress(OSError):  # it may be lower already: a server that was started with `nice` of its own
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # Linux weighs sessions first and only then the processes within each, see sched(7).
    with suppress(OSError):  # there are none where control groups divide the machine
        _AUTOGROUP.write_text(f"{NICENESS}")
