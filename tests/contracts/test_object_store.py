"""What every ObjectStore must keep: proved with real HTTP requests at a real store, and of the one in memory.

A new adapter joins `ADAPTERS` with a function that opens it where everybody may read `OPEN_FOLDER`.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest
from tests.contracts.callers import Caller, caller_of
from tests.memory.object_store import MemoryObjectStore
from tests.refusals import raises

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.extensions import ENDINGS
from assetlane_server.model.media_types import is_same_type
from assetlane_server.model.paths import object_key
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.bucket import BucketPlan, set_up
from assetlane_server.objects.s3.settings import S3Settings
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.ports.object_store import ObjectStore

BYTES = b"the promised bytes"
OTHER = b"THE PROMISED BYTES"  # as long
QUARTER = timedelta(minutes=15)
LIMIT_S = 20.0
CONTRACT_PREFIX = "contract/"
OPEN_FOLDER = f"{CONTRACT_PREFIX}public/"


@asynccontextmanager
async def open_s3(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """An S3 store, as the server opens it after `assetlane-server setup`."""
    stack: StackAddress = request.getfixturevalue("stack")
    settings = S3Settings(
        bucket=stack.s3_bucket,
        region=stack.s3_region,
        endpoint=stack.s3_endpoint,
        access_key_id=stack.s3_access_key_id,
        secret_access_key=stack.s3_secret_access_key,
        page_keys=2,
    )
    async with S3ObjectStore.open(settings) as store:
        await set_up(store.connection, BucketPlan(prefix=CONTRACT_PREFIX))
        yield store


@asynccontextmanager
async def open_memory(_request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """The store of unit tests and simulation."""
    yield MemoryObjectStore(open_prefix=OPEN_FOLDER, page_keys=2)


Opening = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[ObjectStore]]
ADAPTERS: Mapping[str, Opening] = {"s3": open_s3, "memory": open_memory}


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """The adapter under test."""
    async with ADAPTERS[request.param](request) as store:
        yield store


@pytest.fixture
async def http(store: ObjectStore) -> AsyncIterator[Caller]:
    """A caller that has nothing but URLs."""
    async with caller_of(store) as caller:
        yield caller


def now() -> datetime:
    """The time of the test."""
    return datetime.now(UTC)


def promise_of(key: str, content: bytes = BYTES, content_type: str = "text/plain") -> VariantPromise:
    """A promise that the content keeps."""
    return VariantPromise("original", content_type, len(content), sha256=hashlib.sha256(content).digest(), key=key)


async def send(http: Caller, request: PresignedRequest, body: bytes = b"") -> int:
    """Sends a request as it stands and returns the status."""
    return (await http.send(request, body)).status


async def read(http: Caller, url: str) -> tuple[int, bytes]:
    """Reads a URL and returns the status and the body."""
    answer = await http.send(PresignedRequest("GET", url, {}, now()))
    return answer.status, answer.body


async def put(store: ObjectStore, http: Caller, key: str, content: bytes = BYTES) -> None:
    """Stores what is promised."""
    assert await send(http, store.presign_put(promise_of(key, content), now(), QUARTER), content) == 200


async def test_the_promised_bytes_are_accepted_and_proved(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """What `head` says is what was promised; the ETag comes without quotes."""
    promise = promise_of(f"{key_prefix}a.txt")

    assert await send(http, store.presign_put(promise, now(), QUARTER), BYTES) == 200

    found = await store.head(promise.key)
    assert found is not None
    assert (found.size_bytes, found.content_type) == (len(BYTES), "text/plain")
    assert found.sha256 in (promise.sha256, b"")
    assert found.etag
    assert '"' not in found.etag


async def test_a_promise_without_a_hash_is_accepted(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Length and type alone are a promise too."""
    promise = replace(promise_of(f"{key_prefix}a.txt"), sha256=b"")
    request = store.presign_put(promise, now(), QUARTER)

    assert not any("sha256" in name for name in request.headers)
    assert await send(http, request, BYTES) == 200


