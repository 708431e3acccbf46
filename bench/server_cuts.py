"""Server-made cuts: pictures a second on this machine's cores, and what RequestUpload waits meanwhile."""

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

from assetlane.cuts import make_cuts
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, UploadStatus, VariantPromise
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, RequestUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.processes import server_process
from bench.stores import NOTES, stores, variables
from bench.wishes import wishes

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

WORKERS: Final = 2
PICTURES: Final = 30  # per round
ROUNDS: Final = 3
AT_ONCE: Final = 8
SIZE: Final = (4000, 3000)
PROBE_INTERVAL_S: Final = 0.02
LIMIT_S: Final = 120.0


@dataclass
class Probe:
    """Calls RequestUpload at a steady pace, whatever the answers take, and keeps how long each took."""

    stub: "UploadServiceAsyncStub"
    taken_ms: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Calls until it is cancelled, or all of a few thousand requests are sent."""
        async with asyncio.TaskGroup() as calls:
            for request in wishes(6000):
                calls.create_task(self._call(request))
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def _call(self, request: RequestUploadRequest) -> None:
        begun = time.perf_counter()
        await self.stub.RequestUpload(request, timeout=LIMIT_S)
        self.taken_ms.append((time.perf_counter() - begun) * 1e3)

    def p(self, percent: int) -> float:
        """Returns a percentile in milliseconds."""
        return quantiles(self.taken_ms, n=100)[percent - 1]


async def measure() -> Finding:
    """Lets the server cut pictures in rounds, with as long a rest between them; probes both."""
    body = await asyncio.to_thread(photograph, *SIZE)
    resting, cutting = [], []
    speeds = []
    async with (
        stores() as address,
        server_process(["assetlane_server", "serve"], variables(address, "ours", cut_workers=str(WORKERS))) as server,
        grpc.aio.insecure_channel(server.target) as channel,
        grpc.aio.insecure_channel(server.target) as probes,
        aiohttp.ClientSession() as web,
    ):
        stub, probed = UploadServiceStub(channel), UploadServiceStub(probes)
        await _cut(stub, await _put(stub, web, body, WORKERS))  # the workers start
        for _ in range(ROUNDS):
            uploads = await _put(stub, web, body, PICTURES)
            busy, idle = Probe(probed), Probe(probed)
            await asyncio.to_thread(os.sync)  # else the originals are still being written while calls are timed
            seconds = await _during(busy, _cut(stub, uploads))
            await _during(idle, asyncio.sleep(seconds))
            speeds.append(PICTURES / seconds)
            cutting += busy.taken_ms
            resting += idle.taken_ms
    floor = await asyncio.to_thread(_floor, body)
    idle, busy = Probe(probed, resting), Probe(probed, cutting)
    figures = (
        Figure("pictures cut", median(speeds), "/s", Peer("bare processes", floor)),
        Figure("RequestUpload meanwhile: p50", busy.p(50), "ms", Peer("idle", idle.p(50))),
        Figure(
            "RequestUpload meanwhile: p99",
            busy.p(99),
            "ms",
            Peer("idle", idle.p(99)),
            Goal(Bound.AT_MOST, 2, Measure.RATIO),
        ),
    )
    megapixels = SIZE[0] * SIZE[1] / 1e6
    notes = (
        f"{PICTURES} JPEGs of {megapixels:g} megapixels and {len(body):,} bytes, {AT_ONCE} at a time, {ROUNDS} rounds.",
        f"{WORKERS} workers; proving, fetching the original and storing the cuts are part of it.",
        f"Bare processes: the same code in {WORKERS} processes, file to cuts, nothing else.",
        f"Probes: one RequestUpload every {PROBE_INTERVAL_S * 1e3:g} ms, {len(cutting)} busy, {len(resting)} idle.",
        *NOTES,
    )
    return Finding("Cuts that the server makes", figures, notes)


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


async def _cut(stub: "UploadServiceAsyncStub", ids: list[str]) -> None:
    waiting = iter(ids)

    async def work() -> None:
        for upload_id in waiting:
            answer = await stub.CompleteUpload(CompleteUploadRequest(upload_id=upload_id), timeout=LIMIT_S)
            assert answer.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED
            assert len(answer.asset.variants) == 4

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())


def _floor(body: bytes) -> float:
    """Returns pictures a second of the same code in bare processes."""
    with TemporaryDirectory() as folder, ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        path = Path(folder, "a.jpg")
        path.write_bytes(body)
        list(pool.map(make_cuts, [path] * WORKERS))
        begun = time.perf_counter()
        list(pool.map(make_cuts, [path] * PICTURES))
        return PICTURES / (time.perf_counter() - begun)
