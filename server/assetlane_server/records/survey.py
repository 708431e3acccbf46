"""A look at a MongoDB server for an operator: what it is, and whether it does what we need.

Given the database, imports no Motor. Prepares nothing; what it writes is in one scratch collection that it
drops again. Needs `readWrite` on the database, which includes the change streams of its collections.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from assetlane_server.ports.ring_store import RingStore
from assetlane_server.records.driver_errors import driver_message

_STREAM_WAIT = timedelta(milliseconds=200)
_AUTHENTICATION = frozenset({18, 8000})  # AuthenticationFailed; AtlasError, which says the same
_UNAUTHORIZED = 13


class SurveyFailed(Exception):  # noqa: N818 - what failed is what was looked at
    """The server did not do what was asked of it; the message says why, in its own words."""

    def __init__(self, message: str, *, is_refused: bool) -> None:
        self.is_refused = is_refused  # the credentials: unknown, or without the right
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself."""

    has_change_streams: bool  # a replica set or a sharded cluster
    kind: str  # such as `replica set rs0`
    local_time: datetime
    asked_at: datetime  # on our clock, half-way between question and answer


class MongoSurvey:
    """One question per method; each raises SurveyFailed. Opened by `MongoRecords.survey`."""

    def __init__(self, database: Any, indexes: Mapping[str, Sequence[Mapping[str, Any]]], rings: RingStore) -> None:
        self.rings = rings
        """The rings of keys, to be read."""
        self._database = database
        self._indexes = indexes
        self._scratch = database[f"doctor_{secrets.token_hex(6)}"]

    async def facts(self) -> ServerFacts:
        """Asks the server who it is. The first to find out that it does not answer."""
        before = datetime.now(UTC)
        async with _translated():
            hello = await self._database.client.admin.command("hello")
        middle = before + (datetime.now(UTC) - before) / 2
        name = hello.get("setName")
        is_sharded = hello.get("msg") == "isdbgrid"
        kind = f"replica set {name}" if name else "sharded cluster" if is_sharded else "standalone server"
        return ServerFacts(bool(name) or is_sharded, kind, hello["localTime"].replace(tzinfo=UTC), middle)

    async def write_and_read(self) -> bool:
        """Writes with majority and returns whether the same is read back with majority."""
        word = secrets.token_hex(8)
        async with _translated():
            await self._scratch.insert_one({"_id": word})
            return await self._scratch.find_one({"_id": word}) is not None

    async def stream_delay(self, limit: timedelta) -> timedelta | None:
        """Opens a change stream, writes, and returns how long the change took; None: it did not come in time."""
        word = secrets.token_hex(8)
        loop = asyncio.get_running_loop()
        async with (
            _translated(),
            # Of the database, as the server's own: that may take another right than one of a collection.
            self._database.watch(
                [{"$match": {"ns.coll": self._scratch.name}}],
                max_await_time_ms=_STREAM_WAIT // timedelta(milliseconds=1),
            ) as stream,
        ):
            # The driver opens the stream with the first look.
            event = await stream.try_next()
            begun = loop.time()
            await self._scratch.insert_one({"_id": word})
            while loop.time() - begun < limit.total_seconds():
                if event is not None and event.get("documentKey", {}).get("_id") == word:
                    return timedelta(seconds=loop.time() - begun)
                event = await stream.try_next()
        return None

    async def missing_indexes(self) -> list[str]:
        """Returns the indexes that are not there or are not as we make them, as `collection.name`."""
        missing = []
        for collection, wanted in self._indexes.items():
            async with _translated():
                there = await self._database[collection].index_information()
            for index in wanted:
                found = there.get(index["name"])
                if found is None or _meaning(found) != _meaning(index):
                    missing.append(f"{collection}.{index['name']}")
        return missing

    async def drop_scratch(self) -> None:
        """Takes away what the other questions wrote."""
        async with _translated():
            await self._scratch.drop()


def _meaning(index: Mapping[str, Any]) -> object:
    """Returns what makes an index what it is, in whichever of the driver's two forms."""
    keys = index["key"].items() if isinstance(index["key"], Mapping) else index["key"]
    return (
        [(name, int(order)) for name, order in keys],
        bool(index.get("unique")),
        index.get("expireAfterSeconds"),
        index.get("partialFilterExpression"),
    )


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except OperationFailure as error:
        is_refused = error.code in _AUTHENTICATION or error.code == _UNAUTHORIZED
        raise SurveyFailed(driver_message(error), is_refused=is_refused) from error
    except PyMongoError as error:
        raise SurveyFailed(driver_message(error), is_refused=False) from error
