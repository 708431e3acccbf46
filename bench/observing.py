"""What it costs a RequestUpload that an operator sees it and that callers have to prove who they are."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assetlane.v1.upload_service_pb2 import RequestUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer
from bench.load import each
from bench.picture_requests import picture_requests
from bench.processes import ServerProcess, server_process
from bench.stores import NOTES, stores, variables

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

ROUNDS: Final = 15
CALLS: Final = 100  # per round: the embedded MongoDB's writes become dear after some thousands
IN_FLIGHT: Final = 16
LIMIT_S: Final = 30.0
USER: Final = "ann"
BARE, METRICS, LOGS, TOKENS, ALL = "bare", "metrics", "a line per call", "a token and the policy", "all together"
AT_MOST_15_PERCENT: Final = Goal(Bound.AT_MOST, 1.15, Measure.RATIO)

_METERED: Final = {"metrics_listen": "127.0.0.1:0"}
_LOGGED: Final = {"log_calls": "all", "log_format": "json"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server with something switched on, and how it is called."""

    server: ServerProcess
    stub: "UploadServiceAsyncStub"
    metadata: tuple[tuple[str, str], ...]


async def measure() -> Finding:
    """Loads servers in turn, round after round: one bare, one with each thing alone, one with all of them."""
    costs: defaultdict[str, list[float]] = defaultdict(list)
    async with _candidates() as candidates:
        for number in range(ROUNDS + 1):
            order = list(candidates.items())
            for name, candidate in order[number % len(order) :] + order[: number % len(order)]:
                cost_us = await _cpu_us(candidate)
                if number:  # the first one warms up
                    costs[name].append(cost_us)
    bare_us = median(costs[BARE])
    figures = [Figure(BARE, bare_us, "µs")]
    for name in (METRICS, LOGS, TOKENS, ALL):
        # Of each round by itself: what disturbs a round disturbs all that are in it.
        excess_us = median(one - bare for one, bare in zip(costs[name], costs[BARE], strict=True))
        goal = AT_MOST_15_PERCENT if name == ALL else None
        figures.append(Figure(name, bare_us + excess_us, "µs", Peer(BARE, bare_us), goal))
    notes = (
        f"Server CPU of a call, all threads, {IN_FLIGHT} in flight; medians of {ROUNDS} rounds of {CALLS} calls.",
        "Bare: no metrics, lines for failures only, callers prove nothing.",
        "The token is the same for all calls, as a client's is, and signed with EdDSA.",
        *NOTES,
    )
    return Finding("RequestUpload, with what an operator sees and whom it lets in", tuple(figures), notes)


@asynccontextmanager
async def _candidates() -> AsyncIterator[Mapping[str, Candidate]]:
    key = Ed25519PrivateKey.generate()
    token = jwt.encode({"sub": USER, "exp": time.time() + 3600}, key, "EdDSA")
    async with AsyncExitStack() as running:
        key_file = Path(running.enter_context(TemporaryDirectory(prefix="assetlane-bench-")), "tokens.pem")
        public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        await asyncio.to_thread(key_file.write_bytes, public_key)
        guarded = {"jwt_key_file": str(key_file)}
        address = await running.enter_async_context(stores())
        candidates: dict[str, Candidate] = {}
        for name, settings in {
            BARE: {},
            METRICS: _METERED,
            LOGS: _LOGGED,
            TOKENS: guarded,
            ALL: {**_METERED, **_LOGGED, **guarded},
        }.items():
            environment = variables(address, f"bench{len(candidates)}", **settings)
            server = await running.enter_async_context(server_process(["assetlane_server", "serve"], environment))
            channel = await running.enter_async_context(grpc.aio.insecure_channel(server.target))
            metadata = (("authorization", f"Bearer {token}"),) if "jwt_key_file" in settings else ()
            candidates[name] = Candidate(server, UploadServiceStub(channel), metadata)
        yield candidates


async def _cpu_us(candidate: Candidate) -> float:
    """Makes a round of calls and returns what one cost the server."""
    requests = picture_requests(CALLS)
    for request in requests:
        request.uid, request.partition = USER, f"user/{USER}"

    async def call(request: RequestUploadRequest) -> None:
        await candidate.stub.RequestUpload(request, metadata=candidate.metadata, timeout=LIMIT_S)

    before_ns = _cpu_ns(candidate.server.process.pid)
    async with asyncio.timeout(LIMIT_S):
        await each(requests, IN_FLIGHT, call)
    return (_cpu_ns(candidate.server.process.pid) - before_ns) / CALLS / 1e3


def _cpu_ns(pid: int) -> int:
    """Returns the CPU time of all threads that live, to the nanosecond: the usual account counts in 10 ms (Linux)."""
    threads = Path("/proc", str(pid), "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
