"""What is open of whom, in MongoDB: one document per account, which holds its claims and their sums.

Given the collection, imports no Motor. Claims and sums are one document because one conditional update is all that
MongoDB makes atomic: the sums cannot drift from the claims, even when a server dies between two writes. Its price is
that the document grows with what is open, by about 120 bytes a claim, and that the claims of one account queue.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError, PyMongoError
from typing_extensions import override

from assetlane_server.model.errors import MAX_ROUNDS, LedgerUnavailable, too_many_rounds
from assetlane_server.model.quotas import Account, Balance, Claim, QuotaLimit
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.quota_records import QuotaRecords
from assetlane_server.records.documents import Document

_BALANCE = {"open_uploads": 1, "open_bytes": 1, "sweep_time": 1}


class MongoQuotas(QuotaRecords):
    """QuotaRecords in one collection. Opened by `MongoRecords`."""

    def __init__(
        self, accounts: Any, unavailable: Callable[[PyMongoError], LedgerUnavailable], meter: Meter = UNMETERED
    ) -> None:
        self._accounts = accounts
        self._unavailable = unavailable
        self._meter = meter

    @override
    async def claim(self, subject: str, claim: Claim, quota: QuotaLimit, sweep_time: datetime) -> Balance | None:
        place = f"claims.{claim.key}"
        has_room: Document = {"_id": subject, place: {"$exists": False}, "open_uploads": {"$lt": quota.max_uploads}}
        if quota.max_bytes is not None:
            has_room["open_bytes"] = {"$lte": quota.max_bytes - claim.size_bytes}
        entry = {"size_bytes": claim.size_bytes, "upload_ids": list(claim.upload_ids), "time": claim.time}
        addition = {
            "$inc": {"open_uploads": 1, "open_bytes": claim.size_bytes},
            "$set": {place: entry},
            "$min": {"sweep_time": sweep_time},
        }
        repeat = {
            "$set": {f"{place}.time": claim.time},
            "$addToSet": {f"{place}.upload_ids": {"$each": list(claim.upload_ids)}},
        }
        async with self._asking("claim quotas"):
            for _ in range(MAX_ROUNDS):
                try:
                    await self._accounts.update_one(has_room, addition, upsert=True)
                except DuplicateKeyError:
                    pass  # the account is there, and has no room or the claim
                else:
                    return None
                document = await self._accounts.find_one({"_id": subject}, {**_BALANCE, place: 1})
                if document is None:
                    continue
                if claim.key not in document.get("claims", {}):
                    balance = _balance_of(document)
                    if not _has_room(balance, claim, quota):
                        return balance
                elif (
                    await self._accounts.update_one({"_id": subject, place: {"$exists": True}}, repeat)
                ).matched_count:
                    return None
        raise too_many_rounds(f"The account {subject!r}")

    @override
    async def settle_claim(self, subject: str, claim: Claim) -> None:
        place = f"claims.{claim.key}"
        async with self._asking("settle quotas"):
            await self._accounts.update_one(
                {"_id": subject, place: {"$exists": True}},
                {"$set": {f"{place}.upload_ids": list(claim.upload_ids)}},
            )

    @override
    async def release(self, subject: str, claim: Claim, *, only_as_of: datetime | None = None) -> bool:
        place = f"claims.{claim.key}"
        is_there = {place: {"$exists": True}} if only_as_of is None else {f"{place}.time": only_as_of}
        async with self._asking("release quotas"):
            result = await self._accounts.update_one(
                {"_id": subject, **is_there},
                {"$inc": {"open_uploads": -1, "open_bytes": -claim.size_bytes}, "$unset": {place: ""}},
            )
        matched: int = result.matched_count
        return matched == 1

    @override
    async def find_account(self, subject: str) -> Account | None:
        async with self._asking("find quotas"):
            document = await self._accounts.find_one({"_id": subject})
        return None if document is None else _account_of(document)

    @override
    async def accounts_to_sweep(self, *, until: datetime, limit: int) -> list[Balance]:
        due = self._accounts.find({"sweep_time": {"$lte": until}}, _BALANCE, limit=limit)
        async with self._asking("list quotas"):
            return [_balance_of(document) for document in await due.sort("sweep_time", ASCENDING).to_list(None)]

    @override
    async def reschedule_account(self, balance: Balance, sweep_time: datetime) -> bool:
        async with self._asking("reschedule quotas"):
            result = await self._accounts.update_one(
                {"_id": balance.subject, "sweep_time": balance.sweep_time}, {"$set": {"sweep_time": sweep_time}}
            )
        matched: int = result.matched_count
        return matched == 1

    @override
    async def close_account(self, subject: str) -> None:
        async with self._asking("delete quotas"):
            await self._accounts.delete_one({"_id": subject, "open_uploads": 0})

    @override
    async def remove_account(self, subject: str) -> None:
        async with self._asking("delete quotas"):
            await self._accounts.delete_one({"_id": subject})

    @asynccontextmanager
    async def _asking(self, operation: str) -> AsyncIterator[None]:
        """Counts what is asked of MongoDB, under the method's name, and translates what goes wrong."""
        try:
            with self._meter.asking("mongodb", operation):
                yield
        except PyMongoError as error:
            raise self._unavailable(error) from error


def _has_room(balance: Balance, claim: Claim, quota: QuotaLimit) -> bool:
    is_within = quota.max_bytes is None or balance.open_bytes + claim.size_bytes <= quota.max_bytes
    return balance.open_uploads < quota.max_uploads and is_within


def _balance_of(document: Mapping[str, Any]) -> Balance:
    return Balance(document["_id"], document["open_uploads"], document["open_bytes"], document["sweep_time"])


def _account_of(document: Mapping[str, Any]) -> Account:
    claims = tuple(
        Claim(key, entry["size_bytes"], tuple(entry["upload_ids"]), entry["time"])
        for key, entry in document.get("claims", {}).items()
    )
    return Account(_balance_of(document), claims)
