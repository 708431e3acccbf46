"""Single documents that are asked for at the same time come by one query, and nobody hears of another's trouble."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.records.hubs import LIMIT

from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.records.shared_find import Document, SharedFind


class Collection:
    """Documents by id. Each query waits until it may go on, and is remembered; so is what was there as it began."""

    def __init__(self, *ids: str) -> None:
        self.documents: dict[str, Document] = {one: {"_id": one, "n": 0} for one in ids}
        self.unreadable: set[str] = set()
        self.queries: list[list[str]] = []
        self.is_down = False
        self.may_answer = asyncio.Event()
        self._begun = asyncio.Semaphore(0)

    async def find(self, ids: Sequence[str]) -> dict[str, Document]:
        """Returns what was there when the query began."""
        found = {one: self.documents[one] for one in ids if one in self.documents}
        self.queries.append(list(ids))
        self._begun.release()
        await self.may_answer.wait()
        if self.is_down:
            raise LedgerUnavailable("It is down.")
        if broken := self.unreadable & set(ids):
            raise ValueError(f"not BSON: {sorted(broken)}")
        return found

    async def asked(self, queries: int = 1) -> None:
        """Waits for the beginnings of so many queries."""
        async with asyncio.timeout(LIMIT.total_seconds()):
            for _ in range(queries):
                await self._begun.acquire()


async def busy(collection: Collection, shared: SharedFind) -> list[asyncio.Task[Document | None]]:
    """Returns two readers of `first` and one of `second`, whose queries are under way: who comes now has to wait."""
    readers = [asyncio.create_task(shared.read("first")) for _ in range(2)]
    # The first query takes both, since they ask in the same step of the loop; the second begins as that takes long.
    await collection.asked()
    readers.append(asyncio.create_task(shared.read("second")))
    await collection.asked()
    return readers


async def test_a_lone_reader_asks_at_once() -> None:
    """One document, one query; none for an id that is not there."""
    collection = Collection("first")
    collection.may_answer.set()
    shared = SharedFind(collection.find)
    assert await shared.read("first") == {"_id": "first", "n": 0}
    assert await shared.read("none") is None
    assert collection.queries == [["first"], ["none"]]


async def test_those_who_wait_share_a_query() -> None:
    """Each id once, however many ask for it."""
    collection = Collection("first", "second", "a", "b")
    shared = SharedFind(collection.find)
    early = await busy(collection, shared)
    waiting = [asyncio.create_task(shared.read(one)) for one in ("a", "b", "a", "none")]
    await asyncio.sleep(0)
    assert len(collection.queries) == 2
    collection.may_answer.set()
    found = await asyncio.gather(*waiting)
    assert [document and document["_id"] for document in found] == ["a", "b", "a", None]
    assert collection.queries[2:] == [["a", "b", "none"]]
    assert [document and document["_id"] for document in await asyncio.gather(*early)] == ["first", "first", "second"]


async def test_all_wait_for_one_query_unless_it_takes_long() -> None:
    """One at a time, however many ask meanwhile; a second one begins for those who waited too long, and no third."""
    for long_s, under_way in ((3600.0, 1), (0.0, 2)):
        collection = Collection("first", "a", "b", "c")
        shared = SharedFind(collection.find, long_s=long_s)
        readers = [asyncio.create_task(shared.read("first"))]
        await collection.asked()
        for one in ("a", "b", "c"):
            readers.append(asyncio.create_task(shared.read(one)))
            for _ in range(10):
                await asyncio.sleep(0.001)
        assert len(collection.queries) == under_way
        collection.may_answer.set()
        assert [document and document["_id"] for document in await asyncio.gather(*readers)] == ["first", "a", "b", "c"]
        assert len(collection.queries) == under_way + 1


async def test_an_answer_is_not_older_than_the_question() -> None:
    """What is being read may be older: a query of its own follows, also for the same id."""
    collection = Collection("first", "second")
    shared = SharedFind(collection.find)
    early = await busy(collection, shared)
    collection.documents["first"] = {"_id": "first", "n": 1}
    late = asyncio.create_task(shared.read("first"))
    await asyncio.sleep(0)
    collection.may_answer.set()
    assert await late == {"_id": "first", "n": 1}
    assert [document and document["n"] for document in await asyncio.gather(*early)] == [0, 0, 0]


async def test_all_who_ask_a_ledger_that_is_down_get_its_error_and_ask_again() -> None:
    """Each gets an error of its own; the next question is asked."""
    collection = Collection("first", "second", "a", "b")
    shared = SharedFind(collection.find)
    early = await busy(collection, shared)
    waiting = [asyncio.create_task(shared.read(one)) for one in ("a", "b")]
    await asyncio.sleep(0)
    collection.is_down = True
    collection.may_answer.set()
    errors = await asyncio.gather(*early, *waiting, return_exceptions=True)
    assert [str(error) for error in errors] == ["It is down."] * 5
    assert len(set(map(id, errors))) == 5
    collection.is_down = False
    assert await shared.read("a") == {"_id": "a", "n": 0}


async def test_a_document_that_cannot_be_decoded_fails_its_own_reader_only() -> None:
    """The driver decodes a whole answer: those beside it are read again, by themselves."""
    collection = Collection("first", "second", "a", "broken", "b")
    collection.unreadable.add("broken")
    shared = SharedFind(collection.find)
    early = await busy(collection, shared)
    waiting = [asyncio.create_task(shared.read(one)) for one in ("a", "broken", "b")]
    await asyncio.sleep(0)
    collection.may_answer.set()
    good, error, other = await asyncio.gather(*waiting, return_exceptions=True)
    assert (good, other) == ({"_id": "a", "n": 0}, {"_id": "b", "n": 0})
    assert isinstance(error, ValueError)
    await asyncio.gather(*early)


async def test_a_reader_that_is_cancelled_is_not_read_for() -> None:
    """The others get their answers; with nobody left, nothing is asked."""
    collection = Collection("first", "second", "a", "b")
    shared = SharedFind(collection.find)
    early = await busy(collection, shared)
    gone, kept = (asyncio.create_task(shared.read(one)) for one in ("a", "b"))
    await asyncio.sleep(0)
    gone.cancel()
    early[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    collection.may_answer.set()
    assert await kept == {"_id": "b", "n": 0}
    assert collection.queries[2:] == [["b"]]
    assert await early[1] == {"_id": "first", "n": 0}
