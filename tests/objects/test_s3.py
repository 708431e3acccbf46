"""The S3 adapter beyond the contract: addresses, credentials, refusals, stores that do not answer."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from tests.log_events import seen
from tests.objects.servers import CredentialsSource, http_server, never_answering, nothing_listening
from tests.objects.settings import SECRET, SETTINGS, settings_of
from tests.refusals import raises

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import (
    CredentialsExpired,
    CredentialsMissing,
    CredentialsSourceFailed,
    StoreFault,
    StoreRefused,
    StoreUnavailable,
)
from assetlane_server.model.parts import PartPromise
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.headers import UPLOAD_HEADERS, check_signed_headers
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.objects.wire import open_wire

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LIMIT_S = 20.0
KMS_KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PROMISE = VariantPromise("original", "image/jpeg", 5, sha256=bytes(32), key="private/a b.jpg")


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A process that boto3's default chain finds no credentials for."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "ROLE_ARN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return monkeypatch


@asynccontextmanager
async def store_with(
    source: CredentialsSource, environment: pytest.MonkeyPatch, endpoint: str = SETTINGS.endpoint
) -> AsyncIterator[S3ObjectStore]:
    """A store whose credentials come from that source and are looked at all the time."""
    settings = replace(
        SETTINGS,
        access_key_id="",
        secret_access_key="",
        credentials_interval=timedelta(milliseconds=10),
        endpoint=endpoint,
    )
    async with http_server(source.answer) as address:
        environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/role")
        async with asyncio.timeout(LIMIT_S), S3ObjectStore.open(settings) as store:
            yield store


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread brings about, with a limit."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def query_of(url: str) -> dict[str, str]:
    """A URL's query parameters."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def test_the_headers_to_send_are_all_that_is_signed_but_host() -> None:
    """Nothing more, nothing less, with the hash in base64."""
    async with S3ObjectStore.open(SETTINGS) as store:
        request = store.presign_put(PROMISE, NOON, QUARTER)

    assert request.headers == {
        "content-type": "image/jpeg",
        "content-length": "5",
        "content-disposition": "attachment",
        "cache-control": "private",
        "if-none-match": "*",
        "x-amz-checksum-sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }
    signed = query_of(request.url)["X-Amz-SignedHeaders"].split(";")
    assert signed == sorted(["host", *request.headers])


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "http://127.0.0.1:9/lane/private/a%20b.jpg"),
        ({"public_endpoint": "https://files.example"}, "https://files.example/lane/private/a%20b.jpg"),
        (
            {"public_endpoint": "https://files.example:8443/", "addressing": "virtual"},
            "https://lane.files.example:8443/private/a%20b.jpg",
        ),
        ({"endpoint": ""}, "https://s3.eu-west-1.amazonaws.com/lane/private/a%20b.jpg"),
        (
            {"endpoint": "", "addressing": "virtual", "region": "us-east-1"},
            "https://lane.s3.us-east-1.amazonaws.com/private/a%20b.jpg",
        ),
    ],
    ids=["path", "public endpoint", "virtual", "AWS", "AWS's first region, virtual"],
)
async def test_urls_name_the_public_endpoint(changes: dict[str, str], address: str) -> None:
    """What the server calls itself may be out of the callers' reach; AWS's own is always the regional one."""
    async with S3ObjectStore.open(replace(SETTINGS, **changes)) as store:  # type: ignore[arg-type]
        assert store.presign_put(PROMISE, NOON, QUARTER).url.partition("?")[0] == address
        assert store.presign_get(PROMISE.key, NOON, QUARTER).url.partition("?")[0] == address
        assert store.public_url(PROMISE.key) == address


async def test_public_urls_start_with_their_own_base() -> None:
    """A CDN in front of the bucket, keys percent-encoded."""
    settings = replace(SETTINGS, public_base_url="https://cdn.example/files/")
    async with S3ObjectStore.open(settings) as store:
        assert store.public_url("public/ü+%.jpg") == "https://cdn.example/files/public/%C3%BC%2B%25.jpg"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"secret_access_key": ""}, ["access_key_id", "secret_access_key"]),
        ({"access_key_id": ""}, ["access_key_id", "secret_access_key"]),
        ({"public_base_url": "cdn.example"}, ["public_base_url", "cdn.example"]),
    ],
    ids=["no secret", "no id", "no scheme"],
)
def test_half_settings_are_refused(changes: dict[str, str], names: list[str]) -> None:
    """Before anything is opened, and without the secret in the text."""
    with raises(ValueError, names=names) as refusal:
        replace(SETTINGS, **changes)  # type: ignore[arg-type]
    assert SECRET not in str(refusal.value)
    assert SECRET not in repr(SETTINGS)


