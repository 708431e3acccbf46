"""What the web gateway refuses: origins, names, heads, bodies, slow clients, and readers that do not read."""

import asyncio
import json
import struct
import zlib
from contextlib import suppress
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
from tests.conftest import Figures
from tests.journeys.steps import RpcFailure
from tests.rpc.test_limits import Guard
from tests.web_gateway.conftest import PAGE, Served, web_server
from tests.web_gateway.test_calls import GET, WATCH, envelope, envelopes

from assetlane.v1.upload_service_pb2 import WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.rpc.web.server import MAX_HEAD_BYTES

LIMIT_S = 60.0
JSON = {"content-type": "application/json"}


async def raw(gateway: Served, data: bytes, *, ends: bool = False) -> bytes:
    """Sends bytes over a connection of its own, and returns all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(LIMIT_S):
            with suppress(ConnectionError):
                writer.write(data)
                if ends:
                    writer.write_eof()
                await writer.drain()
            received = b""
            with suppress(ConnectionError):
                while chunk := await reader.read(65536):
                    received += chunk
            return received
    finally:
        writer.close()


def reason_of(error: Any) -> str:
    """Returns the reason in Connect's JSON or in google.rpc.Status."""
    detail = error["details"][0]
    return str(detail.get("reason") or detail["debug"]["reason"])


@pytest.mark.parametrize("origin", [PAGE, "HTTPS://APP.EXAMPLE"])
async def test_a_listed_page_may_call(gateway: Served, session: aiohttp.ClientSession, origin: str) -> None:
    """It gets the text of the list, not its own, and may read what errors consist of."""
    async with session.options(
        gateway.url + GET,
        headers={"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "x"},
    ) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in response.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in response.headers
    for upload_id, status in (("x", 200), ("gone", 404)):
        async with session.post(
            gateway.url + GET, json={"uploadId": upload_id}, headers={"origin": origin}
        ) as response:
            assert response.status == status
            assert response.headers["access-control-allow-origin"] == PAGE
            assert response.headers["vary"] == "origin"
            assert "grpc-status-details-bin" in response.headers["access-control-expose-headers"]
    async with session.get(gateway.url + "/v1/uploads/three:watch", headers={"origin": origin}) as response:
        assert response.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://app.example", "https://app.example:444", "https://app.example.evil.example",
     "https://app.example/", "", "*", "https://app.example https://evil.example"],
)  # fmt: skip
async def test_any_other_page_may_not(gateway: Served, session: aiohttp.ClientSession, origin: str) -> None:
    """Its call does not begin, and nothing of what it sent as its origin comes back as allowed."""
    for method, path in (("POST", GET), ("GET", "/v1/uploads/x"), ("DELETE", "/v1/assets/x"), ("OPTIONS", GET)):
        body: dict[str, Any] = {"data": b"{}"} if method == "POST" else {}
        async with session.request(method, gateway.url + path, headers={**JSON, "origin": origin}, **body) as response:
            assert response.status == 403
            assert "access-control-allow-origin" not in response.headers
            assert reason_of(await response.json()) == "ORIGIN_REFUSED"
    assert gateway.uploads.requests == []
    kind = {"content-type": "application/grpc-web+proto", "origin": origin}
    async with session.post(gateway.url + GET, data=envelope(b""), headers=kind) as response:
        ((flags, trailers),) = envelopes(await response.read())
        assert (response.status, flags) == (200, 0x80)
        assert trailers.startswith(b"grpc-status: 7\r\n")


async def test_two_origins_are_none(gateway: Served) -> None:
    """Though the first of them is listed."""
    head = f"GET /v1/uploads/x HTTP/1.1\r\nhost: localhost\r\norigin: {PAGE}\r\norigin: https://evil.example\r\n"
    assert (await raw(gateway, f"{head}connection: close\r\n\r\n".encode())).split()[1] == b"403"
    assert gateway.uploads.requests == []


