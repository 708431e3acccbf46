"""A server that wants tokens, and callers who have them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from google.protobuf.message import Message
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, put, request_for
from tests.servers import served_twice
from tests.web_gateway.channels import WebChannel

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, RequestUploadResponse
from assetlane_server.config.settings import Settings

TEAM = "team/42"
POLICY = """\
read = ["user/{uid}", "team/{claim:reads}", "team/{claim:writes}"]
write = ["user/{uid}", "team/{claim:writes}"]
"""


def guarded(settings: Settings, folder: Path, issuer: Issuer, **changes: Any) -> Settings:
    """Returns the settings of a server that verifies this issuer's tokens, under the policy above."""
    key_file, policy_file = folder / "tokens.pem", folder / "policy.toml"
    key_file.write_bytes(issuer.file)
    policy_file.write_text(POLICY)
    guard = {"jwt_key_file": key_file, "policy_file": policy_file, "jwt_leeway_seconds": 0.0}
    return settings.model_copy(update={**guard, **changes})


@dataclass
class Person:
    """Somebody who calls; `token` None sends none."""

    stubs: Stubs
    web: aiohttp.ClientSession
    token: str | None
    seen: set[str] = field(default_factory=set)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with each call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    async def call(self, method: str, request: Message) -> Any:
        """Calls an RPC; of a watch it returns the first event."""
        stub = next(one for one in self.stubs if hasattr(one, method))
        call = getattr(stub, method)(request, metadata=self.metadata, timeout=20)
        if not hasattr(call, "read"):
            return await call
        try:
            event = await call.read()
            assert event is not grpc.aio.EOF
            return event
        finally:
            call.cancel()

    async def refusal(self, method: str, request: Message) -> RpcFailure | None:
        """Returns what a call is refused with, None if it is not."""
        try:
            await self.call(method, request)
        except grpc.aio.AioRpcError as error:
            return RpcFailure(error)
        return None

    async def upload(self, **fields: Any) -> RequestUploadResponse:
        """Requests an upload and stores its bytes."""
        reply: RequestUploadResponse = await self.call("RequestUpload", request_for(**{"uid": "", **fields}))
        for target in reply.write_targets:
            assert await put(self.web, target) == 200
        return reply

    async def asset(self, **fields: Any) -> Asset:
        """Brings an asset in."""
        reply = await self.upload(**fields)
        request = CompleteUploadRequest(upload_id=reply.upload.upload_id)
        asset: Asset = (await self.call("CompleteUpload", request)).asset
        return asset


@asynccontextmanager
async def guarded_server(settings: Settings, web: aiohttp.ClientSession, over: str = "grpc") -> AsyncIterator[Any]:
    """Serves, and yields what makes a person of a token, who calls over gRPC or through the web gateway."""
    async with served_twice(settings) as (target, url), grpc.aio.insecure_channel(target) as channel:
        calls: Any = channel if over == "grpc" else WebChannel(web, url)
        stubs = Stubs.on(calls)
        yield lambda token: Person(stubs, web, token)
