"""Takes one upload from the request to the ledger, and leaves nothing behind when it cannot."""

import asyncio
import logging
from collections.abc import Collection, Coroutine
from contextlib import aclosing
from functools import partial

import aiohttp

from assetlane import transfer
from assetlane.contents import Contents, first
from assetlane.errors import (
    AssetlaneError,
    DeadlineExceeded,
    PreconditionFailed,
    ResourceExhausted,
    StoreUnavailable,
    TargetUnknown,
    Unavailable,
    UploadFailed,
    VariantsMissing,
)
from assetlane.parts import PartsTransfer
from assetlane.progress import OnProgress, ProgressTracker
from assetlane.reporting import Reporter
from assetlane.upload_calls import UploadCalls
from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.upload_pb2 import MultipartTarget, PresignedRequest, Upload, UploadStatus
from assetlane.v1.upload_service_pb2 import RequestUploadRequest, RequestUploadResponse

logger = logging.getLogger(__name__)

CLEAN_UP = 5.0  # seconds that giving an upload up may take
LAST_NEWS = 2.0  # seconds to wait for the watch to deliver what CompleteUpload has answered already
ROUNDS = 3  # how often what is missing at completion is sent again

_TRANSIENT = (Unavailable, DeadlineExceeded, ResourceExhausted, StoreUnavailable)
_WAYS = frozenset({"single_put", "multipart"})
_OVER = frozenset({"UPLOAD_CANCELLED", "UPLOAD_EXPIRED", "UPLOAD_FAILED", "UPLOAD_COMPLETED"})


