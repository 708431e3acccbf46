"""Uploads with their assets, and progress, in MongoDB. The only file with Motor.

Needs a replica set or a sharded cluster (change streams, majority concerns), MongoDB 6.0 or newer or a
server that speaks its protocol, and the role `readWrite` on one database.

Motor runs each operation in a thread; every operation is bounded by the client's `timeoutMS`.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final, Self, cast

import pymongo
from bson import Timestamp
from motor.motor_asyncio import AsyncIOMotorChangeStream, AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern
from typing_extensions import override

from assetlane_server.model.errors import LedgerUnavailable, NotReady, RecordNotReadable, UploadNotFound
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Asset, LedgerTime, Status, Upload
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.owner_records import OwnerRecords
from assetlane_server.ports.progress_records import ProgressRecords
from assetlane_server.records.change_source import ChangeFeed, ChangeSource
from assetlane_server.records.changes import PIPELINE, Change, SessionKey, change_of
from assetlane_server.records.clock import LedgerClock
from assetlane_server.records.documents import (
    Document,
    RecordUnreadable,
    asset_advance,
    erasure_of_places,
    erasure_of_words,
    progress_document,
    upload_advance,
    upload_document,
    upload_of,
)
from assetlane_server.records.driver_errors import driver_message
from assetlane_server.records.indexes import INDEXES
from assetlane_server.records.migration import PAGE_SIZE, Migration, MigrationReport
from assetlane_server.records.pages import HIGHEST_ID, LOWEST_ID, Listing, OrderedPages, Pages, Range, WindowPages
from assetlane_server.records.quotas import MongoQuotas
from assetlane_server.records.rings import MongoRings
from assetlane_server.records.schema import LedgerSchema
from assetlane_server.records.shared_find import SharedFind
from assetlane_server.records.survey import MongoSurvey
from assetlane_server.records.writer import MOST_OPERATIONS, LedgerWriter

_log = logging.getLogger(__name__)

# How long one getMore of the change stream waits at the server: how long a stop may take, no more.
_STREAM_WAIT = timedelta(milliseconds=500)

_CLOSE_LIMIT_S = 2.0
_MOST_WAITING: Final = 2000  # writes: twice what the largest number of calls in flight is by default
_MOST_EVENTS: Final = 200  # of the change stream that are taken at once
_MOST_SKIPPED: Final = 10_000  # ids of records that cannot be read, each of which is logged once
_FIRST_WINDOW_S: Final = 60  # of changes read at once where a server reads whole ranges; it is widened when short
_STATUSES: Final = tuple(status.value for status in Status)

Event = Mapping[str, Any]
"""One event of a change stream."""


class MongoRecords(OwnerRecords, ProgressRecords, ChangeSource):
    """UploadRecords, SweepRecords, AssetRecords, ProgressRecords and a hub's ChangeSource in one database.

    Open it with `MongoRecords.open`.
    """

    def __init__(
        self,
        database: "AsyncIOMotorDatabase[Document]",
        meter: Meter = UNMETERED,
        *,
        reads_whole_ranges: bool = False,
        batch_writes: int = MOST_OPERATIONS,
        take_events: "Callable[[Any, Executor], Awaitable[Sequence[Event]]] | None" = None,
    ) -> None:
        """`reads_whole_ranges` is how the embedded MongoDB works, see pages.py; `batch_writes` is of the writer.

        `take_events` waits for events of a change stream; empty: none came. Default: of Motor's.
        """
        self._database = database
        self._meter = meter
        self._uploads = database["uploads"]
        self._reads_whole_ranges = reads_whole_ranges
        self._pages: Pages = WindowPages(self._by_id) if reads_whole_ranges else OrderedPages(self._by_id)
        self._skipped: set[str] = set()
        self._take_events = take_events or _taken_events
        self._single_reads = SharedFind(self._by_ids)
        self._writer = LedgerWriter(
            self._uploads,
            asking=self._metered,
            unavailable=_unavailable,
            max_waiting=_MOST_WAITING,
            most_operations=batch_writes,
        )
        self.quotas = MongoQuotas(database["quotas"], _unavailable, meter)
        self.rings = MongoRings(database["rings"], _unavailable)
        self.schema = LedgerSchema(database, _unavailable)
        self.clock = LedgerClock()
        self.token_key = b""  # what tokens are authenticated with, on every server of this ledger
        # Nobody acts on progress: one server's word for it is enough.
        self._progress = database.get_collection("progress", write_concern=WriteConcern(1))

    @classmethod
    @asynccontextmanager
    async def open(
        cls, uri: str, database_name: str, *, call_timeout: timedelta, meter: Meter = UNMETERED
    ) -> AsyncIterator[Self]:
        """Connects, checks that the server can do what we need and that the ledger has this version's form, and
        creates the indexes.

        Raises NotReady, saying what to do.
        """
        async with _database(uri, database_name, call_timeout) as database:
            records = await cls._connected(database, meter)
            await records.schema.check()
            await records.prepare()
            try:
                yield records
            finally:
                await records.finish()

    @classmethod
    async def migrate(
        cls,
        uri: str,
        database_name: str,
        *,
        call_timeout: timedelta,
        now: datetime,
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[MigrationReport]:
        """Turns a ledger of version 0.1.0 into this version's form; yields how far it is.

        Does nothing to one that has this form. Raises NotReady; then it may be run again.
        """
        async with _database(uri, database_name, call_timeout) as database:
            records = await cls._connected(database, UNMETERED)
            migration = Migration(database, driver_message, now, page_size)
            async for report in migration.run():
                yield report
            if migration.is_complete:
                await records.schema.mark()
                await records.prepare()
            yield migration.report

    @staticmethod
    @asynccontextmanager
    async def survey(uri: str, database_name: str, *, call_timeout: timedelta) -> AsyncIterator[MongoSurvey]:
        """Opens a look at the server that prepares nothing. Raises NotReady for a URI that is none."""
        async with _database(uri, database_name, call_timeout) as database:
            yield MongoSurvey(
                database,
                {name: [index.document for index in indexes] for name, indexes in INDEXES.items()},
                MongoRings(database["rings"], _unavailable),
            )

    @classmethod
    async def _connected(cls, database: "AsyncIOMotorDatabase[Document]", meter: Meter) -> Self:
        try:
            hello = await database.client.admin.command("hello")
            build = await database.client.admin.command("buildInfo")
        except PyMongoError as error:
            raise _unusable(driver_message(error)) from error
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise NotReady(
                "MongoDB is a standalone server, and watching needs change streams: make it a replica set"
                " (mongod --replSet rs0, then rs.initiate(); one member is enough for development).",
                reason="MONGO_IS_STANDALONE",
            )
        records = cls(database, meter, reads_whole_ranges="secantusVersion" in build)
        if "operationTime" in hello:
            records.clock.learn(_ledger_time(hello["operationTime"]))
        return records

    async def prepare(self) -> None:
        """Creates what is missing, and checks that changes can be watched. Raises NotReady."""
        try:
            # Creating an index that is there already does nothing.
            for collection, indexes in INDEXES.items():
                await self._database[collection].create_indexes(indexes)
            self.token_key = await self.schema.token_key(secrets.token_bytes(32))
        except PyMongoError as error:
            raise _unusable(driver_message(error)) from error
        except LedgerUnavailable as error:
            raise _unusable(str(error)) from error
        try:
            async with self.changes() as feed:
                # Rights that suffice for all of the above do not always suffice for this.
                self.clock.learn(feed.time)
        except LedgerUnavailable as error:
            raise NotReady(f"MongoDB opens no change stream: {error}", reason="NO_CHANGE_STREAM") from error

    async def finish(self) -> None:
        """Waits for the writes under way."""
        await self._writer.finish()

    # Uploads

    @override
    async def insert_upload(self, upload: Upload) -> Upload:
        if not await self._writer.insert(upload_document(upload)):
            # Ours by id: the driver repeated a write whose answer was lost. Else the owner's earlier request.
            # One after the other: the embedded MongoDB has no index for an $or.
            stored = await self.find_upload(upload.upload_id) or await self.find_requested(
                upload.uid, upload.request_id
            )
            if stored is None:
                raise LedgerUnavailable("A write met another one that is gone: call again.")
            return stored
        return upload

    @override
    async def advance_upload(self, upload: Upload, *, after_revision: int | None = None) -> bool:
        before = upload.revision - 1 if after_revision is None else after_revision
        return await self._writer.update(upload_advance(upload, before))

    @override
    async def renew_targets(self, upload: Upload) -> bool:
        at_this_revision = {"_id": upload.upload_id, "revision": upload.revision}
        is_newest = await self._update(
            {**at_this_revision, "targets_signed_at": {"$lte": upload.targets_signed_at}},
            {
                "$max": {"targets_expire_time": upload.targets_expire_time},
                # The sweep may come closer: the sweeper had put it off to the deadline.
                "$set": {"targets_signed_at": upload.targets_signed_at, "sweep_time": upload.sweep_time},
            },
        )
        return is_newest or await self._find_one(at_this_revision) is not None

    @override
    async def find_upload(self, upload_id: str) -> Upload | None:
        return self._whole(await self._single_reads.read(upload_id))

    @override
    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        return self._whole(await self._find_one({"uid": uid, "request_key": request_id}))

    @override
    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        documents = await self._find({"_id": {"$in": list(upload_ids)}})
        return {document["_id"]: self._readable(document) for document in documents}

    @override
    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        ids = Range(LOWEST_ID, before_id or HIGHEST_ID, -1)
        return await self._listed(_listing(uid, session_id, statuses), ids, limit)

    @override
    async def scan_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], after_id: str, limit: int
    ) -> list[Upload]:
        ids = Range(after_id or LOWEST_ID, HIGHEST_ID, 1)
        return await self._listed(_listing(uid, session_id, statuses), ids, limit)

    # Assets

    @override
    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        documents = await self._find({"_id": {"$in": list(asset_ids)}})
        return {asset.asset_id: asset for asset in _assets(self._all_readable(documents))}

    @override
    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        ids = Range(LOWEST_ID, before_id or HIGHEST_ID, -1)
        return list(_assets(await self._listed(Listing("listed_in", partition, (), {}), ids, limit)))

    @override
    async def advance_asset(self, asset: Asset) -> bool:
        return await self._writer.update(asset_advance(asset))

    @override
    async def changed_assets(
        self, *, partition: str, since: LedgerTime, after: tuple[LedgerTime, str] | None, limit: int
    ) -> list[Asset]:
        changed: list[Asset] = []
        async with aclosing(self._changed(partition, since, after, limit)) as pages:
            async for page in pages:
                # What cannot be read takes no place: a page without anything else would be taken for the last.
                changed += _assets(self._all_readable(page))
                if len(changed) >= limit:
                    break
        return changed[:limit]

    async def _changed(
        self, partition: str, since: LedgerTime, after: tuple[LedgerTime, str] | None, size: int
    ) -> AsyncGenerator[list[Document]]:
        """Yields documents by ascending change time and id, in lists of at most `size`."""
        within: Document = {"asset_partition": partition}
        page: list[Document] = []
        while True:
            if after is not None:
                instant, asset_id = after
                query = {**within, "change_time": _timestamp(instant), "_id": {"$gt": asset_id}}
                yield (page := await self._find(query, {"_id": ASCENDING}, size))
                since = LedgerTime(instant + 1)
            if len(page) < size:
                async for change_time in self._windows(since):
                    query = {**within, "change_time": change_time}
                    yield (page := await self._find(query, {"change_time": ASCENDING, "_id": ASCENDING}, size))
                    if len(page) == size:
                        break
                else:
                    return
            after = _ledger_time(page[-1]["change_time"]), page[-1]["_id"]

    async def _windows(self, since: LedgerTime) -> AsyncIterator[Document]:
        """Yields ranges of change times, in order, that cover all from an instant on."""
        window_s = _FIRST_WINDOW_S
        newest = self.clock.now()
        while self._reads_whole_ranges and since < newest:
            until = min(LedgerTime(since + (window_s << 32)), newest)
            yield {"$gte": _timestamp(since), "$lt": _timestamp(until)}
            since, window_s = until, window_s * 4
        yield {"$gte": _timestamp(since)}

    # The sweeper's work

    @override
    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        query: Document = {"sweep_time": {"$lte": until}}
        unreadable: list[str] = []
        while True:
            documents = await self._find(query, {"sweep_time": ASCENDING}, limit)
            uploads = self._all_readable(documents)
            if uploads or len(documents) < limit:
                return uploads
            # Records that cannot be read are due for ever: what is behind them must not wait for ever too.
            unreadable += (document["_id"] for document in documents)
            query["_id"] = {"$nin": unreadable}
            limit *= 2

    @override
    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        query = {"_id": upload.upload_id, "sweep_time": upload.sweep_time}
        update: Document = {"$set": {"is_swept": is_swept}}
        if sweep_time is None:
            update["$unset"] = {"sweep_time": ""}
        else:
            update["$set"]["sweep_time"] = sweep_time
        return await self._update(query, update)

    @override
    async def erase_places(self, upload: Upload, sweep_time: datetime) -> bool:
        query = {"_id": upload.upload_id, "sweep_time": upload.sweep_time}
        return await self._update(query, erasure_of_places(upload, sweep_time))

    @override
    async def count_cut_timeout(self, upload_id: str) -> int:
        with self._asking("update", self._uploads):
            document = await self._uploads.find_one_and_update(
                {"_id": upload_id},
                {"$inc": {"cut_timeouts": 1}},
                projection={"cut_timeouts": True},
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            raise UploadNotFound(upload_id)
        count: int = document["cut_timeouts"]
        return count

    @override
    async def purge_upload(self, upload: Upload) -> bool:
        with self._asking("delete", self._uploads):
            result = await self._uploads.delete_one({"_id": upload.upload_id, "sweep_time": upload.sweep_time})
        deleted: int = result.deleted_count
        return deleted == 1

    # An owner's right to be forgotten

    @override
    async def erase_words(self, upload: Upload) -> bool:
        query = {"_id": upload.upload_id, "revision": upload.revision}
        return await self._update(query, erasure_of_words(upload))

    @override
    async def unreadable_of(self, uid: str) -> list[str]:
        with self._asking("find", self._uploads):
            documents = self._uploads.find({"uid": uid})
            return [document["_id"] async for document in documents if self._readable(document) is None]

    @override
    async def erase_progress(self, uid: str) -> None:
        with self._asking("delete", self._progress):
            await self._progress.delete_many({"uid": uid})

    # Progress

    @override
    async def put_progress(self, progress: Progress) -> None:
        """A replacement, so that its change event carries all of it."""
        document = progress_document(progress)
        # Two servers that report the first progress at once may meet: either is the newest.
        with self._asking("replace", self._progress), suppress(DuplicateKeyError):
            await self._progress.replace_one({"_id": progress.upload_id}, document, upsert=True)

    # For the hub

    @override
    async def read_uploads(self, upload_ids: Sequence[str]) -> list[Upload]:
        return sorted(self._all_readable(await self._find({"_id": {"$in": list(upload_ids)}})), key=_id)

    @override
    async def read_sessions(self, sessions: Sequence[SessionKey], limit: int) -> list[Upload] | None:
        if len(sessions) == 1:
            session_id, uid = sessions[0]
            uploads = await self.scan_uploads(uid=uid, session_id=session_id, statuses=(), after_id="", limit=limit + 1)
            return None if len(uploads) > limit else uploads
        documents = await self._find(
            {"session_id": {"$in": sorted({session_id for session_id, _ in sessions})}}, None, limit + 1
        )
        return None if len(documents) > limit else sorted(self._all_readable(documents), key=_id)

    @asynccontextmanager
    @override
    async def changes(self) -> AsyncIterator["MongoChangeFeed"]:
        try:
            # A session of its own: it knows the time of the newest answer, also when nothing changed.
            async with await self._database.client.start_session(causal_consistency=False) as session:
                stream: AsyncIOMotorChangeStream[Any] = self._database.watch(
                    PIPELINE, max_await_time_ms=_STREAM_WAIT // timedelta(milliseconds=1), session=session
                )
                async with stream, _stream_thread() as thread:
                    yield MongoChangeFeed(stream, session, lambda: self._take_events(stream, thread))
        except PyMongoError as error:
            raise _unavailable(error) from error

    @override
    def skip(self, record_id: str, error: RecordUnreadable) -> None:
        self._meter.skipped()
        if record_id not in self._skipped and len(self._skipped) < _MOST_SKIPPED:
            self._skipped.add(record_id)
            more = {"event_code": "RECORD_SKIPPED", "record": record_id}
            _log.warning("%s cannot be read by this version and is skipped: %s", record_id, error, extra=more)

    # What a document says

    def _readable(self, document: Mapping[str, Any]) -> Upload | None:
        try:
            return upload_of(document)
        except RecordUnreadable as error:
            self.skip(f"record {document['_id']}", error)
            return None

    def _all_readable(self, documents: Iterable[Mapping[str, Any]]) -> list[Upload]:
        return [upload for document in documents if (upload := self._readable(document)) is not None]

    def _whole(self, document: Mapping[str, Any] | None) -> Upload | None:
        if document is None:
            return None
        upload = self._readable(document)
        if upload is None:
            raise RecordNotReadable(document["_id"])
        return upload

    # The calls that all others are made of

    async def _listed(self, listing: Listing, ids: Range, limit: int) -> list[Upload]:
        found: list[Upload] = []
        async with aclosing(self._pages.read(listing, ids, limit)) as pages:
            async for page in pages:
                found += self._all_readable(page)
                if len(found) >= limit:
                    break
        return found[:limit]

    async def _by_id(self, query: Document, projection: Document | None, order: int, limit: int) -> list[Document]:
        with self._asking("find", self._uploads):
            cursor = self._uploads.find(query, projection, limit=limit).sort("_id", order)
            documents: list[Document] = await cursor.to_list(None)
        return documents

    async def _by_ids(self, upload_ids: Sequence[str]) -> dict[str, Document]:
        if len(upload_ids) == 1:
            document = await self._find_one({"_id": upload_ids[0]})
            return {} if document is None else {upload_ids[0]: document}
        return {document["_id"]: document for document in await self._find({"_id": {"$in": list(upload_ids)}})}

    async def _find_one(self, query: Document) -> Document | None:
        with self._asking("find", self._uploads):
            document: Document | None = await self._uploads.find_one(query)
        return document

    async def _find(self, query: Document, order: Mapping[str, int] | None = None, limit: int = 0) -> list[Document]:
        cursor = self._uploads.find(query, limit=limit)
        if order is not None:
            cursor = cursor.sort(list(order.items()))
        with self._asking("find", self._uploads):
            documents: list[Document] = await cursor.to_list(None)
        return documents

    async def _update(self, query: Document, update: Document) -> bool:
        with self._asking("update", self._uploads):
            result = await self._uploads.update_one(query, update)
        matched: int = result.matched_count
        return matched == 1

    def _metered(self, verb: str) -> AbstractContextManager[object]:
        return self._meter.asking("mongodb", f"{verb} {self._uploads.name}")

    @contextmanager
    def _asking(self, verb: str, collection: Any) -> Iterator[None]:
        """Has the operation metered; what the driver raises becomes LedgerUnavailable."""
        with self._meter.asking("mongodb", f"{verb} {collection.name}"):
            try:
                yield
            except PyMongoError as error:
                raise _unavailable(error) from error


class MongoChangeFeed(ChangeFeed):
    """One change stream of Motor's."""

    def __init__(
        self,
        stream: "AsyncIOMotorChangeStream[Any]",
        session: Any,
        take_events: Callable[[], Awaitable[Sequence[Event]]],
    ) -> None:
        self._stream = stream
        self._session = session
        self._take_events = take_events
        self._taken: deque[Event] = deque()
        self.time = _ledger_time(session.operation_time)

    @property
    @override
    def is_drained(self) -> bool:
        return not self._taken

    @override
    async def next(self) -> Change | None:
        """Never cancel the wait (a thread would go on with it): it is short."""
        if not self._taken:
            self._taken.extend(await self._take_events())
        if not self._taken:
            # The driver goes on answering None, at once and for ever, when the stream has ended.
            if not cast("bool", self._stream.alive):  # a property that the stubs take for a method
                raise LedgerUnavailable("The change stream ended.")
            self.time = _ledger_time(self._session.operation_time)
            return None
        event = self._taken.popleft()
        # Not the session's time: there may be more events of the same answer.
        self.time = _ledger_time(event["clusterTime"])
        return change_of(event)


