"""The client: one method for each thing a user wants of Assetlane."""

import os
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from assetlane import calls, retrieval, transfer, watching
from assetlane.calls import Token
from assetlane.cuts import CutSize
from assetlane.delivery import Delivery
from assetlane.errors import NotFound, UploadFailed
from assetlane.parcel import ORIGINAL, packed
from assetlane.progress import OnProgress
from assetlane.v1.asset_pb2 import Asset, AssetDetails, AssetVariant
from assetlane.v1.asset_service_pb2 import (
    BatchRefreshAssetsRequest,
    DeleteAssetRequest,
    GetAssetRequest,
    ListAssetsRequest,
    RefreshAssetRequest,
    RefreshResult,
)
from assetlane.v1.asset_service_pb2_grpc import AssetServiceStub
from assetlane.v1.upload_pb2 import Upload, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    GetUploadRequest,
    ListUploadsRequest,
    RequestUploadRequest,
    RequestUploadResponse,
    StatusEvent,
    WatchUploadRequest,
    WatchUploadResponse,
)
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

if TYPE_CHECKING:
    from assetlane.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

DEFAULT_TARGET = "127.0.0.1:50151"
CALL_TIMEOUT = 30.0
COMPLETE_TIMEOUT = 120.0  # the server looks at every object, and may still be making cuts
BATCH = 100  # what BatchRefreshAssets takes
ABOUT_TO_EXPIRE = timedelta(minutes=1)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Client:
    """A connection to an Assetlane server, for use as `async with Client(target) as lane:`.

    `uid` and `session_id` go with every upload that does not name its own; the session is a random one
    unless given. `token` is sent as a bearer token with each call; without `credentials` (TLS) it travels in
    the clear. Calls have `call_timeout` seconds, in which they are repeated while the server is unavailable.
    Methods return the messages of the contract (`assetlane.v1`) and raise `AssetlaneError`.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        uid: str = "",
        session_id: str | None = None,
        token: Token | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        call_timeout: float = CALL_TIMEOUT,
        complete_timeout: float = COMPLETE_TIMEOUT,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.target = target
        self.uid = uid
        self.session_id = uuid.uuid4().hex if session_id is None else session_id
        self._token = token
        self._credentials = credentials
        self._call_timeout = call_timeout
        self._complete_timeout = complete_timeout
        self._now = now
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        unary = await self._resources.enter_async_context(
            calls.open_channel(self.target, self._credentials, purpose="calls")
        )
        streams = await self._resources.enter_async_context(
            calls.open_channel(self.target, self._credentials, purpose="watches")
        )
        self._session = await self._resources.enter_async_context(transfer.open_session())
        self._uploads: UploadServiceAsyncStub = UploadServiceStub(unary)
        self._assets: AssetServiceAsyncStub = AssetServiceStub(unary)
        self._watches: UploadServiceAsyncStub = UploadServiceStub(streams)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; open watches end with Unavailable (CLIENT_CLOSED)."""
        await self._resources.aclose()

    # Uploads

    async def upload(
        self,
        origin: str | os.PathLike[str] | bytes,
        *,
        file_path: str | None = None,
        partition: str = "",
        asset_partition: str = "",
        expiration_hours: float | None = None,
        title: str = "",
        caption: str = "",
        color: str = "",
        duration: timedelta | None = None,
        extra: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        cuts: bool | Sequence[CutSize] = True,
        request_id: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Asset:
        """Brings a file (a path) or bytes in, and returns the asset.

        Hashes it, makes the cuts of a picture, stores everything and waits for the server's proof.
        `file_path` defaults to the file's name and is required for bytes. `content_type` is guessed from the
        name, and for a picture seen from its content. `cuts`: the standard ones, none, or these sizes.
        `color` defaults to a picture's average. `expiration_hours`: None is the server's default, 0 public.

        With a `request_id` of your own the same call can be repeated after a crash or lost connection and
        goes on where it stopped; without one, an upload that does not succeed is cancelled.

        Raises UploadFailed with the reason when what arrived is not what was promised; ImageRefused,
        InvalidArgument, TransferFailed and other `AssetlaneError`s; OSError when the file cannot be read.
        """
        if isinstance(origin, bytes):
            if file_path is None:
                raise TypeError("bytes have no name: tell file_path")
            content: Path | bytes = origin
        else:
            content = Path(origin)
            file_path = content.name if file_path is None else file_path
        parcel = await packed(content, file_path, content_type, cuts)
        details = AssetDetails(title=title, caption=caption, color=color or parcel.color)
        if duration is not None:
            details.duration.FromTimedelta(duration)
        if extra is not None:
            details.extra.CopyFrom(_struct(extra))
        request = RequestUploadRequest(
            request_id=uuid.uuid4().hex if request_id is None else request_id,
            partition=partition,
            asset_partition=asset_partition,
            file_path=file_path,
            expiration_hours=expiration_hours,
            details=details,
            variants=parcel.promises,
        )
        delivery = Delivery(
            self, self._session, request, parcel, on_progress=on_progress, resumable=request_id is not None
        )
        return await delivery.run()

    async def request_upload(self, request: RequestUploadRequest) -> RequestUploadResponse:
        """Asks for an upload of your own making: returns it with its write targets.

        An empty `uid` or `session_id` is filled with the client's.
        """
        filled = RequestUploadRequest()
        filled.CopyFrom(request)
        filled.uid = request.uid or self.uid
        filled.session_id = request.session_id or self.session_id
        return await self._call(self._uploads.RequestUpload, filled)

    async def complete_upload(self, upload_id: str) -> Asset:
        """Says that the bytes are in the store, and returns the asset.

        Raises UploadFailed when they are not what was promised, VariantsMissing when some are not there.
        """
        request = CompleteUploadRequest(upload_id=upload_id)
        reply = await self._call(self._uploads.CompleteUpload, request, timeout=self._complete_timeout)
        if reply.upload.status == UploadStatus.UPLOAD_STATUS_FAILED:
            raise UploadFailed(reply.upload)
        return reply.asset

    async def cancel_upload(self, upload_id: str) -> Upload:
        """Gives an upload up. Raises PreconditionFailed when it is too late."""
        return (await self._call(self._uploads.CancelUpload, CancelUploadRequest(upload_id=upload_id))).upload

    async def get_upload(self, upload_id: str) -> Upload:
        """Returns an upload with its history. Raises NotFound."""
        return (await self._call(self._uploads.GetUpload, GetUploadRequest(upload_id=upload_id))).upload

    async def list_uploads(
        self,
        *,
        uid: str | None = None,
        session_id: str = "",
        statuses: Iterable["UploadStatus.ValueType"] = (),
        page_size: int = 0,
    ) -> AsyncGenerator[Upload, None]:
        """Yields uploads, newest first, page after page. `uid` None: the client's; empty: everybody's."""
        request = ListUploadsRequest(
            uid=self.uid if uid is None else uid,
            session_id=session_id,
            statuses=statuses,
            page_size=page_size,
        )
        while True:
            page = await self._call(self._uploads.ListUploads, request)
            for upload in page.uploads:
                yield upload
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch_upload(self, upload_id: str, after_revision: int = 0) -> AsyncGenerator[StatusEvent, None]:
        """Yields every status change after that revision, once and in order, to the final one.

        Goes on by itself through lost connections. Raises NotFound, OutOfRange and what else is permanent.
        """
        return watching.watch(self._open_watch, watching.UploadCursor(upload_id, after_revision))

    def watch_session(
        self, session_id: str | None = None, after_revisions: Mapping[str, int] | None = None
    ) -> AsyncGenerator[StatusEvent, None]:
        """Yields every status change of all uploads of a session (None: the client's own), without end.

        `after_revisions` maps upload ids to the last revision seen.
        """
        session = self.session_id if session_id is None else session_id
        return watching.watch(self._open_watch, watching.SessionCursor(session, after_revisions))

    # Assets

    async def get_asset(self, asset_id: str) -> Asset:
        """Returns an asset, its read URLs as last signed. Raises NotFound."""
        return (await self._call(self._assets.GetAsset, GetAssetRequest(asset_id=asset_id))).asset

    async def list_assets(self, partition: str, *, page_size: int = 0) -> AsyncGenerator[Asset, None]:
        """Yields the assets of a partition, newest first, page after page."""
        request = ListAssetsRequest(partition=partition, page_size=page_size)
        while True:
            page = await self._call(self._assets.ListAssets, request)
            for asset in page.assets:
                yield asset
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def refresh_asset(self, asset_id: str, if_expires_within: timedelta | None = None) -> Asset:
        """Returns the asset with read URLs that live `expiration_hours` from now.

        With `if_expires_within`, URLs that live longer than that stay as they are. Raises NotFound.
        """
        request = RefreshAssetRequest(asset_id=asset_id, if_expires_within=_duration(if_expires_within))
        return (await self._call(self._assets.RefreshAsset, request)).asset

    async def refresh_assets(
        self, asset_ids: Iterable[str], if_expires_within: timedelta | None = None
    ) -> list[RefreshResult]:
        """Refreshes any number of assets; returns an asset or a failure for each id, in order."""
        ids = list(asset_ids)
        results: list[RefreshResult] = []
        for start in range(0, len(ids), BATCH):
            request = BatchRefreshAssetsRequest(
                asset_ids=ids[start : start + BATCH], if_expires_within=_duration(if_expires_within)
            )
            results.extend((await self._call(self._assets.BatchRefreshAssets, request)).results)
        return results

    async def delete_asset(self, asset_id: str) -> None:
        """Deletes an asset and its objects; deleting it again succeeds. Raises NotFound."""
        await self._call(self._assets.DeleteAsset, DeleteAssetRequest(asset_id=asset_id))

    async def read_url(self, asset: Asset, variant: str = ORIGINAL) -> str:
        """Returns a URL that reads the variant, and works for at least a minute or a tenth of its life.

        When it is about to expire the asset is refreshed first, and `asset` brought up to date in place.
        Raises NotFound when there is no such variant.
        """
        lifetime = timedelta(hours=asset.expiration_hours)
        margin = min(ABOUT_TO_EXPIRE, lifetime / 10)
        if asset.HasField("expire_time") and asset.expire_time.ToDatetime(UTC) - self._now() < margin:
            asset.CopyFrom(await self.refresh_asset(asset.asset_id, if_expires_within=margin))
        return _variant(asset, variant).read_url

    async def download(
        self,
        asset: Asset,
        variant: str = ORIGINAL,
        *,
        to: str | os.PathLike[str],
        on_received: Callable[[int], None] | None = None,
    ) -> Path:
        """Fetches a variant into the file `to`, which appears complete and checked or not at all.

        Raises NotFound when there is no such variant, TransferFailed, OSError when it cannot be written.
        """
        wanted = _variant(asset, variant)
        path = Path(to)

        async def renewed() -> str:
            asset.CopyFrom(await self.refresh_asset(asset.asset_id))
            return _variant(asset, variant).read_url

        await retrieval.fetch(
            self._session,
            await self.read_url(asset, variant),
            path,
            size_bytes=wanted.size_bytes,
            sha256=wanted.sha256,
            renew=renewed if asset.HasField("expire_time") else None,
            on_received=on_received,
        )
        return path

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        limit = self._call_timeout if timeout is None else timeout
        return await calls.call(method, request, token=self._token, timeout=limit)

    async def _open_watch(
        self, request: WatchUploadRequest
    ) -> grpc.aio.UnaryStreamCall[WatchUploadRequest, WatchUploadResponse]:
        return self._watches.WatchUpload(request, metadata=await calls.metadata_with(self._token))


def _variant(asset: Asset, name: str) -> AssetVariant:
    for variant in asset.variants:
        if variant.name == name:
            return variant
    there = ", ".join(variant.name for variant in asset.variants)
    raise NotFound(f"asset {asset.asset_id} has no {name}, only {there}", reason="VARIANT_NOT_FOUND")


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def _struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct
