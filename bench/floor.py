"""The floor: a bare gRPC server that does what cannot be spared, and nothing else.

RequestUpload is the one durable insert; WatchUpload hands the same bytes to every stream, when CancelUpload says
so. Same contract, options, event loop, garbage collection, driver, indexes and write concern as the real server,
and the same document and messages, but all built once, by the server's own code. No validation, no signing, no
interceptor, no change stream. Runs as a process: `python -m bench.floor`, with the server's own settings.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import uvloop
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.write_concern import WriteConcern

from assetlane.v1 import upload_service_pb2 as pb
from assetlane_server.composition.app import new_id, object_store, utc_now
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.model.admission import admit
from assetlane_server.process.serving import collect_garbage_less_often
from assetlane_server.records.documents import Document, upload_document
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.rpc.messages import target_messages, upload_message, upload_request_of
from assetlane_server.rpc.server import server_options
from assetlane_server.uploads.url_signer import UrlSigner
from bench.picture_requests import picture_requests

SERVICE = pb.DESCRIPTOR.services_by_name["UploadService"].full_name


@dataclass(frozen=True, slots=True)
class Templates:
    """What the real server would store and answer."""

    document: Document
    answer: pb.RequestUploadResponse
    first_events: tuple[bytes, bytes]  # of a watch: PENDING, INITIALIZED
    cancelled_event: bytes


class Floor:
    """The three RPCs that benchmarks call."""

    def __init__(self, uploads: Any, templates: Templates) -> None:
        self._uploads = uploads
        self._templates = templates
        self._bell = asyncio.Event()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns what a server takes. Watches answer bytes, as they are."""
        unary = grpc.unary_unary_rpc_method_handler
        methods = {
            "RequestUpload": unary(
                self.request_upload,
                pb.RequestUploadRequest.FromString,
                pb.RequestUploadResponse.SerializeToString,
            ),
            "CancelUpload": unary(self.cancel_upload),
            "WatchUpload": grpc.unary_stream_rpc_method_handler(self.watch_upload),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def request_upload(self, request: pb.RequestUploadRequest, context: Any) -> pb.RequestUploadResponse:
        """Makes a copy of the one document durable, under new ids in every index."""
        document = {
            **self._templates.document,
            "_id": new_id(),
            "uid": request.uid,
            "session_id": request.session_id,
            "request_key": request.request_id,
        }
        await self._uploads.insert_one(document)
        return self._templates.answer

    async def watch_upload(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Sends the first events, then one more whenever the bell rings."""
        for event in self._templates.first_events:
            yield event
        while True:
            await self._bell.wait()
            yield self._templates.cancelled_event

    async def cancel_upload(self, request: bytes, context: Any) -> bytes:
        """Rings the bell of every stream."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()
        return b""


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM."""
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=10)):
        pass  # for the indexes
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, tz_aware=True, timeoutMS=10_000)
    database = client.get_database(settings.mongo_database, write_concern=WriteConcern("majority"))
    floor = Floor(database["uploads"], await templates(settings))
    await serve_bare(settings, floor.handlers())
    client.close()


async def serve_bare(settings: Settings, handlers: grpc.GenericRpcHandler) -> None:
    """Serves with the real server's options until SIGTERM; reports the address on stderr, as the real server does."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = server_options(
        max_message_bytes=settings.max_message_bytes, keepalive_seconds=settings.keepalive_seconds, shares_port=False
    )
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port(settings.listen)
    await server.start()
    collect_garbage_less_often()
    sys.stderr.write(f"serving on 127.0.0.1:{port}\n")
    sys.stderr.flush()
    await stop.wait()
    await server.stop(0)


async def templates(settings: Settings) -> Templates:
    """Builds the document, the answer and the events, by the server's own code."""
    now = utc_now()
    request = upload_request_of(picture_requests(1)[0], "nobody")
    upload = admit(request, settings.terms, new_id(), now).initialized(now, settings.terms.write_url_lifetime)
    async with object_store(settings) as store:
        targets = target_messages(UrlSigner(store).write_targets(upload))
    states = (*upload.after(0), upload.cancelled(now))
    pending, initialized, cancelled = (
        pb.WatchUploadResponse(status=pb.StatusEvent(upload=upload_message(state), write_targets=ways_in))
        for state, ways_in in zip(states, ((), targets, ()), strict=True)
    )
    return Templates(
        document=upload_document(upload),
        answer=pb.RequestUploadResponse(upload=upload_message(upload), write_targets=targets),
        first_events=(pending.SerializeToString(), initialized.SerializeToString()),
        cancelled_event=cancelled.SerializeToString(),
    )


if __name__ == "__main__":
    uvloop.run(serve(settings_from()))
