"""Assetlane's own server on the ledger and the store in memory, over real gRPC, with faults to answer calls with."""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests.client.object_store import ObjectStore
from tests.memory.ledger import MemoryLedger
from tests.memory.server import NoCutter
from tests.records.hubs import running

from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2_grpc import add_AssetServiceServicer_to_server
from assetlane.v1.upload_pb2 import Upload
from assetlane.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from assetlane_server.access.identity import Anonymous
from assetlane_server.composition.use_cases import use_cases
from assetlane_server.images.workers import can_cut
from assetlane_server.model import upload as model
from assetlane_server.model.admission import Terms
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.objects.s3.store import put_headers
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.interceptor import RefusalInterceptor
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.messages import asset_message, upload_message
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.metrics import Metrics
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.asset_watches import AssetWatches
from assetlane_server.uploads.scoped_tokens import AccessTokens
from assetlane_server.uploads.server_cuts import ServerCuts
from assetlane_server.uploads.status_changes import StatusChanges
from assetlane_server.uploads.upload_watches import UploadWatches

HEARTBEAT = timedelta(seconds=30)
PROGRESS_INTERVAL = timedelta(0)  # each report is sent


@dataclass(frozen=True)
class Fault:
    """A status to answer the next call with; `after` is how many events of a watch to send first.

    With `is_bare` it has no details, as what gRPC itself refuses.
    """

    code: grpc.StatusCode
    reason: str = "STORE_UNAVAILABLE"
    message: str = "it does not work"
    details: Sequence[Message] = ()
    retry_after: float | None = None
    after: int = 0
    is_bare: bool = False

    async def abort(self, context: Any) -> NoReturn:
        """Ends the call with this status and its details."""
        if self.is_bare:
            await context.abort(self.code, self.message)
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        details = [error_details_pb2.ErrorInfo(domain="assetlane", reason=self.reason), *self.details]
        if self.retry_after is not None:
            delay = Duration()
            delay.FromTimedelta(timedelta(seconds=self.retry_after))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        for detail in details:
            status.details.add().Pack(detail)
        await context.abort(self.code, self.message, (("grpc-status-details-bin", status.SerializeToString()),))
        raise AssertionError("abort raises")


class ServerUnderTest:
    """The server's use cases and servicers, nothing of them replaced, and what a test sees and does around them.

    `faults` holds what to answer the next calls of a method with, and `asset_streams` what the next watches of a
    partition send in the place of what is in the ledger. While `gate` is closed no RequestUpload returns.
    """

    def __init__(self, store: ObjectStore, hub: ChangeHub, ledger: MemoryLedger) -> None:
        self.store = store
        self.target = ""
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.asset_streams: deque[Sequence[Message | Fault]] = deque()
        self.calls: list[tuple[str, Message]] = []
        self.metadata: list[dict[str, Any]] = []
        self.changed = asyncio.Condition()
        self.gate: asyncio.Event | None = None
        self.open_watches = 0
        self.watch_opened = asyncio.Event()
        self.watch_closed = asyncio.Event()
        self.page_size = 2
        self.ledger = ledger
        self._ids = itertools.count(1)
        signer = TokenSigner(b"k" * 32)
        self._cases = use_cases(
            records=ledger,
            changes=StatusChanges(ledger, None),
            store=store.behind,
            server_cuts=ServerCuts(cutter=NoCutter(), store=store.behind, records=ledger, at_once=1, now=_now),
            terms=Terms(can_cut=can_cut),
            signer=signer,
            new_id=self._new_id,
            now=_now,
            progress_interval=PROGRESS_INTERVAL,
        )
        watches = UploadWatches(uploads=ledger, hub=hub, heartbeat=HEARTBEAT)
        asset_watches = AssetWatches(assets=ledger, hub=hub, signer=signer, heartbeat=HEARTBEAT)
        cases = self._cases
        tokens = AccessTokens(ledger, None, _now)
        self._uploads = UploadServicer(
            cases.requests, cases.completions, cases.uploads, cases.parts, watches, cases.urls, tokens
        )
        self._assets = AssetServicer(cases.assets, asset_watches, cases.urls)

    @classmethod
    @asynccontextmanager
    async def started(cls, store: ObjectStore) -> AsyncIterator[Self]:
        """Runs a server on a free port of 127.0.0.1."""
        ledger = MemoryLedger()
        async with running(ledger) as hub:
            tested = cls(store, hub, ledger)
            limits = Limits(max_calls=1000, max_watches=1000, max_watches_per_uid=1000, max_message_bytes=2**20)
            guard = RefusalInterceptor(Anonymous(), limits, Instruments(Metrics(), None))
            server = grpc.aio.server(interceptors=[_Faults(tested), guard])
            add_UploadServiceServicer_to_server(tested._uploads, server)
            add_AssetServiceServicer_to_server(tested._assets, server)
            tested.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            try:
                yield tested
            finally:
                await server.stop(None)
                await tested._cases.finish()

    @property
    def uploads(self) -> dict[str, Upload]:
        """Every upload as a caller sees it, the oldest first."""
        return {upload.upload_id: upload_message(upload) for upload in self._records()}

    @property
    def assets(self) -> dict[str, Asset]:
        """Every asset that is not deleted, as a caller sees it, the oldest first."""
        assets = [upload.readable_asset for upload in self._records()]
        return {
            asset.asset_id: asset_message(asset, self._cases.urls.read_urls(asset))
            for asset in assets
            if asset is not None
        }

    def called(self, name: str) -> list[Any]:
        """Returns the requests of that method so far."""
        return [request for called, request in self.calls if called == name]

    def put(self, upload_id: str, body: bytes, name: str = "original") -> None:
        """Stores the bytes of a variant, as its write URL would."""
        (variant,) = (one for one in self.ledger.uploads[upload_id].variants if one.name == name)
        self.store.place(variant.key, body, put_headers(variant))

    async def complete(self, upload_id: str) -> None:
        """Completes an upload whose bytes are there: two more revisions."""
        await self._cases.completions.complete_upload(upload_id, UNRESTRICTED)

    async def expire(self, upload_id: str) -> None:
        """Ends an upload that nobody completed, as the sweeper does after its deadline."""
        upload = self.ledger.uploads[upload_id]
        assert await self.ledger.advance_upload(upload.expired(_now()))

    def set_age(self, upload_id: str, age: timedelta, expires_in: timedelta | None = None) -> None:
        """Makes an upload, and its asset, that old; the asset's read URLs then live for so long."""
        upload = self.ledger.uploads[upload_id]
        asset = upload.asset
        if asset is not None:
            asset = replace(asset, create_time=_now() - age)
            if expires_in is not None and not asset.is_public:
                asset = replace(asset, refresh_time=_now() + expires_in - asset.read_url_lifetime)
        history = tuple(replace(change, time=_now() - age) for change in upload.history)
        self.ledger.uploads[upload_id] = replace(upload, create_time=_now() - age, history=history, asset=asset)

    def copy(self, upload_id: str, times: int) -> None:
        """Puts copies of an upload and its asset into the ledger."""
        upload = self.ledger.uploads[upload_id]
        assert upload.asset is not None
        for _ in range(times):
            new_id = self._new_id()
            asset = replace(upload.asset, asset_id=new_id)
            self.ledger.uploads[new_id] = replace(upload, upload_id=new_id, request_id="", asset=asset)

    def clear(self) -> None:
        """Forgets every upload and every object; the ids begin again."""
        self.ledger.uploads.clear()
        self.store.clear()
        self._ids = itertools.count(1)

    def _records(self) -> Iterable[model.Upload]:
        return list(self.ledger.uploads.values())

    def _new_id(self) -> str:
        return f"01k{next(self._ids):023}"


