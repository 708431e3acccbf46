"""Server-made cuts: pictures a second on this machine's cores, and what RequestUpload waits meanwhile.

What two processes that saturate the cores do to any call, in whatever program, is measured beside it.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import Awaitable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import aiohttp
import grpc
import yarl
from examples.picture import photograph

from assetlane.cuts import STANDARD_CUTS, CutOptions
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, UploadStatus, VariantPromise
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, RequestUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.images.worker import ORIGINAL_FILE, Costs, WrittenPicture, cut
from assetlane_server.local import StackAddress
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.load import each
from bench.picture_requests import picture_requests
from bench.processes import server_process
from bench.stores import NOTES, stores, variables

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

WORKERS: Final = (1, 2)
PICTURES: Final = 30  # per round
ROUNDS: Final = 3
AT_ONCE: Final = 3  # for each worker: one is cut while the next is fetched and the last one's cuts are stored
SIZE: Final = (4000, 3000)
PROBE_INTERVAL_S: Final = 0.02
LIMIT_S: Final = 120.0
COSTS: Final = Costs(cpu_seconds=20, memory_bytes=1024**3)  # of one picture
NEVER_BLOCKED: Final = Goal(Bound.AT_MOST, 2, Measure.RATIO)


@dataclass
class Probe:
    """Calls RequestUpload at a steady pace, whatever the answers take, and keeps how long each took."""

    stub: "UploadServiceAsyncStub"
    taken_ms: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Calls until it is cancelled, or all of a few thousand requests are sent."""
        async with asyncio.TaskGroup() as calls:
            for request in picture_requests(6000):
                calls.create_task(self._call(request))
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def _call(self, request: RequestUploadRequest) -> None:
        begun = time.perf_counter()
        await self.stub.RequestUpload(request, timeout=LIMIT_S)
        self.taken_ms.append((time.perf_counter() - begun) * 1e3)

    def p(self, percent: int) -> float:
        """Returns a percentile in milliseconds."""
        return quantiles(self.taken_ms, n=100)[percent - 1]


@dataclass(frozen=True, slots=True)
class Run:
    """Pictures a second and what RequestUpload took: while a server cuts, beside bare processes, and at rest."""

    cut_speed: float
    bare_speed: float
    cutting: Probe
    beside: Probe
    resting: Probe


async def measure() -> Finding:
    """Lets servers with one and with two workers cut pictures in rounds; probes these, bare processes, and rests."""
    body = await asyncio.to_thread(photograph, *SIZE)
    figures: list[Figure] = []
    async with stores() as address:
        for workers in WORKERS:
            run = await _run(address, workers, body)
            figures += _figures("1 worker" if workers == 1 else f"{workers} workers", run)
    megapixels = SIZE[0] * SIZE[1] / 1e6
    notes = (
        (
            f"{PICTURES} JPEGs of {megapixels:g} megapixels and {len(body):,} bytes, {AT_ONCE} at a time for each"
            f" worker, {ROUNDS} rounds; proving, fetching the original and storing the cuts are part of it."
        ),
        "Bare processes: as many of the same code, stepped back in the same way, file to cuts, beside an idle server.",
        f"Probes: one RequestUpload every {PROBE_INTERVAL_S * 1e3:g} ms, as long at rest as while pictures are cut.",
        *NOTES,
    )
    return Finding("Cuts that the server makes", tuple(figures), notes)


async def _run(address: StackAddress, workers: int, body: bytes) -> Run:
    settings = variables(address, f"cuts{workers}", cut_workers=str(workers))
    speeds = []
    async with (
        server_process(["assetlane_server", "serve"], settings) as server,
        grpc.aio.insecure_channel(server.target) as channel,
        grpc.aio.insecure_channel(server.target) as probes,
        aiohttp.ClientSession() as web,
    ):
        stub, probed = UploadServiceStub(channel), UploadServiceStub(probes)
        cutting, beside, resting = Probe(probed), Probe(probed), Probe(probed)
        await _cut(stub, await _put(stub, web, body, workers), workers)  # the workers start
        for _ in range(ROUNDS):
            uploads = await _put(stub, web, body, PICTURES)
            await asyncio.to_thread(os.sync)  # else the originals are still being written while calls are timed
            seconds = await _during(cutting, _cut(stub, uploads, workers * AT_ONCE))
            await _during(resting, asyncio.sleep(seconds))
            speeds.append(PICTURES / seconds)
        with TemporaryDirectory() as folder, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            await asyncio.to_thread(Path(folder, ORIGINAL_FILE).write_bytes, body)
            await asyncio.to_thread(_cut_barely, pool, folder, workers)  # they start
            seconds = await _during(beside, asyncio.to_thread(_cut_barely, pool, folder, PICTURES * ROUNDS))
    return Run(median(speeds), PICTURES * ROUNDS / seconds, cutting, beside, resting)


def _figures(who: str, run: Run) -> list[Figure]:
    p50, p99 = f"{who}, RequestUpload meanwhile: p50", f"{who}, RequestUpload meanwhile: p99"
    return [
        Figure(f"{who}: pictures cut", run.cut_speed, "/s", Peer("bare processes", run.bare_speed)),
        Figure(p50, run.cutting.p(50), "ms", Peer("at rest", run.resting.p(50))),
        Figure(p99, run.cutting.p(99), "ms", Peer("at rest", run.resting.p(99)), NEVER_BLOCKED),
        Figure(p99, run.cutting.p(99), "ms", Peer("beside bare processes", run.beside.p(99))),
    ]


async def _during(probe: Probe, work: Awaitable[None]) -> float:
    """Probes while the work goes on; returns how many seconds it took."""
    begun = time.perf_counter()
    probing = asyncio.create_task(probe.run())
    async with asyncio.timeout(LIMIT_S):
        await work
    seconds = time.perf_counter() - begun
    probing.cancel()
    await asyncio.wait([probing])
    return seconds


async def _put(stub: "UploadServiceAsyncStub", web: aiohttp.ClientSession, body: bytes, count: int) -> list[str]:
    """Brings pictures in, up to the call that completes them; returns the uploads' ids."""
    promise = VariantPromise(
        name="original", content_type="image/jpeg", size_bytes=len(body), sha256=hashlib.sha256(body).digest()
    )
    plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
    ids = []
    for _ in range(count):
        request = RequestUploadRequest(
            uid="ann", request_id=secrets.token_hex(8), file_path="a.jpg", variants=[promise], cut_plan=plan
        )
        answer = await stub.RequestUpload(request)
        put = answer.write_targets[0].single_put
        url = yarl.URL(put.url, encoded=True)
        async with web.put(url, data=body, headers=dict(put.headers)) as response:
            assert response.status == 200
        ids.append(answer.upload.upload_id)
    return ids


async def _cut(stub: "UploadServiceAsyncStub", ids: list[str], at_once: int) -> None:
    async def complete(upload_id: str) -> None:
        answer = await stub.CompleteUpload(CompleteUploadRequest(upload_id=upload_id), timeout=LIMIT_S)
        assert answer.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
        assert len(answer.asset.variants) == 4

    await each(ids, at_once, complete)


def _cut_barely(pool: ProcessPoolExecutor, folder: str, count: int) -> None:
    """Has the workers' own code cut the original in a folder so many times."""
    cuts = [pool.submit(cut, folder, "image/jpeg", STANDARD_CUTS, CutOptions(), COSTS) for _ in range(count)]
    for made in cuts:
        assert isinstance(made.result(), WrittenPicture)