async def test_without_credentials_the_store_does_not_open(no_credentials: pytest.MonkeyPatch) -> None:
    """And says what to set."""
    settings = replace(SETTINGS, access_key_id="", secret_access_key="")
    with pytest.raises(CredentialsMissing):
        async with S3ObjectStore.open(settings):
            pass


async def test_a_credentials_source_that_is_broken_keeps_the_store_from_opening(
    no_credentials: pytest.MonkeyPatch,
) -> None:
    """Distinguished from no source at all."""
    source = CredentialsSource(timedelta(hours=1))
    source.broken = True
    with pytest.raises(CredentialsSourceFailed):
        async with store_with(source, no_credentials):
            pass


async def test_a_url_dies_with_the_temporary_credentials_that_signed_it(
    no_credentials: pytest.MonkeyPatch,
) -> None:
    """Its instant is the credentials' end, not the requested one; the token is in the URL."""
    source = CredentialsSource(timedelta(hours=1))
    async with store_with(source, no_credentials) as store:
        signed_at = datetime.now(UTC)
        short = store.presign_get("key", signed_at, QUARTER)
        long = store.presign_get("key", signed_at, timedelta(days=1))

    assert short.expire_time == signed_at.replace(microsecond=0) + QUARTER
    assert long.expire_time == source.expire_time
    assert query_of(long.url)["X-Amz-Security-Token"] == "token 1"
    lifetime = source.expire_time - signed_at.replace(microsecond=0)
    assert query_of(long.url)["X-Amz-Expires"] == f"{lifetime.total_seconds():.0f}"


async def test_nothing_is_signed_as_of_an_instant_after_the_credentials_end(
    no_credentials: pytest.MonkeyPatch,
) -> None:
    """A URL that was dead from the start would be a riddle to its caller."""
    source = CredentialsSource(timedelta(hours=1))
    async with store_with(source, no_credentials) as store:
        with pytest.raises(CredentialsExpired):
            store.presign_get("key", source.expire_time, QUARTER)


async def test_temporary_credentials_are_renewed_before_they_end(no_credentials: pytest.MonkeyPatch) -> None:
    """Without anybody asking for a URL."""
    source = CredentialsSource(timedelta(minutes=5))  # botocore renews what lives less than ten
    async with store_with(source, no_credentials) as store:
        await until(lambda: "AKID3" in store.presign_get("key", datetime.now(UTC), QUARTER).url)


async def test_reading_goes_on_with_renewed_credentials(no_credentials: pytest.MonkeyPatch) -> None:
    """Each HEAD has the token of the newest ones, and no HEAD waits for a source that takes its time."""
    seen: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers["authorization"], request.headers["x-amz-security-token"]))
        return web.Response(headers={"Content-Length": "7"})

    source = CredentialsSource(timedelta(minutes=5))
    async with http_server(answer) as endpoint, store_with(source, no_credentials, endpoint=endpoint) as store:
        await until(lambda: source.answers >= 3)
        source.open.clear()
        source.asked.clear()
        await source.asked.wait()
        assert await store.head("key") == StoredObject(7, "")
        source.open.set()
    ((authorization, token),) = seen
    number = int(token.removeprefix("token "))
    assert number >= 2
    assert f"Credential=AKID{number}/" in authorization
    assert "x-amz-security-token" in authorization


async def test_nothing_is_read_with_credentials_that_have_ended(no_credentials: pytest.MonkeyPatch) -> None:
    """It is reported before the store answers a riddle."""
    source = CredentialsSource(timedelta(minutes=20))
    async with store_with(source, no_credentials) as store:
        source.life, source.broken = timedelta(seconds=-1), True
        store.connection.credentials = replace(store.connection.credentials, expire_time=datetime.now(UTC))
        with pytest.raises(CredentialsExpired):
            await store.head("key")


async def test_signing_goes_on_while_credentials_are_renewed(no_credentials: pytest.MonkeyPatch) -> None:
    """A source that takes its time holds a thread, never the event loop."""
    source = CredentialsSource(timedelta(minutes=5))
    async with store_with(source, no_credentials) as store:
        source.open.clear()
        source.asked.clear()
        await source.asked.wait()

        assert store.presign_get("key", datetime.now(UTC), QUARTER).url

        source.open.set()


