"""The change stream is lost: what changed meanwhile is delivered all the same.

Failpoints are the whole server's, so these tests run one after the other.
"""

import asyncio
from datetime import timedelta

import pytest
from tests.log_events import seen
from tests.records.hubs import LIMIT, initialized, running, status_of_next
from tests.records.stores import drop, failing
from tests.uploads.samples import NOW

from assetlane_server.local import StackAddress
from assetlane_server.model.upload import Status
from assetlane_server.records.mongo import MongoRecords

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    "how",
    [{"errorCode": 286}, {"closeConnection": True}, {"errorCode": 10107}],
    ids=["history lost", "connection dropped", "not primary"],
)
async def test_what_changed_while_the_stream_was_lost_is_delivered(
    stack: StackAddress, database_name: str, how: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Opened again first, then everything that is watched is read again."""
    app_name = f"hub-{database_name}"
    separator = "&" if "?" in stack.mongo_uri else "/?"
    uri = f"{stack.mongo_uri}{separator}appName={app_name}"
    opening = MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT)
    # Within its time limit the driver itself tries again and again.
    watching = MongoRecords.open(uri, database_name, call_timeout=timedelta(seconds=2))
    async with opening as records, watching as watched, running(watched) as hub:
        upload = await records.insert_upload(initialized())
        async with hub.watch_upload(upload.upload_id) as box, hub.watch_session("phone", "") as session:
            async with failing(stack.mongo_uri, app_name, ["getMore", "aggregate"], **how):
                await records.advance_upload(upload.uploaded(NOW))
                late = await records.insert_upload(initialized())
                await seen(caplog, "STREAM_LOST")
            async with asyncio.timeout(LIMIT.total_seconds()):
                # The news of the insert may still have been on its way.
                while await status_of_next(box) is not Status.UPLOADED:
                    continue
                while (await session.next(LIMIT)).missed_since is None:
                    continue
            assert late.upload_id in {one.upload_id for one in await hub.read_session("phone", "") or ()}
    await drop(stack.mongo_uri, database_name)


async def test_what_could_not_be_read_is_read_again(
    stack: StackAddress, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream reported a change while MongoDB refused to be read; it does not report twice."""
    app_name = f"hub-{database_name}"
    separator = "&" if "?" in stack.mongo_uri else "/?"
    uri = f"{stack.mongo_uri}{separator}appName={app_name}"
    opening = MongoRecords.open(stack.mongo_uri, database_name, call_timeout=LIMIT)
    watching = MongoRecords.open(uri, database_name, call_timeout=LIMIT)
    async with opening as records, watching as watched, running(watched) as hub:
        upload = await records.insert_upload(initialized())
        async with hub.watch_upload(upload.upload_id) as box, hub.watch_session("phone", "") as session:
            async with failing(stack.mongo_uri, app_name, ["find"], errorCode=50):
                await records.advance_upload(upload.uploaded(NOW))
                await seen(caplog, "READING_FAILED")
            async with asyncio.timeout(LIMIT.total_seconds()):
                for mailbox in (box, session):
                    while await status_of_next(mailbox) is not Status.UPLOADED:
                        continue
    await drop(stack.mongo_uri, database_name)
