"""What a server writes at its most talkative, through work, refusals and broken stores: no secret is in it."""

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from google.protobuf.message import Message
from tests.access.tokens import Issuer, unsigned
from tests.faults.conftest import Report
from tests.faults.proxy import proxied
from tests.faults.server_process import environment_for, server_process
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import Person
from tests.journeys.steps import put, request_for

from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane_server.local import EmbeddedStack

pytestmark = pytest.mark.faults

URLS: Final = re.compile(r'https?://[^\s"]+')
SIGNATURES: Final = re.compile(r"X-Amz-Signature=([0-9a-f]+)")
ROUNDS: Final = 10


def port_of(address: str) -> int:
    """Returns the port in a URI of the stack's."""
    found = re.search(r"127\.0\.0\.1:(\d+)", address)
    assert found is not None
    return int(found[1])


@pytest.mark.timeout(180)
async def test_no_secret_is_in_the_log_of_a_server(own_stack: EmbeddedStack, directory: Path, report: Report) -> None:
    """Signatures, presigned URLs, tokens, access keys and secrets are searched for in every line."""
    address = own_stack.address
    issuer = Issuer("HS256")
    key_file = directory / "tokens.key"
    key_file.write_bytes(issuer.file)
    tokens = {
        "ann": issuer.token("ann"),
        "expired": issuer.token("ann", lifetime_s=-100),
        "forged": Issuer("HS256", kid="other").token("bob")[:-8] + "AAAAAAAA",
        "unsigned": unsigned("ann"),
        "broken": "this-is-no-token-at-all",
    }
    answered: list[str] = []  # all that callers were sent

    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        mongo, s3 = await enter(proxied(port_of(address.mongo_uri))), await enter(proxied(port_of(address.s3_endpoint)))
        settings = {
            "jwt_key_file": str(key_file),
            "log_level": "debug",
            "mongo_uri": f"mongodb://{mongo.target}/?directConnection=true&appName=secrets",
            "s3_endpoint": f"http://{s3.target}",
            "quota_uid_uploads": "12",
        }
        environment = environment_for(
            address, "secrets", settings=settings, mongo_timeout_seconds=2, s3_timeout_seconds=2, sweep_seconds=0.2
        )
        server = await enter(server_process(environment, directory / "server.log"))
        channel = await enter(grpc.aio.insecure_channel(server.target))
        web = await enter(aiohttp.ClientSession())
        people = {name: Person(Stubs.on(channel), web, token) for name, token in tokens.items()}
        ann = people["ann"]

        async def call(person: Person, method: str, request: Message) -> Any:
            try:
                answer = await person.call(method, request)
            except grpc.aio.AioRpcError as error:
                answered.append(f"{error.details()} {error.trailing_metadata()}")
                return None
            answered.append(str(answer))
            return answer

        async def everything(person: Person) -> None:
            reply = await call(person, "RequestUpload", request_for(uid="", session_id="phone"))
            upload_id = reply.upload.upload_id if reply else "0" * 26
            if reply:
                await put(web, reply.write_targets[0])
            await call(person, "WatchUpload", uploads.WatchUploadRequest(session_id="phone"))
            await call(person, "CompleteUpload", uploads.CompleteUploadRequest(upload_id=upload_id))
            await call(person, "WatchUpload", uploads.WatchUploadRequest(upload_id=upload_id))
            await call(person, "WatchAssets", assets.WatchAssetsRequest(partition="user/ann"))
            await call(person, "RefreshAsset", assets.RefreshAssetRequest(asset_id=upload_id))
            await call(person, "ListAssets", assets.ListAssetsRequest(partition="user/ann"))
            await call(person, "RequestUpload", request_for(uid="", file_path="../x"))
            await call(person, "RequestUpload", request_for(uid="", partition="user/bob"))

        for _ in range(ROUNDS):
            for person in people.values():
                await everything(person)
        open_one = await call(ann, "RequestUpload", request_for(uid=""))
        for store in (s3, mongo):
            upstreams, store.upstreams = store.upstreams, ()
            store.cut()
            for _ in range(2):
                request = uploads.CompleteUploadRequest(upload_id=open_one.upload.upload_id)
                await call(ann, "CompleteUpload", request)
            store.upstreams = upstreams
        for _ in range(15):
            await call(ann, "RequestUpload", request_for(uid=""))
        server.terminate()
        await server.wait(30)
        log = server.log

    answers = "\n".join(answered)
    urls = set(URLS.findall(answers))
    needles = {
        **{f"token {name}": {token, token.rpartition(".")[2]} for name, token in tokens.items() if name != "unsigned"},
        "token unsigned": {tokens["unsigned"]},
        "key of tokens": {issuer.file.decode()},
        "access key": {address.s3_access_key_id},
        "secret": {address.s3_secret_access_key},
        "signatures": set(SIGNATURES.findall(answers)),
        "URLs": urls,
        "their queries": {url.partition("?")[2] for url in urls if "?" in url},
        "the names of theirs": {"X-Amz-Signature", "X-Amz-Credential"},
    }
    found = [name for name, secrets in needles.items() for secret in secrets if secret in log]
    lines = log.count("\n")
    reasons = len(set(re.findall(r"[A-Z_]{8,}", answers)))
    report(
        f"{sum(map(len, needles.values()))} secrets, {len(needles['signatures'])} signatures among them, searched in"
        f" {lines:,} lines of log ({len(log):,} characters): {len(found)} found; callers were sent {reasons} reasons"
    )
    assert found == []
    assert len(needles["signatures"]) > ROUNDS
    assert lines > 20
    assert not [name for name in ("secret", "access key", "key of tokens") if needles[name] & set(answers.split())]
