"""What it costs to know who calls and what their quota is: each guard alone beside a server that has none."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

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

ROUNDS: Final = 8
CALLS: Final = 160
IN_FLIGHT: Final = 16
USERS: Final = 40
LIMIT_S: Final = 20.0
NONE: Final = "no guard"
GOAL: Final = Goal(Bound.AT_MOST, 1.15, Measure.RATIO)
# What a company might write: the last pattern is the one that fits.
_PATTERNS: Final = [*(f"department-{n}/{{claim:dept}}/**" for n in range(10)), "user/{uid}"]
POLICY: Final = "".join(f"{name} = {json.dumps(_PATTERNS)}\n" for name in ("read", "write"))

Metadata = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Candidate:
    """A server with one guard, and what it has cost so far."""

    name: str
    server: ServerProcess
    stub: "UploadServiceAsyncStub"
    calls: int = 0
    cpu_s: float = 0.0
    metadata: dict[str, Metadata] = field(default_factory=dict)

    @property
    def cpu_us(self) -> float:
        """Server CPU per call, all threads."""
        return self.cpu_s / self.calls * 1e6


async def measure() -> Finding:
    """Loads all servers in turn, round after round."""
    async with stores() as address, _candidates(address) as candidates:
        for number in range(ROUNDS + 1):
            for candidate in candidates:
                await _round(candidate, CALLS if number else CALLS // 4, counts=number > 0)
    bare, *guarded = candidates
    figures = [Figure(f"{NONE}: server CPU per call", bare.cpu_us, "µs")]
    for one in guarded:
        goal = GOAL if one.name == "token and policy" else None
        figures.append(Figure(f"{one.name}: server CPU per call", one.cpu_us, "µs", Peer(NONE, bare.cpu_us), goal))
    notes = (
        f"{USERS} users, {IN_FLIGHT} calls in flight, {ROUNDS} interleaved rounds of {CALLS} calls; the sums.",
        "A token is verified once and remembered; a policy of 11 patterns decides about two partitions per call.",
        "An owner's quota is one more durable update per call, a partition's another one: they are off by default.",
        *NOTES,
    )
    return Finding("RequestUpload with guards, beside none", tuple(figures), notes)


@asynccontextmanager
async def _candidates(address: StackAddress) -> AsyncIterator[list[Candidate]]:
    key = ec.generate_private_key(ec.SECP256R1())
    with TemporaryDirectory(prefix="assetlane-bench-") as directory:
        key_file, policy_file = _written(Path(directory), key)
        token = {"jwt_key_file": str(key_file)}
        policy = {**token, "policy_file": str(policy_file)}
        rate = {"quota_calls_per_second": "100000"}
        of_uid = {"quota_uid_uploads": "10000", "quota_uid_bytes": str(2**50)}
        of_partition = {"quota_partition_uploads": "10000", "quota_partition_bytes": str(2**50)}
        guards: dict[str, dict[str, str]] = {
            NONE: {},
            "token": token,
            "token and policy": policy,
            "token, policy and calls a second": {**policy, **rate},
            "quota per owner": of_uid,
            "quotas per owner and partition": {**of_uid, **of_partition},
            "all": {**policy, **rate, **of_uid, **of_partition},
        }
        async with AsyncExitStack() as resources:
            candidates = []
            for number, (name, settings) in enumerate(guards.items()):
                environment = variables(address, f"guard{number}", **settings)
                server = await resources.enter_async_context(server_process(["assetlane_server", "serve"], environment))
                channel = await resources.enter_async_context(grpc.aio.insecure_channel(server.target))
                one = Candidate(name, server, UploadServiceStub(channel))
                if "jwt_key_file" in settings:
                    one.metadata = {_user(n): _bearer(_user(n), key) for n in range(USERS)}
                candidates.append(one)
            yield candidates


def _written(directory: Path, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    key_file, policy_file = directory / "key.pem", directory / "policy.toml"
    key_file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    policy_file.write_text(POLICY)
    return key_file, policy_file


def _user(number: int) -> str:
    return f"user-{number:06}"


def _bearer(uid: str, key: ec.EllipticCurvePrivateKey) -> Metadata:
    claims = {"sub": uid, "exp": time.time() + 3600, "dept": ["sales", "support", "research"]}
    return (("authorization", f"Bearer {jwt.encode(claims, key, 'ES256')}"),)


async def _round(candidate: Candidate, calls: int, *, counts: bool) -> None:
    requests = picture_requests(calls)
    for number, request in enumerate(requests):
        request.uid = _user(number % USERS)
        request.partition = f"user/{request.uid}"
        request.session_id = secrets.token_hex(6)

    async def send(request: RequestUploadRequest) -> None:
        metadata = candidate.metadata.get(request.uid, ())
        await candidate.stub.RequestUpload(request, timeout=LIMIT_S, metadata=metadata)

    before_s = candidate.server.cpu_seconds()
    async with asyncio.timeout(2 * LIMIT_S):
        await each(requests, IN_FLIGHT, send)
    if counts:
        candidate.calls += calls
        candidate.cpu_s += candidate.server.cpu_seconds() - before_s
