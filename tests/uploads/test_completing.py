"""CompleteUpload on stores in memory: who shares whose work."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from tests.memory.object_store import MemoryObjectStore
from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.admission import Terms
from assetlane_server.uploads.asset import Asset, StoredObject
from assetlane_server.uploads.broker import UploadBroker
from assetlane_server.uploads.errors import VariantsMissing
from assetlane_server.uploads.lanes import Lanes
from assetlane_server.uploads.upload import Status, Upload, VariantPromise

BYTES = b"the promised bytes"
LIMIT_S = 20.0


class Ledger:
    """What completing needs of UploadRecords and AssetRecords."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.assets: dict[str, Asset] = {}

    async def find_upload(self, upload_id: str) -> Upload | None:
        """See UploadRecords."""
        return self.upload if upload_id == self.upload.upload_id else None

    async def advance_upload(self, upload: Upload) -> bool:
        """See UploadRecords."""
        if upload.revision != self.upload.revision + 1:
            return False
        self.upload = upload
        return True

    async def insert_asset(self, asset: Asset) -> Asset:
        """See AssetRecords."""
        return self.assets.setdefault(asset.asset_id, asset)

    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        """See AssetRecords."""
        return {one: self.assets[one] for one in asset_ids if one in self.assets}


class SlowStore(MemoryObjectStore):
    """Looks at once, and answers the first HEAD when it is let."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW)
        self.has_looked = asyncio.Event()
        self.let = asyncio.Event()

    async def head(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        found = await super().head(key)
        self.has_looked.set()
        await self.let.wait()
        return found


class Board:
    """A ProgressBoard that nobody looks at."""

    def verifying(self, *_told: object) -> None:
        """Is told of the proof."""


def broker_of(ledger: Ledger, store: MemoryObjectStore) -> UploadBroker:
    """A broker with what completing needs."""
    unused: Any = None
    uploads: Any = ledger
    board: Any = Board()
    return UploadBroker(
        uploads=uploads,
        assets=uploads,
        store=store,
        hub=unused,
        lanes=Lanes(store),
        board=board,
        cut_room=unused,
        terms=Terms(),
        heartbeat=timedelta(seconds=30),
        new_id=lambda: "",
        now=lambda: NOW,
    )


async def test_a_call_that_joins_work_begun_before_its_put_ended_completes() -> None:
    """A client asks early, PUTs, and asks again: the second answer is not the stale VARIANTS_MISSING of the first."""
    store = SlowStore()
    variant = VariantPromise("original", "text/plain", len(BYTES))
    upload = requested(variants=(variant,), notices=()).initialized(NOW, QUARTER)
    broker = broker_of(Ledger(upload), store)
    async with asyncio.timeout(LIMIT_S):
        early = asyncio.create_task(broker.complete_upload(upload.upload_id, UNRESTRICTED))
        await store.has_looked.wait()  # and has found nothing
        request = store.presign_put(upload.variants[0], NOW, QUARTER)
        assert (await store.send(request, BYTES)).status == 200
        late = [asyncio.create_task(broker.complete_upload(upload.upload_id, UNRESTRICTED)) for _ in range(3)]
        await asyncio.sleep(0)
        store.let.set()
        with pytest.raises(VariantsMissing):
            await early
        completions = await asyncio.gather(*late)
    assert {one.upload.status for one in completions} == {Status.COMPLETED}
    assert all(one.asset is not None and one.asset.asset_id == upload.upload_id for one in completions)
