"""An Assetlane server in memory, over real gRPC: the contract as the client needs it to be tested."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests.client.object_store import SIGNATURE, ObjectStore

from assetlane.v1 import (
    asset_service_pb2,
    asset_service_pb2_grpc,
    upload_service_pb2,
    upload_service_pb2_grpc,
)
from assetlane.v1.asset_pb2 import Asset, AssetVariant
from assetlane.v1.upload_pb2 import Failure, PresignedRequest, StatusChange, Upload, UploadStatus, WriteTarget

S = UploadStatus
FINAL = {
    S.UPLOAD_STATUS_COMPLETED,
    S.UPLOAD_STATUS_FAILED,
    S.UPLOAD_STATUS_CANCELLED,
    S.UPLOAD_STATUS_EXPIRED,
}


@dataclass(frozen=True)
class Fault:
    """A status to answer the next call with; `after` is how many watch events to send first.

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


@dataclass
class LaneServer(upload_service_pb2_grpc.UploadServiceServicer, asset_service_pb2_grpc.AssetServiceServicer):
    """Uploads and assets in dictionaries; `faults` holds what to answer the next calls of a method with."""

    store: ObjectStore
    target: str = ""
    uploads: dict[str, Upload] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    calls: list[tuple[str, Message]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    progress: dict[str, upload_service_pb2.ProgressEvent] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    open_watches: int = 0
    watch_opened: asyncio.Event = field(default_factory=asyncio.Event)
    watch_closed: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    fails_uploads: bool = False
    page_size: int = 2
    deleted: set[str] = field(default_factory=set)  # what the server remembers to have deleted
    asset_streams: deque[Sequence[asset_service_pb2.WatchAssetsResponse | Fault]] = field(default_factory=deque)

    @classmethod
    @asynccontextmanager
    async def started(cls, store: ObjectStore) -> AsyncIterator[Self]:
        """Runs a server on a free port of 127.0.0.1."""
        lane = cls(store)
        server = grpc.aio.server()
        upload_service_pb2_grpc.add_UploadServiceServicer_to_server(lane, server)
        asset_service_pb2_grpc.add_AssetServiceServicer_to_server(lane, server)
        lane.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield lane
        finally:
            await server.stop(None)

    async def _enter(self, name: str, request: Message, context: Any) -> Fault | None:
        copy = type(request)()
        copy.CopyFrom(request)
        async with self.changed:
            self.calls.append((name, copy))
            self.changed.notify_all()
        self.metadata.append(dict(context.invocation_metadata()))
        fault = self.faults[name].popleft() if self.faults[name] else None
        if fault is not None and not fault.after:
            await fault.abort(context)
        return fault

    def called(self, name: str) -> list[Any]:
        """Returns the requests of that method so far."""
        return [request for called, request in self.calls if called == name]

    async def move(self, upload: Upload, status: "UploadStatus.ValueType") -> None:
        """Gives the upload its next status and wakes who watches."""
        async with self.changed:
            upload.revision += 1
            upload.status = status
            upload.history.append(StatusChange(revision=upload.revision, status=status))
            self.changed.notify_all()

    def targets(self, upload: Upload) -> list[WriteTarget]:
        """Returns write targets that the store accepts."""
        return [
            WriteTarget(
                variant=promise.name,
                single_put=PresignedRequest(
                    method="PUT",
                    url=f"{self.store.url}/{upload.upload_id}/{promise.name}?X-Amz-Signature={SIGNATURE}",
                    headers={
                        "content-length": str(promise.size_bytes),
                        "content-type": promise.content_type,
                        "if-none-match": "*",
                    },
                ),
            )
            for promise in upload.variants
        ]

    async def RequestUpload(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("RequestUpload", request, context)
        known = self.requests.get(request.request_id)
        if known is None:
            upload = Upload(
                upload_id=f"U{len(self.uploads) + 1:025}",
                request_id=request.request_id,
                uid=request.uid,
                session_id=request.session_id,
                partition=request.partition or f"user/{request.uid}",
                file_path=request.file_path,
                expiration_hours=request.expiration_hours if request.HasField("expiration_hours") else 24,
                details=request.details,
                variants=request.variants,
                notices=request.notices,
            )
            self.uploads[upload.upload_id] = upload
            self.requests[request.request_id] = upload.upload_id
            await self.move(upload, S.UPLOAD_STATUS_PENDING)
            await self.move(upload, S.UPLOAD_STATUS_INITIALIZED)
        else:
            upload = self.uploads[known]
        if self.gate is not None:
            await self.gate.wait()
        targets = self.targets(upload) if upload.status == S.UPLOAD_STATUS_INITIALIZED else []
        return upload_service_pb2.RequestUploadResponse(upload=upload, write_targets=targets)

    async def ReportProgress(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("ReportProgress", request, context)
        sent = sum(request.sent_bytes.values())
        async with self.changed:
            self.progress[request.upload_id] = upload_service_pb2.ProgressEvent(
                upload_id=request.upload_id,
                stage=upload_service_pb2.ProgressStage.PROGRESS_STAGE_UPLOADING,
                sent_bytes=sent,
                size_bytes=sum(promise.size_bytes for promise in self.uploads[request.upload_id].variants),
            )
            self.changed.notify_all()
        return upload_service_pb2.ReportProgressResponse()

    async def CompleteUpload(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("CompleteUpload", request, context)
        upload = await self._upload(request.upload_id, context)
        if upload.status == S.UPLOAD_STATUS_INITIALIZED:
            missing = [p.name for p in upload.variants if f"{upload.upload_id}/{p.name}" not in self.store.sizes]
            if missing:
                violations = [
                    error_details_pb2.PreconditionFailure.Violation(type="VARIANT", subject=name) for name in missing
                ]
                detail = error_details_pb2.PreconditionFailure(violations=violations)
                await Fault(grpc.StatusCode.FAILED_PRECONDITION, "VARIANTS_MISSING", "not there", [detail]).abort(
                    context
                )
            await self.move(upload, S.UPLOAD_STATUS_UPLOADED)
            if self.fails_uploads:
                upload.failure.CopyFrom(Failure(reason="SHA256_MISMATCH", message="other bytes arrived"))
                await self.move(upload, S.UPLOAD_STATUS_FAILED)
            else:
                self.assets[upload.upload_id] = self._asset(upload)
                await self.move(upload, S.UPLOAD_STATUS_COMPLETED)
        elif upload.status not in (S.UPLOAD_STATUS_COMPLETED, S.UPLOAD_STATUS_FAILED):
            name = S.Name(upload.status).removeprefix("UPLOAD_STATUS_")
            await Fault(grpc.StatusCode.FAILED_PRECONDITION, f"UPLOAD_{name}").abort(context)
        asset = self.assets.get(upload.upload_id)
        return upload_service_pb2.CompleteUploadResponse(upload=upload, asset=asset)

    async def CancelUpload(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("CancelUpload", request, context)
        upload = await self._upload(request.upload_id, context)
        if upload.status in FINAL - {S.UPLOAD_STATUS_CANCELLED}:
            name = S.Name(upload.status).removeprefix("UPLOAD_STATUS_")
            await Fault(grpc.StatusCode.FAILED_PRECONDITION, f"UPLOAD_{name}").abort(context)
        if upload.status != S.UPLOAD_STATUS_CANCELLED:
            await self.move(upload, S.UPLOAD_STATUS_CANCELLED)
        return upload_service_pb2.CancelUploadResponse(upload=upload)

    async def GetUpload(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("GetUpload", request, context)
        return upload_service_pb2.GetUploadResponse(upload=await self._upload(request.upload_id, context))

    async def ListUploads(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("ListUploads", request, context)
        uploads = [u for u in reversed(self.uploads.values()) if not request.uid or u.uid == request.uid]
        page, token = self._page(uploads, request.page_token)
        return upload_service_pb2.ListUploadsResponse(uploads=page, next_page_token=token)

    async def WatchUpload(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        fault = await self._enter("WatchUpload", request, context)
        if request.upload_id:
            await self._upload(request.upload_id, context)
        self.open_watches += 1
        self.watch_opened.set()
        sent = 0
        seen = dict(request.after_revisions)
        try:
            while True:
                async with self.changed:
                    await self.changed.wait_for(lambda: self._news(request, seen))
                    events = self._news(request, seen)
                for event in events:
                    if fault is not None and sent == fault.after:
                        await fault.abort(context)
                    yield event
                    sent += 1
                    if event.HasField("progress"):
                        seen[f"progress of {event.progress.upload_id}"] = event.progress.sent_bytes
                        continue
                    upload = event.status.upload
                    seen[upload.upload_id] = upload.revision
                    if request.upload_id and upload.status in FINAL:
                        return
        finally:
            self.open_watches -= 1
            self.watch_closed.set()

    def _news(self, request: Any, seen: dict[str, int]) -> list[Any]:
        events = []
        for upload in self.uploads.values():
            if request.upload_id not in ("", upload.upload_id) or (
                request.session_id and request.session_id != upload.session_id
            ):
                continue
            after = seen.get(upload.upload_id, request.after_revision)
            for change in upload.history:
                if change.revision > after:
                    then = Upload()
                    then.CopyFrom(upload)
                    then.status, then.revision = change.status, change.revision
                    status = upload_service_pb2.StatusEvent(upload=then)
                    events.append(upload_service_pb2.WatchUploadResponse(status=status))
            progress = self.progress.get(upload.upload_id)
            if progress is not None and seen.get(f"progress of {upload.upload_id}", -1) != progress.sent_bytes:
                events.append(upload_service_pb2.WatchUploadResponse(progress=progress))
        return events

    async def GetAsset(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("GetAsset", request, context)
        return asset_service_pb2.GetAssetResponse(asset=await self._known(request.asset_id, context))

    async def ListAssets(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("ListAssets", request, context)
        assets = [asset for asset in self.assets.values() if asset.partition == request.partition]
        page, token = self._page(assets, request.page_token)
        return asset_service_pb2.ListAssetsResponse(assets=page, next_page_token=token)

    async def WatchAssets(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802, D102
        await self._enter("WatchAssets", request, context)
        self.open_watches += 1
        self.watch_opened.set()
        try:
            for event in self.asset_streams.popleft():
                if isinstance(event, Fault):
                    await event.abort(context)
                yield event
            await asyncio.Event().wait()
        finally:
            self.open_watches -= 1
            self.watch_closed.set()

    async def RefreshAsset(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("RefreshAsset", request, context)
        asset = await self._known(request.asset_id, context)
        self._sign(asset)
        return asset_service_pb2.RefreshAssetResponse(asset=asset)

    async def BatchRefreshAssets(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("BatchRefreshAssets", request, context)
        results = []
        for asset_id in request.asset_ids:
            result = asset_service_pb2.RefreshResult(asset_id=asset_id)
            if asset_id in self.assets:
                result.asset.CopyFrom(self.assets[asset_id])
            else:
                result.failure.CopyFrom(Failure(reason="ASSET_NOT_FOUND", message="there is no such asset"))
            results.append(result)
        return asset_service_pb2.BatchRefreshAssetsResponse(results=results)

    async def DeleteAsset(self, request: Any, context: Any) -> Any:  # noqa: N802, D102
        await self._enter("DeleteAsset", request, context)
        if request.asset_id not in self.deleted:
            await self._known(request.asset_id, context)
            del self.assets[request.asset_id]
        return asset_service_pb2.DeleteAssetResponse()

    def _page(self, items: list[Any], token: str) -> tuple[list[Any], str]:
        start = int(token or 0)
        end = start + self.page_size
        return items[start:end], str(end) if end < len(items) else ""

    def _asset(self, upload: Upload) -> Asset:
        asset = Asset(
            asset_id=upload.upload_id,
            uid=upload.uid,
            session_id=upload.session_id,
            partition=upload.partition,
            file_path=upload.file_path,
            expiration_hours=upload.expiration_hours,
            details=upload.details,
            variants=[
                AssetVariant(
                    name=p.name,
                    content_type=p.content_type,
                    size_bytes=p.size_bytes,
                    sha256=p.sha256,
                    width_px=p.width_px,
                    height_px=p.height_px,
                )
                for p in upload.variants
            ],
            notices=upload.notices,
        )
        self._sign(asset)
        return asset

    def _sign(self, asset: Asset) -> None:
        for variant in asset.variants:
            key = f"{asset.asset_id}/{variant.name}"
            variant.read_url = f"{self.store.url}/{key}?X-Amz-Signature={SIGNATURE}"
            variant.download_url = f"{self.store.url}/{key}?response-content-disposition=x&X-Amz-Signature={SIGNATURE}"
        if asset.expiration_hours:
            asset.expire_time.FromDatetime(datetime.now(UTC) + timedelta(hours=asset.expiration_hours))

    async def _upload(self, upload_id: str, context: Any) -> Upload:
        if upload_id not in self.uploads:
            await Fault(grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND", f"no upload {upload_id}").abort(context)
        return self.uploads[upload_id]

    async def _known(self, asset_id: str, context: Any) -> Asset:
        if asset_id not in self.assets:
            await Fault(grpc.StatusCode.NOT_FOUND, "ASSET_NOT_FOUND", f"no asset {asset_id}").abort(context)
        return self.assets[asset_id]
