"""What the store in memory does beyond the contract: its clock, and what it says of an outage."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.memory.object_store import MemoryObjectStore

from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.upload import VariantPromise

NOON = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
PROMISE = VariantPromise("original", "text/plain", 5, key="private/a b.txt")


class Clock:
    """A clock that goes when it is moved."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        """Returns the time."""
        return self.time


async def test_a_request_lives_by_the_stores_own_clock() -> None:
    """To the second: used in time, used again after its end, and signed too far ahead."""
    clock = Clock()
    store = MemoryObjectStore(clock)
    put, get = store.presign_put(PROMISE, NOON, QUARTER), store.presign_get(PROMISE.key, NOON, QUARTER)
    assert put.expire_time == NOON.replace(microsecond=0) + QUARTER

    clock.time = put.expire_time - timedelta(microseconds=1)
    assert (await store.send(put, b"words")).status == 200
    assert (await store.send(put, b"words")).status == 412
    assert (await store.send(get)).body == b"words"

    clock.time = put.expire_time
    assert (await store.send(put, b"words")).status == 403
    assert (await store.send(get)).status == 403
    early = store.presign_get(PROMISE.key, clock.time + timedelta(minutes=16), QUARTER)
    assert (await store.send(early)).status == 403


async def test_an_outage_is_one_for_calls_and_requests_alike() -> None:
    """And what was there before is there after it."""
    store = MemoryObjectStore(lambda: NOON)
    put = store.presign_put(PROMISE, NOON, QUARTER)
    assert (await store.send(put, b"words")).status == 200
    store.is_down = True
    for call in (
        store.head(PROMISE.key),
        store.read_start(PROMISE.key, 5),
        store.delete([PROMISE.key]),
        store.list_keys("", ""),
        store.send(put, b"words"),
        store.multiparts.open(PROMISE),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    store.is_down = False
    assert await store.head(PROMISE.key) is not None


async def test_a_store_that_reports_no_checksums_checks_them_all_the_same() -> None:
    """As many real ones do."""
    store = MemoryObjectStore(lambda: NOON, reports_sha256=False)
    promise = replace(PROMISE, sha256=bytes(32))
    assert (await store.send(store.presign_put(promise, NOON, QUARTER), b"words")).status == 400
    assert (await store.send(store.presign_put(PROMISE, NOON, QUARTER), b"words")).status == 200
    found = await store.head(PROMISE.key)
    assert found is not None
    assert found.sha256 == b""
