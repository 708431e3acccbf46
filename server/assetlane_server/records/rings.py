"""Rings of keys in MongoDB: one document per ring. Given the collection, imports no Motor.

Anybody who may read this collection can make tokens: only the servers should have that right.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError
from typing_extensions import override

from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.model.rings import SECRET_BYTES, Ring, RingKey, RingsUnreadable, fault_in_ring_name
from assetlane_server.ports.ring_store import RingStore

_MAX_RINGS = 1000


class MongoRings(RingStore):
    """A collection of rings. Opened by `MongoRecords`."""

    def __init__(self, rings: Any, unavailable: Callable[[PyMongoError], LedgerUnavailable]) -> None:
        self._rings = rings
        self._unavailable = unavailable

    @override
    async def read_rings(self) -> Mapping[str, Ring]:
        try:
            documents = await self._rings.find({}).to_list(_MAX_RINGS + 1)
        except PyMongoError as error:
            raise self._unavailable(error) from error
        if len(documents) > _MAX_RINGS:
            raise RingsUnreadable(f"there are more than {_MAX_RINGS:,} rings")
        rings = [_ring_of(document) for document in documents]
        return {ring.name: ring for ring in rings}

    @override
    async def write_ring(self, ring: Ring) -> bool:
        document = {"keys": [_key_document(key) for key in ring.keys], "revision": ring.revision}
        try:
            if ring.revision == 1:
                await self._rings.insert_one({"_id": ring.name, **document})
                return True
            result = await self._rings.update_one({"_id": ring.name, "revision": ring.revision - 1}, {"$set": document})
        except DuplicateKeyError:
            return False
        except PyMongoError as error:
            raise self._unavailable(error) from error
        return bool(result.matched_count)

    @override
    async def drop_ring(self, name: str) -> bool:
        try:
            return bool((await self._rings.delete_one({"_id": name})).deleted_count)
        except PyMongoError as error:
            raise self._unavailable(error) from error


def _key_document(key: RingKey) -> dict[str, Any]:
    document: dict[str, Any] = {
        "key_id": key.key_id,
        "secret": key.secret,
        "create_time": key.create_time,
        "use_time": key.use_time,
    }
    if key.retire_time is not None:
        document["retire_time"] = key.retire_time
    return document


def _ring_of(document: Mapping[str, Any]) -> Ring:
    name = str(document["_id"])
    try:
        keys = tuple(
            RingKey(
                key["key_id"], bytes(key["secret"]), _instant(key["create_time"]), _instant(key["use_time"]),
                None if key.get("retire_time") is None else _instant(key["retire_time"]),
            )
            for key in document["keys"]
        )  # fmt: skip
        if any(len(key.secret) < SECRET_BYTES or fault_in_ring_name(key.key_id) for key in keys):
            raise ValueError("key")
        return Ring(name, keys, int(document["revision"]))
    except (KeyError, TypeError, ValueError) as error:
        return Ring(name, fault=f"ring {name}: this is not a ring of keys ({type(error).__name__})")


def _instant(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError("no instant")
    return value
