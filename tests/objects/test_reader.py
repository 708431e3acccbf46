"""What the reader of objects does beyond the contract: retries, limits, refusals, odd answers, connections."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.access.certificates import Authority
from tests.objects.servers import http_server, never_answering, nothing_listening
from tests.objects.settings import SECRET, SETTINGS
from tests.refusals import check

from assetlane_server.model.errors import StoreFault, StoreRefused, StoreUnavailable
from assetlane_server.model.proof import StoredObject
from assetlane_server.objects.s3.reader import RetryQuota
from assetlane_server.objects.s3.store import S3ObjectStore

LIMIT_S = 20.0
OK = {"Content-Length": "7", "Content-Type": "image/png"}
Answering = Callable[[web.Request], web.StreamResponse]


@dataclass
class Store:
    """A store that answers each request with the next of its answers, and the last one for ever."""

    answers: list[Answering]
    requests: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        self.requests.append(request)
        return (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


@asynccontextmanager
async def reading(
    *answers: Answering, limit: timedelta = timedelta(seconds=10)
) -> AsyncIterator[tuple[S3ObjectStore, Store]]:
    """An S3ObjectStore on a store that gives these answers."""
    store = Store(list(answers))
    async with (
        http_server(store.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=limit)) as s3,
        asyncio.timeout(LIMIT_S),
    ):
        yield s3, store


def status(code: int, text: str = "", **headers: str) -> Answering:
    """Answers with a status."""
    return lambda _request: web.Response(status=code, text=text, headers={**headers})


def found(_request: web.Request) -> web.StreamResponse:
    """Answers a HEAD of an object."""
    return web.Response(headers=OK)


def lost(request: web.Request) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    "trouble",
    [status(500), status(502), status(503), status(504), status(429), lost],
    ids=["500", "502", "503", "504", "429", "lost"],
)
async def test_a_store_in_trouble_for_a_moment_is_asked_again(trouble: Answering) -> None:
    """Twice more at most, each time with a signature of its own time."""
    async with reading(trouble, trouble, found) as (s3, store):
        assert await s3.head("key") == StoredObject(7, "image/png")
    # aiohttp itself sends once more what a connection lost that had been in use before.
    assert len(store.requests) in (3, 4)


async def test_a_store_in_trouble_for_long_is_unavailable_with_its_own_word() -> None:
    """A GET has a body that names the trouble; the address is in no text."""
    slow = status(503, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
    async with reading(slow) as (s3, store):
        with pytest.raises(StoreUnavailable) as refusal:
            await s3.read_start("key", 16)
        check(refusal.value, names=["SlowDown"])
        assert (refusal.value.fault, refusal.value.code) == (StoreFault.FAILED, "SlowDown")
        with pytest.raises(StoreUnavailable) as refused:
            await s3.head("key")
        check(refused.value, limits=[503])
        assert (refused.value.fault, refused.value.code) == (StoreFault.FAILED, "503")
    assert len(store.requests) == 6
    assert "127.0.0.1" not in str(refusal.value)


def test_when_everything_fails_nothing_is_tried_again() -> None:
    """A hundred retries are there to begin with; success gives them back."""
    quota = RetryQuota()
    assert [quota.take() for _ in range(101)] == [True] * 100 + [False]
    quota.succeeded(1)
    assert [quota.take(), quota.take()] == [True, False]
    for _ in range(5):
        quota.succeeded(0)
    assert [quota.take(), quota.take()] == [True, False]
    for _ in range(10_000):
        quota.succeeded(0)
    assert sum(quota.take() for _ in range(1000)) == 100


@pytest.mark.parametrize(
    ("answer", "kind", "fault", "code", "names"),
    [
        (status(403), StoreRefused, StoreFault.FAILED, "403", ["s3:GetObject", "s3:ListBucket"]),
        (status(400), StoreUnavailable, StoreFault.FAILED, "400", []),
        (
            status(301, **{"x-amz-bucket-region": "eu-central-1"}),
            StoreUnavailable,
            StoreFault.REDIRECTED,
            "301",
            ["eu-central-1", "ASSETLANE_S3_REGION"],
        ),
        (
            status(307, Location="http://127.0.0.1:9/elsewhere"),
            StoreUnavailable,
            StoreFault.REDIRECTED,
            "307",
            ["ASSETLANE_S3_ENDPOINT", "ASSETLANE_S3_REGION"],
        ),
        (status(405), StoreUnavailable, StoreFault.FAILED, "405", []),
        (status(206), StoreUnavailable, StoreFault.FAILED, "206", []),
    ],
    ids=["denied", "bad", "other region", "redirect", "no method", "a part"],
)
async def test_what_no_retry_changes_is_reported_at_once(
    answer: Answering, kind: type[StoreUnavailable], fault: StoreFault, code: str, names: list[str]
) -> None:
    """One request, no redirect followed; the rights or the settings to correct are named, and the store's code."""
    async with reading(answer) as (s3, store):
        with pytest.raises(StoreUnavailable) as refusal:
            await s3.head("key")
    assert (type(refusal.value), refusal.value.fault, refusal.value.code) == (kind, fault, code)
    check(refusal.value, names=names, limits=[float(code)])
    assert SECRET not in str(refusal.value)
    assert len(store.requests) == 1


