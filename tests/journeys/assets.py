"""Where a journey takes its assets from."""

from dataclasses import dataclass

import aiohttp
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put, request_for

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest


@dataclass
class AssetFactory:
    """Brings assets in."""

    stubs: Stubs
    web: aiohttp.ClientSession

    async def asset(self, **fields: object) -> Asset:
        """Returns a fresh asset."""
        reply = await self.stubs.uploads.RequestUpload(request_for(**fields))  # type: ignore[arg-type]  # a test's
        for target in reply.write_targets:
            assert await put(self.web, target) == 200
        request = CompleteUploadRequest(upload_id=reply.upload.upload_id)
        return (await self.stubs.uploads.CompleteUpload(request)).asset