@asynccontextmanager
async def _stream_thread() -> AsyncIterator[Executor]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="change stream")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)  # a wait for events ends by itself


async def _taken_events(stream: "AsyncIOMotorChangeStream[Any]", thread: Executor) -> Sequence[Event]:
    """Takes what one answer of the server brought: Motor's own way is a thread's work for each event of it."""

    def take() -> list[Event]:
        driver: Any = stream.delegate  # PyMongo's stream
        event = driver.try_next()
        events = [] if event is None else [event]
        # PyMongo has no public way to ask whether the next event needs another answer.
        while events and driver._cursor._has_next() and len(events) < _MOST_EVENTS:  # noqa: SLF001
            events.append(driver.try_next())
        return events

    return await asyncio.get_running_loop().run_in_executor(thread, take)


def _listing(uid: str, session_id: str, statuses: Sequence[Status]) -> Listing:
    """Returns how uploads are found by these filters: each index begins with one of them and holds the status."""
    named = sorted({status.value for status in statuses}) or _STATUSES
    if session_id:
        return Listing("session_id", session_id, named, {"uid": uid} if uid else {})
    return Listing("uid", uid, named, {}) if uid else Listing("", "", named, {})


def _assets(uploads: Iterable[Upload]) -> Iterator[Asset]:
    return (upload.asset for upload in uploads if upload.asset is not None)


