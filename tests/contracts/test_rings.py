"""The contract of RingStore: what was written is read by everybody, and of two changes at once one starts over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tests.records.stores import drop
from tests.refusals import check
from tests.uploads.samples import NOW

from assetlane_server.access.ring_files import RingFiles
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import Advice
from assetlane_server.model.rings import MAX_KEYS, SECRET_BYTES, Ring, RingDamaged
from assetlane_server.ports.ring_store import RingStore
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.rings import change_ring

SECRET = b"s" * SECRET_BYTES


@pytest.fixture(params=["mongo", "files"])
async def stores(
    request: pytest.FixtureRequest, stack: StackAddress, database_name: str, tmp_path: Path
) -> AsyncIterator[tuple[RingStore, RingStore]]:
    """Each adapter there is, empty, as two servers have it."""
    if request.param == "files":
        yield RingFiles(tmp_path / "rings"), RingFiles(tmp_path / "rings")
        return
    limit = timedelta(seconds=10)
    async with (
        MongoRecords.open(stack.mongo_uri, database_name, call_timeout=limit) as one,
        MongoRecords.open(stack.mongo_uri, database_name, call_timeout=limit) as other,
    ):
        yield one.rings, other.rings
    await drop(stack.mongo_uri, database_name)


async def test_a_ring_is_read_as_it_was_written(stores: tuple[RingStore, RingStore]) -> None:
    """Key by key, with its states, by the other server too."""
    ours, theirs = stores
    assert await ours.read_rings() == {}
    await change_ring(ours, "clinic", lambda ring: ring.with_key("a", SECRET, NOW))
    await change_ring(theirs, "lab", lambda ring: ring.with_key("x", SECRET[::-1], NOW))
    await change_ring(theirs, "clinic", lambda ring: ring.with_key("b", b"t" * 48, NOW))
    late = NOW + timedelta(minutes=1)
    ring = await change_ring(ours, "clinic", lambda ring: ring.retired("a", late))
    rings = await theirs.read_rings()
    assert rings["clinic"] == ring
    assert [key.state(late) for key in ring.keys] == ["retired", "in use"]
    assert rings.keys() == {"clinic", "lab"}


async def test_of_two_changes_from_one_state_one_is_refused(stores: tuple[RingStore, RingStore]) -> None:
    """The first one of a new ring, and any later one."""
    ours, theirs = stores
    first, second = (Ring("clinic").with_key(name, SECRET, NOW) for name in "ab")
    assert [await ours.write_ring(first), await theirs.write_ring(second)] == [True, False]
    third, fourth = (first.with_key(name, SECRET, NOW) for name in "cd")
    assert [await theirs.write_ring(third), await ours.write_ring(fourth)] == [True, False]


async def test_keys_added_at_once_are_all_in_the_ring(stores: tuple[RingStore, RingStore]) -> None:
    """The loser starts over."""
    count = 6
    await asyncio.gather(
        *(
            change_ring(stores[number % 2], "clinic", _adding(f"k{number}"), rounds=50)
            for number in range(count)
        )
    )  # fmt: skip
    ring = (await stores[0].read_rings())["clinic"]
    assert {key.key_id for key in ring.keys} == {f"k{number}" for number in range(count)}
    assert count <= MAX_KEYS


async def test_a_damaged_ring_hides_no_other(
    stores: tuple[RingStore, RingStore], stack: StackAddress, database_name: str, tmp_path: Path
) -> None:
    """It has no keys, is never taken for an empty one that could be begun, and can be dropped."""
    ours, theirs = stores
    lab = await change_ring(ours, "lab", _adding("x"))
    await change_ring(ours, "clinic", _adding("a"))
    if isinstance(ours, RingFiles):
        (tmp_path / "rings" / "clinic.json").write_text("{}")
    else:
        with pymongo.MongoClient[dict[str, Any]](stack.mongo_uri) as client:
            client[database_name]["rings"].update_one({"_id": "clinic"}, {"$set": {"keys.0.secret": b"short"}})
    rings = await theirs.read_rings()
    assert rings["lab"] == lab
    assert (rings["clinic"].keys, "clinic" in rings["clinic"].fault) == ((), True)
    with pytest.raises(RingDamaged) as refused:
        await change_ring(ours, "clinic", _adding("b"))
    assert (refused.value.ring, refused.value.advice) == ("clinic", Advice.DROP_RING)
    check(refused.value, names=["clinic"])
    assert await ours.drop_ring("clinic")
    assert (await change_ring(ours, "clinic", _adding("b"))).fault == ""


def _adding(key_id: str) -> Callable[[Ring], Ring]:
    return lambda ring: ring.with_key(key_id, SECRET, NOW)


async def test_a_dropped_ring_is_gone(stores: tuple[RingStore, RingStore]) -> None:
    """And another may begin under its name."""
    ours, theirs = stores
    await change_ring(ours, "clinic", lambda ring: ring.with_key("a", SECRET, NOW))
    assert [await theirs.drop_ring("clinic"), await ours.drop_ring("clinic")] == [True, False]
    assert await ours.read_rings() == {}
    ring = await change_ring(theirs, "clinic", lambda ring: ring.with_key("b", SECRET, NOW))
    assert (await ours.read_rings()) == {"clinic": ring}
