"""How bytes are put to a write target."""

import asyncio
import hashlib
import logging
import os
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from tests.client.object_store import SIGNATURE, ObjectStore
from tests.refusals import raises

from assetlane import transfer
from assetlane.errors import FileChanged, ObjectExists, StoreRefused, StoreUnavailable
from assetlane.sources import Source, measured
from assetlane.v1.upload_pb2 import PresignedRequest

LIMIT_S = 60.0
HELLO = Source.of(b"hello")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the waits between tries short."""
    monkeypatch.setattr(transfer, "FIRST_DELAY", 0.001)


async def test_exactly_the_signed_headers_are_sent_to_the_url_as_it_stands(
    store: ObjectStore, session: aiohttp.ClientSession
) -> None:
    """Nothing is added to the target's headers but Host, nothing is decoded in its URL."""
    target = store.target("a%20b/%C3%BC+c", 5, **{"x-amz-checksum-sha256": "abc="})
    await transfer.put(session, HELLO, target)
    (seen,) = store.seen
    assert seen.raw_path == target.url.removeprefix(store.url)
    assert {name.lower(): value for name, value in seen.headers} == {
        "host": store.url.removeprefix("http://"),
        "content-length": "5",
        "content-type": "image/jpeg",
        "if-none-match": "*",
        "x-amz-checksum-sha256": "abc=",
    }
    assert store.bodies["a b/ü+c"] == b"hello"