class _Faults(grpc.aio.ServerInterceptor):
    """Records each call, and answers with a fault where one waits: outermost, so that nothing of ours notices."""

    def __init__(self, server: ServerUnderTest) -> None:
        self._server = server

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the handler with faults around it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method.rpartition("/")[2]
        read, write = handler.request_deserializer, handler.response_serializer
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._watch(name, handler.stream_stream), read, write)
        return grpc.stream_unary_rpc_method_handler(self._call(name, handler.stream_unary), read, write)

    def _call(self, name: str, handle: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        server = self._server

        async def call(requests: Any, context: Any) -> Any:
            seen = _SeenCall(server, name, context)
            if fault := self._next_fault(name):
                await seen.read()
                await fault.abort(context)
            response = await handle(requests, seen)
            async with server.changed:
                server.changed.notify_all()
            if name == "RequestUpload" and server.gate is not None:
                await server.gate.wait()
            return response

        return call

    def _watch(self, name: str, handle: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        server = self._server

        async def watch(requests: Any, context: Any) -> None:
            fault = self._next_fault(name)
            seen = _SeenCall(server, name, context, fault)
            if fault is not None and not fault.after:
                await seen.read()
                await fault.abort(context)
            server.open_watches += 1
            try:
                if name == "WatchAssets" and server.asset_streams:
                    await seen.read()
                    await _send(server.asset_streams.popleft(), context)
                else:
                    await handle(requests, seen)
            finally:
                server.open_watches -= 1
                server.watch_closed.set()

        return watch

    def _next_fault(self, name: str) -> Fault | None:
        waiting = self._server.faults[name]
        return waiting.popleft() if waiting else None


class _SeenCall:
    """gRPC's context of a call, which records the request when it is read, and breaks a watch off where a fault is."""

    def __init__(self, server: ServerUnderTest, name: str, context: Any, fault: Fault | None = None) -> None:
        self._server = server
        self._name = name
        self._context = context
        self._fault = fault
        self._written = 0
        server.metadata.append(dict(context.invocation_metadata()))

    async def read(self) -> Any:
        """Reads the request."""
        request = await self._context.read()
        if isinstance(request, Message):
            copy = type(request)()
            copy.CopyFrom(request)
            if getattr(request, "page_size", None) == 0:
                request.page_size = self._server.page_size  # type: ignore[attr-defined]  # it has one
            async with self._server.changed:
                self._server.calls.append((self._name, copy))
                self._server.changed.notify_all()
            if self._name.startswith("Watch"):
                self._server.watch_opened.set()
        return request

    async def write(self, event: Message) -> None:
        """Sends an event of a watch."""
        if self._fault is not None and self._written == self._fault.after:
            await self._fault.abort(self._context)
        await self._context.write(event)
        self._written += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _send(events: Sequence[Message | Fault], context: Any) -> None:
    for event in events:
        if isinstance(event, Fault):
            await event.abort(context)
        await context.write(event)
    await asyncio.Event().wait()


def _now() -> datetime:
    return datetime.now(UTC)
