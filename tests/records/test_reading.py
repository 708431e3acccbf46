"""Readers share queries, and everybody gets an answer that is not older than the question."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.records.hubs import LIMIT, initialized

from assetlane_server.model.errors import LedgerUnavailable, ShuttingDown
from assetlane_server.model.upload import Upload
from assetlane_server.records.reading import SharedReading


class Ledger:
    """Uploads by id; each query waits until it may go on, and is remembered."""

    def __init__(self, *uploads: Upload) -> None:
        self.uploads = {upload.upload_id: upload for upload in uploads}
        self.queries: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self._begun = asyncio.Semaphore(0)
        self.is_down = False

    async def read(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        """Returns what was there when the query began."""
        found = {upload_id: self.uploads.get(upload_id) for upload_id in upload_ids}
        self.queries.append(list(upload_ids))
        self._begun.release()
        await self.may_answer.wait()
        if self.is_down:
            raise LedgerUnavailable("It is down.")
        return found

    async def asked(self) -> None:
        """Waits for the beginning of a query."""
        async with asyncio.timeout(LIMIT.total_seconds()):
            await self._begun.acquire()


@asynccontextmanager
async def reading(ledger: Ledger, keys_at_once: int = 2) -> AsyncIterator[SharedReading[str, Upload | None]]:
    """A reading that runs."""
    shared = SharedReading(ledger.read, keys_at_once)
    running = asyncio.create_task(shared.run())
    try:
        yield shared
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_who_asks_while_a_query_is_under_way_gets_the_next_one() -> None:
    """What is being read may be older than the question, also when it is the same upload."""
    upload = initialized()
    ledger = Ledger(upload)
    async with reading(ledger) as shared:
        early = asyncio.create_task(shared.read(upload.upload_id))
        await ledger.asked()
        changed = ledger.uploads[upload.upload_id] = upload.uploaded(upload.create_time)
        late = [asyncio.create_task(shared.read(upload.upload_id)) for _ in range(3)]
        await asyncio.sleep(0)
        ledger.may_answer.set()
        assert await early == upload
        assert await asyncio.gather(*late) == [changed] * 3
    assert len(ledger.queries) == 2


async def test_a_query_asks_for_a_bounded_number() -> None:
    """Five at two a query are three queries; one that does not exist is answered too."""
    uploads = [initialized() for _ in range(4)]
    ledger = Ledger(*uploads)
    ledger.may_answer.set()
    async with reading(ledger) as shared:
        answers = await asyncio.gather(*(shared.read(key) for key in [*ledger.uploads, "none"]))
    assert answers == [*uploads, None]
    assert [len(query) for query in ledger.queries] == [2, 2, 1]


async def test_a_reader_that_gives_up_takes_nothing_from_the_others() -> None:
    """One of two readers of an upload is cancelled: the other gets its answer."""
    upload = initialized()
    ledger = Ledger(upload)
    async with reading(ledger) as shared:
        hasty, patient = (asyncio.create_task(shared.read(upload.upload_id)) for _ in range(2))
        await ledger.asked()
        hasty.cancel()
        await asyncio.sleep(0)
        ledger.may_answer.set()
        assert await patient == upload
        assert hasty.cancelled()


async def test_a_ledger_that_is_down_is_reported_to_those_who_asked_it() -> None:
    """Everybody whose query failed gets its error, and later questions are answered again."""
    upload = initialized()
    ledger = Ledger(upload)
    ledger.is_down = True
    ledger.may_answer.set()
    async with reading(ledger) as shared:
        with pytest.raises(LedgerUnavailable):
            await shared.read(upload.upload_id)
        ledger.is_down = False
        assert await shared.read(upload.upload_id) == upload


async def test_nobody_is_left_waiting_when_it_ends() -> None:
    """Readers of the query under way, readers behind it and readers that come too late get ShuttingDown."""
    ledger = Ledger()
    async with reading(ledger, keys_at_once=1) as shared:
        waiting = [asyncio.create_task(shared.read(key)) for key in ("asked", "queued")]
        await ledger.asked()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ShuttingDown, ShuttingDown]
    with pytest.raises(ShuttingDown):
        await shared.read("late")