class Delivery:
    """One upload, from here to the ledger.

    `resumable`: the caller chose the `request_id` and can come back with it. Then a transient failure
    leaves the upload as it is, and objects found in place are those of an earlier run.
    """

    def __init__(
        self,
        uploads: UploadCalls,
        session: aiohttp.ClientSession,
        request: RequestUploadRequest,
        contents: Contents,
        *,
        on_progress: OnProgress | None,
        resumable: bool,
    ) -> None:
        self._uploads = uploads
        self._session = session
        self._request = request
        self._contents = contents
        self._on_progress = on_progress
        self._resumable = resumable
        self._targets: dict[str, PresignedRequest] = {}
        self._multiparts: dict[str, MultipartTarget] = {}
        self._renewing = asyncio.Lock()

    async def run(self) -> Asset:
        """Returns the asset. Raises UploadFailed, or what else was in the way.

        An upload that is not going to be finished is cancelled; also when the task is, unless it is resumable.
        """
        accepted = await self._accepted()
        upload_id = accepted.upload.upload_id
        try:
            return await self._carried(accepted)
        except BaseException as error:
            if not self._leave_alone(error):
                await _shielded(self._give_up(upload_id))
            raise

    async def _accepted(self) -> RequestUploadResponse:
        """Requests the upload. When the task is cancelled meanwhile, waits for the id and gives it up."""
        call = asyncio.create_task(self._uploads.request_upload(self._request))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if self._resumable:
                call.cancel()
                await asyncio.wait([call])
            else:
                await _shielded(self._give_up_once_known(call))
            raise

    async def _carried(self, accepted: RequestUploadResponse) -> Asset:
        upload_id = accepted.upload.upload_id
        sizes = {promise.name: promise.size_bytes for promise in self._contents.promises}
        tracker = ProgressTracker(upload_id, sizes, self._on_progress)
        reporter = Reporter(partial(self._uploads.report_progress, upload_id), upload_id)
        try:
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(reporter.run())
                if self._on_progress is not None:
                    group.create_task(tracker.run())
                    news = group.create_task(self._watch(upload_id, tracker))
                asset = await self._stored(accepted, tracker, reporter)
                reporting.cancel()
                if self._on_progress is not None:
                    await asyncio.wait({news}, timeout=LAST_NEWS)
                    news.cancel()
                    tracker.moved(UploadStatus.UPLOAD_STATUS_COMPLETED)
                    tracker.close()
        except ExceptionGroup as group_error:
            error = first(group_error)
            if isinstance(error, UploadFailed):
                tracker.moved(error.upload.status)
                await tracker.report()
            raise error from group_error
        return asset

    async def _stored(self, reply: RequestUploadResponse, tracker: ProgressTracker, reporter: Reporter) -> Asset:
        """Sends what is missing and completes, until nothing is missing."""
        upload_id = reply.upload.upload_id
        wanted: Collection[str] = self._contents.sources.keys()
        for round_left in reversed(range(ROUNDS)):
            self._learn(reply)
            again = round_left < ROUNDS - 1
            async with asyncio.TaskGroup() as group:
                for variant in self._targets.keys() & set(wanted):
                    group.create_task(self._put(variant, tracker, reporter, again=again))
                for variant in self._multiparts.keys() & set(wanted):
                    group.create_task(self._put_parts(upload_id, variant, tracker, reporter, again=again))
            try:
                return await self._uploads.complete_upload(upload_id)
            except VariantsMissing as error:
                if not round_left:
                    raise
                wanted = error.variants or wanted
                reply = await self._uploads.request_upload(self._request)
        raise AssertionError("the last round returns or raises")

    async def _put(self, variant: str, tracker: ProgressTracker, reporter: Reporter, *, again: bool) -> None:
        def sent(sent_bytes: int) -> None:
            tracker.sent(variant, sent_bytes)
            reporter.sent(variant, sent_bytes)

        await transfer.put(
            self._session,
            self._contents.sources[variant],
            self._targets[variant],
            renew=partial(self._renewed, variant, self._targets[variant].url),
            may_exist=self._resumable or again,
            on_sent=sent,
        )

    async def _put_parts(
        self, upload_id: str, variant: str, tracker: ProgressTracker, reporter: Reporter, *, again: bool
    ) -> None:
        def sent(sent_bytes: int) -> None:
            tracker.sent(variant, sent_bytes)
            reporter.sent(variant, sent_bytes)

        source, target = self._contents.sources[variant], self._multiparts[variant]
        parts_transfer = PartsTransfer(self._uploads, self._session, upload_id, variant, source, target, sent)
        await parts_transfer.run(resumes=self._resumable or again)

    async def _renewed(self, variant: str, refused_url: str) -> PresignedRequest:
        """Returns a fresh target; variants whose targets ran out together renew them together."""
        async with self._renewing:
            if self._targets[variant].url == refused_url:
                reply = await self._uploads.request_upload(self._request)
                self._learn(reply)
                if variant not in self._targets:
                    raise _over(reply.upload)
        return self._targets[variant]

    def _learn(self, reply: RequestUploadResponse) -> None:
        for target in reply.write_targets:
            if target.WhichOneof("way") not in _WAYS or target.variant not in self._contents.sources:
                raise TargetUnknown(
                    f"this client is too old to put {target.variant} the way the server asks for",
                    reason="TARGET_UNKNOWN",
                )
        ways = {target.variant: target for target in reply.write_targets}
        self._targets = {name: way.single_put for name, way in ways.items() if way.HasField("single_put")}
        self._multiparts = {name: way.multipart for name, way in ways.items() if way.HasField("multipart")}

    async def _watch(self, upload_id: str, tracker: ProgressTracker) -> None:
        """Reports every status, and ends the delivery when somebody else has ended the upload."""
        async with aclosing(self._uploads.watch_upload(upload_id)) as events:
            while True:
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except AssetlaneError as error:
                    # News are an extra: the upload itself may well succeed.
                    logger.warning("upload %s is not watched any more: %s", upload_id, error)
                    return
                tracker.moved(event.upload.status)
                if event.upload.status == UploadStatus.UPLOAD_STATUS_FAILED:
                    raise UploadFailed(event.upload)
                if event.upload.status in (
                    UploadStatus.UPLOAD_STATUS_CANCELLED,
                    UploadStatus.UPLOAD_STATUS_EXPIRED,
                ):
                    raise _over(event.upload)

    def _leave_alone(self, error: BaseException) -> bool:
        """Returns whether there is nothing to cancel, or a reason not to."""
        if isinstance(error, UploadFailed):
            return True
        if isinstance(error, PreconditionFailed) and error.reason in _OVER:
            return True
        return self._resumable and isinstance(error, (*_TRANSIENT, asyncio.CancelledError))

    async def _give_up_once_known(self, call: asyncio.Task[RequestUploadResponse]) -> None:
        try:
            async with asyncio.timeout(CLEAN_UP):
                reply = await call
        except (AssetlaneError, TimeoutError) as error:
            logger.debug("nothing to cancel: %r", error)
        else:
            await self._give_up(reply.upload.upload_id)

    async def _give_up(self, upload_id: str) -> None:
        try:
            async with asyncio.timeout(CLEAN_UP):
                await self._uploads.cancel_upload(upload_id)
        except PreconditionFailed as error:
            logger.debug("upload %s is over already: %s", upload_id, error.reason)
        except (AssetlaneError, TimeoutError) as error:
            logger.warning("upload %s could not be cancelled and will expire: %r", upload_id, error)


def _over(upload: Upload) -> PreconditionFailed:
    status = UploadStatus.Name(upload.status).removeprefix("UPLOAD_STATUS_")
    return PreconditionFailed(f"upload {upload.upload_id} was {status.lower()} meanwhile", reason=f"UPLOAD_{status}")


async def _shielded(clean_up: Coroutine[None, None, None]) -> None:
    """Runs a bounded clean-up to its end, although the task around it is being cancelled."""
    await asyncio.shield(asyncio.create_task(clean_up))
