"""The floor: a bare gRPC server that does, for each RequestUpload, the one durable insert that cannot be spared.

Same contract, options, event loop, driver, indexes and write concern as the real server, and the same document
and answer, but both built once, by the server's own code. No validation, no signing, no interceptor, no change
stream. Runs as a process: `python -m bench.floor`, with the server's own settings.
"""

import asyncio
import signal
import sys
from datetime import timedelta
from typing import Any

import uvloop
from grpc import aio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.write_concern import WriteConcern

from assetlane.v1 import upload_service_pb2 as pb
from assetlane.v1.upload_service_pb2_grpc import UploadServiceServicer, add_UploadServiceServicer_to_server
from assetlane_server.app import new_id, object_store, utc_now
from assetlane_server.config import Settings, settings_from
from assetlane_server.records.documents import Document, upload_document
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.rpc.messages import target_messages, upload_message, upload_request_of
from assetlane_server.rpc.server import server_options
from assetlane_server.uploads.admission import admit
from assetlane_server.uploads.lanes import Lanes
from bench.wishes import wishes


class FloorServicer(UploadServiceServicer):
    """Inserts and answers."""

    def __init__(self, uploads: Any, document: Document, answer: pb.RequestUploadResponse) -> None:
        self._uploads = uploads
        self._document = document
        self._answer = answer

    async def RequestUpload(self, request: pb.RequestUploadRequest, context: Any) -> pb.RequestUploadResponse:  # noqa: N802 - gRPC's name
        """Makes a copy of the one document durable, under new ids in every index."""
        document = {
            **self._document,
            "_id": new_id(),
            "uid": request.uid,
            "session_id": request.session_id,
            "request_id": request.request_id,
        }
        await self._uploads.insert_one(document)
        return self._answer


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM; tells where on stderr, as the real server does."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=10)):
        pass  # for the indexes
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, tz_aware=True, timeoutMS=10_000)
    database = client.get_database(settings.mongo_database, write_concern=WriteConcern("majority"))
    document, answer = await _templates(settings)
    server = aio.server(
        options=server_options(
            max_message_bytes=settings.max_message_bytes,
            keepalive_seconds=settings.keepalive_seconds,
            shares_port=False,
        )
    )
    servicer = FloorServicer(database["uploads"], document, answer)  # type: ignore[abstract]  # all else: UNIMPLEMENTED
    add_UploadServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(settings.listen)
    await server.start()
    sys.stderr.write(f"serving on 127.0.0.1:{port}\n")
    sys.stderr.flush()
    await stop.wait()
    await server.stop(0)
    client.close()


async def _templates(settings: Settings) -> tuple[Document, pb.RequestUploadResponse]:
    """Returns what the real server would store and answer."""
    now = utc_now()
    request = upload_request_of(wishes(1)[0], "nobody")
    upload = admit(request, settings.terms, new_id(), now).initialized(now, settings.terms.write_url_lifetime)
    async with object_store(settings) as store:
        targets = Lanes(store).write_targets(upload)
    answer = pb.RequestUploadResponse(upload=upload_message(upload), write_targets=target_messages(targets))
    return upload_document(upload), answer


if __name__ == "__main__":
    uvloop.run(serve(settings_from()))