def _id(upload: Upload) -> str:
    return upload.upload_id


def _ledger_time(instant: Timestamp) -> LedgerTime:
    return LedgerTime((instant.time << 32) | instant.inc)


def _timestamp(instant: LedgerTime) -> Timestamp:
    return Timestamp(max(0, instant) >> 32, max(0, instant) & 0xFFFFFFFF)


@asynccontextmanager
async def _database(
    uri: str, database_name: str, call_timeout: timedelta
) -> AsyncIterator["AsyncIOMotorDatabase[Document]"]:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):  # the driver would take it for a host's name
        raise _not_a_uri("it must begin with mongodb:// or mongodb+srv://")
    timeout_ms = call_timeout // timedelta(milliseconds=1)
    # A name in the URI would lose against one given here.
    options: dict[str, Any] = {} if "appname=" in uri.lower() else {"appname": "assetlane"}
    try:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            uri,
            tz_aware=True,
            timeoutMS=timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            **options,
        )
    except (ConfigurationError, ValueError) as error:
        raise _not_a_uri(_uri_fault(error)) from None
    try:
        yield client.get_database(
            database_name,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
    finally:
        await asyncio.to_thread(_close, client)  # it talks to the server: not on the loop


def _close(client: "AsyncIOMotorClient[Document]") -> None:
    # It informs the server that its sessions end: not worth waiting for a server that does not answer.
    with pymongo.timeout(_CLOSE_LIMIT_S):
        client.close()


def _unavailable(error: PyMongoError) -> LedgerUnavailable:
    return LedgerUnavailable(f"The ledger did not answer: {driver_message(error)}")


def _uri_fault(error: Exception) -> str:
    """Returns what the driver says of a URI, unless it quotes from it: that may be half of a password."""
    fault = str(error)
    return "user, password and database name must be percent-encoded (RFC 3986)" if '"' in fault else fault


def _unusable(fault: str) -> NotReady:
    return NotReady(f"MongoDB cannot be used: {fault}", reason="MONGO_UNUSABLE")


def _not_a_uri(fault: str) -> NotReady:
    return NotReady(f"mongo_uri is not a MongoDB URI: {fault}", reason="NOT_A_MONGO_URI")
