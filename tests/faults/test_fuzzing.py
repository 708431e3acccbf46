"""Every RPC, asked anything at all: it answers with a status that means something, and stores nothing it refused."""

import asyncio
import re
from collections import Counter, deque
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import bson
import grpc
import hypothesis
import psutil
import pymongo
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from tests.access.tokens import Issuer
from tests.faults.conftest import Report
from tests.faults.fuzzing import requests
from tests.faults.scale import scaled
from tests.faults.server_process import ServerProcess, environment_for, server_process
from tests.journeys.backends import SERVICES, add_rings
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import POLICY
from tests.journeys.steps import RpcFailure, put, request_for
from tests.servers import free_port, prepare_bucket, settings_for
from tests.web_gateway.clients import GrpcCaller, ServerCaller, WebCaller

from assetlane.v1 import access_service_pb2, asset_service_pb2, upload_service_pb2
from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest
from assetlane_server.local import EmbeddedStack

pytestmark = pytest.mark.faults

MESSAGES: Final = 20_000
BATCH: Final = 20  # messages between two looks at what is stored
CALL_LIMIT_S: Final = 20.0
ID: Final = re.compile(r"[0-9a-z]{26}")
METHODS: Final[tuple[MethodDescriptor, ...]] = tuple(
    method
    for module in (upload_service_pb2, asset_service_pb2, access_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
# Of these a caller learns that something is wrong with the server, and nothing was.
WRONG: Final = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNIMPLEMENTED"})

# Where hardly anything that is made up would be accepted.
SCOPE: Final = PartitionScope(read=["user/ann"], write=["user/ann"])
GOOD: Final[dict[str, Message]] = {
    "RequestUpload": request_for(uid="ann", partition="user/ann"),
    "CreateToken": CreateTokenRequest(uid="ann", partitions=SCOPE),
}
CALLERS: Final = ("anybody", "user", "back end", "device")

Contents = dict[tuple[str, str], object]


class StoredState:
    """What is stored, seen past the server."""

    def __init__(self, stack: EmbeddedStack, database_name: str) -> None:
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(stack.address.mongo_uri)
        self._database = self._client[database_name]
        self._bucket = Bucket(settings_for(stack.address, database_name, f"{database_name}/"))

    def contents(self) -> Contents:
        """Returns every record and object."""
        found: Contents = {
            (name, str(document["_id"])): bson.encode(document)
            for name in ("uploads", "progress", "quotas")
            for document in self._database[name].find({})
        }
        return found | {("bucket", key): True for key in asyncio.run(self._bucket.keys())}

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()
        self._bucket.close()


class Fuzzer:
    """Sends messages one after the other, and notes what is wrong."""

    def __init__(self, caller: ServerCaller, token: str | None, stored: StoredState, ids: list[str]) -> None:
        self._caller = caller
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._stored = stored
        self.ids: deque[str] = deque(["user/ann", "public", *ids], maxlen=40)
        self.statuses: Counter[str] = Counter()
        self.flaws: list[str] = []
        self._reported: set[str] = set()  # progress is merged, and written a moment after its call

    def fuzz(self, method: MethodDescriptor, messages: int, seed: int) -> None:
        """Sends so many requests of one RPC."""
        batches = -(-messages // BATCH)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=batches,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def send_batch(data: st.DataObject) -> None:
            strategy = requests(method.input_type, lambda: self.ids, GOOD.get(method.name))
            before, touched = self._stored.contents(), set[str]()
            for _ in range(BATCH):
                touched |= self._sent(method, data.draw(strategy))
            if method.name == "ReportProgress":
                self._reported |= touched
            expected = {"uploads": touched, "bucket": touched, "progress": touched | self._reported}
            changed = {
                (kind, name)
                for (kind, name), _ in before.items() ^ self._stored.contents().items()
                # An account changes with every upload that is accepted or ends.
                if not (touched if kind == "quotas" else expected[kind] & set(ID.findall(name)))
            }
            if changed:
                self.flaws.append(f"{method.name}: a refused call has changed {sorted(changed)[:5]}")

        send_batch()

    def _sent(self, method: MethodDescriptor, request: bytes) -> set[str]:
        """Sends one request; returns the ids that it may have touched: none if it was refused."""
        answer_class = GetMessageClass(method.output_type)
        try:
            answer = answer_class.FromString(
                self._caller.first_answer(method, request, self._metadata, limit_s=CALL_LIMIT_S)
            )
        except grpc.RpcError as error:
            self._refused(method, request, error)
            return set()
        self.statuses["OK"] += 1
        named = set(ID.findall(str(answer)))
        if method.name in ("RequestUpload", "GetUpload"):
            self.ids.extend(named - set(self.ids))
        return named | set(ID.findall(request.decode(errors="ignore")))

    def _refused(self, method: MethodDescriptor, request: bytes, error: Any) -> None:
        code: grpc.StatusCode = error.code()
        reason = ""
        if code.name not in WRONG:
            try:
                reason = RpcFailure(error).reason
            except AssertionError:
                reason = "WITHOUT_REASON"
        self.statuses[f"{code.name} {reason}".strip()] += 1
        # The core of gRPC itself refuses what is larger than twice the limit, and has no details.
        if code.name in WRONG or (reason == "WITHOUT_REASON" and len(request) < 2 * 1024**2):
            self.flaws.append(f"{method.name}: {code.name} {error.details()!r} for {request[:300]!r}")


async def assets_of(server: ServerProcess, web: aiohttp.ClientSession, token: str | None, count: int) -> list[str]:
    """Brings in so many assets, and returns their ids."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = Stubs.on(channel).uploads
        ids = []
        for _ in range(count):
            reply = await stub.RequestUpload(request_for(uid="ann"), metadata=metadata)
            assert await put(web, reply.write_targets[0]) == 200
            request = CompleteUploadRequest(upload_id=reply.upload.upload_id)
            ids.append((await stub.CompleteUpload(request, metadata=metadata)).asset.asset_id)
    return ids


async def token_of_device(server: ServerProcess, token: str | None) -> str:
    """Returns the token that the back end with this one makes for a device."""
    async with grpc.aio.insecure_channel(server.target) as channel:
        request = CreateTokenRequest(uid="ann", partitions=SCOPE)
        reply = await Stubs.on(channel).access.CreateToken(request, metadata=(("authorization", f"Bearer {token}"),))
        return reply.token.token


@pytest.mark.parametrize(
    ("over", "caller"),
    [
        *(("gRPC", caller) for caller in CALLERS),
        ("the gateway", "anybody"),
        ("the gateway", "device"),
        *(pytest.param("the gateway", caller, marks=pytest.mark.long) for caller in ("user", "back end")),
    ],
)
@pytest.mark.timeout(1200)
async def test_no_message_is_answered_with_internal_or_unknown_and_none_that_is_refused_is_stored(
    own_stack: EmbeddedStack, directory: Path, report: Report, seed: int, over: str, caller: str
) -> None:
    """A quarter of 20,000 messages, spread over the RPCs of the contract; the server is the same process at the end."""
    issuer = Issuer()
    subject = "clinic-backend" if caller in ("back end", "device") else "ann"
    token = None if caller == "anybody" else issuer.token(subject, lifetime_s=7200)
    changes = {
        "key_prefix": "fuzzed/",
        "heartbeat_seconds": "0.1",
        "sweep_seconds": "3600",
        "quota_uid_uploads": "5000",
        "web_listen": f"127.0.0.1:{free_port()}",
    }
    if token is not None:
        key_file, policy_file = directory / "tokens.pem", directory / "policy.toml"
        key_file.write_bytes(issuer.file)
        policy_file.write_text(POLICY + SERVICES)
        await add_rings(directory, "clinic")
        changes |= {
            "jwt_key_file": str(key_file),
            "policy_file": str(policy_file),
            "token_keys": str(directory / "rings"),
        }
    await prepare_bucket(settings_for(own_stack.address, "fuzzed", changes["key_prefix"]))
    environment = environment_for(own_stack.address, "fuzzed", settings=changes)
    messages = scaled(MESSAGES // len(CALLERS))
    per_method = -(-messages // len(METHODS))
    async with AsyncExitStack() as resources:
        server = await resources.enter_async_context(server_process(environment, directory / "server.log"))
        web = await resources.enter_async_context(aiohttp.ClientSession())
        stored = StoredState(own_stack, "fuzzed")
        resources.callback(stored.close)
        if caller == "device":
            token = await token_of_device(server, token)
        pid, began = server.pid, asyncio.get_running_loop().time()
        client = GrpcCaller(server.target) if over == "gRPC" else WebCaller(f"http://{changes['web_listen']}")
        resources.callback(client.close)
        fuzzer = Fuzzer(client, token, stored, [])
        for method in METHODS:
            fuzzer.ids.extend(await assets_of(server, web, token, 3))
            await asyncio.to_thread(fuzzer.fuzz, method, per_method, seed)
        assert (server.pid, psutil.pid_exists(pid)) == (pid, True)
        seconds = timedelta(seconds=round(asyncio.get_running_loop().time() - began))
        count = fuzzer.statuses.total()
        counted = "\n".join(f"    {number:6} {status}" for status, number in fuzzer.statuses.most_common())
        flaws = "\n".join(fuzzer.flaws[:20])
        report(
            f"fuzzing over {over} by {caller}: {count:,} messages to {len(METHODS)} RPCs in {seconds}, "
            f"{len(fuzzer.flaws)} wrong, {len(server.errors)} errors logged\n{counted}\n{flaws}"
        )
        assert fuzzer.flaws == []
        assert server.errors == []
        assert count >= messages
        assert fuzzer.statuses["OK"] > count / 50, "the messages are too bad to reach anything"
