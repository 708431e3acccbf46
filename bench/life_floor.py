"""The floor of a whole upload: a bare gRPC server that makes one insert, one update and the same reads of the store.

RequestUpload inserts a copy of one document. CompleteUpload looks at every object (a HEAD and a ranged GET of the
first bytes, by aiohttp, all at once) and makes one update. Same contract, options, event loop, driver, indexes and
write concern as the real server. No validation, no interceptor, no change stream, no comparison of what it read.
Where the settings have a quota it claims before the insert and releases after the update, by the same two conditional
updates of one account that the real server makes, and looks at no outcome.
The objects lie at `floor/<upload id>/<variant>`: the load generator signs and sends them itself.
Runs as a process: `python -m bench.life_floor`, with the server's own settings.
"""

import asyncio
import signal
import sys
from datetime import timedelta
from typing import Any, Final

import aiohttp
import grpc
import uvloop
import yarl
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.write_concern import WriteConcern

from assetlane.v1 import upload_service_pb2 as pb
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane_server.access.quotas import quota_of
from assetlane_server.composition.app import new_id, object_store, utc_now
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.model.quotas import QuotaLimit
from assetlane_server.objects.s3.store import S3ObjectStore
from assetlane_server.process.serving import collect_garbage_less_often
from assetlane_server.records.documents import Document
from assetlane_server.rpc.server import server_options
from bench.floor import SERVICE, Templates, templates

FIRST_BYTES: Final = "bytes=0-4095"
URL_LIFETIME: Final = timedelta(minutes=5)
CLAIM_LEASE: Final = timedelta(minutes=2)


def floor_key(upload_id: str, variant: str) -> str:
    """Returns where the floor looks for an object."""
    return f"floor/{upload_id}/{variant}"


class Floor:
    """The two RPCs of an upload's life."""

    def __init__(
        self, database: Any, settings: Settings, templates: Templates, store: S3ObjectStore, web: aiohttp.ClientSession
    ) -> None:
        self._uploads = database["uploads"]
        self._accounts = database["quotas"]
        self._quota = quota_of(settings.quota_uid_uploads, settings.quota_uid_bytes)
        self._templates = templates
        self._store = store
        self._web = web
        self._variants: dict[str, list[str]] = {}
        self._claims: dict[str, tuple[str, int]] = {}  # the account of an upload and its bytes, where there is a quota

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns what a server takes."""
        unary = grpc.unary_unary_rpc_method_handler
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "RequestUpload": unary(
                self.request_upload,
                pb.RequestUploadRequest.FromString,
                pb.RequestUploadResponse.SerializeToString,
            ),
            "CompleteUpload": unary(
                self.complete_upload,
                pb.CompleteUploadRequest.FromString,
                pb.CompleteUploadResponse.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def request_upload(self, request: pb.RequestUploadRequest, context: Any) -> pb.RequestUploadResponse:
        """Makes a copy of the one document durable."""
        upload_id = new_id()
        document = {
            **self._templates.document,
            "_id": upload_id,
            "uid": request.uid,
            "session_id": request.session_id,
            "request_id": request.request_id,
        }
        if self._quota is not None:
            size_bytes = sum(variant.size_bytes for variant in request.variants)
            await self._claim(self._quota, f"uid:{request.uid}", upload_id, size_bytes)
        await self._uploads.insert_one(document)
        self._variants[upload_id] = [variant.name for variant in request.variants]
        answer = pb.RequestUploadResponse()
        answer.CopyFrom(self._templates.answer)
        answer.upload.upload_id = upload_id
        return answer

    async def complete_upload(self, request: pb.CompleteUploadRequest, context: Any) -> pb.CompleteUploadResponse:
        """Reads what the real server reads, then makes one update that adds an asset of the same size."""
        upload_id = request.upload_id
        keys = [floor_key(upload_id, variant) for variant in self._variants.pop(upload_id)]
        await asyncio.gather(*(self._head(key) for key in keys), *(self._first_bytes(key) for key in keys))
        await self._uploads.update_one(
            {"_id": upload_id, "revision": self._templates.document["revision"]},
            {
                "$set": {"status": "COMPLETED", "revision": 4, "asset": self._templates.document["variants"]},
                "$push": {"history": {"$each": self._templates.document["history"]}},
            },
        )
        if (claim := self._claims.pop(upload_id, None)) is not None:
            await self._release(*claim, upload_id)
        answer = pb.CompleteUploadResponse(upload=self._templates.answer.upload)
        answer.upload.upload_id = upload_id
        answer.upload.status = UploadStatus.UPLOAD_STATUS_COMPLETED
        return answer

    async def _claim(self, quota: QuotaLimit, account: str, upload_id: str, size_bytes: int) -> None:
        place, now = f"claims.{upload_id}", utc_now()
        has_room: Document = {"_id": account, place: {"$exists": False}, "open_uploads": {"$lt": quota.max_uploads}}
        if quota.max_bytes is not None:
            has_room["open_bytes"] = {"$lte": quota.max_bytes - size_bytes}
        addition = {
            "$inc": {"open_uploads": 1, "open_bytes": size_bytes},
            "$set": {place: {"size_bytes": size_bytes, "upload_ids": [upload_id], "time": now}},
            "$min": {"sweep_time": now + CLAIM_LEASE},
        }
        await self._accounts.update_one(has_room, addition, upsert=True)
        self._claims[upload_id] = account, size_bytes

    async def _release(self, account: str, size_bytes: int, upload_id: str) -> None:
        place = f"claims.{upload_id}"
        await self._accounts.update_one(
            {"_id": account, place: {"$exists": True}},
            {"$inc": {"open_uploads": -1, "open_bytes": -size_bytes}, "$unset": {place: ""}},
        )

    async def _head(self, key: str) -> None:
        headers = {"x-amz-checksum-mode": "ENABLED"}
        url = self._store.signer.presign("HEAD", key, utc_now(), URL_LIFETIME, headers).url
        async with self._web.head(yarl.URL(url, encoded=True), headers=headers) as response:
            assert response.status == 200, response.status

    async def _first_bytes(self, key: str) -> None:
        url = self._store.signer.presign("GET", key, utc_now(), URL_LIFETIME, {}).url
        async with self._web.get(yarl.URL(url, encoded=True), headers={"range": FIRST_BYTES}) as response:
            assert response.status == 206, response.status
            await response.read()


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM; reports the port on stderr, as the real server does."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    uri = settings.mongo_uri.get_secret_value()
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, tz_aware=True, timeoutMS=10_000)
    database = client.get_database(settings.mongo_database, write_concern=WriteConcern("majority"))
    await database["uploads"].create_index([("uid", 1), ("request_id", 1)], unique=True)
    for field in ("session_id", "sweep_time"):
        await database["uploads"].create_index([(field, 1)])
    await database["quotas"].create_index([("sweep_time", 1)])
    connector = aiohttp.TCPConnector(limit=settings.s3_pool_size)
    async with object_store(settings) as store, aiohttp.ClientSession(connector=connector) as web:
        floor = Floor(database, settings, await templates(settings), store.seen_from_here(), web)
        options = server_options(
            max_message_bytes=settings.max_message_bytes,
            keepalive_seconds=settings.keepalive_seconds,
            shares_port=False,
        )
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((floor.handlers(),))
        port = server.add_insecure_port(settings.listen)
        await server.start()
        collect_garbage_less_often()
        sys.stderr.write(f"serving on 127.0.0.1:{port}\n")
        sys.stderr.flush()
        await stop.wait()
        await server.stop(0)
    client.close()


if __name__ == "__main__":
    uvloop.run(serve(settings_from()))