async def test_a_failed_renewal_keeps_the_credentials_at_hand(
    no_credentials: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged without secrets, and tried again."""
    source = CredentialsSource(timedelta(minutes=5))
    async with store_with(source, no_credentials) as store:
        source.broken = True
        with caplog.at_level(logging.WARNING, "assetlane_server.objects.s3.connection"):
            await seen(caplog, "CREDENTIALS_NOT_RENEWED")

        assert store.presign_get("key", datetime.now(UTC), timedelta(minutes=1)).url
        assert SECRET not in caplog.text

        source.broken = False
        renewed = f"AKID{source.answers + 1}"
        await until(lambda: renewed in store.presign_get("key", datetime.now(UTC), QUARTER).url)


@pytest.mark.parametrize("server", [nothing_listening, never_answering])
@pytest.mark.parametrize("call", ["head", "delete"])
async def test_a_store_that_is_not_there_is_unavailable_in_time(
    server: Callable[[], AbstractAsyncContextManager[str]], call: str
) -> None:
    """Within the limit of a call, and without addresses in the text."""
    limit = timedelta(seconds=0.5)
    async with server() as address:
        settings = replace(SETTINGS, endpoint=address, call_timeout=limit)
        async with S3ObjectStore.open(settings) as store:
            async with asyncio.timeout(LIMIT_S):
                with pytest.raises(StoreUnavailable) as refusal:
                    await (store.head("key") if call == "head" else store.delete(["key"]))

    assert refusal.value.fault in (StoreFault.UNREACHABLE, StoreFault.NO_ANSWER)
    assert refusal.value.__cause__ is not None
    assert "127.0.0.1" not in str(refusal.value)


async def test_calls_beyond_the_pool_keep_their_limit_too() -> None:
    """The wait for a free thread counts."""
    calls, limit = 100, timedelta(seconds=0.4)
    async with never_answering() as address:
        settings = replace(SETTINGS, endpoint=address, pool_size=1, call_timeout=limit)
        async with S3ObjectStore.open(settings) as store:
            # One after the other they would take as long as all their limits together.
            async with asyncio.timeout(calls * limit.total_seconds() / 2):
                outcomes = await asyncio.gather(*(store.head("key") for _ in range(calls)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}


async def test_a_call_whose_caller_gave_up_leaves_the_store_usable(stack: StackAddress, key_prefix: str) -> None:
    """Cancelling is ordinary."""
    async with S3ObjectStore.open(settings_of(stack)) as store:
        task = asyncio.create_task(store.head(f"{key_prefix}a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await store.head(f"{key_prefix}a") is None


async def test_closing_the_store_ends_its_threads() -> None:
    """And what the body raised comes out as it is."""
    async with nothing_listening() as address:
        with pytest.raises(StoreUnavailable):
            async with S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
                await store.head("key")

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("s3")]


@pytest.mark.parametrize(
    ("call", "rights"), [("head", ["s3:GetObject", "s3:ListBucket"]), ("delete", ["s3:DeleteObject"])]
)
async def test_a_refused_call_names_the_missing_right(stack: StackAddress, call: str, rights: list[str]) -> None:
    """Wrong keys or too few rights: the operator reads what to give."""
    settings = replace(settings_of(stack), secret_access_key=SECRET)
    async with S3ObjectStore.open(settings) as store:
        with raises(StoreUnavailable, names=rights) as refusal:
            await (store.head("key") if call == "head" else store.delete(["key"]))

    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("keys", [["a"], ["a", "b"]], ids=["one", "two"])
async def test_deleting_in_a_bucket_that_is_not_there_is_no_success(stack: StackAddress, keys: list[str]) -> None:
    """Strays would stay for ever in the right bucket."""
    settings = replace(settings_of(stack), bucket="assetlane-not-there")
    async with S3ObjectStore.open(settings) as store:
        with pytest.raises(StoreRefused):
            await store.delete(keys)


async def test_a_thousand_deletions_of_a_slow_store_are_each_within_a_limit() -> None:
    """Swift takes some ten milliseconds for each: in one request that is longer than a call may take."""
    sizes: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sizes.append((await request.read()).count(b"<Key>"))
        await asyncio.sleep(sizes[-1] * 0.008)
        return web.Response(text="<DeleteResult></DeleteResult>", content_type="application/xml")

    limit = timedelta(seconds=6)
    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=limit)) as store,
    ):
        begun = asyncio.get_running_loop().time()
        await store.delete([f"key-{number}" for number in range(1000)])
        assert asyncio.get_running_loop().time() - begun > limit.total_seconds()

    assert sum(sizes) == 1000
    assert max(sizes) <= 100


async def test_keys_that_the_store_did_not_delete_are_counted() -> None:
    """A 200 may hold refusals; what was not there is not one of them."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{code}</Code><Message/></Error>"
            for key, code in (("a", "AccessDenied"), ("b", "InternalError"), ("c", "NoSuchKey"))
        )
        return web.Response(text=f"<DeleteResult>{errors}</DeleteResult>", content_type="application/xml")

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with raises(StoreUnavailable, limits=[2, 4], names=["AccessDenied", "InternalError"]):
            await store.delete(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, StoredObject(7, "image/png")),
        ({"ETag": '"abc"', "x-amz-version-id": "v1"}, StoredObject(7, "image/png", "abc", "v1")),
        ({"x-amz-version-id": "null"}, StoredObject(7, "image/png")),
        (
            {"x-amz-checksum-sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
            StoredObject(7, "image/png", sha256=bytes(32)),
        ),
        (
            {
                "x-amz-checksum-sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=-3",
                "x-amz-checksum-type": "COMPOSITE",
            },
            StoredObject(7, "image/png", parts_sha256=bytes(32)),
        ),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, StoredObject(7, "image/png")),
    ],
    ids=["bare", "versioned", "unversioned", "hash", "hash of parts' hashes", "other checksum"],
)
async def test_what_the_store_says_is_read_with_care(headers: dict[str, str], found: StoredObject) -> None:
    """No version is no version, and only a hash of the bytes is a hash."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": "7", "Content-Type": "image/png", **headers})

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        assert await store.head("key") == found


async def test_a_store_in_trouble_is_unavailable() -> None:
    """Its 503 is recognized by its code."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        text = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        return web.Response(status=503, text=text, content_type="application/xml")

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with raises(StoreUnavailable, names=["SlowDown"]):
            await store.delete(["key"])


