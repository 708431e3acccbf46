"""A second floor for watches: a bare gRPC server that does the work that a watch needs, and nothing else.

WatchUpload reads the upload, once for all watches that begin at the same time, builds PENDING and INITIALIZED from the
plain values of its document, and signs a URL per variant. Same contract, options, event loop, garbage collection,
driver and signer as the real server, and it reads the real server's uploads. No interceptor, no log, no metrics, no
check of who may see what, no model, no change stream: nothing is ever sent after the first events.
Runs as a process: `python -m bench.reading_floor`, with the server's own settings and its database.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc
import uvloop
from motor.motor_asyncio import AsyncIOMotorClient

from assetlane.v1 import upload_service_pb2 as pb
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.objects.s3.sigv4 import Credentials, Presigner
from bench.floor import SERVICE, serve_bare

READ_AT_ONCE = 200  # as the real server does


class ReadingFloor:
    """WatchUpload, of single-PUT uploads that are INITIALIZED."""

    def __init__(self, uploads: Any, presigner: Presigner, credentials: Credentials) -> None:
        self._uploads = uploads
        self._presigner = presigner
        self._credentials = credentials
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._is_asked = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns what a server takes."""
        watch = grpc.unary_stream_rpc_method_handler(
            self.watch_upload, pb.WatchUploadRequest.FromString, pb.WatchUploadResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"WatchUpload": watch})

    async def run(self) -> None:
        """Reads for all that ask, until it is cancelled."""
        while True:
            await self._is_asked.wait()
            ids = list(self._asked)[:READ_AT_ONCE]
            asked = {upload_id: self._asked.pop(upload_id) for upload_id in ids}
            if not self._asked:
                self._is_asked.clear()
            for document in await self._uploads.find({"_id": {"$in": ids}}).to_list(None):
                asked[document["_id"]].set_result(document)

    async def watch_upload(self, request: pb.WatchUploadRequest, context: Any) -> AsyncIterator[pb.WatchUploadResponse]:
        """Sends the first events, then nothing."""
        if request.upload_id not in self._asked:
            self._asked[request.upload_id] = asyncio.get_running_loop().create_future()
            self._is_asked.set()
        document = await self._asked[request.upload_id]
        yield self._event(document, 1)
        yield self._event(document, 2)
        del document
        await asyncio.get_running_loop().create_future()

    def _event(self, document: dict[str, Any], revision: int) -> pb.WatchUploadResponse:
        event = pb.WatchUploadResponse()
        upload = event.status.upload
        upload.upload_id = document["_id"]
        upload.request_id = document["request_key"]
        for name in ("uid", "session_id", "partition", "asset_partition", "file_path", "expiration_hours"):
            setattr(upload, name, document[name])
        details = document["details"]
        upload.details.title, upload.details.caption = details["title"], details["caption"]
        upload.details.color = details["color"]
        upload.details.duration.FromMicroseconds(details["duration_us"])
        upload.details.extra.update(details["extra"])
        for variant in document["variants"]:
            upload.variants.add(
                name=variant["name"],
                content_type=variant["content_type"],
                size_bytes=variant["size_bytes"],
                sha256=variant["sha256"],
                width_px=variant["width_px"],
                height_px=variant["height_px"],
            )
        for change in document["history"][:revision]:
            status = UploadStatus.Value(f"UPLOAD_STATUS_{change['status']}")
            upload.history.add(revision=change["revision"], status=status).time.FromDatetime(change["time"])
        upload.revision, upload.status = revision, upload.history[-1].status
        upload.create_time.FromDatetime(document["create_time"])
        upload.update_time.CopyFrom(upload.history[-1].time)
        upload.expire_time.FromDatetime(document["expire_time"])
        if revision == document["revision"]:
            signed_at: datetime = document["targets_signed_at"]
            expire_time: datetime = document["targets_expire_time"]
            for variant in document["variants"]:
                target = event.status.write_targets.add(variant=variant["name"])
                saved_as = "" if variant["name"] == "original" else f"-{variant['name']}"
                headers = {
                    "content-type": variant["content_type"],
                    "content-length": str(variant["size_bytes"]),
                    "content-disposition": f'inline; filename="IMG_20260719_183042{saved_as}.jpg"',
                    "cache-control": "private",
                    "if-none-match": "*",
                    "x-amz-checksum-sha256": b64encode(variant["sha256"]).decode(),
                }
                put = target.single_put
                put.method = "PUT"
                put.url = self._presigner.presign(
                    "PUT", variant["key"], self._credentials, signed_at, expire_time - signed_at, headers
                )
                put.headers.update(headers)
                put.expire_time.FromDatetime(expire_time.replace(microsecond=0))
        return event


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        settings.mongo_uri.get_secret_value(), tz_aware=True, timeoutMS=10_000
    )
    presigner = Presigner(settings.s3_endpoint or "", settings.s3_bucket, settings.s3_region)
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    credentials = Credentials(key_id.get_secret_value() if key_id else "", secret.get_secret_value() if secret else "")
    floor = ReadingFloor(client[settings.mongo_database]["uploads"], presigner, credentials)
    reading = asyncio.create_task(floor.run())
    await serve_bare(settings, floor.handlers())
    reading.cancel()
    client.close()


if __name__ == "__main__":
    uvloop.run(serve(settings_from()))
