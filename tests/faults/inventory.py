"""What is in both stores at the end, held against each other: the ledger, the uploads, every object."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.journeys.bucket import Bucket
from tests.records.stores import mongo

from assetlane_server.composition.app import object_store
from assetlane_server.config.settings import Settings
from assetlane_server.ports.object_store import ObjectStore

AT_ONCE = 16


@dataclass
class Inventory:
    """Everything there is, and what is wrong with it."""

    statuses: Counter[str] = field(default_factory=Counter)
    uploads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    assets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    open_uploads: list[str] = field(default_factory=list)
    false_assets: list[str] = field(default_factory=list)
    """COMPLETED without exactly the promised objects, or without its asset, or an asset without COMPLETED."""
    bad_histories: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Keys that no living asset owns."""

    @property
    def faults(self) -> str:
        """Says what is wrong, empty if nothing is."""
        lists = {
            "not final": self.open_uploads,
            "false COMPLETED": self.false_assets,
            "bad histories": self.bad_histories,
            "objects without an owner": self.orphans,
        }
        return "; ".join(f"{len(found)} {name}, such as {found[:3]}" for name, found in lists.items() if found)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{len(self.uploads)} uploads: {counts}; {len(self.assets)} assets\n"
            f"{len(self.open_uploads)} not final, {len(self.false_assets)} false COMPLETED,"
            f" {len(self.bad_histories)} bad histories, {len(self.orphans)} objects without an owner"
        )


_LIVES = (
    ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"),
    ("PENDING", "INITIALIZED", "UPLOADED", "FAILED"),
    ("PENDING", "INITIALIZED", "CANCELLED"),
    ("PENDING", "INITIALIZED", "EXPIRED"),
)


async def taken(settings: Settings) -> Inventory:
    """Takes the inventory of a database and a key prefix, with a HEAD of every object of every asset."""
    inventory = Inventory()
    async with mongo(settings.mongo_uri.get_secret_value()) as client:
        database = client[settings.mongo_database]
        inventory.uploads = {one["_id"]: one async for one in database["uploads"].find({})}
        inventory.assets = {name: one["asset"] for name, one in inventory.uploads.items() if "asset" in one}
    for upload_id, upload in inventory.uploads.items():
        statuses = tuple(change["status"] for change in upload["history"])
        inventory.statuses[statuses[-1]] += 1
        if statuses not in _LIVES:
            (inventory.bad_histories if _is_wrong(statuses) else inventory.open_uploads).append(upload_id)
        if [change["revision"] for change in upload["history"]] != list(range(1, len(statuses) + 1)):
            inventory.bad_histories.append(upload_id)
        if (statuses[-1] == "COMPLETED") is not (upload_id in inventory.assets):
            inventory.false_assets.append(upload_id)
    living = {name: asset for name, asset in inventory.assets.items() if asset.get("delete_time") is None}
    owned = {variant["key"] for asset in living.values() for variant in asset["variants"]}
    bucket = Bucket(settings)
    # What a probe left that was killed belongs to the probes: the next start an hour later deletes it.
    kept = {key for key in await bucket.keys() if "/probe/" not in key}
    inventory.orphans = sorted(kept - owned)
    bucket.close()
    async with object_store(settings) as store:
        turn = asyncio.Semaphore(AT_ONCE)

        async def check(asset_id: str) -> None:
            async with turn:
                promised = inventory.uploads[asset_id]["variants"]
                if not await _is_kept(store, promised, living[asset_id]["variants"]):
                    inventory.false_assets.append(asset_id)

        async with asyncio.TaskGroup() as tasks:
            for asset_id in living:
                tasks.create_task(check(asset_id))
    return inventory


def _is_wrong(statuses: tuple[str, ...]) -> bool:
    return not any(statuses == life[: len(statuses)] for life in _LIVES)


async def _is_kept(store: ObjectStore, promised: Sequence[Mapping[str, Any]], variants: Sequence[Any]) -> bool:
    if [variant["key"] for variant in variants] != [variant["key"] for variant in promised]:
        return False
    for promise in promised:
        found = await store.head(promise["key"])
        if found is None or found.size_bytes != promise["size_bytes"] or found.content_type != promise["content_type"]:
            return False
        if found.sha256 and found.sha256 != promise.get("sha256", found.sha256):
            return False
    return True