async def test_a_page_of_this_very_server_may_call(gateway: Served, session: aiohttp.ClientSession) -> None:
    """Its origin is the host that it calls."""
    for path in ("/v1/uploads/x", "/v1/uploads"):
        async with session.get(gateway.url + path, headers={"origin": gateway.url}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "", "[::1",
     "localhost:x", "localhost/evil", "LOCALHOST.", "127.0.0.1, evil.example"],
)  # fmt: skip
async def test_a_wrong_host_is_refused(gateway: Served, host: str) -> None:
    """Also from a page that was served under that name: this is what a rebound name looks like."""
    name = host.format(port=gateway.port)
    head = f"GET /v1/uploads/x HTTP/1.1\r\nhost: {name}\r\norigin: http://{name}\r\nconnection: close\r\n\r\n"
    answer = await raw(gateway, head.encode())
    assert answer.split()[1] in (b"421", b"400")
    assert gateway.uploads.requests == []


@pytest.mark.parametrize("hosts", ["", "host: 127.0.0.1\r\nhost: evil.example\r\n"])
async def test_no_host_and_two_hosts_are_refused(gateway: Served, hosts: str) -> None:
    """HTTP/1.0 without one as well."""
    for version in ("1.0", "1.1"):
        head = f"GET /v1/uploads/x HTTP/{version}\r\n{hosts}connection: close\r\n\r\n"
        assert (await raw(gateway, head.encode())).split()[1] in (b"421", b"400")
    assert gateway.uploads.requests == []


async def test_a_whole_url_in_the_request_line_names_its_host_too(gateway: Served) -> None:
    """It counts as the header does, and has to be this server's as well."""
    for host, status in (("evil.example", b"421"), (f"localhost:{gateway.port}", b"200"), ("", b"421")):
        head = f"GET http://{host}/v1/uploads/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        assert (await raw(gateway, head.encode())).split()[1] in (status, b"400")
    assert len(gateway.uploads.requests) == 1


async def test_names_of_any_case_and_port_are_this_server(gateway: Served) -> None:
    """Behind a proxy the port is another one."""
    for host in ("LocalHost", "127.0.0.1:1", f"localhost:{gateway.port}"):
        head = f"GET /v1/uploads/x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        assert (await raw(gateway, head.encode())).split()[1] == b"200"


