"""A collection in memory that fails as scripted: as much of MongoDB as the ledger writer uses.

It takes what the driver takes, and answers or raises what the driver does. Failures that no real server can be made to
show at will are scripted here; `tests/faults/test_writer.py` shows the others on a real one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo import InsertOne, UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, WriteConcernError

Document = dict[str, Any]


@dataclass
class Script:
    """What happens to one request."""

    applied: Callable[[int], bool] = lambda index: True
    """Which of its operations are applied."""
    reply: str = "sent"  # or "lost", or "write concern"
    refused: dict[int, int] = field(default_factory=dict)  # operations that the server refuses, with their codes


@dataclass
class Result:
    """What the driver returns."""

    matched_count: int


class ScriptedCollection:
    """One collection. Each request waits until `may_go`, takes the next script, and is noted in `requests`."""

    def __init__(self) -> None:
        self.documents: dict[Any, Document] = {}
        self.requests: list[list[Any]] = []  # the ids of the documents in each write
        self.scripts: list[Script] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.are_reads_lost = False
        self.under_way = 0
        self.most_under_way = 0
        self._begun = asyncio.Semaphore(0)

    async def waits_for(self, count: int) -> None:
        """Returns when so many requests are under way."""
        while self.under_way < count:
            await self._begun.acquire()

    async def insert_one(self, document: Mapping[str, Any]) -> None:
        """Stores one."""
        await self._run([InsertOne(document)], is_bulk=False)

    async def update_one(self, query: Mapping[str, Any], update: Mapping[str, Any]) -> Result:
        """Changes one."""
        return Result(await self._run([UpdateOne(query, update)], is_bulk=False))

    async def bulk_write(self, operations: Sequence[Any], *, ordered: bool) -> Result:
        """Does many."""
        assert not ordered
        return Result(await self._run(operations, is_bulk=True))

    def find(self, query: Document, projection: Document) -> "ScriptedCollection":
        """Finds by ids."""
        self._asked = query["_id"]["$in"]
        return self

    async def to_list(self, _limit: None) -> list[Document]:
        """Returns what was found."""
        asked = self._asked
        await asyncio.sleep(0)
        if self.are_reads_lost:
            raise AutoReconnect("lost")
        return [_copy(self.documents[one]) for one in asked if one in self.documents]

    async def _run(self, operations: Sequence[Any], *, is_bulk: bool) -> int:
        kinds = [(one._doc, None) if isinstance(one, InsertOne) else (one._filter, one._doc) for one in operations]
        self.requests.append([dict(first)["_id"] for first, _ in kinds])
        script = self.scripts.pop(0) if self.scripts else Script()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self._begun.release()
        try:
            await asyncio.sleep(0)
            await self.may_go.wait()
        finally:
            self.under_way -= 1
        matched, errors = 0, []
        for index, (first, update) in enumerate(kinds):
            if not script.applied(index):
                continue
            if index in script.refused:
                errors.append({"index": index, "code": script.refused[index], "errmsg": "refused"})
            elif update is not None:
                matched += self._update(_copy(first), _copy(update))
            elif not self._insert(_copy(first)):
                errors.append({"index": index, "code": 11000, "errmsg": "duplicate key"})
        if script.reply == "lost":
            raise AutoReconnect("connection closed")
        if not is_bulk and script.reply == "write concern":
            raise WriteConcernError("waiting for replication timed out", 64)
        if not is_bulk and errors:
            raise DuplicateKeyError("duplicate key", 11000)
        concerns = [{"code": 64, "errmsg": "waiting for replication timed out"}] if script.reply != "sent" else []
        if is_bulk and (errors or concerns):
            details = {"writeErrors": errors, "writeConcernErrors": concerns, "nMatched": matched}
            raise BulkWriteError(details)
        return matched

    def _insert(self, document: Document) -> bool:
        keys = {(one["uid"], one["request_key"]) for one in self.documents.values()}
        if document["_id"] in self.documents or (document["uid"], document["request_key"]) in keys:
            return False
        self.documents[document["_id"]] = document
        return True

    def _update(self, query: Document, update: Document) -> int:
        document = self.documents.get(query["_id"])
        if document is None or any(_at(document, path) != value for path, value in query.items()):
            return 0
        for path, value in update.get("$set", {}).items():
            _put(document, path, value)
        for path, value in update.get("$max", {}).items():
            known = _at(document, path)
            _put(document, path, value if known is None else max(known, value))
        for path, push in update.get("$push", {}).items():
            _put(document, path, [*(_at(document, path) or []), *push["$each"]])
        for path in update.get("$unset", {}):
            _put(document, path, None)
        return 1


def _copy(document: Mapping[str, Any]) -> Document:
    copy: Document = bson.decode(bson.encode(dict(document)), bson.CodecOptions(tz_aware=True))
    return copy


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = None if document is None else document.get(name)
    return document


def _put(document: Document, path: str, value: Any) -> None:
    *names, last = path.split(".")
    for name in names:
        document = document.setdefault(name, {})
    if value is None:
        document.pop(last, None)
    else:
        document[last] = value
