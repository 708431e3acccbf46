"""`deploy/envoy.yaml` with the real Envoy: only ports, files, names and the client's trust are the test's own."""

import asyncio
import json
import os
import shutil
import signal
import ssl
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.access.certificates import Authority
from tests.journeys.steps import RpcFailure
from tests.web_gateway.channels import WebChannel
from tests.web_gateway.conftest import PAGE, Served, web_server
from tests.web_gateway.test_calls import envelope

from assetlane.v1.upload_service_pb2 import GetUploadRequest, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.local.ports import claim_block

DEPLOY = Path(__file__).parents[2] / "deploy"
ENVOY = Path(sys.prefix) / "bin" / "envoy"
LIMIT_S = 60.0

pytestmark = pytest.mark.skipif(
    not ENVOY.exists() and shutil.which("envoy") is None and not os.environ.get("CI"), reason="Envoy is needed"
)


@dataclass
class Front:
    """An Envoy before a server."""

    behind: Served
    session: aiohttp.ClientSession
    url: str
    target: str
    authority: Authority
    process: asyncio.subprocess.Process


def recipe(folder: Path, authority: Authority, *, port: int, admin_port: int, behind: int) -> Path:
    """Writes the recipe as this test needs it, and returns where. Each change has to find its place."""
    chain, key = authority.signed("files.example", names=("files.example",)).put(folder)
    text = (DEPLOY / "envoy.yaml").read_text()
    for old, new in (
        ("address: 0.0.0.0, port_value: 8443", f"address: 127.0.0.1, port_value: {port}"),
        ("port_value: 9901", f"port_value: {admin_port}"),
        ("port_value: 50151", f"port_value: {behind}"),
        ("/etc/envoy/tls/tls.crt", str(chain)),
        ("/etc/envoy/tls/tls.key", str(key)),
        ("/etc/envoy/assetlane.pb", str(DEPLOY / "assetlane.pb")),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "envoy.yaml"
    path.write_text(text)
    return path


@asynccontextmanager
async def fronted(folder: Path) -> AsyncIterator[Front]:
    """Starts a server, and Envoy before it."""
    authority = Authority()
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    block = claim_block(None)
    block.release()
    port, admin_port = block.mongo, block.s3
    async with web_server() as behind:
        path = recipe(folder, authority, port=port, admin_port=admin_port, behind=behind.server.port)
        options = ("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart", "--drain-time-s", "1")
        process = await asyncio.create_subprocess_exec(ENVOY, "-c", path, *options, stdout=DEVNULL, stderr=PIPE)
        resolver = _Resolver()
        connector = aiohttp.TCPConnector(ssl=trusting, resolver=resolver)
        try:
            async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(LIMIT_S):
                url = f"https://files.example:{port}"
                while not await _serves(session, url):
                    assert process.returncode is None, await _log_of(process)
                    await asyncio.sleep(0.1)
                yield Front(behind, session, url, f"127.0.0.1:{port}", authority, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            behind.uploads.ending.set()


class _Resolver(aiohttp.abc.AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        """See aiohttp."""
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """See aiohttp."""


async def _log_of(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    return (await process.stderr.read()).decode()[-3000:]


async def _serves(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/v1/uploads/x") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_every_protocol_passes_through_envoy(tmp_path: Path) -> None:
    """GRPC over HTTP/2, gRPC-Web, JSON; errors keep their reasons; origins and names are checked there."""
    async with fronted(tmp_path) as front:
        session, url = front.session, front.url
        # gRPC over TLS and HTTP/2.
        credentials = grpc.ssl_channel_credentials(front.authority.pem)
        options = [("grpc.ssl_target_name_override", "files.example"), ("grpc.default_authority", "files.example")]
        async with grpc.aio.secure_channel(front.target, credentials, options=options) as channel:
            native: Any = UploadServiceStub(channel)
            web_channel: Any = WebChannel(session, url)
            for stub in (native, UploadServiceStub(web_channel)):
                uploads: Any = stub
                assert (await uploads.GetUpload(GetUploadRequest(upload_id="x"))).upload.upload_id == "x"
                events = [event async for event in uploads.WatchUpload(WatchUploadRequest(upload_id="three"))]
                assert len(events) == 3
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await uploads.GetUpload(GetUploadRequest(upload_id="gone"))
                assert RpcFailure(failed.value).reason == "UPLOAD_NOT_FOUND"
        # JSON on the REST paths, as our own gateway has it.
        for path in ("/v1/uploads/a%2Fb", "/v1/uploads?pageToken=t", "/v1/uploads/gone", "/v1/assets/x"):
            async with session.get(url + path) as through, session.get(front.behind.url + path) as own:
                assert (through.status, await through.json()) == (own.status, await own.json())
        async with session.get(f"{url}/v1/uploads/three:watch") as response:
            lines = [json.loads(line) for line in (await response.text()).splitlines()]
        assert lines == [{"heartbeat": {}}] * 3
        # Origins and names.
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        async with session.options(f"{url}/v1/uploads", headers={"origin": PAGE, **ask}) as response:
            assert response.headers["access-control-allow-origin"] == PAGE
        async with session.options(f"{url}/v1/uploads", headers={"origin": "https://evil.example", **ask}) as response:
            assert "access-control-allow-origin" not in response.headers
        async with session.get(f"{url}/v1/uploads/x", headers={"host": "evil.example"}) as response:
            assert response.status == 404


async def test_a_long_watch_stays_and_ends_with_its_error_when_the_server_drains(tmp_path: Path) -> None:
    """Longer than Envoy's own default of 15 s for an answer; then nothing is sent to a server that stops."""
    async with fronted(tmp_path) as front:
        body = envelope(WatchUploadRequest(upload_id="quiet").SerializeToString())
        kind = {"content-type": "application/grpc-web+proto"}
        path = f"{front.url}/assetlane.v1.UploadService/WatchUpload"
        async with front.session.post(path, data=body, headers=kind) as response:
            assert (await response.content.readexactly(5))[0] == 0
            await response.content.readany()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(17):
                    await response.content.readany()
            front.behind.uploads.ending.set()
            async with asyncio.timeout(LIMIT_S):
                assert b"grpc-status:14" in (await response.content.read()).replace(b" ", b"")
        front.behind.server.say_stopping()
        async with asyncio.timeout(LIMIT_S):
            while await _serves(front.session, front.url):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        front.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            await front.process.wait()
