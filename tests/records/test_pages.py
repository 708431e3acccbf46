"""Pages of records by id: the same ones on both kinds of server, and few documents read for one of them."""

import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from contextlib import aclosing
from typing import Any, Final

import pytest

from assetlane_server.records.pages import HIGHEST_ID, LOWEST_ID, Listing, OrderedPages, Range, WindowPages, marks_of

Document = dict[str, Any]
PAGE: Final = 51
MANY: Final = 100_000
RARE: Final = 2_000  # one in so many
DAY_MS: Final = 86_400_000
NOW_MS: Final = 1_795_000_000_000
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class RangeReader:
    """A server that reads all documents of an index that a query matches, then sorts and cuts; it counts them."""

    INDEXES = (("listed_in",), ("uid", "status"), ("status",), ("marks",))

    def __init__(self, documents: list[Document]) -> None:
        self.read = 0
        self._indexes: dict[tuple[str, ...], dict[tuple[Any, ...], list[str]]] = {}
        self._documents = {document["_id"]: document for document in documents}
        for fields in self.INDEXES:
            index = self._indexes[fields] = defaultdict(list)
            for document in sorted(documents, key=lambda one: str(one["_id"])):
                values = document[fields[0]] if fields == ("marks",) else [document.get(fields[0])]
                for value in values:
                    index[(value, *(document.get(name) for name in fields[1:]))].append(document["_id"])

    async def find(self, query: Document, _projection: Document | None, order: int, limit: int) -> list[Document]:
        """Runs a query that one index answers."""
        fields = next(one for one in self.INDEXES if {*one, "_id"} == query.keys())
        ids = self._indexes[fields].get(tuple(query[name] for name in fields), [])
        bounds = query["_id"]
        low = bisect_right(ids, bounds["$gt"]) if "$gt" in bounds else bisect_left(ids, bounds["$gte"])
        high = bisect_left(ids, bounds["$lt"])
        found = ids[low:high]
        self.read += len(found)
        return [self._documents[one] for one in found[::order]][: limit or None]


class Walker:
    """A server that walks an index in order, and stops at the limit."""

    def __init__(self, documents: list[Document]) -> None:
        self._documents = sorted(documents, key=lambda one: str(one["_id"]))

    async def find(self, query: Document, _projection: Document | None, order: int, limit: int) -> list[Document]:
        """Runs any query of OrderedPages."""
        bounds = query.pop("_id")
        statuses = query.pop("status", {"$in": None})["$in"]
        return [
            one
            for one in self._documents[::order]
            if bounds["$gt"] < one["_id"] < bounds["$lt"]
            and (statuses is None or one["status"] in statuses)
            and all(one.get(name) == value for name, value in query.items())
        ][:limit]


def ulid(time_ms: int, chance: random.Random) -> str:
    """Returns an id of that time."""
    number = (time_ms << 80) | chance.getrandbits(80)
    return "".join(_DIGITS[(number >> (5 * place)) & 31] for place in range(25, -1, -1))


def documents(count: int, ages_ms: tuple[int, int], seed: int) -> list[Document]:
    """Returns uploads of one owner in one partition, their ages spread evenly; every 2,000th has another status."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        one = ulid(NOW_MS - chance.randint(*ages_ms), chance)
        status = "FAILED" if number % RARE == RARE // 2 else "COMPLETED"
        place = {"uid": "ann", "listed_in": "room"}
        made.append({"_id": one, "status": status, **place, "marks": marks_of(one, **place)})
    return made


AGES: Final = {
    "in the last hour": (0, DAY_MS // 24),
    "over two years": (0, 730 * DAY_MS),
    "two years ago": (730 * DAY_MS, 731 * DAY_MS),
}
LISTINGS: Final = {
    "a partition": Listing("listed_in", "room", (), {}),
    "an owner": Listing("uid", "ann", ("COMPLETED", "FAILED", "PENDING"), {}),
    "everything": Listing("", "", ("COMPLETED", "FAILED", "PENDING"), {}),
    "an owner with a session": Listing("uid", "ann", ("COMPLETED",), {"listed_in": "room"}),
}


async def first_page(server: RangeReader, listing: Listing, order: int, bound: str = "") -> list[str]:
    """Reads one page and hangs up, as the ledger does."""
    ids = Range(LOWEST_ID, bound or HIGHEST_ID, -1) if order < 0 else Range(bound or LOWEST_ID, HIGHEST_ID, 1)
    found: list[str] = []
    async with aclosing(WindowPages(server.find).read(listing, ids, PAGE)) as pages:
        async for page in pages:
            found += [str(one["_id"]) for one in page]
            if len(found) >= PAGE:
                break
    return found[:PAGE]


@pytest.fixture(scope="module", params=list(AGES.values()), ids=list(AGES))
def many(request: pytest.FixtureRequest) -> list[Document]:
    """A hundred thousand, of some age."""
    return documents(MANY, request.param, seed=1)


async def test_a_page_of_many_reads_few_documents(many: list[Document]) -> None:
    """Whatever is listed, however old the newest is, first page or one in the middle, up or down."""
    server = RangeReader(many)
    ids = sorted(str(one["_id"]) for one in many)
    for listing in LISTINGS.values():
        if listing.statuses == ("COMPLETED",):
            listed = sorted(str(one["_id"]) for one in many if one["status"] == "COMPLETED")
        else:
            listed = ids
        for order in (1, -1):
            for bound in ("", listed[MANY // 2]):
                server.read = 0
                page = await first_page(server, listing, order, bound)
                begin = listed.index(bound) if bound else (-1 if order > 0 else len(listed))
                assert page == listed[begin + order :: order][:PAGE]
                # The marks of marks, one in 1,024; the marks of some windows; what lies in these.
                assert server.read <= 1_000


async def test_a_page_of_what_is_rare_reads_little_more_than_the_marks(many: list[Document]) -> None:
    """One in 2,000: the windows grow, so that it takes few queries, and what does not fit is not read."""
    listing = Listing("uid", "ann", ("FAILED",), {})
    listed = sorted(str(one["_id"]) for one in many if one["status"] == "FAILED")
    assert len(listed) == MANY // RARE
    server = RangeReader(many)
    for order in (1, -1):
        server.read = 0
        assert await first_page(server, listing, order) == listed[::order]
        assert server.read <= MANY // 20


@pytest.mark.parametrize("seed", range(20))
async def test_both_ways_find_the_same(seed: int) -> None:
    """Page by page through any range, whatever the size: every document once, in order."""
    chance = random.Random(seed)
    made = documents(chance.choice([0, 1, 40, 400]), (0, 10**6), seed)
    for one in made:
        one["status"] = chance.choice(["COMPLETED", "FAILED", "PENDING"])
        if chance.random() < 0.3:
            del one["listed_in"]  # it is not listed any more, and its mark stays
    ids = sorted(str(one["_id"]) for one in made)
    low, high = sorted(chance.choice([LOWEST_ID, HIGHEST_ID, *ids]) for _ in range(2))
    for listing in LISTINGS.values():
        for order in (1, -1):
            size = chance.choice([1, 2, 33, 1000])
            walker, reader = Walker(made), RangeReader(made)
            given = Range(low, high, order)
            walked = [one["_id"] async for page in OrderedPages(walker.find).read(listing, given, size) for one in page]
            found = [one["_id"] async for page in WindowPages(reader.find).read(listing, given, size) for one in page]
            assert found == walked
            assert found == sorted(found, reverse=order < 0)
