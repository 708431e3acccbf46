"""A watcher that stops reading while much happens: the server keeps little for it, and misses nothing."""

import asyncio
from typing import TYPE_CHECKING, Final

import grpc
import pytest
from tests.faults.clients import NARROW
from tests.faults.verdict import Sighting, judge
from tests.faults.watchers import sighting_of
from tests.journeys.conftest import Stubs
from tests.journeys.steps import request_for
from tests.records.stores import drop
from tests.servers import prepare_bucket, served, settings_for

from assetlane.v1.asset_pb2 import AssetDetails
from assetlane.v1.upload_service_pb2 import CancelUploadRequest, WatchUploadRequest, WatchUploadResponse
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

CAPTION: Final = "c" * 4000  # one event is more than what a narrow stream takes ahead of its reader
LIMIT_S: Final = 20.0
CANCELLED: Final = ("PENDING", "INITIALIZED", "CANCELLED")

if TYPE_CHECKING:
    Watch = grpc.aio.UnaryStreamCall[WatchUploadRequest, WatchUploadResponse]


async def next_sighting(watch: "Watch") -> Sighting:
    """Reads on to the next status event."""
    while isinstance(event := await watch.read(), WatchUploadResponse):
        if event.HasField("status"):
            return sighting_of(event.status)
    raise AssertionError("the watch ended")


@pytest.mark.parametrize("uploads", [40, 150], ids=["fewer than a mailbox has slots", "more than a mailbox has slots"])
async def test_what_happened_while_nobody_read_is_read_afterwards(
    stack: StackAddress, database_name: str, key_prefix: str, uploads: int
) -> None:
    """Every upload of the session moved on twice meanwhile; a quick watcher shows when."""
    settings = settings_for(stack, database_name, key_prefix)
    await prepare_bucket(settings)
    async with (
        asyncio.timeout(3 * LIMIT_S),
        served(settings) as target,
        grpc.aio.insecure_channel(target) as channel,
        grpc.aio.insecure_channel(target, options=[*NARROW, ("grpc.use_local_subchannel_pool", 1)]) as narrow,
    ):
        owner, slow_reader = Stubs.on(channel).uploads, Stubs.on(narrow).uploads

        async def request() -> str:
            request = request_for(session_id="phone", details=AssetDetails(caption=CAPTION))
            return (await owner.RequestUpload(request)).upload.upload_id

        first = await request()
        slow = slow_reader.WatchUpload(WatchUploadRequest(session_id="phone"))
        quick = owner.WatchUpload(WatchUploadRequest(session_id="phone"))
        seen = [await next_sighting(slow) for _ in range(2)]
        upload_ids = [first, *[await request() for _ in range(uploads)]]
        for upload_id in upload_ids:
            await owner.CancelUpload(CancelUploadRequest(upload_id=upload_id))
        histories = dict.fromkeys(upload_ids, CANCELLED)
        due = 3 * len(upload_ids)
        assert not judge([await next_sighting(quick) for _ in range(due)], histories)
        try:
            async with asyncio.timeout(LIMIT_S):
                seen += [await next_sighting(slow) for _ in range(due - len(seen))]
        except TimeoutError:
            pytest.fail(f"{due} events were due, {len(seen)} came")
        finally:
            slow.cancel()
            quick.cancel()
        assert not judge(seen, histories)
    await drop(stack.mongo_uri, database_name)