async def test_an_empty_object_can_be_promised(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Zero bytes are a size."""
    await put(store, http, f"{key_prefix}empty", b"")

    found = await store.head(f"{key_prefix}empty")
    assert found is not None
    assert found.size_bytes == 0


@dataclass(frozen=True)
class Breach:
    """A way to break a promise: another body, another request, or both."""

    name: str
    body: bytes = BYTES
    change: Callable[[PresignedRequest], PresignedRequest] = lambda request: request

    def __str__(self) -> str:
        return self.name


def with_header(name: str, value: str) -> Callable[[PresignedRequest], PresignedRequest]:
    """Changes one header."""
    return lambda request: replace(request, headers={**request.headers, name: value})


def with_headers(headers: Mapping[str, str]) -> Callable[[PresignedRequest], PresignedRequest]:
    """Changes several headers."""
    return lambda request: replace(request, headers={**request.headers, **headers})


def without_header(name: str) -> Callable[[PresignedRequest], PresignedRequest]:
    """Drops one header."""
    return lambda request: replace(
        request, headers={key: value for key, value in request.headers.items() if key != name}
    )


def with_url(pattern: str, replacement: str) -> Callable[[PresignedRequest], PresignedRequest]:
    """Changes the URL."""

    def change(request: PresignedRequest) -> PresignedRequest:
        url = re.sub(pattern, replacement, request.url, count=1)
        assert url != request.url
        return replace(request, url=url)

    return change


BREACHES = [
    Breach("longer", BYTES + b"!", with_header("content-length", str(len(BYTES) + 1))),
    Breach("shorter", BYTES[:-1], with_header("content-length", str(len(BYTES) - 1))),
    Breach("another type", change=with_header("content-type", "text/html")),
    Breach("no type", change=without_header("content-type")),
    Breach("shown instead of saved", change=with_header("content-disposition", "inline")),
    Breach("no disposition", change=without_header("content-disposition")),
    Breach("kept by everybody", change=with_header("cache-control", "public")),
    Breach("no caching", change=without_header("cache-control")),
    Breach("another body under the same hash", OTHER),
    Breach(
        "another body with its own hash",
        OTHER,
        with_header("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ),
    Breach("no hash", OTHER, without_header("x-amz-checksum-sha256")),
    Breach("may overwrite", change=without_header("if-none-match")),
    Breach("overwrites one etag", change=with_header("if-none-match", '"0"')),
    Breach("another key", change=with_url(r"/victim\.txt", "/other.txt")),
    Breach("another method", change=lambda request: replace(request, method="POST")),
    Breach("a longer life", change=with_url(r"X-Amz-Expires=900", "X-Amz-Expires=9000")),
    Breach("a later start", change=with_url(r"X-Amz-Date=\d{8}T\d{6}Z", "X-Amz-Date=20990101T000000Z")),
    Breach("fewer signed headers", change=with_url(r"X-Amz-SignedHeaders=[^&]*", "X-Amz-SignedHeaders=host")),
    Breach("more signed headers", change=with_url(r"X-Amz-SignedHeaders=", "X-Amz-SignedHeaders=accept%3B")),
    Breach("a later life in the query too", change=with_url(r"$", "&X-Amz-Expires=9000")),
    Breach(
        "a copy of something else", b"", with_headers({"x-amz-copy-source": "/bucket/other", "content-length": "0"})
    ),
    Breach("an added right", change=with_header("x-amz-acl", "public-read")),
    Breach("an added redirect", change=with_header("x-amz-website-redirect-location", "https://example.com/")),
    Breach("added metadata", change=with_header("x-amz-meta-note", "not promised")),
    Breach("another verb", change=lambda request: replace(request, method="DELETE")),
    Breach("no signature", change=with_url(r"\?.*", "")),
]


@pytest.mark.parametrize("breach", BREACHES, ids=str)
async def test_a_broken_promise_stores_nothing(
    store: ObjectStore, http: Caller, key_prefix: str, breach: Breach
) -> None:
    """The store refuses it, where nothing is yet."""
    request = store.presign_put(promise_of(f"{key_prefix}victim.txt"), now(), QUARTER)

    assert 400 <= await send(http, breach.change(request), breach.body) < 500

    assert await store.head(f"{key_prefix}victim.txt") is None
    assert await store.head(f"{key_prefix}other.txt") is None


@pytest.mark.parametrize("breach", [Breach("the same again"), *BREACHES], ids=str)
async def test_a_stored_object_cannot_be_touched_with_its_write_url(
    store: ObjectStore, http: Caller, key_prefix: str, breach: Breach
) -> None:
    """Its URL is still valid, but the bytes are proved already."""
    key = f"{key_prefix}victim.txt"
    request = store.presign_put(promise_of(key), now(), QUARTER)
    assert await send(http, request, BYTES) == 200
    before = await store.head(key)

    assert 400 <= await send(http, breach.change(request), breach.body) < 500

    assert await store.head(key) == before
    assert await read(http, store.presign_get(key, now(), QUARTER).url) == (200, BYTES)


async def test_a_second_write_learns_that_something_is_there(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """412: the caller knows that the bytes arrived, and can complete."""
    request = store.presign_put(promise_of(f"{key_prefix}a.txt"), now(), QUARTER)
    assert await send(http, request, BYTES) == 200

    assert await send(http, request, BYTES) == 412


async def test_of_many_writes_at_once_one_wins(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """The condition holds in a race too."""
    request = store.presign_put(promise_of(f"{key_prefix}a.txt"), now(), QUARTER)

    statuses = await asyncio.gather(*(send(http, request, BYTES) for _ in range(16)))

    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}


async def test_a_body_that_breaks_off_stores_nothing(store: ObjectStore, key_prefix: str) -> None:
    """A lost connection leaves no short object."""
    if isinstance(store, MemoryObjectStore):
        pytest.skip("is about HTTP: in memory a body comes whole")
    promise = promise_of(f"{key_prefix}a.txt")
    request = store.presign_put(promise, now(), QUARTER)
    url = urlsplit(request.url)
    assert url.hostname is not None
    lines = [f"{name}: {value}" for name, value in {"host": url.netloc, **request.headers}.items()]
    head = "\r\n".join([f"PUT {url.path}?{url.query} HTTP/1.1", *lines, "", ""])

    async with asyncio.timeout(LIMIT_S):
        port, tls = (url.port or 443, True) if url.scheme == "https" else (url.port or 80, None)
        reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        writer.write(head.encode() + BYTES[:-1])
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    assert await store.head(promise.key) is None


async def test_an_expired_write_url_is_refused(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Its life counts from `signed_at`, not from when it was made."""
    promise = promise_of(f"{key_prefix}a.txt")
    request = store.presign_put(promise, now() - timedelta(hours=1), QUARTER)

    assert await send(http, request, BYTES) == 403

    assert await store.head(promise.key) is None


async def test_a_read_url_works_until_its_instant_and_not_after(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """`expire_time` is the instant from which the store refuses it."""
    await put(store, http, f"{key_prefix}a.txt")
    request = store.presign_get(f"{key_prefix}a.txt", now(), timedelta(seconds=2))

    async with asyncio.timeout(LIMIT_S):
        while True:
            begun = now()
            status, body = await read(http, request.url)
            if status != 200:
                break
            assert body == BYTES
            # A store may count whole seconds as we do.
            assert begun < request.expire_time + timedelta(seconds=1)
            await asyncio.sleep(0.05)

    assert status == 403
    assert now() >= request.expire_time


async def test_a_read_url_only_reads(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """It neither writes nor deletes."""
    await put(store, http, f"{key_prefix}a.txt")
    request = store.presign_get(f"{key_prefix}a.txt", now(), QUARTER)

    assert await send(http, replace(request, method="DELETE")) == 403
    assert await send(http, replace(request, method="PUT"), OTHER) == 403

    assert await read(http, request.url) == (200, BYTES)


async def test_a_read_url_reads_no_other_key(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """A signature is one key's."""
    await put(store, http, f"{key_prefix}a.txt")
    await put(store, http, f"{key_prefix}b.txt")
    request = store.presign_get(f"{key_prefix}a.txt", now(), QUARTER)

    status, _ = await read(http, request.url.replace("a.txt", "b.txt"))

    assert status == 403


async def test_a_private_object_is_closed_to_strangers(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Without a signature there is nothing to see."""
    await put(store, http, f"{key_prefix}a.txt")

    status, _ = await read(http, store.public_url(f"{key_prefix}a.txt"))

    assert status == 403


async def test_a_public_object_is_open_to_read_and_closed_to_write(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """Its unsigned URL is permanent, and good for reading only."""
    key = f"{OPEN_FOLDER}{key_prefix}a.txt"
    await put(store, http, key)
    url = store.public_url(key)

    assert await read(http, url) == (200, BYTES)
    for method in ("PUT", "DELETE"):
        assert await send(http, PresignedRequest(method, url, {}, now()), b"") == 403
    assert await read(http, url) == (200, BYTES)


@pytest.mark.parametrize(
    "name",
    ["ü/日本.txt", "a b.txt", "a+b.txt", "%41.txt", "%2e%2e.txt", 'it\'s "<&>".txt', "?#[]@!$()*,;=:", "~a"],
)
@pytest.mark.parametrize("folder", ["", OPEN_FOLDER], ids=["private", "public"])
async def test_a_key_of_any_letters_goes_all_the_way(
    store: ObjectStore, http: Caller, key_prefix: str, folder: str, name: str
) -> None:
    """Written, found, read and deleted under exactly that key."""
    key, neighbour = f"{folder}{key_prefix}{name}", f"{folder}{key_prefix}neighbour"
    await put(store, http, key)
    await put(store, http, neighbour, OTHER)

    found = await store.head(key)
    assert found is not None
    assert found.size_bytes == len(BYTES)
    assert await read(http, store.presign_get(key, now(), QUARTER).url) == (200, BYTES)
    if folder:
        assert await read(http, store.public_url(key)) == (200, BYTES)
    await store.delete([key, f"{key} of nobody"])
    assert await store.head(key) is None
    assert await store.head(neighbour) is not None


async def test_the_same_arguments_give_the_same_request(store: ObjectStore, key_prefix: str) -> None:
    """So image caches keep working; and another second is another URL."""
    key, instant = f"{key_prefix}a.txt", now().replace(microsecond=1)
    request = store.presign_get(key, instant, QUARTER)

    assert store.presign_get(key, instant.replace(microsecond=999_999), QUARTER) == request
    assert store.presign_get(key, instant + timedelta(seconds=1), QUARTER).url != request.url


async def test_the_instant_of_expiry_is_counted_from_the_whole_second(store: ObjectStore, key_prefix: str) -> None:
    """A promise of 15 minutes signed at 12:00:00.9 ends at 12:15:00."""
    instant = now().replace(microsecond=900_000)

    request = store.presign_put(promise_of(f"{key_prefix}a.txt"), instant, QUARTER)

    assert request.expire_time == instant.replace(microsecond=0) + QUARTER


async def test_names_of_headers_to_send_are_lower_case(store: ObjectStore, key_prefix: str) -> None:
    """Callers compare them as they stand."""
    request = store.presign_put(promise_of(f"{key_prefix}a.txt"), now(), QUARTER)

    assert request.method == "PUT"
    assert [name for name in request.headers if name != name.lower()] == []
    assert "host" not in request.headers


async def test_what_is_not_there_is_none(store: ObjectStore, key_prefix: str) -> None:
    """A missing object is an answer, not an error."""
    assert await store.head(f"{key_prefix}nothing") is None


async def test_the_first_bytes_are_read_and_no_more(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Fewer where there are fewer."""
    await put(store, http, f"{key_prefix}a.txt")

    assert await store.read_start(f"{key_prefix}a.txt", 5) == BYTES[:5]
    assert await store.read_start(f"{key_prefix}a.txt", 4096) == BYTES
    with pytest.raises(StoreUnavailable):
        await store.read_start(f"{key_prefix}nothing", 5)


async def test_a_small_object_is_read_with_all_that_is_said_about_it(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """The same as by a HEAD; a checksum may be missing, and is no other one."""
    await put(store, http, f"{key_prefix}a.txt")

    for limit_bytes, expected in ((len(BYTES), BYTES), (5, BYTES[:5]), (32768, BYTES)):
        found = await store.read_small(f"{key_prefix}a.txt", limit_bytes)
        assert found is not None
        stored, body = found
        assert body == expected
        headed = await store.head(f"{key_prefix}a.txt")
        assert headed is not None
        assert stored in (headed, replace(headed, sha256=b""))
    assert await store.read_small(f"{key_prefix}nothing", 5) is None


async def test_the_servers_own_processes_have_urls_that_work_from_here(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """As good as any other: signed, for one object, once."""
    inside, promise = store.seen_from_here(), promise_of(f"{key_prefix}cut.jpg", content_type="image/jpeg")

    assert await send(http, inside.presign_put(promise, now(), QUARTER), BYTES) == 200
    assert await send(http, inside.presign_put(promise, now(), QUARTER), BYTES) == 412
    assert await read(http, inside.presign_get(promise.key, now(), QUARTER).url) == (200, BYTES)
    assert await inside.head(promise.key) == await store.head(promise.key)


async def test_a_store_that_reports_checksums_does_so_for_every_signed_one(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """Completion counts on it; of a store that nobody asked yet nothing is known."""
    promise = promise_of(f"{key_prefix}a.txt")
    await put(store, http, promise.key)
    found = await store.head(promise.key)
    assert found is not None
    if store.reports_sha256:
        assert found.sha256 == promise.sha256


async def test_deleting_removes_those_and_no_others(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Many at once; those that are not there count as deleted."""
    for name in ("a", "b", "c"):
        await put(store, http, f"{key_prefix}{name}")

    await store.delete([f"{key_prefix}a", f"{key_prefix}nothing", f"{key_prefix}b"])

    found = [await store.head(f"{key_prefix}{name}") for name in ("a", "b", "c")]
    assert [item is not None for item in found] == [False, False, True]


async def test_deleting_nothing_is_no_error(store: ObjectStore, key_prefix: str) -> None:
    """Not even a call."""
    await store.delete([])
    await store.delete([f"{key_prefix}nothing"])


async def test_a_thousand_keys_are_deleted_at_once_and_no_more(store: ObjectStore, key_prefix: str) -> None:
    """More is the caller's mistake, reported before anything is deleted."""
    keys = [f"{key_prefix}{number}" for number in range(1001)]

    await store.delete(keys[:1000])
    with raises(ValueError, limits=[1_000, 1_001]):
        await store.delete(keys)


async def test_listing_page_by_page_finds_every_key_once(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Also across folders whose names sort differently with their `/`; sizes and times are the objects'."""
    names = ["a/x", "a/y/z", "a b", "a-b/x", "a.b/x", "a0", "ü/x", "%2f", "a+b"]
    begun = now() - timedelta(minutes=1)
    for name in names:
        await put(store, http, f"{key_prefix}{name}")
    await put(store, http, f"other-{key_prefix}x")

    pages = [await store.list_keys(key_prefix, "")]
    while pages[-1].after:
        pages.append(await store.list_keys(key_prefix, pages[-1].after))
    found = [one for page in pages for one in page.objects]

    assert len(pages) > 1, "the contract's adapters have short pages"

    assert sorted(one.key for one in found) == sorted(f"{key_prefix}{name}" for name in names)
    assert {one.size_bytes for one in found} == {len(BYTES)}
    assert all(begun <= one.modify_time <= now() + timedelta(minutes=1) for one in found)


ODD_TYPES = [
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-unheard-of",
    "application/x-www-form-urlencoded",
    "application/x-directory",
    "httpd/unix-directory",
    "message/rfc822",
    "multipart/form-data",
    "multipart/x-mixed-replace",
    "multipart/mixed; boundary=abc",
    "text/plain; charset=utf-8",
    'video/webm; codecs="vp8, opus"',
    r'text/plain; name="a \"quoted\" \\ name; with = and , in it"',
    "unknown/unknown",
    "video/x+xml",
]


@pytest.mark.parametrize("size_bytes", [0, 40])
async def test_every_type_stays_as_declared(store: ObjectStore, http: Caller, key_prefix: str, size_bytes: int) -> None:
    """Under the keys that the server gives, each type of its table, neutral and odd ones, whatever the bytes are."""
    body = b"<!DOCTYPE html><script>x()</script>\r\n\r\n\r\n\r\n\r\n"[:size_bytes]
    promises = [
        promise_of(object_key(f"{key_prefix}{number}/", "original", content_type), body, content_type)
        for number, content_type in enumerate([*ENDINGS, *ODD_TYPES])
    ]
    changed = {}
    for promise in promises:
        assert await send(http, store.presign_put(promise, now(), QUARTER), body) == 200, promise
        found = await store.head(promise.key)
        assert found is not None
        if not is_same_type(promise.content_type, found.content_type) or found.size_bytes != size_bytes:
            changed[promise.content_type] = found
    assert changed == {}


async def test_it_is_served_with_what_was_signed(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Type, disposition and caching; `expires` is the end of the URL."""
    name = "attachment; filename=\"Gr__e (1); 2.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%281%29%3B%202.txt"
    promise = replace(promise_of(f"{key_prefix}a.txt"), content_disposition=name, cache_control="private")
    assert await send(http, store.presign_put(promise, now(), QUARTER), BYTES) == 200

    request = store.presign_get(promise.key, now(), QUARTER)
    answer = await http.send(request)
    assert answer.status == 200
    assert answer.headers["content-type"] == promise.content_type
    assert answer.headers["content-disposition"] == name
    assert answer.headers["cache-control"] == "private"
    assert parsedate_to_datetime(answer.headers["expires"]) == request.expire_time


async def test_a_url_can_give_another_name(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """And that name is signed: no other can be put in its place."""
    await put(store, http, f"{key_prefix}a.txt")
    name = "attachment; filename=\"Gr__e.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"
    request = store.presign_get(f"{key_prefix}a.txt", now(), QUARTER, name)

    answer = await http.send(request)
    assert answer.status == 200
    assert answer.headers["content-disposition"] == name
    assert answer.body == BYTES
    assert (await read(http, request.url.replace("attachment", "inline")))[0] == 403
    assert (await read(http, request.url.replace("response-content-disposition", "response-content-type")))[0] == 403


@pytest.mark.parametrize(
    "foreign",
    [
        {"content-encoding": "gzip"},
        {"content-language": "de"},
        {"expires": "Thu, 01 Jan 2099 00:00:00 GMT"},
        {"x-amz-meta-a": "b"},
        {"x-amz-website-redirect-location": "https://evil.example/"},
        {"content-encoding": "gzip", "content-language": "de"},
    ],
    ids=lambda headers: "+".join(headers),
)
async def test_headers_that_nobody_signed_are_refused_or_reported(
    store: ObjectStore, http: Caller, key_prefix: str, foreign: Mapping[str, str]
) -> None:
    """A store refuses them, forgets them, or says with which names an object is served."""
    promise = promise_of(f"{key_prefix}a.txt")
    request = store.presign_put(promise, now(), QUARTER)
    status = await send(http, replace(request, headers={**request.headers, **foreign}), BYTES)
    found = await store.head(promise.key)
    if status != 200:
        assert found is None
        return
    assert found is not None
    answer = await http.send(store.presign_get(promise.key, now(), QUARTER))
    served = {name.lower() for name in answer.headers} - {"expires"}
    assert set(found.foreign_headers) - {"expires"} == served & foreign.keys()
    # A URL of ours overrides `expires`: what the object itself has is what HEAD says.
    assert ("expires" in found.foreign_headers) == ("expires" in foreign)
