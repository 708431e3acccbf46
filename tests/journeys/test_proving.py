"""What a completion takes for a proof, on real stores."""

import aiohttp
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.steps import BODY, put, request_for

from assetlane.v1.upload_pb2 import UploadStatus
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest
from assetlane_server.config.settings import Settings


async def test_an_object_without_its_promised_checksum_did_not_come_through_its_write_target(
    stubs: Stubs, web: aiohttp.ClientSession, settings: Settings
) -> None:
    """The same bytes under the same type, but copied there: the store reports checksums, so this one's is missed."""
    reply = await stubs.uploads.RequestUpload(request_for())
    target = reply.write_targets[0]
    assert await put(web, target, BODY) == 200
    bucket = Bucket(settings)
    await bucket.replace(target.single_put.url, BODY, "text/plain", with_checksum=False)
    bucket.close()

    done = await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))

    assert done.upload.status == UploadStatus.UPLOAD_STATUS_FAILED
    assert done.upload.failure.reason == "CHECKSUM_MISSING"
