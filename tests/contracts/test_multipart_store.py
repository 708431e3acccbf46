"""What every MultipartStore must keep: see test_object_store.py."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from tests.contracts.callers import Caller
from tests.contracts.test_object_store import (
    QUARTER,
    http,
    now,
    put,
    read,
    send,
    store,
    with_header,
    with_url,
    without_header,
)

from assetlane_server.model.media_types import is_same_type
from assetlane_server.model.parts import MIN_PART_BYTES, PartPromise, StoredPart, part_bytes
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import VariantPromise
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.uploads.clean_up import abort_all

__all__ = ["http", "store"]  # fixtures

PART = MIN_PART_BYTES
CONTENT = b"a" * PART + b"the rest"
LIMIT_S = 20.0


def film(key: str, content: bytes = CONTENT) -> VariantPromise:
    """A promise to bring the content in parts."""
    return VariantPromise("original", "text/html", len(content), promises_parts=True, key=key, part_size_bytes=PART)


def part(number: int, content: bytes = CONTENT) -> bytes:
    """The bytes of a part."""
    return content[(number - 1) * PART : number * PART]


def promised(number: int, content: bytes = CONTENT) -> PartPromise:
    """A part with its SHA-256."""
    return PartPromise(number, hashlib.sha256(part(number, content)).digest())


def signed(
    store: ObjectStore, promise: VariantPromise, multipart_id: str, number: int, content: bytes = CONTENT
) -> PresignedRequest:
    """A PUT of one part."""
    return store.multiparts.presign_part(promise, multipart_id, promised(number, content), now(), QUARTER)


async def sent(
    store: ObjectStore, http: Caller, promise: VariantPromise, content: bytes = CONTENT
) -> tuple[str, tuple[StoredPart, ...]]:
    """Opens, sends every part, and lists them."""
    multipart_id = await store.multiparts.open(promise)
    for number in range(1, -(-len(content) // PART) + 1):
        assert await send(http, signed(store, promise, multipart_id, number, content), part(number, content)) == 200
    page = await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1000)
    assert page is not None
    return multipart_id, page.parts


async def test_parts_become_the_promised_object(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Size, type, disposition and bytes; nothing of it is open any more."""
    promise = film(f"{key_prefix}ü b.html")
    multipart_id, parts = await sent(store, http, promise)
    assert await store.head(promise.key) is None

    assert await store.multiparts.complete(promise, multipart_id, parts) == ""

    found = await store.head(promise.key)
    assert found is not None
    assert (found.size_bytes, found.content_type, found.sha256) == (len(CONTENT), "text/html", b"")
    sums = b"".join(promised(number).sha256 for number in (1, 2))
    assert found.parts_sha256 in (b"", hashlib.sha256(sums).digest())
    request = store.presign_get(promise.key, now(), QUARTER)
    answer = await http.send(request)
    assert answer.body == CONTENT
    assert answer.headers["content-disposition"] == "attachment"
    assert await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1000) is None
    assert (await store.multiparts.list_open(promise.key, "")).open == ()


async def test_parts_are_listed_by_number_with_what_proves_them(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """Page by page too; the ETag is the MD5 unless the SHA-256 is reported."""
    promise = film(f"{key_prefix}a.html")
    multipart_id, parts = await sent(store, http, promise)
    assert [(one.part_number, one.size_bytes) for one in parts] == [(1, PART), (2, 8)]
    for one in parts:
        body = part(one.part_number)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        assert one.sha256 == hashlib.sha256(body).digest() or one.etag == md5
    page = await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1)
    assert page is not None
    assert (page.parts, page.after) == (parts[:1], 1)
    page = await store.multiparts.list_parts(promise.key, multipart_id, after=1, limit=1)
    assert page is not None
    assert (page.parts, page.after) == (parts[1:], 0)


@dataclass(frozen=True)
class Breach:
    """A way to break the promise of one part."""

    name: str
    body: bytes = b"the rest"
    change: Callable[[PresignedRequest], PresignedRequest] = lambda request: request

    def __str__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    "breach",
    [
        Breach("longer", b"the rest!", with_header("content-length", "9")),
        Breach("shorter", b"the res", with_header("content-length", "7")),
        Breach("another body under the same hash", b"THE REST"),
        Breach(
            "another body with its own hash",
            b"THE REST",
            with_header("x-amz-checksum-sha256", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
        Breach("no hash", b"THE REST", without_header("x-amz-checksum-sha256")),
        Breach("another part", change=with_url("partNumber=2", "partNumber=3")),
        Breach("the part before", change=with_url("partNumber=2", "partNumber=1")),
        Breach("no part: an object", change=with_url("&partNumber=2", "")),
        Breach("another upload", change=with_url("uploadId=", "uploadId=0")),
        Breach("no upload: an object", change=with_url("&uploadId=[^&]*", "")),
        Breach("another key", change=with_url("victim", "other")),
        Breach("a longer life", change=with_url("X-Amz-Expires=900", "X-Amz-Expires=9000")),
        Breach("completes", change=lambda request: replace(request, method="POST")),
        Breach("aborts", change=lambda request: replace(request, method="DELETE")),
        Breach("an added right", change=with_header("x-amz-acl", "public-read")),
        Breach("a copy of something else", change=with_header("x-amz-copy-source", "/bucket/other")),
    ],
    ids=str,
)
async def test_a_broken_promise_of_a_part_stores_nothing(
    store: ObjectStore, http: Caller, key_prefix: str, breach: Breach
) -> None:
    """The store refuses it, and the parts that are there stay as they are."""
    promise = film(f"{key_prefix}victim.html")
    multipart_id = await store.multiparts.open(promise)
    assert await send(http, signed(store, promise, multipart_id, 1), part(1)) == 200
    before = await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1000)

    request = breach.change(signed(store, promise, multipart_id, 2))
    assert 400 <= await send(http, request, breach.body) < 500

    assert await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1000) == before
    assert await store.head(promise.key) is None
    assert await store.head(f"{key_prefix}other.html") is None


