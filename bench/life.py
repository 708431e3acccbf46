"""Whole uploads: RequestUpload, the PUTs, CompleteUpload; ours beside a bare server and beside version 0.1.0.

The variants are real JPEGs. Three phases, each by so many at a time: all requests, all PUTs, all completions. The
server's CPU is read before and after each phase; the PUTs go past the server and count for neither.
"""

import asyncio
import hashlib
import io
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import grpc
import yarl
from PIL import Image

from assetlane.v1.upload_pb2 import UploadStatus
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, RequestUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.composition.app import object_store, utc_now
from assetlane_server.config.settings import settings_from
from assetlane_server.local import StackAddress
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.store import S3ObjectStore
from bench.baseline import checked_out
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.life_floor import floor_key
from bench.load import each
from bench.picture_requests import picture_requests
from bench.processes import ServerProcess, server_process
from bench.stores import NOTES, stores, variables

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

T = TypeVar("T")
SignedPut = tuple[str, dict[str, str]]  # URL, headers

ROUNDS: Final = 3
UPLOADS: Final = {1: 50, 16: 160, 64: 256}  # per round, by how many are in flight at a time
VARIANTS: Final = (1, 4)
LIMIT_S: Final = 120.0
PUTS_AT_ONCE: Final = 8
URL_LIFETIME: Final = timedelta(minutes=10)
OURS, WITH_QUOTAS, FLOOR, BASELINE = "assetlane", "assetlane with quotas", "floor", "0.1.0"
BASELINE_WITH_QUOTAS: Final = "0.1.0 with quotas"
FLOOR_WITH_QUOTAS: Final = "floor with quotas"
FLOORS: Final = (FLOOR, FLOOR_WITH_QUOTAS)
CALLS: Final = {"request": "RequestUpload", "complete": "CompleteUpload"}
QUOTAS: Final = {"quota_uid_uploads": "10000", "quota_uid_bytes": str(10**15)}


