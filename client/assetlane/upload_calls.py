"""The calls of UploadService."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Literal, overload

from assetlane import watching
from assetlane.calls import Connection
from assetlane.errors import UploadFailed
from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.upload_pb2 import Upload, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    GetUploadRequest,
    ListPartsRequest,
    ListUploadsRequest,
    PartPromise,
    ProgressEvent,
    ReportProgressRequest,
    RequestUploadRequest,
    RequestUploadResponse,
    SignedPart,
    SignPartsRequest,
    StatusEvent,
    StoredPart,
)


class UploadCalls:
    """Requests, completes, cancels, lists and watches uploads. `Client` says what each method promises."""

    def __init__(
        self,
        connection: Connection,
        uid: Callable[[], str],
        session_id: Callable[[], str],
        complete_timeout: float,
    ) -> None:
        self._connection = connection
        self._uid = uid
        self._session_id = session_id
        self._complete_timeout = complete_timeout

    async def request_upload(self, request: RequestUploadRequest) -> RequestUploadResponse:
        """Requests an upload and returns it with its write targets, for programs that send the bytes themselves."""
        filled = RequestUploadRequest()
        filled.CopyFrom(request)
        filled.uid = request.uid or self._uid()
        filled.session_id = request.session_id or self._session_id()
        return await self._connection.call(self._connection.uploads.RequestUpload, filled)

    async def sign_parts(self, upload_id: str, variant: str, parts: Sequence[PartPromise]) -> Sequence[SignedPart]:
        """Signs a PUT of each of these parts, at most 100. Sign them shortly before they are sent."""
        request = SignPartsRequest(upload_id=upload_id, variant=variant, parts=parts)
        return (await self._connection.call(self._connection.uploads.SignParts, request)).parts

    async def list_parts(self, upload_id: str, variant: str) -> list[StoredPart]:
        """Returns the parts of a variant that the store has, by number. Raises as `sign_parts` does."""
        request = ListPartsRequest(upload_id=upload_id, variant=variant)
        parts: dict[int, StoredPart] = {}
        while True:
            page = await self._connection.call(self._connection.uploads.ListParts, request)
            parts.update((part.part_number, part) for part in page.parts)
            if not page.next_page_token:
                return list(parts.values())
            request.page_token = page.next_page_token

    async def report_progress(self, upload_id: str, sent_bytes: Mapping[str, int]) -> None:
        """Reports to the watchers of an upload how many bytes of each variant are sent. `upload` does so by itself."""
        request = ReportProgressRequest(upload_id=upload_id, sent_bytes=sent_bytes)
        await self._connection.call(self._connection.uploads.ReportProgress, request)

    async def complete_upload(self, upload_id: str) -> Asset:
        """Says that the bytes are in the store, and returns the asset."""
        request = CompleteUploadRequest(upload_id=upload_id)
        reply = await self._connection.call(
            self._connection.uploads.CompleteUpload, request, timeout=self._complete_timeout
        )
        if reply.upload.status == UploadStatus.UPLOAD_STATUS_FAILED:
            raise UploadFailed(reply.upload)
        return reply.asset

    async def cancel_upload(self, upload_id: str) -> Upload:
        """Cancels an upload. Raises PreconditionFailed when it is too late."""
        return (
            await self._connection.call(self._connection.uploads.CancelUpload, CancelUploadRequest(upload_id=upload_id))
        ).upload

    async def get_upload(self, upload_id: str) -> Upload:
        """Returns an upload with its history. Raises NotFound."""
        return (
            await self._connection.call(self._connection.uploads.GetUpload, GetUploadRequest(upload_id=upload_id))
        ).upload

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
            uid=self._uid() if uid is None else uid,
            session_id=session_id,
            statuses=statuses,
            page_size=page_size,
        )
        while True:
            page = await self._connection.call(self._connection.uploads.ListUploads, request)
            for upload in page.uploads:
                yield upload
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: Literal[False] = False
    ) -> AsyncGenerator[StatusEvent, None]: ...

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: bool
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]: ...

    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: bool = False
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]:
        """Yields every status change after that revision, once and in order, to the final one."""
        return self._watched(watching.UploadCursor(upload_id, after_revision), progress)

    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: bool = False,
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]:
        """Yields every status change of all uploads of a session (None: the client's own), without end."""
        session = self._session_id() if session_id is None else session_id
        return self._watched(watching.SessionCursor(session, after_revisions), progress)

    def _watched(
        self, cursor: watching.UploadCursor | watching.SessionCursor, progress: bool
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]:
        server = self._connection
        if progress:
            with_progress = watching.WithProgress(cursor)
            return watching.watch(
                server.open_upload_watch, with_progress, renews_token=server.renews_token, explain=server.explained
            )
        return watching.watch(
            server.open_upload_watch, cursor, renews_token=server.renews_token, explain=server.explained
        )
