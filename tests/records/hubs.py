"""Hubs that run, and uploads for them to see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from tests.uploads.samples import NOW, QUARTER, requested

from assetlane_server.composition.app import new_id
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Status, Upload
from assetlane_server.records.change_source import ChangeSource
from assetlane_server.records.hub import Hub
from assetlane_server.records.mailbox import HubMailbox

LIMIT = timedelta(seconds=20)


@asynccontextmanager
async def running(source: ChangeSource) -> AsyncIterator[Hub]:
    """A hub that follows, in a task of its own."""
    hub = Hub(source)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        hub.close()
        await asyncio.wait_for(task, LIMIT.total_seconds())


def initialized(session_id: str = "phone") -> Upload:
    """Returns a fresh upload with an id of its own."""
    return replace(requested(session_id=session_id, request_id=""), upload_id=new_id()).initialized(NOW, QUARTER)


async def status_of_next(box: HubMailbox[Upload | Progress]) -> Status:
    """Returns the status of the one upload that has news."""
    news = (await box.next(LIMIT)).news
    assert len(news) == 1, "no news within the limit"
    return upload_of(news[0]).status


def upload_of(news: Upload | Progress) -> Upload:
    """Returns news that has to be an upload."""
    assert isinstance(news, Upload)
    return news
