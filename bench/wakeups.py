"""How long a durable status change takes to its watcher, beside a bare change stream that sees the same write."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Self

import grpc
from motor.motor_asyncio import AsyncIOMotorClient

from assetlane.v1.upload_service_pb2 import WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.composition.app import utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.records.documents import Document
from assetlane_server.records.mongo import MongoRecords
from bench.picture_requests import picture_requests

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

SAMPLE_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wakeup:
    """When one change was seen, in ms after its write was acknowledged: below 0 is before."""

    watch_ms: float
    bare_ms: float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The middle and the end of what was seen, in ms."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: list[float]) -> Self:
        """Returns those of at least two values."""
        return cls(median(values), quantiles(values, n=100)[98])


class WakeupSampler:
    """Changes one watched upload after the other and looks when the change arrives."""

    def __init__(self, stub: "UploadServiceAsyncStub", records: MongoRecords, stream: Any) -> None:
        self._stub = stub
        self._records = records
        self._stream = stream
        self._seen: dict[str, asyncio.Future[float]] = {}

    @classmethod
    @asynccontextmanager
    async def on(cls, target: str, settings: Settings) -> AsyncIterator[Self]:
        """Opens a channel, a ledger and a bare change stream on the server's database."""
        uri = settings.mongo_uri.get_secret_value()
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri)
        uploads = client[settings.mongo_database]["uploads"]
        async with (
            grpc.aio.insecure_channel(target) as channel,
            MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=10)) as records,
            uploads.watch([{"$match": {"operationType": "update"}}, {"$project": {"documentKey": 1}}]) as stream,
        ):
            sampler = cls(UploadServiceStub(channel), records, stream)
            following = asyncio.create_task(sampler._follow())
            try:
                yield sampler
            finally:
                following.cancel()
                await asyncio.wait([following])
        client.close()

    async def sample(self) -> Wakeup:
        """Cancels an upload as CancelUpload does, but from here: so the moment of the write is known."""
        async with asyncio.timeout(SAMPLE_LIMIT_S):
            upload_id = (await self._stub.RequestUpload(picture_requests(1)[0])).upload.upload_id
            watch = self._stub.WatchUpload(WatchUploadRequest(upload_id=upload_id))
            for _ in ("PENDING", "INITIALIZED"):
                await watch.read()
            upload = await self._records.find_upload(upload_id)
            assert upload is not None
            bare = self._seen[upload_id] = asyncio.get_running_loop().create_future()
            watched = asyncio.create_task(_next_event(watch))
            is_written = await self._records.advance_upload(upload.cancelled(utc_now()))
            written_at = time.perf_counter()
            assert is_written
            watched_at, bare_at = await asyncio.gather(watched, bare)
        return Wakeup((watched_at - written_at) * 1e3, (bare_at - written_at) * 1e3)

    async def _follow(self) -> None:
        async for event in self._stream:
            seen_at = time.perf_counter()
            if future := self._seen.pop(event["documentKey"]["_id"], None):
                future.set_result(seen_at)


async def _next_event(watch: Any) -> float:
    while True:
        event = await watch.read()
        if event is grpc.aio.EOF or event.HasField("status"):
            return time.perf_counter()
