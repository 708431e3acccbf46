"""Turns a ledger of version 0.1.0 into this version's form. Given the database, imports no Motor.

Version 0.1.0 kept uploads and assets in two collections, and removed the record of an upload a month after its end.
Here each asset is put into the document of its upload, then every other upload is written in the new form. What is read
is removed only after what came of it is durable, so it may be interrupted anywhere and run again. It holds one page at
a time. No server may run meanwhile.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from bson import Timestamp
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from assetlane_server.model.errors import NotReady
from assetlane_server.model.upload import Details, Status, StatusChange, Upload, request_digest
from assetlane_server.records.documents import NO_REQUEST_ID, Document, RecordUnreadable, upload_document, upload_of
from assetlane_server.records.schema import OLD_ASSETS

PAGE_SIZE: Final = 200
_KEPT_FOR: Final = timedelta(days=30)  # version 0.1.0's default; of a record with an asset it is not asked for
_OLD_INDEXES: Final = ("request_id_unique_per_owner", "by_session", "owner", "sweep")
_INDEX_NOT_FOUND: Final = 27
_DUPLICATE_KEY: Final = 11000
_NOT_NEW: Final[Document] = {"schema": {"$exists": False}}
# Whatever a document holds that version 0.1.0 did not write comes out as one of these.
_DAMAGES: Final = (RecordUnreadable, LookupError, TypeError, ValueError, AttributeError)
_log = logging.getLogger(__name__)


@dataclass
class MigrationReport:
    """What was done."""

    uploads: int = 0  # written in the new form, with those that got their asset
    assets: int = 0  # put into the document of their upload
    rebuilt: int = 0  # assets whose upload's record had aged out: it was made of what the asset says
    finished: int = 0  # uploads that a server had left between its two writes: COMPLETED now
    contradicted: int = 0  # assets of uploads that ended without one: left out
    lost: int = 0  # uploads that are COMPLETED, and whose asset the old ledger had lost
    unreadable: int = 0  # records that are not as version 0.1.0 wrote them: left as they are


class Migration:
    """One run over one database."""

    def __init__(
        self, database: Any, described: Callable[[PyMongoError], str], now: datetime, page_size: int = PAGE_SIZE
    ) -> None:
        """`described` says what is wrong with a server, in words for an operator."""
        self._uploads = database["uploads"]
        self._assets = database[OLD_ASSETS]
        self._described = described
        self._now = now
        self._page_size = page_size
        self.report = MigrationReport()
        self.is_complete = False
        """Every asset is in the document of its upload: a ledger of the new form."""

    async def run(self) -> AsyncIterator[MigrationReport]:
        """Yields the report after each page, which goes on growing. Raises NotReady when MongoDB fails."""
        async with self._translated():
            for name in _OLD_INDEXES:
                try:
                    await self._uploads.drop_index(name)
                except OperationFailure as error:
                    if error.code != _INDEX_NOT_FOUND and "not found" not in str(error):
                        raise
        async for assets in self._pages(self._assets):
            async with self._translated():
                await self._put_into_uploads(assets)
            yield self.report
        async for uploads in self._pages(self._uploads):
            async with self._translated():
                await self._rewrite([one for one in uploads if "schema" not in one])
            yield self.report
        async with self._translated():
            if await self._assets.find_one({}) is None:
                await self._assets.drop()
                self.is_complete = True

    async def _pages(self, collection: Any) -> AsyncIterator[list[Document]]:
        after: Document = {}
        while True:
            async with self._translated():
                page = await collection.find(after).sort("_id", 1).limit(self._page_size).to_list(None)
            if page:
                yield page
            if len(page) < self._page_size:
                return
            after = {"_id": {"$gt": page[-1]["_id"]}}

    async def _put_into_uploads(self, assets: Sequence[Document]) -> None:
        ids = [asset["_id"] for asset in assets]
        known = {one["_id"]: one for one in await self._uploads.find({"_id": {"$in": ids}}).to_list(None)}
        writes: list[Any] = []
        done: list[Any] = []
        for asset in assets:
            upload = known.get(asset["_id"])
            try:
                if upload is None:
                    writes.append(InsertOne(self._document(_upload_of_asset(asset), asset)))
                    self.report.rebuilt += 1
                elif "schema" not in upload and upload["status"] in ("FAILED", "CANCELLED", "EXPIRED"):
                    self.report.contradicted += 1
                elif "schema" not in upload:
                    writes.append(self._replacement(upload, self._document(_old_upload(upload), asset)))
                    self.report.finished += upload["status"] != "COMPLETED"
                    self.report.uploads += 1
            except _DAMAGES as damage:
                self._leave("asset", asset, damage)
                continue
            done.append(DeleteOne({"_id": asset["_id"]}))
            self.report.assets += 1
        await self._write(writes)
        if done:
            await self._assets.bulk_write(done, ordered=False)

    async def _rewrite(self, uploads: Sequence[Document]) -> None:
        writes: list[Any] = []
        # The asset of such an upload cannot be read: when it has been repaired, the next run finds both.
        query = {"_id": {"$in": [upload["_id"] for upload in uploads]}}
        waiting = {asset["_id"] for asset in await self._assets.find(query, {"_id": True}).to_list(None)}
        for upload in uploads:
            if upload["_id"] in waiting:
                continue
            try:
                new = _old_upload(upload)
            except _DAMAGES as damage:
                self._leave("upload", upload, damage)
                # Without a key of its own it would stand in the way of the unique index.
                request_key = upload.get("request_id") or f"{NO_REQUEST_ID}{upload['_id']}"
                writes.append(UpdateOne({"_id": upload["_id"]}, {"$set": {"request_key": request_key}}))
                continue
            if new.status is Status.COMPLETED:
                self.report.lost += 1
                new = replace(new, sweep_time=None)
            writes.append(self._replacement(upload, upload_document(new)))
            self.report.uploads += 1
        await self._write(writes)

    def _leave(self, kind: str, document: Document, damage: Exception) -> None:
        self.report.unreadable += 1
        record_id = document["_id"]
        more = {"event_code": "RECORD_LEFT", "record": f"{kind} {record_id}"}
        _log.warning("%s %s cannot be read and is left as it is: %s", kind, record_id, repr(damage), extra=more)

    async def _write(self, writes: Sequence[Any]) -> None:
        if not writes:
            return
        try:
            await self._uploads.bulk_write(list(writes), ordered=False)
        except BulkWriteError as error:
            # What is there already was written by a run before.
            others = [one for one in error.details["writeErrors"] if one["code"] != _DUPLICATE_KEY]
            if others or error.details["writeConcernErrors"]:
                raise

    def _replacement(self, old: Document, new: Document) -> "ReplaceOne[Document]":
        return ReplaceOne({"_id": old["_id"], "revision": old["revision"], **_NOT_NEW}, new)

    def _document(self, upload: Upload, old_asset: Mapping[str, Any]) -> Document:
        """Returns the document of an upload with its asset."""
        whole = upload_of(
            {
                **upload_document(upload),
                "asset_partition": old_asset["partition"],
                "asset": {
                    "details": {},
                    **{name: value for name, value in old_asset.items() if name not in _NOT_OF_ASSETS},
                    "variants": [{**_EMPTY_VARIANT, **variant} for variant in old_asset["variants"]],
                },
            }
        )
        asset = whole.asset
        assert asset is not None  # noqa: S101 - put in above
        ends = [one for one in (upload.targets_expire_time, old_asset["write_expire_time"]) if one is not None]
        whole = replace(whole, targets_expire_time=max(ends))
        if whole.status is not Status.COMPLETED:
            whole = whole.completed(max(asset.create_time, whole.history[-1].time), asset)
        if asset.is_deleted:
            # Swept for good or not: the sweeper sees to it that nothing stays.
            asset = replace(asset, details=Details())
            sweep_time = old_asset.get("sweep_time") or self._now
            whole = replace(whole.without_words(), asset=asset, sweep_time=sweep_time, is_swept=False)
        elif not whole.is_multipart:
            whole = replace(whole, sweep_time=None)
        changed = min(old_asset["update_time"], self._now)
        return {**upload_document(whole), "change_time": Timestamp(int(changed.timestamp()), 1)}

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except PyMongoError as error:
            interrupted = f"the migration was interrupted, run it again: {self._described(error)}"
            raise NotReady(interrupted, reason="MIGRATION_INTERRUPTED") from error


# What an asset of version 0.1.0 says that belongs to the whole document now, or to nothing.
_NOT_OF_ASSETS: Final = frozenset(
    {"_id", "uid", "session_id", "partition", "file_path", "expiration_hours", "update_time", "write_expire_time",
     "route", "sweep_time"}
)  # fmt: skip
_EMPTY_VARIANT: Final = {
    "size_bytes": 0,
    "sha256": b"",
    "width_px": 0,
    "height_px": 0,
    "etag": "",
    "version_id": "",
}


def _old_upload(document: Mapping[str, Any]) -> Upload:
    """Returns the upload of a document of version 0.1.0. Raises RecordUnreadable."""
    request_id = document.get("request_id", "")
    upload = upload_of(
        {
            **document,
            "request_key": request_id or NO_REQUEST_ID,
            "variants": [{"size_bytes": 0, **variant} for variant in document["variants"]],
        }
    )
    return replace(upload, request_sha256=request_digest(upload)) if request_id else upload


def _upload_of_asset(asset: Mapping[str, Any]) -> Upload:
    """Returns an upload as it may have been whose record has aged out."""
    at = asset["create_time"]
    life = (Status.PENDING, Status.INITIALIZED, Status.UPLOADED, Status.COMPLETED)
    promised = ("name", "key", "content_type", "size_bytes", "sha256", "width_px", "height_px", "part_size_bytes")
    upload = upload_of(
        {
            **{name: asset[name] for name in ("_id", "uid", "partition", "file_path", "expiration_hours")},
            "asset_partition": asset["partition"],
            "session_id": asset.get("session_id", ""),
            "details": asset.get("details", {}),
            "request_key": NO_REQUEST_ID,
            "variants": [
                {"size_bytes": 0, **{name: variant[name] for name in promised if name in variant}}
                for variant in asset["variants"]
            ],
            "create_time": at,
            "expire_time": max(at, asset["write_expire_time"]),
            "targets_expire_time": asset["write_expire_time"],
            "kept_for_s": _KEPT_FOR.total_seconds(),
            "history": [
                {"revision": number, "status": status.value, "time": at} for number, status in enumerate(life, 1)
            ],
            "status": Status.COMPLETED.value,
            "revision": len(life),
        }
    )
    return replace(upload, history=tuple(StatusChange(one.revision, one.status, one.time) for one in upload.history))
