"""Calls through the web gateway: both protocols, errors in their forms, deadlines, watches that end and break."""

import asyncio
import base64
import gc
import gzip
import json
import struct
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from tests.conftest import Figures
from tests.journeys.steps import RpcFailure
from tests.web_gateway.channels import WebChannel
from tests.web_gateway.conftest import Served, web_server

from assetlane.v1.upload_pb2 import Upload
from assetlane.v1.upload_service_pb2 import GetUploadRequest, GetUploadResponse, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

GET = "/assetlane.v1.UploadService/GetUpload"
WATCH = "/assetlane.v1.UploadService/WatchUpload"
LIMIT_S = 60.0


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Returns a message as gRPC-Web and Connect's streams have it."""
    return struct.pack(">BI", flags, len(data)) + data


def envelopes(body: bytes) -> list[tuple[int, bytes]]:
    """Returns flags and data of each envelope."""
    found = []
    while body:
        size = int.from_bytes(body[1:5])
        found.append((body[0], body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def stub(session: aiohttp.ClientSession, gateway: Served) -> Any:
    """Returns a generated stub over gRPC-Web."""
    channel: Any = WebChannel(session, gateway.url)
    return UploadServiceStub(channel)


async def test_a_generated_stub_calls_over_grpc_web(gateway: Served, session: aiohttp.ClientSession) -> None:
    """Unary and streaming, errors with their details, and each is counted like a call of gRPC."""
    uploads = stub(session, gateway)
    assert (await uploads.GetUpload(GetUploadRequest(upload_id="x"))).upload.upload_id == "x"
    assert len([event async for event in uploads.WatchUpload(WatchUploadRequest(upload_id="three"))]) == 3
    for call in (
        uploads.GetUpload(GetUploadRequest(upload_id="gone"), metadata=(("x-request-id", "find-me"),)),
        uploads.WatchUpload(WatchUploadRequest(upload_id="gone")).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
        failure = RpcFailure(failed.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")
    labels = {"method": "UploadService/GetUpload", "code": "NOT_FOUND"}
    assert gateway.metrics.registry.get_sample_value("assetlane_calls_total", labels) == 1


async def test_a_watch_that_breaks_ends_with_its_error(gateway: Served, session: aiohttp.ClientSession) -> None:
    """After its first event: the error is in the last frame, with its reason."""
    watch = stub(session, gateway).WatchUpload(WatchUploadRequest(upload_id="breaks"))
    assert (await watch.read()).HasField("heartbeat")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await watch.read()
    assert RpcFailure(failed.value).reason == "SHUTTING_DOWN"


async def test_grpc_web_text_is_base64_in_pieces(gateway: Served, session: aiohttp.ClientSession) -> None:
    """As XMLHttpRequest sends and reads it; the request may be padded in its middle."""
    message = GetUploadRequest(upload_id="x").SerializeToString()
    whole = envelope(message)
    for body in (base64.b64encode(whole), base64.b64encode(whole[:4]) + base64.b64encode(whole[4:])):
        kind = {"content-type": "application/grpc-web-text+proto"}
        async with session.post(gateway.url + GET, data=body, headers=kind) as response:
            text = await response.read()
            assert response.headers["content-type"] == "application/grpc-web-text+proto"
        first_end = 4 * -(-len(envelope(GetUploadResponse(upload=Upload(upload_id="x")).SerializeToString())) // 3)
        ((flags, data),) = envelopes(base64.b64decode(text[:first_end]))
        assert GetUploadResponse.FromString(data).upload.upload_id == "x"
        ((trailer_flags, trailers),) = envelopes(base64.b64decode(text[first_end:]))
        assert (flags, trailer_flags) == (0, 0x80)
        assert trailers.startswith(b"grpc-status: 0\r\n")


async def test_connect_unary_in_both_codecs(gateway: Served, session: aiohttp.ClientSession) -> None:
    """The body is the message; numbers of 64 bits are texts in JSON."""
    async with session.post(gateway.url + GET, json={"uploadId": "x", "newField": 1}) as response:
        assert (response.status, await response.json()) == (200, {"upload": {"uploadId": "x"}})
        assert response.headers["trailer-x-request-id"]
    kind = {"content-type": "application/proto", "content-encoding": "gzip"}
    body = gzip.compress(GetUploadRequest(upload_id="x").SerializeToString())
    async with session.post(gateway.url + GET, data=body, headers=kind) as response:
        assert GetUploadResponse.FromString(await response.read()).upload.upload_id == "x"
    path = "/assetlane.v1.AssetService/GetAsset"
    async with session.post(gateway.url + path, json={"assetId": "ä"}) as response:
        assert (await response.json())["asset"] == {"assetId": "ä", "revision": "9007199254740993"}


async def test_connect_errors_carry_the_reason(gateway: Served, session: aiohttp.ClientSession) -> None:
    """In `details` for programs, under `debug` for people."""
    async with session.post(gateway.url + GET, json={"uploadId": "gone"}) as response:
        assert response.status == 404
        error = await response.json()
    assert error["code"] == "not_found"
    (detail,) = error["details"]
    assert (detail["type"], detail["debug"]["reason"]) == ("google.rpc.ErrorInfo", "UPLOAD_NOT_FOUND")
    info = ErrorInfo.FromString(base64.b64decode(detail["value"] + "=="))
    assert (info.domain, info.reason) == ("assetlane", "UPLOAD_NOT_FOUND")


@pytest.mark.parametrize("codec", ["proto", "json"])
async def test_connect_streams(gateway: Served, session: aiohttp.ClientSession, codec: str) -> None:
    """Messages, then the end of the stream with its metadata or its error."""
    kind = {"content-type": f"application/connect+{codec}"}

    async def watch(upload_id: str) -> list[tuple[int, bytes]]:
        request = WatchUploadRequest(upload_id=upload_id)
        data = request.SerializeToString() if codec == "proto" else json.dumps({"uploadId": upload_id}).encode()
        async with session.post(gateway.url + WATCH, data=envelope(data), headers=kind) as response:
            assert (response.status, response.headers["content-type"]) == (200, kind["content-type"])
            return envelopes(await response.read())

    *events, (flags, end) = await watch("three")
    assert ([flag for flag, _ in events], flags) == ([0, 0, 0], 2)
    assert json.loads(end)["metadata"]["x-request-id"]
    for upload_id, count, reason in (("gone", 0, "UPLOAD_NOT_FOUND"), ("breaks", 1, "SHUTTING_DOWN")):
        *events, (flags, end) = await watch(upload_id)
        assert (len(events), flags) == (count, 2)
        assert json.loads(end)["error"]["details"][0]["debug"]["reason"] == reason


async def test_a_deadline_ends_a_call_and_a_watch(gateway: Served, session: aiohttp.ClientSession) -> None:
    """In both protocols, and what they held is free again."""
    async with session.post(
        gateway.url + GET, json={"uploadId": "slow"}, headers={"connect-timeout-ms": "200"}
    ) as response:
        assert (response.status, (await response.json())["code"]) == (504, "deadline_exceeded")
    watch = stub(session, gateway).WatchUpload(
        WatchUploadRequest(upload_id="quiet"), metadata=(("grpc-timeout", "300m"),)
    )
    assert (await watch.read()).HasField("heartbeat")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await watch.read()
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(LIMIT_S):
        await gateway.uploads.until_open(0)
    labels = {"method": "UploadService/WatchUpload", "code": "DEADLINE_EXCEEDED"}
    assert gateway.metrics.registry.get_sample_value("assetlane_calls_total", labels) == 1


async def test_a_closed_connection_frees_its_watch(
    gateway: Served, session: aiohttp.ClientSession, figures: Figures
) -> None:
    """The call is over for the server when its connection is, long before the next heartbeat."""
    clock = asyncio.get_running_loop().time
    seconds = []
    for _ in range(20):
        response = await session.post(
            gateway.url + WATCH, data=envelope(b""), headers={"content-type": "application/connect+proto"}
        )
        await response.content.readexactly(5)
        async with asyncio.timeout(LIMIT_S):
            await gateway.uploads.until_open(1)
        began = clock()
        response.close()
        async with asyncio.timeout(LIMIT_S):
            await gateway.uploads.until_open(0)
        seconds.append(clock() - began)
    figures(f"a connection is closed: its watch is free after {max(seconds) * 1000:.1f} ms at most")


async def test_a_waiting_watch_keeps_nothing_of_its_request(gateway: Served) -> None:
    """Neither the request with its token nor the server's part for it: a hundred watches stay for hours."""
    head = b"GET /v1/uploads/quiet:watch HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n\r\n"
    held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(100)]
    async with asyncio.timeout(LIMIT_S):
        for _, writer in held:
            writer.write(head % (b"x" * 4000))
        for reader, _ in held:
            assert b"connection: close" in (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"heartbeat" in await reader.readuntil(b"}\n\r\n")
        kept = web.BaseRequest | web.RequestHandler
        while [one for one in gc.get_objects() if isinstance(one, kept)]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the last of them is on its way out
        assert (gateway.web.connections, gateway.uploads.open) == (100, 100)
        gateway.uploads.ending.set()
        for reader, writer in held:
            last = await reader.read()
            assert b"SHUTTING_DOWN" in last
            assert last.endswith(b"\r\n0\r\n\r\n")
            writer.close()
        while gateway.web.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_stream_over_http_1_0_ends_with_its_connection(gateway: Served) -> None:
    """It has no chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /v1/uploads/three:watch HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n")
    async with asyncio.timeout(LIMIT_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"chunked" not in head.lower()
    assert b"keep-alive" not in head.lower()
    assert body == b'{"heartbeat": {}}\n' * 3


async def test_a_request_sent_together_with_a_watch_is_dropped(gateway: Served) -> None:
    """The watch goes on to its end, and says from its begin that its connection closes then."""
    get = b"GET /v1/uploads/x HTTP/1.1\r\nhost: localhost\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /v1/uploads/quiet:watch HTTP/1.1\r\nhost: localhost\r\n\r\n" + get)
    async with asyncio.timeout(LIMIT_S):
        assert b"connection: close" in (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readuntil(b"}\n\r\n")
        gateway.uploads.ending.set()
        rest = await reader.read()
    writer.close()
    assert rest.count(b"SHUTTING_DOWN") == 1
    assert b"HTTP/1.1" not in rest
    assert len(gateway.uploads.requests) == 1


async def test_health_is_answered_by_both_ways(gateway: Served, session: aiohttp.ClientSession) -> None:
    """As gRPC's own service, and as plain paths for load balancers, by whatever name they use."""
    async with session.post(gateway.url + "/grpc.health.v1.Health/Check", json={}) as response:
        assert await response.json() == {"status": "SERVING"}
    for path, text in (("/readyz", "SERVING\n"), ("/livez", "ALIVE\n")):
        async with session.get(gateway.url + path, headers={"host": "10.0.0.7"}) as response:
            assert (response.status, await response.text()) == (200, text)
    gateway.server.say_serving(is_serving=False)
    async with session.get(gateway.url + "/readyz") as response:
        assert response.status == 503


async def test_a_stop_ends_watches_with_their_error_and_finishes_calls() -> None:
    """A call in flight is answered, a new one on the same connection is refused, the connection closes."""
    async with web_server() as served, aiohttp.ClientSession() as session:
        slow = asyncio.create_task(session.post(served.url + GET, json={"uploadId": "slow"}))
        async with asyncio.timeout(LIMIT_S):
            await served.uploads.until_open(1)
        stopping = asyncio.create_task(served.web.stop(LIMIT_S))
        await asyncio.sleep(0)
        async with aiohttp.ClientSession() as other:
            with pytest.raises(aiohttp.ClientConnectionError):
                await other.post(served.url + GET, json={})
        served.uploads.ending.set()
        async with await slow as response:
            assert (response.status, response.headers["connection"]) == (200, "close")
        await stopping


async def test_a_bug_in_the_middle_of_a_stream_is_its_last_event(
    gateway: Served, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not look like an end, nor does a second response begin in the first one; its cause is logged once."""
    async with session.get(gateway.url + "/v1/uploads/junk:watch") as response:
        assert await response.content.readline() == b'{"heartbeat": {}}\n'
        events = [json.loads(line) for line in (await response.content.read()).splitlines()]
    assert [list(event) for event in events] == [["error"]]
    assert events[0]["error"]["code"] == 13
    async with asyncio.timeout(LIMIT_S):
        await gateway.uploads.until_open(0)
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_grpc_status_without_details_has_an_empty_list() -> None:
    """Health answers so."""
    async with web_server() as served, aiohttp.ClientSession() as session:
        path = "/grpc.health.v1.Health/Check"
        async with session.post(served.url + path, json={"service": "nobody"}) as response:
            error = await response.json()
            assert (response.status, error["code"], "details" in error) == (404, "not_found", False)
        assert Status(code=5).details == []
