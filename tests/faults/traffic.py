"""Uploads under way: real requests, real PUTs, and every way to an end."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import aiohttp
import pytest
import yarl
from tests.faults.plan import SLOWEST_STEP_S, Ending, UploadPlan
from tests.journeys.steps import put

from assetlane import Client, UploadFailed, VariantsMissing
from assetlane.v1.asset_pb2 import AssetDetails
from assetlane.v1.upload_pb2 import Upload, VariantPromise, WriteTarget
from assetlane.v1.upload_service_pb2 import RequestUploadRequest
from assetlane_server.composition.app import utc_now
from assetlane_server.model.admission import Terms
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.records.mongo import MongoRecords

CONCURRENCY: Final = 32  # steps at the same time: every write is synced to the disk
CAPTION: Final = "c" * 2000  # so that a few dozen events fill a stream's flow-control window
OTHER_BODY: Final = b"not what was promised"


class Traffic:
    """Leads planned uploads through their lives, a bounded number of steps at a time.

    `store` and `records` are the operator's own access: the key of an object is nobody else's business.
    """

    def __init__(
        self,
        plans: Sequence[UploadPlan],
        clients: Sequence[Client],
        web: aiohttp.ClientSession,
        store: S3ObjectStore,
        records: MongoRecords,
    ) -> None:
        self._plans = plans
        self._clients = clients
        self._web = web
        self._store = store
        self._records = records
        self._gate = asyncio.Semaphore(CONCURRENCY)
        loop = asyncio.get_running_loop()
        self.upload_ids: list[asyncio.Future[str]] = [loop.create_future() for _ in plans]
        """By number; done when the upload was accepted."""
        self.ends: Counter[Ending] = Counter()

    async def run(self) -> None:
        """Leads all of them as far as planned. Raises what a call raises after its own retries."""
        async with asyncio.TaskGroup() as tasks:
            for plan in self._plans:
                tasks.create_task(self._lead(plan))

    async def close(self, duration_s: float) -> None:
        """Ends those left open, spread over so many seconds. Raises as `run`."""
        async with asyncio.TaskGroup() as tasks:
            for plan in self._plans:
                if plan.ending in (Ending.LATE, Ending.OPEN):
                    tasks.create_task(self._close(plan, duration_s * plan.put_after_s / SLOWEST_STEP_S))

    async def _lead(self, plan: UploadPlan) -> None:
        body = f"the bytes of {plan.number}".encode()
        await asyncio.sleep(plan.start_s)
        async with self._gate:
            asked = await self._client(plan).request_upload(_request_for(plan, body))
        upload_id = asked.upload.upload_id
        self.upload_ids[plan.number].set_result(upload_id)
        await asyncio.sleep(plan.put_after_s)
        if plan.ending not in (Ending.CANCELLED, Ending.OPEN):
            async with self._gate:
                await self._put(asked.write_targets[0], body)
        await asyncio.sleep(plan.end_after_s)
        match plan.ending:
            case Ending.COMPLETED:
                await self._complete(plan, upload_id)
            case Ending.FAILED:
                await self._fail(plan, upload_id)
            case Ending.LOST:
                await self._lose(plan, upload_id)
            case Ending.CANCELLED:
                await self._cancel(plan)
            case Ending.LATE | Ending.OPEN:
                pass

    async def _close(self, plan: UploadPlan, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if plan.ending is Ending.LATE:
            await self._complete(plan, self.upload_ids[plan.number].result())
        else:
            await self._cancel(plan)

    async def _complete(self, plan: UploadPlan, upload_id: str) -> None:
        async with self._gate:
            asset = await self._client(plan).complete_upload(upload_id)
        assert asset.asset_id == upload_id
        self.ends[plan.ending] += 1

    async def _fail(self, plan: UploadPlan, upload_id: str) -> None:
        async with self._gate:
            await self._replace(upload_id)
            with pytest.raises(UploadFailed) as failed:
                await self._client(plan).complete_upload(upload_id)
        assert failed.value.reason == "SIZE_MISMATCH"
        self.ends[plan.ending] += 1

    async def _lose(self, plan: UploadPlan, upload_id: str) -> None:
        async with self._gate:
            await self._store.delete([await self._key(upload_id)])
            with pytest.raises(VariantsMissing):
                await self._client(plan).complete_upload(upload_id)
        await self._cancel(plan)

    async def _cancel(self, plan: UploadPlan) -> Upload:
        async with self._gate:
            upload = await self._client(plan).cancel_upload(self.upload_ids[plan.number].result())
        self.ends[plan.ending] += 1
        return upload

    async def _put(self, target: WriteTarget, body: bytes) -> None:
        assert await put(self._web, target, body) == 200

    async def _replace(self, upload_id: str) -> None:
        """Puts other bytes in the place of those that arrived."""
        await self._store.delete([await self._key(upload_id)])
        upload = await self._records.find_upload(upload_id)
        assert upload is not None
        other = replace(upload.variants[0], size_bytes=len(OTHER_BODY), sha256=b"")
        signed = self._store.presign_put(other, utc_now(), Terms().write_url_lifetime)
        url = yarl.URL(signed.url, encoded=True)
        async with self._web.request(signed.method, url, headers=signed.headers, data=OTHER_BODY) as response:
            assert response.status == 200

    async def _key(self, upload_id: str) -> str:
        upload = await self._records.find_upload(upload_id)
        assert upload is not None
        return upload.variants[0].key

    def _client(self, plan: UploadPlan) -> Client:
        return self._clients[plan.number % len(self._clients)]


def _request_for(plan: UploadPlan, body: bytes) -> RequestUploadRequest:
    return RequestUploadRequest(
        request_id=f"request-{plan.number}",
        uid="7f3a",
        session_id=plan.session_id,
        file_path=f"chaos/{plan.number}.bin",
        details=AssetDetails(caption=CAPTION),
        variants=[
            VariantPromise(
                name="original",
                content_type="application/octet-stream",
                size_bytes=len(body),
                sha256=hashlib.sha256(body).digest(),
            )
        ],
    )
