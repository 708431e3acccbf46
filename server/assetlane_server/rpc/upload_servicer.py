"""UploadService: one thin method per RPC. Refusals become statuses in the interceptor."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from assetlane.v1 import upload_service_pb2 as pb
from assetlane.v1.upload_service_pb2_grpc import UploadServiceServicer
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Asset, Upload
from assetlane_server.rpc.call import access_of
from assetlane_server.rpc.events import StatusEvents
from assetlane_server.rpc.messages import (
    asset_message,
    optional_duration,
    part_promises_of,
    progress_message,
    signed_part_messages,
    statuses_of,
    stored_part_messages,
    target_messages,
    token_message,
    upload_message,
    upload_request_of,
)
from assetlane_server.uploads.completions import UploadCompletions
from assetlane_server.uploads.multipart import MultipartUploads
from assetlane_server.uploads.requests import UploadRequests
from assetlane_server.uploads.scoped_tokens import AccessTokens
from assetlane_server.uploads.upload_watches import UploadWatches
from assetlane_server.uploads.uploads import Uploads
from assetlane_server.uploads.url_signer import UrlSigner

# The uid of a caller that names none, where callers need no token.
ANONYMOUS = "anonymous"


class UploadServicer(UploadServiceServicer):
    """Brings assets in."""

    def __init__(
        self,
        requests: UploadRequests,
        completions: UploadCompletions,
        uploads: Uploads,
        parts: MultipartUploads,
        watches: UploadWatches,
        urls: UrlSigner,
        tokens: AccessTokens,
    ) -> None:
        self._requests = requests
        self._completions = completions
        self._uploads = uploads
        self._watches = watches
        self._parts = parts
        self._urls = urls
        self._tokens = tokens
        self._events = StatusEvents(urls)

    async def RequestUpload(self, request: pb.RequestUploadRequest, context: Any) -> pb.RequestUploadResponse:
        """Accepts an upload and signs its write targets."""
        access = access_of(context)
        default_uid = ANONYMOUS if access.kind is CallerKind.ANONYMOUS else access.uid or ""
        upload_request = upload_request_of(request, default_uid)
        lifetime = None
        if request.HasField("issue_token"):
            lifetime = optional_duration("issue_token.lifetime", request.issue_token, "lifetime")
            self._tokens.check("issue_token.lifetime", lifetime, access)
        upload, targets = await self._requests.request_upload(upload_request, access)
        response = pb.RequestUploadResponse(upload=upload_message(upload), write_targets=target_messages(targets))
        if request.HasField("issue_token") and (issued := self._tokens.for_upload(upload, lifetime, access)):
            response.token.CopyFrom(token_message(issued))
        return response

    async def WatchUpload(self, request: pb.WatchUploadRequest, context: Any) -> AsyncIterator[pb.WatchUploadResponse]:
        """Streams status changes."""
        match request.WhichOneof("target"):
            case "upload_id":
                events = self._watches.watch_upload(request.upload_id, request.after_revision, access_of(context))
            case "session_id":
                events = self._watches.watch_session(request.session_id, request.after_revisions, access_of(context))
            case _:
                raise InvalidRequest([FieldViolation("target", "is required: upload_id or session_id")])
        async with aclosing(events) as changes:
            async for change in changes:
                match change:
                    case None:
                        yield _HEARTBEAT
                    case Progress():
                        yield pb.WatchUploadResponse(progress=progress_message(change))
                    case Upload():
                        yield self._events.event_of(change)
                del change  # else it stays in memory until the next one

    async def ReportProgress(self, request: pb.ReportProgressRequest, context: Any) -> pb.ReportProgressResponse:
        """Reports to watchers how far an upload is."""
        await self._uploads.report_progress(request.upload_id, request.sent_bytes, access_of(context))
        return pb.ReportProgressResponse()

    async def SignParts(self, request: pb.SignPartsRequest, context: Any) -> pb.SignPartsResponse:
        """Signs the ways in of some parts."""
        promises = part_promises_of(request.parts)
        ways = await self._parts.sign_parts(request.upload_id, request.variant, promises, access_of(context))
        return pb.SignPartsResponse(parts=signed_part_messages(promises, ways))

    async def ListParts(self, request: pb.ListPartsRequest, context: Any) -> pb.ListPartsResponse:
        """Lists the parts that the store has."""
        parts, next_page_token = await self._parts.list_parts(
            request.upload_id, request.variant, request.page_size, request.page_token, access_of(context)
        )
        return pb.ListPartsResponse(parts=stored_part_messages(parts), next_page_token=next_page_token)

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Any) -> pb.CompleteUploadResponse:
        """Proves what arrived and writes it into the ledger."""
        upload = await self._completions.complete_upload(request.upload_id, access_of(context))
        return pb.CompleteUploadResponse(
            upload=upload_message(upload), asset=self._asset_message(upload.readable_asset)
        )

    async def CancelUpload(self, request: pb.CancelUploadRequest, context: Any) -> pb.CancelUploadResponse:
        """Gives an upload up."""
        upload = await self._uploads.cancel_upload(request.upload_id, access_of(context))
        return pb.CancelUploadResponse(upload=upload_message(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        """Returns one upload."""
        upload = await self._uploads.get_upload(request.upload_id, access_of(context))
        return pb.GetUploadResponse(upload=upload_message(upload))

    async def ListUploads(self, request: pb.ListUploadsRequest, context: Any) -> pb.ListUploadsResponse:
        """Lists uploads, newest first."""
        uploads, next_page_token = await self._uploads.list_uploads(
            uid=request.uid,
            session_id=request.session_id,
            statuses=statuses_of(request.statuses),
            size=request.page_size,
            token=request.page_token,
            access=access_of(context),
        )
        return pb.ListUploadsResponse(
            uploads=[upload_message(upload) for upload in uploads], next_page_token=next_page_token
        )

    def _asset_message(self, asset: Asset | None) -> Any:
        return None if asset is None else asset_message(asset, self._urls.read_urls(asset))


_HEARTBEAT = pb.WatchUploadResponse(heartbeat=pb.Heartbeat())