@pytest.mark.parametrize("server", [nothing_listening, never_answering])
@pytest.mark.parametrize("call", ["head", "read_start", "read_small"])
async def test_a_store_that_is_not_there_is_unavailable_in_time(
    server: Callable[[], AbstractAsyncContextManager[str]], call: str
) -> None:
    """All attempts together keep the limit of a call."""
    limit = timedelta(seconds=0.5)
    async with server() as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=limit)) as s3:
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(StoreUnavailable) as refusal:
                await (s3.head("key") if call == "head" else getattr(s3, call)("key", 16))
    # The limit of the call may end before its last attempt does.
    assert refusal.value.fault in (StoreFault.UNREACHABLE, StoreFault.NO_ANSWER)
    assert refusal.value.__cause__ is not None
    assert "127.0.0.1" not in str(refusal.value)


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"Content-Type": "image/png"}, StoreFault.SIZE_MISSING),
        ({**OK, "x-amz-checksum-sha256": "no base64"}, StoreFault.CHECKSUM_MALFORMED),
        ({**OK, "x-amz-checksum-sha256": "AAAA=A"}, StoreFault.CHECKSUM_MALFORMED),
    ],
    ids=["no length", "no checksum", "bad base64"],
)
async def test_an_answer_that_makes_no_sense_is_no_proof(headers: dict[str, str], fault: StoreFault) -> None:
    """What cannot be read is not taken for nothing."""

    def answer(_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        if "Content-Length" not in headers:
            response.enable_chunked_encoding()
        return response

    async with reading(answer) as (s3, _):
        with pytest.raises(StoreUnavailable) as refused:
            await s3.head("key")
    assert refused.value.fault is fault
    assert isinstance(refused.value.__cause__, KeyError | ValueError), "of what the store sent"


async def test_the_request_says_what_is_signed_and_asks_for_the_checksum() -> None:
    """Nothing that changes what comes back: no encoding is accepted, no cookie is kept, `~/.netrc` is not read."""

    def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(headers={**OK, "Set-Cookie": "a=b"})

    async with reading(answer) as (s3, store):
        for _ in range(2):
            await s3.head("a b/ü.jpg")
    for request in store.requests:
        assert request.method == "HEAD"
        assert request.raw_path == "/lane/a%20b/%C3%BC.jpg"
        assert request.headers["x-amz-checksum-mode"] == "ENABLED"
        signed = "SignedHeaders=host;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date,"
        assert signed in request.headers["authorization"]
        assert "accept-encoding" not in request.headers
        assert "cookie" not in request.headers


async def test_the_bytes_of_an_object_are_read_as_they_are_stored() -> None:
    """Also under an encoding that it was stored with: no byte is unpacked, so that no bomb goes off."""

    def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=206, body=b"\x1f\x8b\x08 no gzip", headers={"Content-Encoding": "gzip"})

    async with reading(answer) as (s3, store):
        assert await s3.read_start("key", 4096) == b"\x1f\x8b\x08 no gzip"
    assert store.requests[0].headers["range"] == "bytes=0-4095"


