"""What the client holds of watches that were cancelled, beside a bare stub; 100,000 are in the fault suite."""

from tests.client.server_under_test import ServerUnderTest
from tests.conftest import Figures
from tests.faults.cancelling import bare, held_after, thin

from assetlane import Client
from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import RequestUploadRequest

COUNT = 300
TRIES = 3  # the server is in this process too, and the number of its objects varies; what leaks, leaks each time


async def test_cancelled_watches_leave_no_call_and_no_task(
    server: ServerUnderTest, client: Client, figures: Figures
) -> None:
    """Each is cancelled while it reads, after its first event."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5)
    request = RequestUploadRequest(file_path="a.txt", variants=[promise])
    upload_id = (await client.request_upload(request)).upload.upload_id
    channel, bare_watch = bare(server.target, upload_id)
    async with channel:
        floor = await held_after(bare_watch, COUNT, warm_up=50)
    for _ in range(TRIES):
        ours = await held_after(thin(client, upload_id), COUNT, warm_up=50)
        if ours.objects <= max(floor.objects, 0) + COUNT:
            break
    figures(
        f"{COUNT} watches cancelled: a bare stub leaves {floor.calls} calls and {floor.objects:+} objects, the client"
        f" {ours.calls} and {ours.objects:+}"
    )
    assert ours.calls <= floor.calls
    assert ours.tasks <= floor.tasks
    assert ours.objects <= max(floor.objects, 0) + COUNT
