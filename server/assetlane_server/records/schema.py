"""What a ledger says of itself: the form that it has, and what all its servers share. Given the database, no Motor.

The collection `meta` holds two documents: `ledger` with the version of the form that all records have, and `token_key`
with the key that page and resume tokens are authenticated with.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pymongo.errors import DuplicateKeyError, PyMongoError

from assetlane_server.model.errors import LedgerIsOld, LedgerUnavailable, NotReady
from assetlane_server.records.documents import SCHEMA

_LEDGER: Final = "ledger"
_TOKEN_KEY: Final = "token_key"  # noqa: S105 - the name of a document
_LOOKS: Final = 50
_PAUSE_S: Final = 0.1
OLD_ASSETS: Final = "assets"  # version 0.1.0 kept its assets in a collection of their own


class LedgerSchema:
    """The form of one ledger."""

    def __init__(self, database: Any, unavailable: Callable[[PyMongoError], LedgerUnavailable]) -> None:
        self._database = database
        self._meta = database["meta"]
        self._unavailable = unavailable

    async def check(self) -> None:
        """Marks an empty ledger as one of this form. Raises NotReady for one that has another form."""
        try:
            is_old = await self._database[OLD_ASSETS].find_one({}) is not None
            marker = await self._meta.find_one({"_id": _LEDGER})
            if marker is None and not is_old:
                is_old = await self._database["uploads"].find_one({}) is not None
            if marker is None and not is_old:
                await self.mark()
        except PyMongoError as error:
            unusable = f"MongoDB cannot be used: {self._unavailable(error)}"
            raise NotReady(unusable, reason="MONGO_UNUSABLE") from error
        if is_old:
            raise LedgerIsOld(
                f"the ledger in the database {self._database.name!r} was written by version 0.1.0: stop all servers,"
                " back it up, and run `assetlane-server migrate` once."
            )
        if marker is not None and marker.get("schema") != SCHEMA:
            raise NotReady(
                f"the ledger in the database {self._database.name!r} has the form {marker.get('schema')!r}, this"
                f" version reads the form {SCHEMA}: install the version that wrote it, or a newer one.",
                reason="LEDGER_IS_NEWER",
            )

    async def mark(self) -> None:
        """Says that every record has this version's form."""
        with suppress(DuplicateKeyError):  # another server was faster
            await self._meta.update_one({"_id": _LEDGER}, {"$set": {"schema": SCHEMA}}, upsert=True)

    async def token_key(self, proposed: bytes) -> bytes:
        """Returns the key that all servers of this ledger share: the proposed one, if there was none.

        Raises PyMongoError, LedgerUnavailable.
        """
        with suppress(DuplicateKeyError):
            await self._meta.insert_one({"_id": _TOKEN_KEY, "key": proposed})
        for _ in range(_LOOKS):
            # What another server has just inserted is seen once a majority has it.
            if (document := await self._meta.find_one({"_id": _TOKEN_KEY})) is not None:
                key: bytes = document["key"]
                return key
            await asyncio.sleep(_PAUSE_S)
        raise LedgerUnavailable("The key of the tokens is not durable.")