@pytest.mark.parametrize(
    "flood",
    [
        b"".join(b"x-%d: %b\r\n" % (number, b"y" * 900) for number in range(90)),
        b"x: " + b"y" * 2 * MAX_HEAD_BYTES + b"\r\n",
        b"".join(b"x-%d: y\r\n" % number for number in range(3000)),
        b"x: y\r\n" * 300_000,
    ],
    ids=["wide", "long", "many", "flood"],
)
async def test_a_flood_of_headers_is_refused(gateway: Served, flood: bytes) -> None:
    """The connection closes, and others are served."""
    answer = await raw(gateway, b"GET /v1/uploads/x HTTP/1.1\r\nhost: localhost\r\n" + flood)
    assert answer == b"" or answer.split()[1] in (b"400", b"431")
    assert (await raw(gateway, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).endswith(b"ALIVE\n")
    assert gateway.uploads.requests == []


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"GET /v1/uploads/%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"x" * 17_000), b"431", b"HEAD_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 101 + b"\r\n", b"400", b"HTTP_MALFORMED"),
        (b"GET /v1/uploads/\xff HTTP/1.1\r\nhost: localhost\r\n\r\n", b"400", b"HTTP_MALFORMED"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400", b"HTTP_MALFORMED"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"400", b"HTTP_MALFORMED"),
        (b"POST /v1/uploads HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400", b"HTTP_MALFORMED"),
        (
            b"POST /v1/uploads HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400", b"HTTP_MALFORMED",
        ),
    ],
    ids=["long line", "101 headers", "bytes in the path", "HTTP/2", "TLS", "length below 0", "two lengths"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_with_a_reason_and_its_limit(
    gateway: Served, head: bytes, status: bytes, reason: bytes
) -> None:
    """And its connection closes."""
    answer = await raw(gateway, head)
    assert answer.split()[1] == status
    assert reason in answer
    assert gateway.uploads.requests == []


async def test_a_client_that_waits_for_leave_to_send_its_body_is_given_it(gateway: Served) -> None:
    """As curl does; a stranger is refused in its place."""
    head = (
        b"POST /v1/uploads/u7:cancel HTTP/1.1\r\nhost: localhost\r\nexpect: 100-Continue\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head)
    async with asyncio.timeout(LIMIT_S):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.read()).endswith(b'{"upload": {"uploadId": "u7"}}\n')
    writer.close()
    async with web_server(authenticator=Guard()) as served:
        assert (await raw(served, head)).split()[1] == b"401"


async def test_a_token_that_is_too_large_is_refused_with_its_reason() -> None:
    """As on the gRPC port: the head has room for it."""
    async with web_server(authenticator=Guard()) as served, aiohttp.ClientSession() as session:
        for size, reason in ((20_000, "TOKEN_TOO_LARGE"), (0, "TOKEN_MISSING")):
            headers = {"authorization": "Bearer " + "x" * size} if size else {}
            async with session.get(served.url + "/v1/uploads/x", headers=headers) as response:
                assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")
                assert reason_of(await response.json()) == reason


async def test_a_stranger_is_refused_before_a_body_is_read() -> None:
    """A body that never comes holds nobody's place."""
    async with web_server(authenticator=Guard()) as served:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head % GET.encode())
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.readline()).split()[1] == b"401"
        writer.close()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        (GET, "application/json", b"{"),
        (GET, "application/json", b"\xff"),
        (GET, "application/proto", b"\xff"),
        (GET, "application/grpc-web+proto", b"\0\0\0"),
        (GET, "application/grpc-web+proto", b"\0\0\0\0\x09abc"),
        (GET, "application/grpc-web+proto", b"\0\xff\xff\xff\xffabc"),
        (GET, "application/grpc-web+proto", b"\x02\0\0\0\0"),
        (GET, "application/grpc-web+proto", envelope(b"\xff")),
        (GET, "application/grpc-web+proto", envelope(b"") * 2),
        (GET, "application/grpc-web-text", b"????"),
        (GET, "application/grpc-web-text", b"A"),
        (WATCH, "application/connect+proto", b"\0\0\0"),
        (WATCH, "application/connect+json", envelope(b"{")),
        (WATCH, "application/connect+json", b""),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_message_that_is_none_is_refused_in_the_protocols_form(
    gateway: Served, session: aiohttp.ClientSession, path: str, kind: str, body: bytes
) -> None:
    """Half a frame, a wrong length, broken base64: an error with a reason, and no handler is called."""
    async with session.post(gateway.url + path, data=body, headers={"content-type": kind}) as response:
        data = await response.read()
        assert response.status in (200, 400, 413)
        is_framed = "grpc-web" in kind or "connect" in kind
        assert response.headers["content-type"] == (kind if is_framed else "application/json")
    if kind == "application/grpc-web-text":
        assert data.startswith(b"gAAA")
    elif kind.startswith("application/grpc-web"):
        assert b"grpc-status-details-bin: " in data
    elif kind.startswith("application/connect"):
        ((flags, end),) = envelopes(data)
        assert (flags, bool(reason_of(json.loads(end)["error"]))) == (2, True)
    else:
        assert reason_of(json.loads(data)) in ("INVALID_FIELD", "MESSAGE_MALFORMED")
    assert gateway.uploads.requests == []


