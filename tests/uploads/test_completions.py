"""CompleteUpload on the ledger and the store in memory: what is written, and who shares whose work."""

import asyncio
from typing import Any

import pytest
from tests.memory.ledger import MemoryLedger
from tests.memory.object_store import MemoryObjectStore
from tests.memory.server import BYTES, MemoryServer
from tests.refusals import raises
from tests.uploads.samples import NOW

from assetlane_server.model.errors import LedgerUnavailable, VariantsMissing, WrongStatus
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import Status, VariantPromise
from assetlane_server.uploads.access import UNRESTRICTED

LIMIT_S = 20.0


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


class WritesCounted(MemoryLedger):
    """Notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    async def insert_upload(self, upload: Any) -> Any:
        """See UploadRecords."""
        self.written.append(f"insert {upload.status}")
        return await super().insert_upload(upload)

    async def advance_upload(self, upload: Any, *, after_revision: int | None = None) -> bool:
        """See UploadRecords."""
        self.written.append(f"advance to {upload.status}")
        return await super().advance_upload(upload, after_revision=after_revision)


async def test_an_ordinary_upload_is_two_writes() -> None:
    """One insert, one update; the history has every status all the same."""
    ledger = WritesCounted()
    server = MemoryServer(ledger)
    done = await server.completed()
    assert ledger.written == ["insert INITIALIZED", "advance to COMPLETED"]
    assert [change.status for change in done.history] == ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]
    assert [change.revision for change in done.history] == [1, 2, 3, 4]
    assert await server.stored(done) == done
    assert done.asset is not None


async def test_a_broken_promise_is_one_update_too() -> None:
    """UPLOADED and FAILED are both in the history, and what arrived is gone."""
    ledger = WritesCounted()
    server = MemoryServer(ledger)
    png = VariantPromise("original", "image/png", len(BYTES))
    upload = await server.uploaded(variants=(png,))
    failed = await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert failed.failure is not None
    assert failed.failure.reason == "CONTENT_TYPE_MISMATCH"
    assert ledger.written == ["insert INITIALIZED", "advance to FAILED"]
    assert [change.status for change in failed.history[2:]] == ["UPLOADED", "FAILED"]
    assert not server.holds(upload)


async def test_what_is_not_there_changes_nothing() -> None:
    """A completion before the bytes are in the store raises VariantsMissing and writes nothing to the ledger."""
    ledger = WritesCounted()
    server = MemoryServer(ledger)
    upload, _ = await server.request()
    with pytest.raises(VariantsMissing):
        await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert ledger.written == ["insert INITIALIZED"]


async def test_a_cancel_that_is_faster_wins_and_leaves_no_asset() -> None:
    """The upload is cancelled between proof and write: the completion reads it again and reports what it found."""
    store = SlowStore()
    server = MemoryServer(store=store)
    upload, targets = await server.request()
    store.let.set()
    assert await server.put(targets[0]) == 200
    store.let.clear()
    store.has_looked.clear()
    completing = asyncio.create_task(server.completions.complete_upload(upload.upload_id, UNRESTRICTED))
    async with asyncio.timeout(LIMIT_S):
        await store.has_looked.wait()
        await server.uploads.cancel_upload(upload.upload_id, UNRESTRICTED)
        store.let.set()
        with raises(WrongStatus, reason="UPLOAD_CANCELLED"):
            await completing
    assert await server.records.find_assets([upload.upload_id]) == {}
    assert not server.holds(upload)


async def test_two_servers_that_complete_at_once_come_to_the_same_end() -> None:
    """One server writes the asset, the other finds it written and returns it."""
    server = MemoryServer()
    other = MemoryServer(server.records, server.store)
    upload = await server.uploaded()
    ends = await asyncio.gather(
        *(one.completions.complete_upload(upload.upload_id, UNRESTRICTED) for one in (server, other))
    )
    assert ends[0] == ends[1] == await server.stored(upload)
    assert [change.status for change in ends[0].history] == ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]


async def test_a_completion_that_could_not_be_written_can_be_repeated() -> None:
    """The ledger was away for a moment: nothing is lost, nothing is there twice."""
    server = MemoryServer()
    upload = await server.uploaded()
    server.records.is_writable = False
    with pytest.raises(LedgerUnavailable):
        await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    server.records.is_writable = True
    done = await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
    assert done.status is Status.COMPLETED
    assert await server.completions.complete_upload(upload.upload_id, UNRESTRICTED) == done


async def test_a_call_that_joins_work_begun_before_its_put_ended_completes() -> None:
    """A client asks early, PUTs, and asks again: the second answer is not the stale VARIANTS_MISSING of the first."""
    store = SlowStore()
    server = MemoryServer(store=store)
    upload, targets = await server.request()
    async with asyncio.timeout(LIMIT_S):
        early = asyncio.create_task(server.completions.complete_upload(upload.upload_id, UNRESTRICTED))
        await store.has_looked.wait()  # and has found nothing
        assert await server.put(targets[0]) == 200
        late = [
            asyncio.create_task(server.completions.complete_upload(upload.upload_id, UNRESTRICTED)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        store.let.set()
        with pytest.raises(VariantsMissing):
            await early
        ends = await asyncio.gather(*late)
    assert {one.status for one in ends} == {Status.COMPLETED}
    assert all(one.asset is not None and one.asset.asset_id == upload.upload_id for one in ends)
