"""Pages of records by id, ascending or descending, on both kinds of server.

MongoDB walks an index in order and stops at the limit: one query is one page (`OrderedPages`).

The embedded SecantusDB reads the whole range of a query before it sorts and cuts, 25 µs a document: a page of 100,000
would take seconds. It is fast where all fields of a query are in one index and few documents are in the range of ids.
It cannot know where few are, so the ids are a skip list of their own (Pugh 1990): the last characters of a ULID are
chance, so one document in 32 is a mark, and one in 1,024 is a mark of marks. These carry what they may be listed by
in `marks`. `WindowPages` finds the marks in a range and reads what lies between them. A mark only divides: it may stay
when its document is not listed any more.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

from pymongo import ASCENDING, DESCENDING
from typing_extensions import override

Document = dict[str, Any]
Find = Callable[[Document, Document | None, int, int], Awaitable[list[Document]]]
"""Runs one query: what it asks for, the projection, the order of ids (1 or -1), and the limit (0: none)."""

LOWEST_ID: Final = "0" * 26
HIGHEST_ID: Final = "8"  # a ULID begins with 0 to 7
_MARK_DIGITS: Final = ("0", "00")  # the last characters of the ids that are marks, and marks of marks
_MARK_INTERVAL: Final = 32  # documents between two marks, on average
_MOST_INTERVALS: Final = 512  # read at once; it bounds what is read in vain where few gives way to many
_ID: Final[Document] = {"_id": 1}


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed: the field that its index begins with (empty: everything), and what else has to hold."""

    field: str
    value: str
    statuses: Sequence[str]  # empty: the index holds no statuses
    also: Mapping[str, str]  # other fields and their values, which no index helps to find


@dataclass(frozen=True, slots=True)
class Range:
    """Ids between two bounds, neither of them included; `order` is 1 for ascending, -1 for descending."""

    above: str
    below: str
    order: int


class Pages(Protocol):
    """Reads listings page by page."""

    def read(self, listing: Listing, ids: Range, size: int) -> AsyncGenerator[list[Document]]:
        """Yields what is listed, in order, in lists of any size until there is no more."""
        ...


def marks_of(upload_id: str, **listed_by: str) -> list[str]:
    """Returns what a document may be listed by if its id makes it a mark, else nothing."""
    return [
        _mark(level, field, value)
        for level, digits in enumerate(_MARK_DIGITS)
        if upload_id.endswith(digits)
        for field, value in {**listed_by, "": ""}.items()
        if value or not field
    ]


class OrderedPages(Pages):
    """For a server that stops at the limit."""

    def __init__(self, find: Find) -> None:
        self._find = find

    @override
    async def read(self, listing: Listing, ids: Range, size: int) -> AsyncGenerator[list[Document]]:
        query: Document = {**({listing.field: listing.value} if listing.field else {}), **listing.also}
        if listing.statuses:
            query["status"] = {"$in": list(listing.statuses)}
        while True:
            page = await self._find({**query, "_id": {"$gt": ids.above, "$lt": ids.below}}, None, ids.order, size)
            yield page
            if len(page) < size:
                return
            last = page[-1]["_id"]
            ids = Range(last, ids.below, ids.order) if ids.order == ASCENDING else Range(ids.above, last, ids.order)


class WindowPages(Pages):
    """For a server that reads whole ranges."""

    def __init__(self, find: Find) -> None:
        self._find = find

    @override
    async def read(self, listing: Listing, ids: Range, size: int) -> AsyncGenerator[list[Document]]:
        count = max(1, size // _MARK_INTERVAL)
        bounds: list[str] = []
        async for bound in self._bounds(listing, ids, len(_MARK_DIGITS) - 1):
            bounds.append(bound)
            if len(bounds) > count:
                yield (page := await self._between(listing, bounds[0], bounds[-1], ids))
                bounds = bounds[-1:]
                if len(page) < size // 2:  # few of the documents there are listed: of some other status, mostly
                    count = min(2 * count, _MOST_INTERVALS)
        if len(bounds) > 1:
            yield await self._between(listing, bounds[0], bounds[-1], ids)

    async def _bounds(self, listing: Listing, ids: Range, level: int) -> AsyncIterator[str]:
        """Yields both ends of the range, and between them all marks of that level and those below, in order."""
        ends = (ids.above, ids.below) if ids.order == ASCENDING else (ids.below, ids.above)
        mark = {"marks": _mark(level, listing.field, listing.value)}
        found = await self._find({**mark, "_id": {"$gt": ids.above, "$lt": ids.below}}, _ID, ids.order, 0)
        bounds = [ends[0], *(document["_id"] for document in found), ends[1]]
        yield bounds[0]
        for here, there in pairwise(bounds):
            if level > 0:
                part = Range(here, there, ids.order) if ids.order == ASCENDING else Range(there, here, ids.order)
                is_first = True
                async for bound in self._bounds(listing, part, level - 1):
                    if not is_first:
                        yield bound
                    is_first = False
            else:
                yield there

    async def _between(self, listing: Listing, here: str, there: str, ids: Range) -> list[Document]:
        """Returns what is listed from one bound, included unless it is the range's own end, to the other."""
        low, high = (here, there) if ids.order == ASCENDING else (there, here)
        # Each mark belongs to the window above it.
        window = {"$gt" if low == ids.above else "$gte": low, "$lt": high}
        query: Document = {listing.field: listing.value} if listing.field else {}
        found: list[Document] = []
        # A query for several statuses is one that no index helps.
        for status in listing.statuses or ("",):
            by_status = {"status": status} if status else {}
            found += await self._find({**query, **by_status, "_id": window}, None, ids.order, 0)
        fitting = (one for one in found if all(one.get(name) == value for name, value in listing.also.items()))
        return sorted(fitting, key=lambda document: str(document["_id"]), reverse=ids.order == DESCENDING)


def _mark(level: int, field: str, value: str) -> str:
    return f"{level} {field} {value}"
