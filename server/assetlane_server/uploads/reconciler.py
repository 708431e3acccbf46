"""Reads ledger and bucket page by page and lets `reconciliation.py` compare them. Constant memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from assetlane_server.concurrency.gathering import all_at_once
from assetlane_server.model.listing import ListedObject
from assetlane_server.model.paths import upload_id_of
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.reconciliation import Discrepancy, Kind, foreign, lingering, orphan, phantoms
from assetlane_server.model.upload import Asset, Status
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.ports.object_store import ObjectStore
from assetlane_server.ports.upload_records import UploadRecords

_HEADS_AT_ONCE = 16


@dataclass
class DiscrepancyCounts:
    """What was counted so far."""

    objects: int = 0
    belonging: int = 0  # objects and open multipart uploads that the ledger knows
    assets: int = 0
    orphans: int = 0
    phantoms: int = 0
    lingering: int = 0
    foreign: int = 0

    def add(self, found: Discrepancy) -> None:
        """Counts a discrepancy."""
        match found.kind:
            case Kind.ORPHAN:
                self.orphans += 1
            case Kind.PHANTOM:
                self.phantoms += 1
            case Kind.LINGERING:
                self.lingering += 1
            case Kind.FOREIGN:
                self.foreign += 1

    @property
    def is_clean(self) -> bool:
        """Whether ledger and bucket agree. What others keep in the bucket is no disagreement."""
        return not (self.orphans or self.phantoms or self.lingering)


class Reconciler:
    """Compares both ways. Raises StoreUnavailable and LedgerUnavailable; can be run again at any time."""

    def __init__(
        self,
        *,
        uploads: UploadRecords,
        assets: AssetRecords,
        store: ObjectStore,
        prefix: str,
        now: Callable[[], datetime],
        page_size: int = 200,  # of assets
    ) -> None:
        self._uploads = uploads
        self._assets = assets
        self._store = store
        self._prefix = prefix
        self._now = now
        self._page_size = page_size
        self._turn = asyncio.Semaphore(_HEADS_AT_ONCE)
        self.counts = DiscrepancyCounts()

    async def discrepancies(self) -> AsyncIterator[Discrepancy]:
        """Yields all that is found, and counts it in `counts`. Changes nothing."""
        self.counts = DiscrepancyCounts()
        async for page in self._pages():
            found = await self._judged(page)
            self.counts.objects += len(page)
            self.counts.belonging += len(page) - len(found)
            for one in found:
                self.counts.add(one)
                yield one
        async for one in self._lingering():
            self.counts.add(one)
            yield one
        async for asset in self._phantoms():
            self.counts.add(asset)
            yield asset

    async def delete_orphans(self, age: timedelta) -> AsyncIterator[Discrepancy]:
        """Looks again, deletes orphans and aborts what lingers, if at least so old, and yields each of them.

        Never touches the ledger. Where the bucket keeps versions, they stay.
        """
        async for page in self._pages():
            doomed = [one for one in await self._judged(page) if one.is_deletable and one.is_old(age, self._now())]
            await self._store.delete([one.key for one in doomed])
            for one in doomed:
                yield one
        async for one in self._lingering():
            if one.is_old(age, self._now()):
                await self._store.multiparts.abort(one.key, one.multipart_id)
                yield one

    async def _pages(self) -> AsyncIterator[tuple[ListedObject, ...]]:
        after = ""
        while True:
            page = await self._store.list_keys(self._prefix, after)
            yield page.objects
            after = page.after
            if not after:
                return

    async def _lingering(self) -> AsyncIterator[Discrepancy]:
        """Judges what is open at the store; keys that are none of ours, as a probe's, are not our business."""
        after = ""
        while True:
            page = await self._store.multiparts.list_open(self._prefix, after)
            ids = {one.key: upload_id_of(one.key, self._prefix) for one in page.open}
            uploads = await self._uploads.find_uploads(sorted({one for one in ids.values() if one}))
            for one in page.open:
                if upload_id := ids[one.key]:
                    is_unreadable = upload_id in uploads and uploads[upload_id] is None
                    judged = None if is_unreadable else lingering(one, upload_id, uploads.get(upload_id), self._now())
                    if judged is None:
                        self.counts.belonging += 1
                    else:
                        yield judged
            after = page.after
            if not after:
                return

    async def _judged(self, page: tuple[ListedObject, ...]) -> list[Discrepancy]:
        """This order is what keeps a racing upload from being an orphan, see reconciliation.py."""
        ids = {listed.key: upload_id_of(listed.key, self._prefix) for listed in page}
        known = sorted({one for one in ids.values() if one})
        uploads = await self._uploads.find_uploads(known)
        now = self._now()
        found = []
        for listed in page:
            if upload_id := ids[listed.key]:
                if upload_id in uploads and uploads[upload_id] is None:
                    continue  # another version wrote its record, and knows what belongs to it
                judged = orphan(listed, upload_id, uploads.get(upload_id), now)
                if judged is not None:
                    found.append(judged)
            else:
                found.append(foreign(listed))
        return found

    async def _phantoms(self) -> AsyncIterator[Discrepancy]:
        after_id = ""
        while uploads := await self._uploads.scan_uploads(
            uid="", session_id="", statuses=(Status.COMPLETED,), after_id=after_id, limit=self._page_size
        ):
            after_id = uploads[-1].upload_id
            assets = [asset for upload in uploads if (asset := upload.readable_asset) is not None]
            self.counts.assets += len(assets)
            heads = await all_at_once(*(self._heads(asset) for asset in assets))
            suspects = {
                asset.asset_id: found
                for asset, stored in zip(assets, heads, strict=True)
                if (found := phantoms(asset, stored))
            }
            if suspects:
                # One that was deleted meanwhile lost its objects rightly.
                again = await self._assets.find_assets(sorted(suspects))
                for asset_id, found in suspects.items():
                    if asset_id in again and not again[asset_id].is_deleted:
                        for one in found:
                            yield one

    async def _heads(self, asset: Asset) -> list[StoredObject | None]:
        stored = []
        for variant in asset.variants:
            async with self._turn:
                stored.append(await self._store.head(variant.key))
        return stored