async def test_of_a_store_that_knows_no_ranges_no_more_is_read_than_asked_for() -> None:
    """The connection is closed over the rest, and the next call has another."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
        return response

    async with (
        http_server(endless) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as s3,
        asyncio.timeout(LIMIT_S),
    ):
        for _ in range(3):
            assert await s3.read_start("key", 4096) == b"x" * 4096


async def test_a_small_object_is_read_without_a_range() -> None:
    """S3 gives no checksum of the whole with a part of it. What is larger than promised is not read to its end."""

    def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=b"x" * 100_000, headers={"x-amz-checksum-sha256": base64.b64encode(b"0" * 32).decode(), "ETag": '"e"'}
        )

    async with reading(answer) as (s3, store):
        for _ in range(3):
            found = await s3.read_small("key", 64)
            assert found is not None
            assert (found[0].size_bytes, found[0].sha256, found[0].etag, found[1]) == (
                100_000,
                b"0" * 32,
                "e",
                b"x" * 64,
            )
    assert "range" not in store.requests[0].headers
    assert store.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"


async def test_an_empty_object_has_no_first_bytes() -> None:
    """A range of nothing is 416."""
    async with reading(status(416)) as (s3, _):
        assert await s3.read_start("key", 16) == b""


async def test_connections_are_used_again_and_bounded() -> None:
    """Sixty calls at once share those of the pool; a closed one is replaced without anybody noticing."""
    connections: set[object] = set()

    def answer(request: web.Request) -> web.StreamResponse:
        connections.add(request.transport)
        return web.Response(headers=OK)

    store = Store([answer])
    async with (
        http_server(store.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, pool_size=4)) as s3,
        asyncio.timeout(LIMIT_S),
    ):
        await asyncio.gather(*(s3.head("key") for _ in range(60)))
        assert len(connections) <= 4
        for transport in list(connections):
            transport.close()  # type: ignore[attr-defined]  # as a store does with idle ones
        assert await asyncio.gather(*(s3.head("key") for _ in range(8))) == [StoredObject(7, "image/png")] * 8


async def test_the_store_is_trusted_by_the_bundle_that_boto3_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_CA_BUNDLE decides; without it our own authority is unknown, which is reported without a retry."""
    authority = Authority()
    certificate, key = authority.signed("localhost").put(tmp_path)
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with http_server(Store([found]).answer, context) as address:
        endpoint = address.replace("127.0.0.1", "localhost")
        async with S3ObjectStore.open(replace(SETTINGS, endpoint=endpoint)) as s3:
            with pytest.raises(StoreUnavailable) as refused:
                await s3.head("key")
            assert refused.value.fault is StoreFault.CERTIFICATE_NOT_ACCEPTED
            assert isinstance(refused.value.__cause__, aiohttp.ClientConnectorCertificateError)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        async with S3ObjectStore.open(replace(SETTINGS, endpoint=endpoint)) as s3:
            assert await s3.head("key") == StoredObject(7, "image/png")


async def test_the_proxy_of_the_environment_is_used_as_boto3_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for what NO_PROXY names."""
    proxy = Store([found])
    async with http_server(proxy.answer) as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        async with S3ObjectStore.open(replace(SETTINGS, endpoint="http://storage.invalid")) as s3:
            assert await s3.head("key") == StoredObject(7, "image/png")
        monkeypatch.setenv("no_proxy", "storage.invalid")
        monkeypatch.setenv("NO_PROXY", "storage.invalid")
        async with S3ObjectStore.open(replace(SETTINGS, endpoint="http://storage.invalid")) as s3:
            with pytest.raises(StoreUnavailable) as refused:
                await s3.head("key")
            assert refused.value.fault is StoreFault.UNREACHABLE
            assert isinstance(refused.value.__cause__, aiohttp.ClientConnectorError)
    assert len(proxy.requests) == 1
