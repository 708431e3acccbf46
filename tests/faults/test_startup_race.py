"""A status change that falls into a gap between the first steps of a watch is delivered exactly once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from datetime import timedelta

import pytest
from tests.faults.gap_hub import Gap, GapHub
from tests.faults.verdict import Sighting, judge
from tests.records.hubs import LIMIT, initialized, running
from tests.records.stores import drop
from tests.uploads.samples import NOW

from assetlane_server.local import StackAddress
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Upload
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.records.hub import Hub
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.upload_watches import UploadWatches

pytestmark = pytest.mark.faults

HEARTBEAT = timedelta(milliseconds=100)
DELIVERY_LIMIT_S = 10.0
QUIET_HEARTBEATS = 3  # so many in a row say that nothing else comes


class Scene:
    """A ledger with a live hub, and watches that meet a change in a gap."""

    def __init__(self, records: MongoRecords, hub: Hub) -> None:
        self.records = records
        self.hub = hub

    async def deliver(self) -> None:
        """Returns when the hub has delivered every change made before: it does so in order."""
        last = initialized("last")
        async with self.hub.watch_upload(last.upload_id) as mailbox:
            await self.records.insert_upload(last)
            assert (await mailbox.next(LIMIT)).news

    def watches(self, hub: ChangeHub) -> UploadWatches:
        """Watches as `app.py` makes them, on this hub."""
        return UploadWatches(uploads=self.records, hub=hub, heartbeat=HEARTBEAT)


@pytest.fixture
async def scene(stack: StackAddress, database_name: str) -> AsyncIterator[Scene]:
    """Real records in a database of the test's own."""
    async with (
        MongoRecords.open(stack.mongo_uri, database_name, call_timeout=timedelta(seconds=10)) as records,
        running(records) as hub,
    ):
        yield Scene(records, hub)
    await drop(stack.mongo_uri, database_name)


async def everything(watch: AsyncGenerator[Upload | Progress | None], due: int) -> list[Sighting]:
    """What the watch delivers until as much as was due has come, within a limit, and then nothing more."""
    seen: list[Sighting] = []
    quiet = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DELIVERY_LIMIT_S), aclosing(watch) as events:
            async for event in events:
                quiet = quiet + 1 if event is None else 0
                if isinstance(event, Upload):
                    seen.append(Sighting(event.upload_id, event.revision, event.status))
                if quiet >= QUIET_HEARTBEATS and len(seen) >= due:
                    break
    return seen


@pytest.mark.parametrize("is_known", [False, True], ids=["the hub not notified yet", "the hub notified already"])
@pytest.mark.parametrize("gap", Gap)
async def test_a_change_in_a_gap_reaches_an_upload_watch_once(scene: Scene, gap: Gap, is_known: bool) -> None:
    """From the first revision to the one that was forced in, each once and in order."""
    upload = await scene.records.insert_upload(initialized())

    async def advance() -> None:
        assert await scene.records.advance_upload(upload.uploaded(NOW))
        if is_known:
            await scene.deliver()

    hub = GapHub(scene.hub, gap, advance)
    seen = await everything(scene.watches(hub).watch_upload(upload.upload_id, 0, UNRESTRICTED), due=3)
    assert hub.is_done
    assert not judge(seen, {upload.upload_id: ("PENDING", "INITIALIZED", "UPLOADED")})


@pytest.mark.parametrize("is_known", [False, True], ids=["the hub not notified yet", "the hub notified already"])
@pytest.mark.parametrize("gap", Gap)
async def test_changes_in_a_gap_reach_a_session_watch_once(scene: Scene, gap: Gap, is_known: bool) -> None:
    """An upload that goes on and one that is new, beside one that rests."""
    resting, going_on = [await scene.records.insert_upload(initialized()) for _ in range(2)]
    late = initialized()

    async def advance() -> None:
        assert await scene.records.advance_upload(going_on.uploaded(NOW))
        await scene.records.insert_upload(late)
        if is_known:
            await scene.deliver()

    hub = GapHub(scene.hub, gap, advance)
    seen = await everything(scene.watches(hub).watch_session("phone", {}, UNRESTRICTED), due=7)
    assert hub.is_done
    begun = ("PENDING", "INITIALIZED")
    histories = {resting.upload_id: begun, going_on.upload_id: (*begun, "UPLOADED"), late.upload_id: begun}
    assert not judge(seen, histories)
