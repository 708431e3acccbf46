"""A MongoDB replica set in memory, behind the driver: what `records/` asks for, answered as MongoDB does.

The documents, updates and change events are the real ones: the ledger writer, the documents and the hub run on it as
they are. It knows the operators that they use and raises NotImplementedError for every other.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, Self, TypeVar

import bson
from bson import CodecOptions, Timestamp
from bson.raw_bson import RawBSONDocument
from detangle import SimLoop
from pymongo import InsertOne
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from tests.simulation.network import FAULT, Faults, Link, Lost, Observer, Refused

Document = dict[str, Any]
T = TypeVar("T")
_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)
_IDLE_S = 10.0  # how long a change stream waits for an event; real ones wait half a second and are asked again
_VISIBLE_AFTER_S = (0.0, 0.01, 1.0, 15.0)  # from a write until the change streams show it
_STAMPED_BEFORE_S = (0, 0, 1, 10)  # how long before its commit a write takes its `$currentDate`
_HISTORY_LOST = 286
_WRITE_CONCERN = 64
_DUPLICATE = 11000
_MISSING = object()


class Auditor(Observer, Protocol):
    """Looks at every change of a document when it is made."""

    def document_changed(self, collection: str, before: Document | None, after: Document | None) -> None:
        """Is called with the document before and after; None: it is not there."""
        ...


@dataclass(slots=True)
class Event:
    """One event of the change streams."""

    visible_at: float
    content: Document


class SimMongo:
    """The replica set: what all servers share. `wall_clock` is its time, in seconds since 1970."""

    def __init__(self, loop: SimLoop, wall_clock: Callable[[], float], auditor: Auditor) -> None:
        self.loop = loop
        self.auditor = auditor
        self.collections: dict[str, dict[Any, Document]] = {"uploads": {}, "quotas": {}, "progress": {}, "rings": {}}
        self.events: list[Event] = []
        self.streams: list[SimStream] = []
        self.writes = 0
        self._wall_clock = wall_clock
        self._request_keys: dict[tuple[str, str], str] = {}
        self._last = Timestamp(0, 0)
        self._unheard: set[Any] = set()

    def stamp(self) -> Timestamp:
        """Returns the time of the next commit, later than any before."""
        seconds = int(self._wall_clock())
        if seconds > self._last.time:
            self._last = Timestamp(seconds, 1)
        else:
            self._last = Timestamp(self._last.time, self._last.inc + 1)
        return self._last

    def lose_streams(self) -> None:
        """Every open change stream has lost its place in the history."""
        for stream in self.streams:
            stream.lose()

    @property
    def is_heard(self) -> bool:
        """Whether every open stream of a server that lives was asked for every event."""
        return all(stream.is_at_end for stream in self.streams)

    # What changes documents

    def insert(self, name: str, document: Document) -> None:
        """Raises DuplicateKeyError."""
        documents = self.collections[name]
        if document["_id"] in documents:
            raise DuplicateKeyError("duplicate key: _id", _DUPLICATE)
        if name == "uploads":
            key = (document["uid"], document["request_key"])
            if key in self._request_keys:
                raise DuplicateKeyError("duplicate key: request_key", _DUPLICATE)
            self._request_keys[key] = document["_id"]
        self._store(name, None, document)
        if name == "uploads":
            self._publish(name, "insert", document, fullDocument=document)

    def update(self, name: str, query: Document, update: Document, *, is_upsert: bool = False) -> int:
        """Changes the first document that matches; returns how many did, 1 or 0. Raises DuplicateKeyError."""
        before = self._first(name, query)
        if name != "progress":
            self._note(query, update, is_made=before is not None)
        if before is None:
            if not is_upsert:
                return 0
            if query["_id"] in self.collections[name]:
                raise DuplicateKeyError("duplicate key: _id", _DUPLICATE)
            before = {"_id": query["_id"]}
        after = before
        for operator, fields in update.items():
            for path, operand in fields.items():
                after = self._applied(after, operator, path, operand)
        self._store(name, self.collections[name].get(before["_id"]), after)
        if name == "uploads":
            assigned = update.get("$set", {})
            changed = {path: value for path, value in assigned.items() if _at(before, path) != value}
            self._publish(name, "update", after, updateDescription={"updatedFields": changed})
        return 1

    def replace(self, name: str, document: Document) -> None:
        """Stores a document, whatever is there."""
        self._store(name, self.collections[name].get(document["_id"]), document)
        self._publish(name, "replace", document, fullDocument=document)

    def delete(self, name: str, query: Document) -> int:
        """Removes the first document that matches; returns how many did."""
        document = self._first(name, query)
        if document is None:
            return 0
        if name == "uploads":
            del self._request_keys[document["uid"], document["request_key"]]
        self._store(name, document, None)
        return 1

    def find(self, name: str, query: Document, order: Sequence[tuple[str, int]], limit: int) -> list[Document]:
        """Returns the documents that match, in order."""
        documents = self.collections[name]
        wanted = query.get("_id", _MISSING)
        if isinstance(wanted, str):
            found = [documents[wanted]] if wanted in documents else []
        elif isinstance(wanted, dict) and "$in" in wanted:
            found = [documents[one] for one in wanted["$in"] if one in documents]
        else:
            found = list(documents.values())
        found = [one for one in found if _matches(one, query)]
        for path, direction in reversed(order):
            found.sort(key=lambda one: _at(one, path), reverse=direction < 0)
        return found[:limit] if limit else found

    def unheard(self, upload_id: Any) -> None:
        """A change of that document was made, and the caller that asked for it does not know."""
        self._unheard.add(upload_id)

    def _note(self, query: Document, update: Document, *, is_made: bool) -> None:
        """Notes which situation this is."""
        reach = self.auditor.reach
        status = update.get("$set", {}).get("status")
        if status is not None and not is_made:
            reach(f"a change to {status} lost its race")
            if query["_id"] in self._unheard:
                reach("a race was lost after the answer to an earlier change was lost")
        if "asset.revision" in query and not is_made:
            reach("a change of an asset lost its race")
        if "sweep_time" in query and not is_made:
            reach("two sweepers wanted one upload")
        if "targets_signed_at" in query:
            reach("write targets were renewed" if is_made else "write targets were renewed too late")
        if is_made and "variants.$[].key" in update.get("$set", {}):
            reach("the places of a deleted asset were erased")
        if is_made and "$unset" in update and any(path.endswith(".time") for path in query):
            reach("a claim that nobody gave back was released")

    def _first(self, name: str, query: Document) -> Document | None:
        found = self.find(name, query, (), 1)
        return found[0] if found else None

    def _store(self, name: str, before: Document | None, after: Document | None) -> None:
        self.writes += 1
        if after is not None:
            self.collections[name][after["_id"]] = after
        elif before is not None:
            del self.collections[name][before["_id"]]
        self.auditor.document_changed(name, before, after)

    def _publish(self, name: str, kind: str, document: Document, **more: Any) -> None:
        loop = self.loop
        delay_s = _VISIBLE_AFTER_S[loop.choose(len(_VISIBLE_AFTER_S), FAULT)]
        visible_at = loop.time() + delay_s
        if self.events:  # in order
            visible_at = max(visible_at, self.events[-1].visible_at)
        content = {
            "operationType": kind,
            "ns": {"coll": name},
            "documentKey": {"_id": document["_id"]},
            "clusterTime": self.stamp(),
            **more,
        }
        self.events.append(Event(visible_at, content))
        for stream in self.streams:
            stream.ring()

    def _applied(self, document: Document, operator: str, path: str, operand: Any) -> Document:
        known = _at(document, path)
        match operator:
            case "$set":
                return _with(document, path, operand)
            case "$unset":
                return document if known is None else _with(document, path, _MISSING)
            case "$inc":
                return _with(document, path, (known or 0) + operand)
            case "$max":
                return document if known is not None and known >= operand else _with(document, path, operand)
            case "$min":
                return document if known is not None and known <= operand else _with(document, path, operand)
            case "$push":
                entries = [*(known or []), *operand["$each"]]
                return _with(document, path, entries[operand["$slice"] :] if "$slice" in operand else entries)
            case "$addToSet":
                added = [one for one in operand["$each"] if one not in (known or [])]
                return _with(document, path, [*(known or []), *added])
            case "$currentDate":
                now = self.stamp()
                early = _STAMPED_BEFORE_S[self.loop.choose(len(_STAMPED_BEFORE_S), FAULT)]
                return _with(document, path, Timestamp(now.time - early, now.inc))
        raise NotImplementedError(operator)


class SimDatabase:
    """What the driver calls a database, over the connection of one server."""

    def __init__(self, mongo: SimMongo, link: Link, faults: Faults) -> None:
        self.client = self
        self._mongo = mongo
        self.link = link
        self._faults = faults

    def __getitem__(self, name: str) -> "SimCollection":
        return SimCollection(self._mongo, self.link, name)

    def get_collection(self, name: str, **_: Any) -> "SimCollection":
        """Returns a collection: every write is a majority's here."""
        return self[name]

    async def start_session(self, **_: Any) -> "SimSession":
        """Returns a session, which knows the time of the newest answer."""
        await self.request("open a stream", lambda: None, is_write=False)
        return SimSession(self._mongo.stamp())

    def watch(self, _pipeline: Sequence[Document], *, session: Any, max_await_time_ms: int) -> "SimStream":
        """Opens a change stream: the pipeline of `changes.py` is carried out by what `SimMongo` reports."""
        assert max_await_time_ms > 0
        return SimStream(self._mongo, self, session, self._faults)

    async def request(self, what: str, apply: Callable[[], T], *, is_write: bool) -> T:
        """Does one request. Raises what the driver raises."""
        return await _driven(self.link, what, apply, is_write=is_write)