async def test_a_large_file_is_sent_with_constant_memory(
    store: ObjectStore, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A sparse file of 256 MiB arrives whole while at most a few megabytes are in memory."""
    store.keeps_bodies = False
    path = tmp_path / "large.bin"
    size = 256 * 1024 * 1024
    path.touch()
    os.truncate(path, size)
    source = await measured(path)
    counts: list[int] = []
    tracemalloc.start()
    try:
        await transfer.put(session, source, store.target("large", size), on_sent=counts.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (store.sizes["large"], store.hashes["large"]) == (size, hashlib.sha256(bytes(size)).digest())
    assert peak < 8 * 1024 * 1024
    assert counts[-1] == size
    assert counts == sorted(counts)


@pytest.mark.parametrize("trouble", [503, 500, 429, 408, 409, "drop"])
async def test_what_may_pass_is_tried_again(
    store: ObjectStore, session: aiohttp.ClientSession, trouble: int | str
) -> None:
    """A busy store and a lost connection are waited out."""
    store.script.extend([trouble, trouble])
    await transfer.put(session, HELLO, store.target("a", 5))
    assert store.bodies["a"] == b"hello"
    assert len(store.seen) == 3


async def test_tries_come_to_an_end(store: ObjectStore, session: aiohttp.ClientSession) -> None:
    """A store that never works is StoreUnavailable, with what it said last."""
    store.script.extend([503] * 3)
    with raises(StoreUnavailable, limits=[3, 503], names=["SlowDown"]):
        await transfer.put(session, HELLO, store.target("a", 5), attempts=3)


async def test_nobody_listening_is_unavailable(session: aiohttp.ClientSession) -> None:
    """A refused connection is reported without the URL."""
    target = PresignedRequest(method="PUT", url=f"http://127.0.0.1:1/a?X-Amz-Signature={SIGNATURE}")
    with pytest.raises(StoreUnavailable) as unavailable:
        await transfer.put(session, HELLO, target, attempts=2)
    assert SIGNATURE not in "".join(traceback.format_exception(unavailable.value))


async def test_an_object_in_place_on_the_first_try_is_an_error(
    store: ObjectStore, session: aiohttp.ClientSession
) -> None:
    """412 at once means that somebody else was there before, unless the caller knows better."""
    store.sizes["a"] = 7
    with pytest.raises(ObjectExists):
        await transfer.put(session, HELLO, store.target("a", 5))
    await transfer.put(session, HELLO, store.target("a", 5), may_exist=True)
    assert store.sizes["a"] == 7


async def test_an_object_in_place_on_a_repeat_is_our_own(store: ObjectStore, session: aiohttp.ClientSession) -> None:
    """412 after an answer got lost means that the first try arrived."""
    store.script.append("arrive-drop")
    await transfer.put(session, HELLO, store.target("a", 5))
    assert [seen.size_bytes for seen in store.seen] == [5, 0]
    assert store.bodies["a"] == b"hello"


async def test_a_refused_signature_is_renewed_once(store: ObjectStore, session: aiohttp.ClientSession) -> None:
    """403 asks for a fresh target, and a second 403 is final."""
    asked = 0

    async def renew() -> PresignedRequest:
        nonlocal asked
        asked += 1
        return store.target("fresh", 5)

    store.script.append(403)
    await transfer.put(session, HELLO, store.target("a", 5), renew=renew)
    assert store.bodies == {"fresh": b"hello"}
    store.script.extend([403, 403])
    store.code = "AccessDenied"
    with pytest.raises(StoreRefused) as refused:
        await transfer.put(session, HELLO, store.target("a", 5), renew=renew)
    assert (refused.value.status, refused.value.code, asked) == (403, "AccessDenied", 2)


@pytest.mark.parametrize("status", [400, 403, 404, 307])
async def test_a_refusal_reports_the_stores_code_and_never_the_signature(
    store: ObjectStore,
    session: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """Neither the error, its causes, nor the log hold anything that could sign a request."""
    caplog.set_level(logging.DEBUG)
    store.code = "SomeCode"
    store.script.append(status)
    with raises(StoreRefused, limits=[status], names=["SomeCode"]) as refused:
        await transfer.put(session, HELLO, store.target("a", 5))
    assert (refused.value.status, refused.value.code) == (status, "SomeCode")
    assert SIGNATURE not in "".join(traceback.format_exception(refused.value))
    assert SIGNATURE not in caplog.text


async def test_a_refusal_of_a_large_file_is_heard_before_it_is_sent(
    store: ObjectStore, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A store that answers without reading the body is understood."""
    path = tmp_path / "large.bin"
    path.touch()
    os.truncate(path, 32 * 1024 * 1024)
    store.code = "EntityTooLarge"
    store.script.append(400)
    with pytest.raises(StoreRefused) as refused:
        await transfer.put(session, await measured(path), store.target("a", 32 * 1024 * 1024))
    assert (refused.value.status, refused.value.code) == (400, "EntityTooLarge")


@pytest.mark.parametrize("change", [lambda size: size - 1, lambda size: size + 1, lambda size: 0])
async def test_a_file_of_another_size_is_not_sent(
    store: ObjectStore, session: aiohttp.ClientSession, tmp_path: Path, change: Callable[[int], int]
) -> None:
    """What grew or shrank since it was measured is FileChanged, not a broken connection."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 1_000_000)
    source = await measured(path)
    os.truncate(path, change(1_000_000))
    with raises(FileChanged, limits=[1_000_000]):
        await transfer.put(session, source, store.target("a", 1_000_000))
    assert store.sizes == {}


async def test_silence_of_the_store_ends_a_try(store: ObjectStore, session: aiohttp.ClientSession) -> None:
    """A store that takes the body and never answers is given up after `stall` seconds."""
    store.stall = asyncio.Event()
    with raises(StoreUnavailable, reason="STORE_UNAVAILABLE", limits=[2]):
        await transfer.put(session, HELLO, store.target("a", 5), attempts=2, stall=0.05)
    assert len(store.seen) == 2


async def test_cancelling_closes_the_connection_and_the_file(
    store: ObjectStore, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A cancelled transfer ends at once as cancelled and leaves nothing open."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 50_000_000)
    store.stall = asyncio.Event()
    source = await measured(path)
    task = asyncio.create_task(transfer.put(session, source, store.target("a", 50_000_000)))
    async with asyncio.timeout(LIMIT_S):
        await store.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert store.sizes == {}


async def test_bytes_are_measured_like_files(tmp_path: Path) -> None:
    """Size and SHA-256 are those of the content, wherever it is."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    on_disk = await measured(path)
    assert on_disk.size_bytes == 5
    assert on_disk.sha256 == (await measured(b"hello")).sha256 == hashlib.sha256(b"hello").digest()
