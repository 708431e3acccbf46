"""Uploads, assets and progress in MongoDB. The only file with Motor.

Needs a replica set or a sharded cluster (change streams, majority concerns), MongoDB 6.0 or newer or a
server that speaks its protocol, and the role `readWrite` on one database.

Motor runs each operation in a thread; every operation is bounded by the client's `timeoutMS`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Self, cast

import pymongo
from motor.motor_asyncio import AsyncIOMotorChangeStream, AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from assetlane_server.records.changes import PIPELINE, Change, SessionKey, change_of
from assetlane_server.records.documents import (
    Document,
    asset_document,
    asset_of,
    asset_state,
    change_document,
    progress_document,
    upload_document,
    upload_of,
    upload_state,
)
from assetlane_server.records.indexes import INDEXES
from assetlane_server.records.quotas import MongoQuotas
from assetlane_server.records.rings import MongoRings
from assetlane_server.records.survey import MongoSurvey
from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.errors import LedgerUnavailable, NotReady, UploadNotFound
from assetlane_server.uploads.meter import UNMETERED, Meter
from assetlane_server.uploads.ports import Snapshot
from assetlane_server.uploads.progress import Progress
from assetlane_server.uploads.upload import Status, Upload

# How long one getMore of the change stream waits at the server: how long a stop may take, no more.
_STREAM_WAIT = timedelta(milliseconds=500)

_CLOSE_LIMIT_S = 2.0

_NEWEST_FIRST = ("_id", DESCENDING)
_OLDEST_FIRST = ("_id", ASCENDING)
_LONGEST_WAITING_FIRST = ("sweep_time", ASCENDING)


class MongoRecords:
    """UploadRecords, AssetRecords and ProgressRecords in one database. Open it with `MongoRecords.open`."""

    def __init__(self, database: "AsyncIOMotorDatabase[Document]", meter: Meter = UNMETERED) -> None:
        self._database = database
        self._meter = meter
        self._uploads = database["uploads"]
        self._assets = database["assets"]
        self.quotas = MongoQuotas(database["quotas"], _unavailable, meter)
        self.rings = MongoRings(database["rings"], _unavailable)
        # Nobody acts on progress: one server's word for it is enough.
        self._progress = database.get_collection("progress", write_concern=WriteConcern(1))

    @classmethod
    @asynccontextmanager
    async def open(
        cls, uri: str, database_name: str, *, call_timeout: timedelta, meter: Meter = UNMETERED
    ) -> AsyncIterator[Self]:
        """Connects, checks that the server can do what we need, and creates the indexes.

        Raises NotReady, saying what to mend.
        """
        async with _database(uri, database_name, call_timeout) as database:
            records = cls(database, meter)
            await records._prepare()
            yield records

    @staticmethod
    @asynccontextmanager
    async def survey(uri: str, database_name: str, *, call_timeout: timedelta) -> AsyncIterator[MongoSurvey]:
        """Opens a look at the server that prepares nothing. Raises NotReady for a URI that is none."""
        async with _database(uri, database_name, call_timeout) as database:
            yield MongoSurvey(
                database, {name: [index.document for index in indexes] for name, indexes in INDEXES.items()}
            )

    async def _prepare(self) -> None:
        try:
            hello = await self._database.client.admin.command("hello")
            if "setName" not in hello and hello.get("msg") != "isdbgrid":
                raise NotReady(
                    "MongoDB is a standalone server, and watching needs change streams: make it a replica set"
                    " (mongod --replSet rs0, then rs.initiate(); one member is enough for development)."
                )
            # Creating an index that is there already does nothing.
            for collection, indexes in INDEXES.items():
                await self._database[collection].create_indexes(indexes)
        except PyMongoError as error:
            raise NotReady(f"MongoDB cannot be used: {_told(error)}") from error
        try:
            async with self.changes():
                return  # rights that suffice for all of the above do not always suffice for this
        except LedgerUnavailable as error:
            raise NotReady(f"MongoDB opens no change stream: {error}") from error

    # Uploads

    async def insert_upload(self, upload: Upload) -> Upload:
        """See UploadRecords."""
        if not await self._insert(self._uploads, upload_document(upload)):
            # Ours by id: the driver repeated a write whose answer was lost. Else the owner's earlier request.
            # One after the other: the embedded MongoDB has no index for an $or.
            stored = await self.find_upload(upload.upload_id) or await self.find_requested(
                upload.uid, upload.request_id
            )
            if stored is None:
                raise LedgerUnavailable("A write met another one that is gone: call again.")
            return stored
        return upload

    async def advance_upload(self, upload: Upload) -> bool:
        """See UploadRecords."""
        newest = upload.history[-1]
        return await self._update(
            self._uploads,
            {"_id": upload.upload_id, "revision": newest.revision - 1},
            {"$set": upload_state(upload), "$push": {"history": change_document(newest)}},
        )

    async def renew_targets(self, upload: Upload) -> bool:
        """See UploadRecords."""
        at_this_revision = {"_id": upload.upload_id, "revision": upload.revision}
        is_newest = await self._update(
            self._uploads,
            {**at_this_revision, "targets_signed_at": {"$lte": upload.targets_signed_at}},
            {
                "$max": {"targets_expire_time": upload.targets_expire_time},
                # The sweep may come closer: the sweeper had put it off to the deadline.
                "$set": {"targets_signed_at": upload.targets_signed_at, "sweep_time": upload.sweep_time},
            },
        )
        return is_newest or await self._find_one(self._uploads, at_this_revision) is not None

    async def find_upload(self, upload_id: str) -> Upload | None:
        """See UploadRecords."""
        document = await self._find_one(self._uploads, {"_id": upload_id})
        return None if document is None else upload_of(document)

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """See UploadRecords."""
        document = await self._find_one(self._uploads, {"uid": uid, "request_id": request_id})
        return None if document is None else upload_of(document)

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload]:
        """See UploadRecords."""
        documents = await self._find(self._uploads, {"_id": {"$in": list(upload_ids)}})
        return {document["_id"]: upload_of(document) for document in documents}

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """See UploadRecords."""
        query: Document = {}
        if uid:
            query["uid"] = uid
        if session_id:
            query["session_id"] = session_id
        if statuses:
            query["status"] = {"$in": [status.value for status in statuses]}
        if before_id:
            query["_id"] = {"$lt": before_id}
        return [upload_of(document) for document in await self._find(self._uploads, query, _NEWEST_FIRST, limit)]

    # Assets

    async def insert_asset(self, asset: Asset) -> Asset:
        """See AssetRecords."""
        if not await self._insert(self._assets, asset_document(asset)):
            document = await self._find_one(self._assets, {"_id": asset.asset_id})
            if document is None:
                raise LedgerUnavailable("A write met another one that is gone: call again.")
            return asset_of(document)
        return asset

    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        """See AssetRecords."""
        documents = await self._find(self._assets, {"_id": {"$in": list(asset_ids)}})
        return {document["_id"]: asset_of(document) for document in documents}

    async def scan_assets(self, *, after_id: str, limit: int) -> list[Asset]:
        """See AssetRecords."""
        query = {"_id": {"$gt": after_id}, "delete_time": None}
        return [asset_of(document) for document in await self._find(self._assets, query, _OLDEST_FIRST, limit)]

    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        """See AssetRecords."""
        query: Document = {"partition": partition, "delete_time": None}
        if before_id:
            query["_id"] = {"$lt": before_id}
        return [asset_of(document) for document in await self._find(self._assets, query, _NEWEST_FIRST, limit)]

    async def advance_asset(self, asset: Asset) -> bool:
        """See AssetRecords."""
        query = {"_id": asset.asset_id, "revision": asset.revision - 1}
        return await self._update(self._assets, query, {"$set": asset_state(asset)})

    async def changed_assets(self, *, partition: str, since: datetime) -> list[Asset]:
        """See AssetRecords."""
        query = {"partition": partition, "update_time": {"$gte": since}}
        documents = await self._find(self._assets, query, ("update_time", ASCENDING))
        return [asset_of(document) for document in documents]

    # The sweeper's work

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """See SweepRecords."""
        documents = await self._find(self._uploads, {"sweep_time": {"$lte": until}}, _LONGEST_WAITING_FIRST, limit)
        return [upload_of(document) for document in documents]

    async def assets_to_sweep(self, *, until: datetime, limit: int) -> list[Asset]:
        """See SweepRecords."""
        documents = await self._find(self._assets, {"sweep_time": {"$lte": until}}, _LONGEST_WAITING_FIRST, limit)
        return [asset_of(document) for document in documents]

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        query = {"_id": upload.upload_id, "sweep_time": upload.sweep_time}
        return await self._update(self._uploads, query, {"$set": {"sweep_time": sweep_time, "is_swept": is_swept}})

    async def reschedule_asset(self, asset: Asset, sweep_time: datetime | None) -> bool:
        """See SweepRecords."""
        query = {"_id": asset.asset_id, "sweep_time": asset.sweep_time}
        return await self._update(self._assets, query, {"$set": {"sweep_time": sweep_time}})

    async def count_cut_timeout(self, upload_id: str) -> int:
        """See SweepRecords."""
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

    async def purge_upload(self, upload: Upload) -> None:
        """See SweepRecords."""
        with self._asking("delete", self._uploads):
            await self._uploads.delete_one({"_id": upload.upload_id, "sweep_time": upload.sweep_time})

    # Progress

    async def put_progress(self, progress: Progress) -> None:
        """See ProgressRecords. A replacement, so that its change event carries all of it."""
        document = progress_document(progress)
        # Two servers that tell of the first progress at once may meet: either is the newest.
        with self._asking("replace", self._progress), suppress(DuplicateKeyError):
            await self._progress.replace_one({"_id": progress.upload_id}, document, upsert=True)

    # For the hub

    async def read_uploads(self, upload_ids: Sequence[str]) -> list[Snapshot]:
        """Returns those uploads that exist, with their assets, oldest first."""
        return await self._snapshots({"_id": {"$in": list(upload_ids)}})

    async def read_sessions(self, sessions: Sequence[SessionKey]) -> list[Snapshot]:
        """Returns the uploads of these sessions with their assets, oldest first, perhaps of other owners too."""
        query: Document = {"session_id": {"$in": [session_id for session_id, _ in sessions]}}
        if all(uid for _, uid in sessions):
            query["uid"] = {"$in": [uid for _, uid in sessions]}
        return await self._snapshots(query)

    async def _snapshots(self, query: Document) -> list[Snapshot]:
        uploads = [upload_of(document) for document in await self._find(self._uploads, query, _OLDEST_FIRST)]
        completed = [upload.upload_id for upload in uploads if upload.status is Status.COMPLETED]
        assets = await self.find_assets(completed) if completed else {}
        return [Snapshot(upload, _present(assets.get(upload.upload_id))) for upload in uploads]

    @asynccontextmanager
    async def changes(self) -> AsyncIterator["ChangeFeed"]:
        """Opens a change stream: every change from now on, in order, once it is majority-durable.

        Raises LedgerUnavailable, here or from the feed, when it is lost; then open anew and read again.
        """
        stream: AsyncIOMotorChangeStream[Any] = self._database.watch(
            PIPELINE, max_await_time_ms=_STREAM_WAIT // timedelta(milliseconds=1)
        )
        try:
            async with stream:
                yield ChangeFeed(stream)
        except PyMongoError as error:
            raise _unavailable(error) from error

    # The calls that all others are made of

    async def _find_one(self, collection: Any, query: Document) -> Document | None:
        with self._asking("find", collection):
            document: Document | None = await collection.find_one(query)
        return document

    async def _find(
        self, collection: Any, query: Document, order: tuple[str, int] | None = None, limit: int = 0
    ) -> list[Document]:
        cursor = collection.find(query, limit=limit)
        if order is not None:
            cursor = cursor.sort(*order)
        with self._asking("find", collection):
            documents: list[Document] = await cursor.to_list(None)
        return documents

    async def _insert(self, collection: Any, document: Document) -> bool:
        """Returns whether it did: a unique index may know better."""
        with self._asking("insert", collection):
            try:
                await collection.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def _update(self, collection: Any, query: Document, update: Document) -> bool:
        with self._asking("update", collection):
            result = await collection.update_one(query, update)
        matched: int = result.matched_count
        return matched == 1

    @contextmanager
    def _asking(self, verb: str, collection: Any) -> Iterator[None]:
        """Has the operation metered; what the driver raises becomes LedgerUnavailable."""
        with self._meter.asking("mongodb", f"{verb} {collection.name}"):
            try:
                yield
            except PyMongoError as error:
                raise _unavailable(error) from error


class ChangeFeed:
    """One open change stream."""

    def __init__(self, stream: "AsyncIOMotorChangeStream[Any]") -> None:
        self._stream = stream

    async def next(self) -> Change | None:
        """Returns the next change, None when there was none for half a second.

        Never cancel the wait (a thread would go on with it): it is short.
        """
        event = await self._stream.try_next()
        if event is None:
            # The driver goes on answering None, at once and for ever, when the stream has ended.
            if not cast("bool", self._stream.alive):  # a property that the stubs take for a method
                raise LedgerUnavailable("The change stream ended.")
            return None
        return change_of(event)


@asynccontextmanager
async def _database(
    uri: str, database_name: str, call_timeout: timedelta
) -> AsyncIterator["AsyncIOMotorDatabase[Document]"]:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):  # the driver would take it for a host's name
        raise NotReady("mongo_uri is not a MongoDB URI: it must begin with mongodb:// or mongodb+srv://")
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
        raise NotReady(f"mongo_uri is not a MongoDB URI: {_told_of_uri(error)}") from None
    try:
        yield client.get_database(
            database_name,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )
    finally:
        await asyncio.to_thread(_close, client)  # it talks to the server: not on the loop


def _close(client: "AsyncIOMotorClient[Document]") -> None:
    # It tells the server that its sessions end: a courtesy, not worth a wait for one that does not answer.
    with pymongo.timeout(_CLOSE_LIMIT_S):
        client.close()


def _present(asset: Asset | None) -> Asset | None:
    return None if asset is None or asset.is_deleted else asset


def _unavailable(error: PyMongoError) -> LedgerUnavailable:
    return LedgerUnavailable(f"The ledger did not answer: {_told(error)}")


def _told_of_uri(error: Exception) -> str:
    """Returns what the driver says of a URI, unless it quotes from it: that may be half of a password."""
    told = str(error)
    return "user, password and database name must be percent-encoded (RFC 3986)" if '"' in told else told


def _told(error: PyMongoError) -> str:
    """Returns the first line of what the driver says: the rest is a dump of its view of the topology."""
    return str(error).split(", Timeout:")[0].partition("\n")[0][:300]