def test_what_no_browser_could_send_is_never_signed() -> None:
    """A header that CORS does not allow, and a value that a signature would change."""
    check_signed_headers(dict.fromkeys((*UPLOAD_HEADERS, "content-length"), "x"))
    with raises(ValueError, names=["x-amz-acl"]):
        check_signed_headers({"x-amz-acl": "private"})
    for value in ("two  blanks", " first", "last ", "ü", "a\nb", "a\tb"):
        with raises(ValueError, names=["content-disposition"]):
            check_signed_headers({"content-disposition": value})


async def test_every_header_of_a_write_url_is_one_that_cors_allows() -> None:
    """With all that can be promised and a KMS key."""
    async with S3ObjectStore.open(replace(SETTINGS, sse_kms_key_id=KMS_KEY)) as store:
        request = store.presign_put(PROMISE, NOON, QUARTER)
    assert set(UPLOAD_HEADERS) == request.headers.keys() - {"content-length"}
    assert query_of(request.url)["X-Amz-SignedHeaders"].split(";") == sorted(["host", *request.headers])
    assert request.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert request.headers["x-amz-server-side-encryption-aws-kms-key-id"] == KMS_KEY


@pytest.mark.parametrize("kms_key", [KMS_KEY, ""])
async def test_every_write_of_the_server_names_the_kms_key(kms_key: str) -> None:
    """A cut that it stores, a multipart upload that it opens, and the trial before; without a key none does."""
    asked: list[tuple[str, str | None, str | None]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.method in ("PUT", "POST") and "partNumber" not in request.query:
            encryption = request.headers.get("x-amz-server-side-encryption")
            key_id = request.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
            asked.append((request.path.rpartition("/")[2], encryption, key_id))
        if request.method == "POST":
            text = "<InitiateMultipartUploadResult><UploadId>m-1</UploadId></InitiateMultipartUploadResult>"
            return web.Response(text=text, content_type="application/xml")
        if request.method == "GET":
            return web.Response(text="<ListPartsResult></ListPartsResult>", content_type="application/xml")
        return web.Response(headers={"ETag": '"e"'})

    film = replace(PROMISE, key="a/film", part_size_bytes=5, promises_parts=True)
    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, sse_kms_key_id=kms_key)) as store,
    ):
        async with open_wire(QUARTER) as wire:  # as a process that makes cuts
            cut = replace(PROMISE, key="a/cut")
            await wire.send(store.seen_from_here().presign_put(cut, datetime.now(UTC), QUARTER), b"five!")
        await store.multiparts.open(film)
        part = store.multiparts.presign_part(film, "m-1", PartPromise(1), NOON, QUARTER)
    wanted = ("aws:kms", kms_key) if kms_key else (None, None)
    assert asked == [("cut", *wanted), ("trial", *wanted), ("film", *wanted)]
    # A part is encrypted as its upload was opened; S3 refuses these headers there.
    assert part.headers == {"content-length": "5"}


async def test_names_of_foreign_headers_are_reported() -> None:
    """As the store says them, empty ones apart; what was promised is not foreign."""
    headers = {
        "Content-Type": "text/plain", "Content-Encoding": "gzip", "Content-Language": "", "Expires": "0",
        "Content-Length": "5", "x-amz-meta-a": "b", "X-Amz-Website-Redirect-Location": "/x",
        "Cache-Control": "private", "ETag": '"e"',
    }  # fmt: skip

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(headers=headers)

    async with http_server(answer) as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        found = await store.head("a")
    assert found is not None
    assert found.foreign_headers == ("content-encoding", "expires", "x-amz-meta-a", "x-amz-website-redirect-location")
