"""Batches of writes on a real MongoDB, interrupted at every request in every way: no outcome is false.

`tests/records/test_writer.py` shows what no real server can be made to show at will, such as a command half applied.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

import pytest
from tests.faults.conftest import Report
from tests.faults.fault_proxy import Action, FaultProxy, fault_proxy
from tests.faults.messages import Message, MongoWire
from tests.faults.proxy import LOOPBACK
from tests.records.stores import drop
from tests.uploads.samples import NOW, QUARTER, completed, requested

from assetlane_server.composition.app import new_id
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.model.upload import Status, Upload
from assetlane_server.records.mongo import MongoRecords

pytestmark = pytest.mark.faults

COUNT: Final = 12  # of each kind of write in a batch
CALL_LIMIT: Final = timedelta(seconds=3)
LIMIT_S: Final = 60.0
COMMANDS: Final = ("insert uploads", "update uploads", "find uploads")
ACTIONS: Final = (Action.LOSE, Action.DELAY, Action.SWALLOW, Action.REFUSE, Action.STEP_DOWN, Action.DENY, Action.HANG)


@dataclass
class Bench:
    """A ledger behind a proxy, and the same ledger past it."""

    proxy: FaultProxy
    behind: MongoRecords
    well: MongoRecords


@asynccontextmanager
async def opened(stack: StackAddress, database_name: str) -> AsyncIterator[Bench]:
    """Opens both ways to a ledger of the test's own."""
    mongo = urlsplit(stack.mongo_uri)
    if mongo.hostname != LOOPBACK or mongo.port is None:
        pytest.skip("the proxy understands only plain connections to a MongoDB on loopback")
    async with fault_proxy(mongo.port, MongoWire()) as proxy:
        behind = mongo._replace(netloc=f"{LOOPBACK}:{proxy.port}").geturl()
        async with (
            MongoRecords.open(stack.mongo_uri, database_name, call_timeout=timedelta(seconds=20)) as well,
            MongoRecords.open(behind, database_name, call_timeout=CALL_LIMIT) as records,
        ):
            yield Bench(proxy, records, well)
    await drop(stack.mongo_uri, database_name)


@dataclass
class Batch:
    """Writes that are handed in at once: inserts, updates that win, and updates that have lost already."""

    fresh: list[Upload]
    winners: list[Upload]
    losers: list[Upload]

    @classmethod
    async def prepared(cls, records: MongoRecords) -> "Batch":
        """Stores what the updates are about."""
        uploads = [
            replace(requested(request_id=f"{number}-{new_id()}"), upload_id=new_id()).initialized(NOW, QUARTER)
            for number in range(3 * COUNT)
        ]
        fresh, winners, losers = (uploads[number * COUNT : (number + 1) * COUNT] for number in range(3))
        for upload in (*winners, *losers):
            await records.insert_upload(upload)
        for upload in losers:
            assert await records.advance_upload(upload.cancelled(NOW))
        return cls(fresh, winners, losers)

    async def written(self, records: MongoRecords) -> list[bool | BaseException]:
        """Hands all of them in at once; returns whether each was made, or what was raised."""

        async def insert(upload: Upload) -> bool:
            return (await records.insert_upload(upload)).upload_id == upload.upload_id

        return await asyncio.gather(
            *(insert(upload) for upload in self.fresh),
            *(records.advance_upload(completed(upload), after_revision=2) for upload in (*self.winners, *self.losers)),
            return_exceptions=True,
        )

    async def flaws(self, records: MongoRecords, outcomes: list[bool | BaseException]) -> list[str]:
        """Returns which outcomes are false, compared with what is stored."""
        flaws = []
        uploads = (*self.fresh, *self.winners, *self.losers)
        stored = await records.find_uploads([upload.upload_id for upload in uploads])
        for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True)):
            found = stored.get(upload.upload_id)
            is_made = found is not None and (index < COUNT or found.status is Status.COMPLETED)
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, LedgerUnavailable):
                    flaws.append(f"{index}: {outcome!r}")
            elif outcome is not is_made:
                flaws.append(f"{index}: reported {outcome}, and it is {is_made}")
            if found is not None and found.asset is not None and found.status is not Status.COMPLETED:
                flaws.append(f"{index}: {found.status} with an asset")
        return flaws

    async def repeated(self, records: MongoRecords, outcomes: list[bool | BaseException]) -> list[str]:
        """Repeats what nobody knows of; returns what is wrong in the end."""
        again = await self.written(records)
        flaws = [f"repeat {index}: {one!r}" for index, one in enumerate(again) if isinstance(one, BaseException)]
        uploads = (*self.fresh, *self.winners, *self.losers)
        stored = await records.find_uploads([upload.upload_id for upload in uploads])
        for index, upload in enumerate(uploads):
            found = stored.get(upload.upload_id)
            expected = upload if index < COUNT else completed(upload) if index < 2 * COUNT else upload.cancelled(NOW)
            if found != expected:
                flaws.append(f"{index}: {found and found.status} instead of {expected.status}")
        for index, outcome in enumerate(outcomes[: 2 * COUNT]):
            if outcome is True and again[index] is not (index < COUNT):
                flaws.append(f"{index}: made twice")
        return flaws