class SimSession:
    """What the driver calls a session: it knows the time of the newest answer."""

    def __init__(self, operation_time: Timestamp) -> None:
        self.operation_time = operation_time

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends it."""


class SimStream:
    """One open change stream."""

    def __init__(self, mongo: SimMongo, database: SimDatabase, session: SimSession, faults: Faults) -> None:
        self.alive = True
        self._mongo = mongo
        self._database = database
        self._session = session
        self._faults = faults
        self._next = len(mongo.events)
        self._is_lost = False
        self._bell: asyncio.Future[None] | None = None
        session.operation_time = mongo.stamp()
        mongo.streams.append(self)

    @property
    def is_at_end(self) -> bool:
        """Whether it has nothing to report, or nobody to report it to."""
        return self._next == len(self._mongo.events) or not self._database.link.is_alive

    def lose(self) -> None:
        """It cannot go on."""
        self._is_lost = True
        self.ring()

    def ring(self) -> None:
        """Wakes the readers that wait for an event."""
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._mongo.streams.remove(self)

    async def try_next(self) -> Document | None:
        """Returns the next event, None if none came. Raises what the driver raises when the stream is lost."""
        mongo, loop = self._mongo, self._mongo.loop
        ends_at = loop.time() + _IDLE_S
        while True:
            await self._database.link.alive()
            if self._is_lost or loop.flip(self._faults.stream, FAULT):
                mongo.auditor.reach("the change stream lost its history")
                raise OperationFailure("the history of the change stream is lost", _HISTORY_LOST)
            if self._next < len(mongo.events):
                event = mongo.events[self._next]
                if event.visible_at <= loop.time():
                    self._next += 1
                    self._session.operation_time = event.content["clusterTime"]
                    return event.content
                ends_at = max(ends_at, event.visible_at)
            if loop.time() >= ends_at:
                # An idle member reports its newest entry, which may be ten seconds old.
                now = mongo.stamp()
                self._session.operation_time = Timestamp(now.time - 10 * loop.choose(2, FAULT), now.inc)
                return None
            self._bell = loop.create_future()
            wakes_at = ends_at
            if self._next < len(mongo.events):
                wakes_at = mongo.events[self._next].visible_at
            alarm = loop.call_at(wakes_at, self.ring)
            try:
                await self._bell
            finally:
                alarm.cancel()


class SimCollection:
    """What the driver calls a collection."""

    def __init__(self, mongo: SimMongo, link: Link, name: str) -> None:
        self.name = name
        self._mongo = mongo
        self._link = link

    async def insert_one(self, document: Any) -> None:
        """Stores a document."""
        stored = _decoded(document)
        with self._alone_with([stored["_id"]]):
            await self._write("a lone write", lambda: self._mongo.insert(self.name, stored))

    async def update_one(self, query: Any, update: Any, *, upsert: bool = False) -> Any:
        """Changes a document."""
        first, then = _decoded(query), _decoded(update)
        what = "a lone write" if self.name == "uploads" else "a write of quotas"

        matched = 0

        def apply() -> int:
            nonlocal matched
            matched = self._mongo.update(self.name, first, then, is_upsert=upsert)
            return matched

        is_of_writer = isinstance(query, RawBSONDocument)  # not a lease, a renewal or a quota
        try:
            with self._alone_with([first["_id"]] if is_of_writer else []):
                return SimpleNamespace(matched_count=await self._write(what, apply))
        except AutoReconnect:
            if matched:
                self._mongo.unheard(first["_id"])
            raise

    async def bulk_write(self, operations: Sequence[Any], *, ordered: bool) -> Any:
        """Does many, each for itself."""
        assert not ordered
        mongo, loop = self._mongo, self._mongo.loop
        mongo.auditor.reach("a bulk write carried several writes")
        ids = [one._doc["_id"] if isinstance(one, InsertOne) else one._filter["_id"] for one in operations]
        writes = [
            (None, _decoded(one._doc)) if isinstance(one, InsertOne) else (_decoded(one._filter), _decoded(one._doc))
            for one in operations
        ]
        is_faulty = loop.flip(2 * self._link.faults.request, FAULT)
        flaw = loop.choose(3, FAULT) if is_faulty else 0
        is_rolled_back = flaw == 2 and loop.choose(2, FAULT) == 1  # by a primary that was not in the majority

        def apply() -> Any:
            matched, errors = 0, []
            for index, (query, content) in enumerate(writes):
                if flaw == 1 and loop.choose(2, FAULT):
                    continue
                if is_rolled_back:
                    matched += query is not None and mongo.find(self.name, query, (), 1) != []
                    continue
                try:
                    if query is None:
                        mongo.insert(self.name, content)
                    else:
                        matched += mongo.update(self.name, query, content)
                except DuplicateKeyError:
                    mongo.auditor.reach("a bulk write met a duplicate key")
                    errors.append({"index": index, "code": _DUPLICATE, "errmsg": "duplicate key"})
            if not is_rolled_back and matched + len(errors) + sum(query is None for query, _ in writes) < len(writes):
                mongo.auditor.reach("a bulk write lost a race")
            if flaw == 1:
                mongo.auditor.reach("a bulk write was half applied, and the answer lost")
                raise Refused(AutoReconnect("connection closed"))
            concerns = [{"code": _WRITE_CONCERN, "errmsg": "waiting for replication timed out"}] if flaw == 2 else []
            if concerns:
                mongo.auditor.reach("a bulk write's write concern failed")
            if errors or concerns:
                details = {"writeErrors": errors, "writeConcernErrors": concerns, "nMatched": matched}
                raise Refused(BulkWriteError(details))
            return SimpleNamespace(matched_count=matched)

        with self._alone_with(ids):
            return await self._write("a bulk write", apply)

    def find(self, query: Document, projection: Document | None = None, *, limit: int = 0) -> "SimCursor":
        """Begins a query; documents come whole, whatever the projection."""
        what = "a read"
        if projection is not None and "history.id" in projection:
            what = "the look for the losers of a bulk write"
            self._mongo.auditor.reach("the losers of a bulk write were looked for")
        return SimCursor(self._mongo, self._link, self.name, what, _decoded(query), limit)

    async def find_one(self, query: Document, _projection: Document | None = None) -> Document | None:
        """Returns a document."""
        found = await self.find(query, limit=1).to_list(None)
        return found[0] if found else None

    async def find_one_and_update(self, query: Document, update: Document, **_: Any) -> Document | None:
        """Changes a document and returns it."""
        first, then = _decoded(query), _decoded(update)

        def apply() -> Document | None:
            if not self._mongo.update(self.name, first, then):
                return None
            return self._mongo.collections[self.name][first["_id"]]

        return await self._write("a lone write", apply)

    async def delete_one(self, query: Document) -> Any:
        """Removes a document."""
        first = _decoded(query)
        deleted = await self._write("a removal", lambda: self._mongo.delete(self.name, first))
        return SimpleNamespace(deleted_count=deleted)

    async def delete_many(self, query: Document) -> None:
        """Removes all documents that match."""
        first = _decoded(query)

        def apply() -> None:
            while self._mongo.delete(self.name, first):
                continue

        await self._write("a removal", apply)

    async def distinct(self, path: str) -> list[Any]:
        """Returns the values of a field; only contract tests ask for them."""
        return [_at(document, path) for document in self._mongo.collections[self.name].values()]

    async def replace_one(self, _query: Document, document: Document, *, upsert: bool) -> None:
        """Stores a document, whatever is there."""
        assert upsert
        stored = _decoded(document)
        await self._write("a write of progress", lambda: self._mongo.replace(self.name, stored))

    @contextmanager
    def _alone_with(self, ids: Sequence[Any]) -> Iterator[None]:
        """Notices a document that the ledger writer of one server sends twice at a time."""
        under_way = self._link.documents_under_way
        if len(set(ids)) < len(ids) or not under_way.isdisjoint(ids):
            self._mongo.auditor.fail("a document is in two writes of a ledger writer at a time")
        under_way |= set(ids)
        try:
            yield
        finally:
            under_way -= set(ids)

    async def _write(self, what: str, apply: Callable[[], T]) -> T:
        return await _driven(self._link, what, apply, is_write=True)


class SimCursor:
    """A query that runs when it is read."""

    def __init__(self, mongo: SimMongo, link: Link, name: str, what: str, query: Document, limit: int) -> None:
        self._mongo = mongo
        self._link = link
        self._name = name
        self._what = what
        self._query = query
        self._limit = limit
        self._order: Sequence[tuple[str, int]] = ()

    def sort(self, order: str | Sequence[tuple[str, int]], direction: int = 1) -> "SimCursor":
        """Has the documents come in order."""
        self._order = [(order, direction)] if isinstance(order, str) else order
        return self

    async def to_list(self, _limit: None) -> list[Document]:
        """Returns the documents."""
        return await _driven(
            self._link,
            self._what,
            lambda: self._mongo.find(self._name, self._query, self._order, self._limit),
            is_write=False,
        )


async def _driven(link: Link, what: str, apply: Callable[[], T], *, is_write: bool) -> T:
    def applied() -> T:
        try:
            return apply()
        except PyMongoError as error:
            raise Refused(error) from error

    try:
        return await link.request(what, applied, is_write=is_write)
    except Lost as error:
        raise AutoReconnect(f"{error}: connection closed") from error
    except Refused as error:
        raise error.error from None


def _decoded(document: Mapping[str, Any]) -> Document:
    raw = document.raw if isinstance(document, RawBSONDocument) else bson.encode(document)
    return bson.decode(raw, _CODEC)


def _matches(document: Document, query: Document) -> bool:
    return all(_fits(_at(document, path), wanted) for path, wanted in query.items())


def _fits(value: Any, wanted: Any) -> bool:
    if not (isinstance(wanted, dict) and wanted and next(iter(wanted)).startswith("$")):
        return bool(value == wanted)
    return all(_compares(value, operator, operand) for operator, operand in wanted.items())


def _compares(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$in":
            return bool(value in operand)
        case "$nin":
            return bool(value not in operand)
        case "$exists":
            return (value is not None) == bool(operand)
    if value is None:
        return False
    match operator:
        case "$gt":
            return bool(value > operand)
        case "$gte":
            return bool(value >= operand)
        case "$lt":
            return bool(value < operand)
        case "$lte":
            return bool(value <= operand)
    raise NotImplementedError(operator)


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def _with(document: Document, path: str, value: Any) -> Document:
    """Returns the document with a value at a path; what is stored is never changed in place."""
    name, _, rest = path.partition(".")
    copy = dict(document)
    if rest.startswith("$[]."):
        copy[name] = [_with(one, rest.removeprefix("$[]."), value) for one in document.get(name, [])]
    elif rest:
        copy[name] = _with(document.get(name, {}), rest, value)
    elif value is _MISSING:
        copy.pop(name, None)
    else:
        copy[name] = value
    return copy


async def taken_event(stream: SimStream, _thread: object) -> list[Document]:
    """Takes the next event, if one came: no thread runs in a simulation."""
    event = await stream.try_next()
    return [] if event is None else [event]