async def test_a_part_url_is_refused_after_its_time(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """As every write URL."""
    promise = film(f"{key_prefix}a.html")
    multipart_id = await store.multiparts.open(promise)
    signed_at = now() - timedelta(hours=1)
    request = store.multiparts.presign_part(promise, multipart_id, promised(2), signed_at, QUARTER)
    assert request.expire_time == signed_at.replace(microsecond=0) + QUARTER
    assert await send(http, request, part(2)) == 403


async def test_what_is_stored_already_is_not_overwritten(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """Neither by completing over it, nor by completing twice."""
    promise = film(f"{key_prefix}a.html")
    await put(store, http, promise.key, b"I was here before")
    multipart_id, parts = await sent(store, http, promise)
    for _ in range(2):
        assert await store.multiparts.complete(promise, multipart_id, parts) == ""
    url = store.presign_get(promise.key, now(), QUARTER).url
    assert await read(http, url) == (200, b"I was here before")


async def test_a_part_url_is_dead_once_the_object_is_there(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """And completing again changes nothing."""
    promise = film(f"{key_prefix}a.html")
    multipart_id, parts = await sent(store, http, promise)
    assert await store.multiparts.complete(promise, multipart_id, parts) == ""
    before = await store.head(promise.key)
    assert await send(http, signed(store, promise, multipart_id, 2), part(2)) == 404
    assert await store.multiparts.complete(promise, multipart_id, parts) == ""
    assert await store.head(promise.key) == before


async def test_parts_that_are_not_there_are_named_for_good(store: ObjectStore, http: Caller, key_prefix: str) -> None:
    """A part with another ETag is refused; the parts stay."""
    promise = film(f"{key_prefix}a.html")
    multipart_id, parts = await sent(store, http, promise)
    changed = [parts[0], replace(parts[1], etag="0" * 32)]
    assert await store.multiparts.complete(promise, multipart_id, changed) == "InvalidPart"
    assert await store.head(promise.key) is None
    page = await store.multiparts.list_parts(promise.key, multipart_id, after=0, limit=1000)
    assert page is not None
    assert page.parts == parts


async def test_an_aborted_upload_takes_no_part_and_becomes_nothing(
    store: ObjectStore, http: Caller, key_prefix: str
) -> None:
    """Aborting again, or what never was, is fine."""
    promise = film(f"{key_prefix}a.html")
    multipart_id, parts = await sent(store, http, promise)
    request = signed(store, promise, multipart_id, 2)
    for one in (multipart_id, multipart_id, "never-was"):
        await store.multiparts.abort(promise.key, one)
    assert await send(http, request, part(2)) == 404
    assert await store.multiparts.complete(promise, multipart_id, parts) == ""
    assert await store.head(promise.key) is None
    assert (await store.multiparts.list_open(key_prefix, "")).open == ()


async def test_open_uploads_are_listed_by_prefix_and_dropped_by_key(store: ObjectStore, key_prefix: str) -> None:
    """All of one key go, its neighbours stay."""
    promise = film(f"{key_prefix}a.html")
    neighbour = film(f"{key_prefix}a.html.bak")
    begun = now() - timedelta(minutes=1)
    ids = set(await asyncio.gather(*(store.multiparts.open(one) for one in (promise, promise, neighbour))))
    listed = (await store.multiparts.list_open(key_prefix, "")).open
    assert {one.multipart_id for one in listed} == ids
    assert all(begun <= one.open_time <= now() + timedelta(minutes=1) for one in listed)
    await abort_all(store, [promise.key])
    assert [one.key for one in (await store.multiparts.list_open(key_prefix, "")).open] == [neighbour.key]


def test_the_last_part_has_what_is_left() -> None:
    """The promise of this file is as it says."""
    assert [part_bytes(film("a"), number) for number in (1, 2)] == [len(part(1)), len(part(2))] == [PART, 8]


@pytest.mark.parametrize("content_type", ["application/octet-stream", 'video/webm; codecs="vp8, opus"', "x/y"])
async def test_an_object_of_parts_is_served_as_it_was_opened(
    store: ObjectStore, http: Caller, key_prefix: str, content_type: str
) -> None:
    """Type, name and caching stay, neutral types too."""
    name = "attachment; filename=\"_.x\"; filename*=UTF-8''%C3%BC.x"
    promise = replace(
        film(f"{key_prefix}original"), content_type=content_type, content_disposition=name, cache_control="private"
    )
    multipart_id, parts = await sent(store, http, promise)
    assert await store.multiparts.complete(promise, multipart_id, parts) == ""

    found = await store.head(promise.key)
    assert found is not None
    assert is_same_type(content_type, found.content_type)
    assert found.foreign_headers == ()
    answer = await http.send(store.presign_get(promise.key, now(), QUARTER))
    assert answer.headers["content-disposition"] == name
    assert answer.headers["cache-control"] == "private"