@pytest.mark.timeout(600)
async def test_a_batch_interrupted_anywhere_reports_no_falsehood(
    stack: StackAddress, database_name: str, report: Report
) -> None:
    """Each of its requests, once or every time, before it left, on its way, before its reply came."""
    lines, flaws = [], []
    async with opened(stack, database_name) as bench:
        for command in COMMANDS:
            for action in ACTIONS:
                for is_once in (True, False):
                    batch = await Batch.prepared(bench.well)
                    left = [1 if is_once else 10**6]

                    def decide(
                        message: Message, command: str = command, action: Action = action, left: list[int] = left
                    ) -> Action:
                        if message.name != command or not left[0]:
                            return Action.PASS
                        left[0] -= 1
                        return action

                    bench.proxy.decide = decide
                    async with asyncio.timeout(LIMIT_S):
                        outcomes = await batch.written(bench.behind)
                    bench.proxy.decide = lambda message: Action.PASS
                    bench.proxy.wake_drivers()
                    where = f"{command}, {action.name}, {'once' if is_once else 'every time'}"
                    found = await batch.flaws(bench.well, outcomes)
                    await bench.proxy.deliver()
                    async with asyncio.timeout(LIMIT_S):
                        found += await batch.repeated(bench.well, outcomes)
                    flaws += [f"{where}: {flaw}" for flaw in found]
                    counted = Counter(one if isinstance(one, bool) else type(one).__name__ for one in outcomes)
                    lines.append(f"{where}: {dict(counted)}")
    report("\n".join([f"batches of {3 * COUNT} writes, {len(flaws)} false outcomes", *lines]))
    assert not flaws


@pytest.mark.timeout(300)
@pytest.mark.parametrize("action", [Action.LOSE, Action.DELAY, Action.SWALLOW])
@pytest.mark.parametrize("command", COMMANDS[:2])
async def test_a_server_that_is_killed_in_the_middle_of_a_batch_leaves_what_can_be_repeated(
    stack: StackAddress, database_name: str, command: str, action: Action
) -> None:
    """At each point of it: whatever was made stays, and another server makes the rest."""
    async with opened(stack, database_name) as bench:
        batch = await Batch.prepared(bench.well)

        def decide(message: Message) -> Action:
            return action if message.name == command else Action.PASS

        bench.proxy.decide = decide
        writing = asyncio.create_task(batch.written(bench.behind))
        async with asyncio.timeout(LIMIT_S):
            await bench.proxy.done.wait()
            bench.proxy.shut()
            outcomes = await writing
        assert not await batch.flaws(bench.well, outcomes)
        await bench.proxy.deliver()
        assert not await batch.repeated(bench.well, outcomes)


async def test_many_callers_share_few_requests(stack: StackAddress, database_name: str, report: Report) -> None:
    """And a lone caller waits for nobody: one request, one round trip."""
    async with opened(stack, database_name) as bench:
        seen: Counter[str] = Counter()

        def count(message: Message) -> Action:
            seen[message.name] += 1
            return Action.PASS

        batch = await Batch.prepared(bench.well)
        bench.proxy.decide = count
        outcomes = await batch.written(bench.behind)
        assert Counter(outcomes) == {True: 2 * COUNT, False: COUNT}
        assert sum(seen.values()) <= 6
        counted = dict(seen)
        seen.clear()
        lone = replace(requested(request_id=""), upload_id=new_id()).initialized(NOW, QUARTER)
        assert await bench.behind.insert_upload(lone) == lone
        assert await bench.behind.advance_upload(completed(lone), after_revision=2)
        assert seen == {"insert uploads": 1, "update uploads": 1}
    report(f"{3 * COUNT} writes at once: {counted}; two writes one after the other: {dict(seen)}")