async def test_a_frame_that_breaks_off_with_its_connection_leaves_nothing(gateway: Served) -> None:
    """The client is gone in the middle of its body."""
    for _ in range(50):
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\n" % GET.encode()
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n5\r\n\0\0\0\0\x09\r\n")
        await writer.drain()
        writer.close()
    async with asyncio.timeout(LIMIT_S):
        while gateway.web.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert gateway.uploads.requests == []


async def test_a_body_that_does_not_come_is_late() -> None:
    """Its call ends with a reason; the place is free."""
    async with web_server(limits={"request_seconds": 0.3, "max_calls": 1}) as served:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(head % GET.encode())
            async with asyncio.timeout(LIMIT_S):
                answer = await reader.readuntil(b"}]}")
            assert b"MESSAGE_LATE" in answer
            writer.close()


async def test_a_head_that_does_not_come_closes_its_connection() -> None:
    """Neither silence nor a byte now and then holds one."""
    async with web_server(head_seconds=0.3) as served:
        assert await raw(served, b"") == b""
        assert await raw(served, b"GET /livez HTTP/1.1\r\nhost: local") == b""


async def test_connections_above_the_limit_are_closed() -> None:
    """Those that are there go on."""
    async with web_server(max_connections=3) as served:
        held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
        for reader, writer in held:
            writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"200" in await reader.readline()
        assert await raw(served, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n") == b""
        for reader, writer in held:
            writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(LIMIT_S):
                assert await reader.readuntil(b"ALIVE\n")
            writer.close()


def bomb(size: int) -> bytes:
    """Returns zeros, compressed, a MiB at a time."""
    packing = zlib.compressobj(9, wbits=31)
    return b"".join(packing.compress(bytes(2**20)) for _ in range(size // 2**20)) + packing.flush()


@pytest.mark.parametrize("kind", ["application/proto", "application/grpc-web+proto", "application/json"])
async def test_a_compressed_bomb_is_refused_while_it_is_small(
    gateway: Served, session: aiohttp.ClientSession, kind: str, figures: Figures
) -> None:
    """100 MB of zeros in 100 KB, ten at once: memory stays flat."""
    data = bomb(100 * 2**20)
    assert len(data) < 2**17
    headers = {"content-type": kind, "content-encoding": "gzip"}
    if "grpc-web" in kind:
        data, headers = envelope(data, 1), {"content-type": kind, "grpc-encoding": "gzip"}
    before = psutil.Process().memory_info().rss

    async def send() -> bytes:
        async with session.post(gateway.url + GET, data=data, headers=headers) as response:
            return await response.read()

    answers = await asyncio.gather(*(send() for _ in range(10)))
    grown = psutil.Process().memory_info().rss - before
    figures(f"ten bombs of 100 MiB as {kind}: memory grew by {grown / 2**20:.1f} MiB")
    assert grown < 32 * 2**20
    for answer in answers:
        assert (b"grpc-status: 8" if "grpc-web" in kind else b'"resource_exhausted"') in answer


async def test_other_compressions_are_refused_by_name(gateway: Served, session: aiohttp.ClientSession) -> None:
    """Brotli, say."""
    headers = {"content-type": "application/json", "content-encoding": "br"}
    async with session.post(gateway.url + GET, data=b"x", headers=headers) as response:
        assert reason_of(await response.json()) == "ENCODING_REFUSED"


async def test_a_stream_that_nobody_reads_is_cut(figures: Figures) -> None:
    """Twenty of them: what is sent to them is bounded, and their watches end."""
    async with web_server(silent_seconds=1.0) as served:
        before = psutil.Process().memory_info().rss
        head = b"GET /v1/uploads/long:watch HTTP/1.1\r\nhost: localhost\r\n\r\n"
        connections = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(head)
            connections.append((reader, writer))
        async with asyncio.timeout(LIMIT_S):
            await served.uploads.until_open(20)
            grown = psutil.Process().memory_info().rss - before
            await served.uploads.until_open(0)
        figures(f"20 streams that nobody reads: memory grew by {grown / 2**20:.1f} MiB")
        assert grown < 64 * 2**20
        for _, writer in connections:
            writer.transport.abort()


@pytest.mark.parametrize(
    ("how", "what"),
    [(b"", b"GET /v1/uploads/x HTTP/1.1\r\nhost: localhost\r\n\r\n"), (b"connection: upgrade\r\nupgrade: x\r\n", b"x")],
    ids=["requests", "bytes after an upgrade"],
)
async def test_a_client_that_sends_on_and_on_behind_a_watch_is_cut(
    gateway: Served, how: bytes, what: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is kept of it, its watch ends, and the log has no error."""
    before = psutil.Process().memory_info().rss
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /v1/uploads/quiet:watch HTTP/1.1\r\nhost: localhost\r\n" + how + b"\r\n")
    async with asyncio.timeout(LIMIT_S):
        await gateway.uploads.until_open(1)
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(what * 2000)
                await writer.drain()
        await gateway.uploads.until_open(0)
    writer.transport.abort()
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_requests_sent_together_with_a_watch_cut_it_too(gateway: Served) -> None:
    """In one packet, before the watch begins."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    watch = b"GET /v1/uploads/quiet:watch HTTP/1.1\r\nhost: localhost\r\n\r\n"
    writer.write(watch + b"GET /v1/uploads/x HTTP/1.1\r\nhost: localhost\r\n\r\n" * 200)
    async with asyncio.timeout(LIMIT_S):
        with suppress(ConnectionError):
            await reader.read()
        while gateway.web.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await gateway.uploads.until_open(0)
    writer.transport.abort()


async def test_a_large_answer_that_nobody_reads_is_cut() -> None:
    """A unary one of 4 MiB: the connection does not stay."""
    async with web_server(silent_seconds=0.5) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(b"GET /v1/assets?partition=p HTTP/1.1\r\nhost: localhost\r\n\r\n")
        async with asyncio.timeout(LIMIT_S):
            while served.web.connections == 0 or served.assets.requests == []:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while served.web.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        writer.transport.abort()
        assert reader is not None


async def test_calls_and_watches_of_both_ports_share_their_limits() -> None:
    """A watch through the gateway takes a place that the gRPC port does not have any more."""
    async with web_server(limits={"max_watches": 1}) as served, aiohttp.ClientSession() as session:
        held = await session.get(served.url + "/v1/uploads/quiet:watch")
        assert await held.content.readline()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.server.port}") as channel:
            stub: Any = UploadServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.WatchUpload(WatchUploadRequest(upload_id="x")).read()
            assert RpcFailure(failed.value).reason == "TOO_MANY_WATCHES"
        async with session.get(served.url + "/v1/uploads/quiet:watch") as response:
            assert (response.status, response.headers["retry-after"]) == (429, "1")
        held.close()


async def test_watches_open_and_close_without_growth(figures: Figures) -> None:
    """5,000 by 500: the second half costs no memory that the first did not."""
    async with web_server() as served:
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/connect+proto\r\n" % WATCH.encode()
        request = head + b"content-length: 5\r\n\r\n" + envelope(b"")
        process = psutil.Process()
        sizes: list[float] = []
        for _ in range(10):
            held = [await asyncio.open_connection("127.0.0.1", served.port, limit=1024) for _ in range(500)]
            for _, writer in held:
                writer.write(request)
            async with asyncio.timeout(LIMIT_S):
                await served.uploads.until_open(500)
                for reader, _ in held:
                    await reader.readuntil(struct.pack(">B", 0))
                for _, writer in held:
                    writer.transport.abort()
                await served.uploads.until_open(0)
                while served.web.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            sizes.append(process.memory_info().rss / 2**20)
        figures(f"5,000 watches opened and closed: {sizes[0]:.0f} MiB after 500, {sizes[-1]:.0f} MiB after 5,000")
        assert sizes[-1] - sizes[4] < 8