def picture(width_px: int, height_px: int) -> bytes:
    """Returns a JPEG of that size."""
    file = io.BytesIO()
    Image.effect_mandelbrot((width_px, height_px), (-2, -1.5, 1, 1.5), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()


BODIES: Final = {
    "original": picture(640, 480),
    "large": picture(480, 360),
    "medium": picture(320, 240),
    "small": picture(160, 120),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server and the way to call it."""

    name: str
    server: ServerProcess
    stub: "UploadServiceAsyncStub"
    signs: bool  # whether it hands out write targets; else the load generator signs them


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one round. Times of calls in ms, CPU of the server in µs per upload."""

    uploads_per_s: float
    requests_per_s: float
    request_p50: float
    request_p99: float
    request_cpu: float
    complete_p50: float
    complete_p99: float
    complete_cpu: float

    @property
    def cpu(self) -> float:
        """CPU of the server for the whole upload in µs."""
        return self.request_cpu + self.complete_cpu


async def measure() -> Finding:
    """Loads all servers in turn, round after round, at each number of variants and in flight."""
    figures: list[Figure] = []
    for variants in VARIANTS:
        for in_flight, uploads in UPLOADS.items():
            rounds: defaultdict[str, list[Round]] = defaultdict(list)
            async with (
                stores() as address,
                _candidates(address, with_quotas=in_flight == 16) as candidates,
                object_store(settings_from(variables(address, "load"))) as store,
            ):
                for number in range(ROUNDS + 1):
                    for candidate in candidates:
                        count = uploads if number else max(16, uploads // 4)
                        found = await _round(candidate, store, variants, in_flight, count)
                        if number:  # the first one warms up
                            rounds[candidate.name].append(found)
            figures += _figures({name: _median(found) for name, found in rounds.items()}, variants, in_flight)
    sizes = ", ".join(f"{len(body):,}" for body in BODIES.values())
    notes = (
        f"JPEGs of {sizes} bytes with their SHA-256; one variant is the first of them.",
        f"Medians of {ROUNDS} interleaved rounds of {', '.join(map(str, UPLOADS.values()))} uploads.",
        "Three phases: requests, PUTs, completions. CPU is the server's, all threads, without the PUTs' phase.",
        "The floor makes one insert, one update, and the same HEADs and ranged GETs; it has no change stream.",
        "The floor with quotas adds claim and release, one update of one account each.",
        "0.1.0 is that version's own code, from its commit, on the same stores and packages.",
        *NOTES,
    )
    return Finding("Whole uploads, beside a bare gRPC server and version 0.1.0", tuple(figures), notes)


@asynccontextmanager
async def _candidates(address: StackAddress, *, with_quotas: bool) -> AsyncIterator[list[Candidate]]:
    async with AsyncExitStack() as stack:
        baseline = {"PYTHONPATH": stack.enter_context(checked_out("0.1.0"))}
        serve = ["assetlane_server", "serve"]
        servers = {
            OURS: (serve, variables(address, "ours")),
            FLOOR: (["bench.life_floor"], variables(address, "floor")),
            BASELINE: (serve, {**variables(address, "baseline"), **baseline}),
        }
        if with_quotas:
            servers[WITH_QUOTAS] = (serve, variables(address, "quotas", **QUOTAS))
            servers[FLOOR_WITH_QUOTAS] = (["bench.life_floor"], variables(address, "floorquotas", **QUOTAS))
            servers[BASELINE_WITH_QUOTAS] = (serve, {**variables(address, "oldquotas", **QUOTAS), **baseline})
        candidates = []
        for name, (module, settings) in servers.items():
            server = await stack.enter_async_context(server_process(module, settings))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.target))
            candidates.append(Candidate(name, server, UploadServiceStub(channel), signs=name not in FLOORS))
        yield candidates


def _requests(count: int, variants: int) -> list[RequestUploadRequest]:
    requests = picture_requests(count)
    for request in requests:
        del request.variants[variants:]
        for variant in request.variants:
            body = BODIES[variant.name]
            variant.size_bytes, variant.sha256 = len(body), hashlib.sha256(body).digest()
    return requests


async def _round(candidate: Candidate, store: S3ObjectStore, variants: int, in_flight: int, count: int) -> Round:
    targets: list[tuple[str, dict[str, SignedPut]]] = []
    request_s: list[float] = []
    complete_s: list[float] = []

    async def request(upload: RequestUploadRequest) -> None:
        begun = time.perf_counter()
        answer = await candidate.stub.RequestUpload(upload, timeout=LIMIT_S)
        request_s.append(time.perf_counter() - begun)
        upload_id = answer.upload.upload_id
        if candidate.signs:
            puts = {
                target.variant: (target.single_put.url, dict(target.single_put.headers))
                for target in answer.write_targets
            }
        else:
            puts = {variant.name: _signed(store, upload_id, variant.name) for variant in upload.variants}
        targets.append((upload_id, puts))

    async def complete(upload: tuple[str, dict[str, SignedPut]]) -> None:
        begun = time.perf_counter()
        answer = await candidate.stub.CompleteUpload(CompleteUploadRequest(upload_id=upload[0]), timeout=LIMIT_S)
        complete_s.append(time.perf_counter() - begun)
        assert answer.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED, answer

    requesting_s, request_cpu_s = await _timed(candidate, _requests(count, variants), in_flight, request)
    async with aiohttp.ClientSession() as web:
        puts = [(BODIES[name], put) for _, ways in targets for name, put in ways.items()]
        begun = time.perf_counter()
        await each(puts, PUTS_AT_ONCE, lambda item: _put(web, *item))
        putting_s = time.perf_counter() - begun
    completing_s, complete_cpu_s = await _timed(candidate, targets, in_flight, complete)
    return Round(
        uploads_per_s=count / (requesting_s + putting_s + completing_s),
        requests_per_s=count / requesting_s,
        request_p50=median(request_s) * 1e3,
        request_p99=quantiles(request_s, n=100)[98] * 1e3,
        request_cpu=request_cpu_s / count * 1e6,
        complete_p50=median(complete_s) * 1e3,
        complete_p99=quantiles(complete_s, n=100)[98] * 1e3,
        complete_cpu=complete_cpu_s / count * 1e6,
    )


async def _timed(
    candidate: Candidate, items: Iterable[T], in_flight: int, act: Callable[[T], Awaitable[None]]
) -> tuple[float, float]:
    """Returns how many seconds it took, and the server's CPU meanwhile."""
    cpu_s, begun = candidate.server.cpu_seconds(), time.perf_counter()
    async with asyncio.timeout(LIMIT_S):
        await each(items, in_flight, act)
    return time.perf_counter() - begun, candidate.server.cpu_seconds() - cpu_s


def _signed(store: S3ObjectStore, upload_id: str, variant: str) -> SignedPut:
    promise = VariantPromise(
        name=variant, content_type="image/jpeg", size_bytes=len(BODIES[variant]), key=floor_key(upload_id, variant)
    )
    signed = store.presign_put(promise, utc_now(), URL_LIFETIME)
    return signed.url, dict(signed.headers)


async def _put(web: aiohttp.ClientSession, body: bytes, put: SignedPut) -> None:
    url, headers = put
    async with web.put(yarl.URL(url, encoded=True), data=body, headers=headers) as response:
        assert response.status == 200, (response.status, await response.text())


def _median(rounds: list[Round]) -> Round:
    return Round(*(median(getattr(one, field) for one in rounds) for field in Round.__slots__))


def _figures(rounds: dict[str, Round], variants: int, in_flight: int) -> list[Figure]:
    case = f"{variants} variant{'s' if variants > 1 else ''}, {in_flight} in flight"
    ours, floor, old = rounds[OURS], rounds[FLOOR], rounds[BASELINE]
    of_floor, of_old = _goals(variants, in_flight)
    figures = [
        Figure(f"{case}: uploads", ours.uploads_per_s, "/s", Peer(FLOOR, floor.uploads_per_s)),
        Figure(f"{case}: uploads", ours.uploads_per_s, "/s", Peer(BASELINE, old.uploads_per_s)),
        Figure(f"{case}: server CPU", ours.cpu, "µs", Peer(FLOOR, floor.cpu), of_floor),
        Figure(f"{case}: server CPU", ours.cpu, "µs", Peer(BASELINE, old.cpu), of_old.get("cpu")),
    ]
    for call in ("request", "complete"):
        for what, unit in (("cpu", "µs"), ("p50", "ms"), ("p99", "ms")):
            field = f"{call}_{what}"
            for peer, other in ((FLOOR, floor), (BASELINE, old)):
                goal = of_old.get(field) if peer == BASELINE else None
                name = f"{case}: {CALLS[call]} {what.replace('cpu', 'server CPU')}"
                figures.append(Figure(name, getattr(ours, field), unit, Peer(peer, getattr(other, field)), goal))
    name = f"{case}: {CALLS['request']} calls"
    goal = of_old.get("requests_per_s")
    figures.append(Figure(name, ours.requests_per_s, "/s", Peer(BASELINE, old.requests_per_s), goal))
    if WITH_QUOTAS in rounds:
        figures += [
            Figure(f"{case}, quotas: server CPU", rounds[WITH_QUOTAS].cpu, "µs", Peer(name, peer.cpu), goal)
            for name, peer, goal in (
                (FLOOR, floor, None),
                (FLOOR_WITH_QUOTAS, rounds[FLOOR_WITH_QUOTAS], None),
                (BASELINE_WITH_QUOTAS, rounds[BASELINE_WITH_QUOTAS], of_old.get("cpu")),
            )
        ]
    return figures


def _goals(variants: int, in_flight: int) -> tuple[Goal | None, dict[str, Goal]]:
    """Returns the goal beside the floor's CPU, and those beside version 0.1.0's figures."""
    if (variants, in_flight) == (4, 16):
        return _at_most(1.5), {"cpu": _at_most(0.3), "request_cpu": _at_most(0.5)}
    if (variants, in_flight) == (1, 16):
        return None, {"complete_cpu": _at_most(0.25)}
    if (variants, in_flight) == (4, 64):
        return None, {"requests_per_s": Goal(Bound.AT_LEAST, 1.5, Measure.RATIO)}
    return None, {}


def _at_most(ratio: float) -> Goal:
    return Goal(Bound.AT_MOST, ratio, Measure.RATIO)
