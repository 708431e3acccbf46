"""What RequestUpload costs: ours beside a bare server that does no more than the one insert (see floor.py)."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

import grpc

from assetlane.v1.upload_service_pb2 import RequestUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.local import StackAddress
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.load import each
from bench.picture_requests import picture_requests
from bench.processes import ServerProcess, server_process
from bench.stores import NOTES, stores, variables

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

ROUNDS: Final = 5
# Per round, by how many are in flight at a time. The embedded MongoDB's writes become ten times as expensive
# after the 10,000th: each level gets a fresh one and stays below.
CALLS: Final = {1: 200, 16: 600, 64: 700}
ROUND_LIMIT_S: Final = 20.0
OURS, FLOOR = "assetlane", "floor"
AT_LEAST_HALF: Final = Goal(Bound.AT_LEAST, 0.5, Measure.RATIO)
# The same goal where the store is no longer what both wait for.
AT_MOST_TWICE: Final = Goal(Bound.AT_MOST, 2, Measure.RATIO)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server and the way to call it."""

    name: str
    server: ServerProcess
    stub: "UploadServiceAsyncStub"


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did in one round."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float  # of the server, all threads, per call


async def measure() -> Finding:
    """Loads both servers in turn, round after round, at each level of concurrency."""
    answers: set[int] = set()
    figures: list[Figure] = []
    for in_flight, calls in CALLS.items():
        rounds: defaultdict[str, list[Round]] = defaultdict(list)
        async with stores() as address, _candidates(address) as candidates:
            answers.update([await _answer_bytes(candidate.stub) for candidate in candidates])
            for number in range(ROUNDS + 1):
                for candidate in candidates:
                    found = await _round(candidate, in_flight, calls if number else calls // 4)
                    if number:  # the first one warms up
                        rounds[candidate.name].append(found)
        figures += _figures(rounds, in_flight)
    assert max(answers) - min(answers) < 16, f"the floor does not answer alike: {answers}"
    notes = (
        f"Four variants with sha256, details, session and request id; an answer has {max(answers):,} bytes.",
        f"Medians of {ROUNDS} interleaved rounds of {', '.join(map(str, CALLS.values()))} calls.",
        "The floor has no change stream; the server's hub sees every insert, which is part of its CPU.",
        *NOTES,
    )
    return Finding("RequestUpload, beside a bare gRPC server that does one insert", tuple(figures), notes)


@asynccontextmanager
async def _candidates(address: StackAddress) -> AsyncIterator[tuple[Candidate, Candidate]]:
    async with (
        server_process(["assetlane_server", "serve"], variables(address, "ours")) as ours,
        server_process(["bench.floor"], variables(address, "floor")) as floor,
        grpc.aio.insecure_channel(ours.target) as our_channel,
        grpc.aio.insecure_channel(floor.target) as floor_channel,
    ):
        yield (
            Candidate(OURS, ours, UploadServiceStub(our_channel)),
            Candidate(FLOOR, floor, UploadServiceStub(floor_channel)),
        )


async def _answer_bytes(stub: "UploadServiceAsyncStub") -> int:
    return (await stub.RequestUpload(picture_requests(1)[0])).ByteSize()


async def _round(candidate: Candidate, in_flight: int, calls: int) -> Round:
    """Makes so many calls, so many at a time, each worker one after the other."""
    requests = picture_requests(calls)
    taken_s: list[float] = []

    async def call(request: RequestUploadRequest) -> None:
        begun = time.perf_counter()
        await candidate.stub.RequestUpload(request, timeout=ROUND_LIMIT_S)
        taken_s.append(time.perf_counter() - begun)

    cpu_s, begun = candidate.server.cpu_seconds(), time.perf_counter()
    async with asyncio.timeout(ROUND_LIMIT_S):
        await each(requests, in_flight, call)
    elapsed_s = time.perf_counter() - begun
    cpu_s = candidate.server.cpu_seconds() - cpu_s
    return Round(
        calls_per_s=calls / elapsed_s,
        p50_ms=median(taken_s) * 1e3,
        p99_ms=quantiles(taken_s, n=100)[98] * 1e3,
        cpu_us=cpu_s / calls * 1e6,
    )


def _figures(rounds: dict[str, list[Round]], in_flight: int) -> list[Figure]:
    ours, floor = (
        Round(*(median(getattr(one, field) for one in rounds[name]) for field in Round.__slots__))
        for name in (OURS, FLOOR)
    )
    case = f"{in_flight} in flight"
    return [
        Figure(f"{case}: calls", ours.calls_per_s, "/s", Peer(FLOOR, floor.calls_per_s), AT_LEAST_HALF),
        Figure(f"{case}: latency p50", ours.p50_ms, "ms", Peer(FLOOR, floor.p50_ms)),
        Figure(f"{case}: latency p99", ours.p99_ms, "ms", Peer(FLOOR, floor.p99_ms)),
        Figure(f"{case}: server CPU per call", ours.cpu_us, "µs", Peer(FLOOR, floor.cpu_us), AT_MOST_TWICE),
    ]
