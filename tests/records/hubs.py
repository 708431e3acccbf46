"""Hubs that run, and uploads for them to see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.app import new_id, utc_now
from assetlane_server.records.hub import Hub
from assetlane_server.records.mailbox import HubMailbox
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.ports import Snapshot
from assetlane_server.uploads.progress import Progress
from assetlane_server.uploads.upload import Status, Upload

LIMIT = timedelta(seconds=20)


@asynccontextmanager
async def running(records: MongoRecords) -> AsyncIterator[Hub]:
    """A hub that follows, in a task of its own."""
    hub = Hub(records, utc_now)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        hub.close()
        await asyncio.wait_for(task, LIMIT.total_seconds())


def initialized(session_id: str = "phone") -> Upload:
    """Returns a fresh upload with an id of its own."""
    return replace(requested(session_id=session_id, request_id=""), upload_id=new_id()).initialized(NOW, QUARTER)


async def status_of_next(box: HubMailbox[Snapshot | Progress]) -> Status:
    """Returns the status in the next snapshot."""
    news = await box.next(LIMIT)
    assert len(news) == 1, "no news within the limit"
    return snapshot_of(news[0]).upload.status


def snapshot_of(news: Snapshot | Progress) -> Snapshot:
    """Returns news that has to be a snapshot."""
    assert isinstance(news, Snapshot)
    return news
