"""The asynchronous client."""

import os
import unicodedata
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self, Unpack, overload

import grpc
from google.protobuf.struct_pb2 import Struct

from assetlane.asset_calls import AssetCalls
from assetlane.batch import UploadItem, UploadOptions, UploadOutcome, attempted, check_shared
from assetlane.calls import Connection, Token
from assetlane.cut_sizes import STANDARD_OPTIONS, CutOptions, CutSize
from assetlane.downloads import Downloads
from assetlane.errors import ClientUnusable, InvalidArgument
from assetlane.progress import OnProgress
from assetlane.spooling import Origin, name_of, readable_again
from assetlane.upload_calls import UploadCalls
from assetlane.v1.access_service_pb2 import CreateTokenRequest, ScopedToken
from assetlane.v1.asset_pb2 import Asset, AssetDetails
from assetlane.v1.asset_service_pb2 import RefreshResult, WatchAssetsResponse
from assetlane.v1.upload_pb2 import Upload, UploadStatus
from assetlane.v1.upload_service_pb2 import (
    PartPromise,
    ProgressEvent,
    RequestUploadRequest,
    RequestUploadResponse,
    SignedPart,
    StatusEvent,
    StoredPart,
)

if TYPE_CHECKING:
    import aiohttp

ORIGINAL = "original"
DEFAULT_TARGET = "127.0.0.1:50151"
CALL_TIMEOUT = 30.0
COMPLETE_TIMEOUT = 120.0  # the server looks at every object, and may still be making cuts


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an open client calls."""

    connection: Connection
    uploads: UploadCalls
    assets: AssetCalls
    downloads: Downloads


class Client:
    """A connection to an Assetlane server, for use as `async with Client(target) as client:`.

    `uid` and `session_id` are the defaults of every upload; without a `session_id` the client makes a random one.
    `token` is sent as a bearer token with each call; its subject is the user, so that `uid` may stay empty. A back end
    that acts for users names the user in `uid`. `token` may be an async function that returns the current token: then
    calls and watches outlive each token. Without `credentials` (TLS) the token is sent unencrypted.

    A call takes at most `call_timeout` seconds, and is retried within them while the server is unavailable.
    Methods return messages of the contract (`assetlane.v1`) and raise `AssetlaneError`.
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
        self._complete_timeout = complete_timeout
        self._connect = partial(Connection, target, credentials, token, call_timeout)
        self._now = now
        self._opened: _Opened | None = None
        self._session: aiohttp.ClientSession | None = None
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        connection = self._connect()
        self._resources.push_async_callback(connection.aclose)
        assets = AssetCalls(connection)
        self._opened = _Opened(
            connection,
            UploadCalls(connection, lambda: self.uid, lambda: self.session_id, self._complete_timeout),
            assets,
            Downloads(assets, self._store, self._now),
        )
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
        self._opened = self._session = None
        await self._resources.aclose()

    def _check_open(self) -> "_Opened":
        if self._opened is None:
            message = "the client is not open: use it as `async with Client(target) as client:`"
            raise ClientUnusable(message, reason="CLIENT_NOT_OPEN")
        return self._opened

    @property
    def _server(self) -> Connection:
        return self._check_open().connection

    @property
    def _uploads(self) -> UploadCalls:
        return self._check_open().uploads

    @property
    def _assets(self) -> AssetCalls:
        return self._check_open().assets

    @property
    def _downloads(self) -> Downloads:
        return self._check_open().downloads

    def _store(self) -> "aiohttp.ClientSession":
        """Returns the session to the store, opened when it is first needed: a list or a watch does without HTTP."""
        if self._session is None:
            from assetlane.transfer import open_session

            self._check_open()
            self._session = open_session()
            self._resources.push_async_callback(self._session.close)
        return self._session

    async def upload(
        self,
        origin: Origin,
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
        cut_options: CutOptions = STANDARD_OPTIONS,
        cut_maker: Literal["client", "server"] = "client",
        preview_at: timedelta | None = None,
        require_cuts: bool = False,
        request_id: str | None = None,
        write_url_lifetime: timedelta | None = None,
        on_progress: OnProgress | None = None,
    ) -> Asset:
        """Uploads a file (a path), bytes or an open binary file, and returns the asset.

        Hashes it, makes the cuts of a picture, or the preview of a video and its cuts, stores everything, and returns
        when the server has proved it.

        An open file, such as a pipe or a framework's uploaded file, is read to its end first, with constant memory.
        `file_path` defaults to the file's name, and is required for bytes and files without a name.
        `content_type` defaults to the type that the name says, or the bytes where they clearly are something else.
        `cuts`: True for the standard sizes, False for none, or a list of sizes. `cut_options`: their format and
        quality, and the most pixels a picture may have. `cut_maker`: whether this client cuts pictures before the
        upload, or the server after it; videos are always cut by the client.
        `preview_at`: the position of a video's still; None: one second, or a tenth of a short video.
        `color` defaults to the average of the picture or still, `duration` to that of the video.
        A file that can have no cuts (damaged, no picture in it, an unknown format, HEIC without the extra `heif`, a
        video without the extra `video`) is stored without them, and `asset.notices` says why. With `require_cuts` it
        is refused instead, before anything is stored.
        `expiration_hours`: None is the server's default, 0 is public.
        `write_url_lifetime`: how long each write URL lives, in whole seconds; None: the server's default.

        With a `request_id` of your own you can repeat the call after a crash, a lost connection or a cancelled task: it
        continues where it stopped. Without one, an upload that does not succeed is cancelled.

        Raises UploadFailed with the reason when what arrived is not what was promised; ImageRefused for a picture that
        is not what `content_type` says; MediaRefused where cuts were required; InvalidArgument, TransferFailed and
        other `AssetlaneError`s; OSError when the file cannot be read.
        """
        if file_path is None:
            file_path = unicodedata.normalize("NFC", name_of(origin))
        _check_text(
            file_path=file_path,
            partition=partition,
            asset_partition=asset_partition,
            title=title,
            caption=caption,
            color=color,
            content_type=content_type or "",
            request_id=request_id or "",
        )
        if require_cuts and not cuts and preview_at is None:
            raise ValueError("require_cuts needs cuts or preview_at: there is nothing to require")
        # Loaded when they are needed: a list or a watch waits for neither Pillow nor HTTP.
        from assetlane.contents import read_contents
        from assetlane.delivery import Delivery

        async with readable_again(origin) as readable:
            contents = await read_contents(
                readable,
                file_path,
                content_type,
                cuts,
                preview_at,
                cut_options,
                cut_maker,
                require_cuts=require_cuts,
            )
            details = AssetDetails(title=title, caption=caption, color=color or contents.color)
            if (known := contents.duration if duration is None else duration) is not None:
                details.duration.FromTimedelta(known)
            if extra is not None:
                details.extra.CopyFrom(_struct(extra))
            request = RequestUploadRequest(
                request_id=uuid.uuid4().hex if request_id is None else request_id,
                partition=partition,
                asset_partition=asset_partition,
                file_path=file_path,
                expiration_hours=expiration_hours,
                details=details,
                variants=contents.promises,
                cut_plan=contents.cut_plan,
                notices=contents.notices,
            )
            if write_url_lifetime is not None:
                request.write_url_lifetime.FromTimedelta(write_url_lifetime)
            delivery = Delivery(
                self._uploads,
                self._store(),
                request,
                contents,
                on_progress=on_progress,
                resumable=request_id is not None,
            )
            return await delivery.run()

    async def upload_many(
        self,
        items: Iterable[Origin | UploadItem] | AsyncIterable[Origin | UploadItem],
        *,
        concurrency: int = 4,
        **options: Unpack[UploadOptions],
    ) -> AsyncGenerator[UploadOutcome, None]:
        """Uploads many files, `concurrency` at a time, and yields the outcome of each as soon as it is known.

            async for outcome in client.upload_many(Path("holiday").iterdir(), partition="team/42"):
                print(outcome.item.origin, outcome.asset.asset_id if outcome.is_stored else outcome.error)

        A file that fails does not end the others: its outcome has the error that `upload` would have raised, and
        `outcome.result()` raises it. `items` are paths, bytes, or `UploadItem`s with their own options, from any
        iterable, also an asynchronous one; the next item is taken when an upload ends. `options` are those of `upload`
        and apply to every item; an item's own options override them, and only an item can have `file_path` and
        `request_id`.

        To stop early use `contextlib.aclosing`: leaving the loop then cancels the uploads in progress. Raises TypeError
        for options that `upload` does not have, ValueError when `concurrency` is less than one.
        """
        if isinstance(items, str | os.PathLike | bytes) or hasattr(items, "read"):
            raise TypeError("upload_many takes several items, such as a list: this is one")
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        check_shared(options)

        async def work(item: Origin | UploadItem) -> Asset:
            own = item if isinstance(item, UploadItem) else UploadItem(item)
            return await self.upload(own.origin, **{**options, **own.options})

        async with aclosing(attempted(items, work, concurrency)) as attempts:
            async for attempt in attempts:
                item = attempt.item if isinstance(attempt.item, UploadItem) else UploadItem(attempt.item)
                yield UploadOutcome(attempt.index, item, attempt.result, attempt.error)

    async def create_token(
        self,
        *,
        upload_id: str = "",
        uid: str | None = None,
        read: Sequence[str] = (),
        write: Sequence[str] = (),
        lifetime: timedelta | None = None,
    ) -> ScopedToken:
        """Makes a token for one device: for one upload, or for a user's partitions. Only for service callers.

            token = await backend.create_token(uid="ann", read=["user/ann"], lifetime=timedelta(hours=1))

        Give `upload_id`, or `read` and `write`: patterns of partitions, none wider than what the caller may do itself.
        `uid` None: the client's. The device passes `token.token` to its own `Client`. To get a token together with a
        new upload, set `request.issue_token` in `request_upload`.

        Raises InvalidArgument, NotFound, PermissionDenied (RPC_NOT_ALLOWED, UID_MISMATCH, SCOPE_TOO_WIDE),
        PreconditionFailed (NO_SIGNING_KEY, TOKENS_NOT_NEEDED).
        """
        if bool(upload_id) == bool(read or write):
            raise ValueError("create_token takes either upload_id, or read and write")
        request = CreateTokenRequest(uid=self.uid if uid is None else uid)
        if upload_id:
            request.upload_id = upload_id
        else:
            request.partitions.read.extend(read)
            request.partitions.write.extend(write)
        if lifetime is not None:
            request.lifetime.FromTimedelta(lifetime)
        return (await self._server.call(self._server.access.CreateToken, request)).token

    async def request_upload(self, request: RequestUploadRequest) -> RequestUploadResponse:
        """Requests an upload and returns it with its write targets, for programs that send the bytes themselves.

        An empty `uid` or `session_id` is replaced by the client's.
        """
        return await self._uploads.request_upload(request)

    async def sign_parts(self, upload_id: str, variant: str, parts: Sequence[PartPromise]) -> Sequence[SignedPart]:
        """Signs a PUT of each of these parts, at most 100. Sign them shortly before they are sent.

        Raises NotFound, InvalidArgument, and PreconditionFailed when the upload is not being uploaded.
        """
        return await self._uploads.sign_parts(upload_id, variant, parts)

    async def list_parts(self, upload_id: str, variant: str) -> list[StoredPart]:
        """Returns the parts of a variant that the store has, by number. Raises as `sign_parts` does."""
        return await self._uploads.list_parts(upload_id, variant)

    async def report_progress(self, upload_id: str, sent_bytes: Mapping[str, int]) -> None:
        """Reports to the watchers of an upload how many bytes of each variant are sent. `upload` does so by itself.

        Raises NotFound, and PreconditionFailed when the upload is not being uploaded.
        """
        await self._uploads.report_progress(upload_id, sent_bytes)

    async def complete_upload(self, upload_id: str) -> Asset:
        """Says that the bytes are in the store, and returns the asset.

        Raises UploadFailed when they are not what was promised, VariantsMissing when some are not there.
        """
        return await self._uploads.complete_upload(upload_id)

    async def cancel_upload(self, upload_id: str) -> Upload:
        """Cancels an upload. Raises PreconditionFailed when it is too late."""
        return await self._uploads.cancel_upload(upload_id)

    async def get_upload(self, upload_id: str) -> Upload:
        """Returns an upload with its history. Raises NotFound."""
        return await self._uploads.get_upload(upload_id)

    def list_uploads(
        self,
        *,
        uid: str | None = None,
        session_id: str = "",
        statuses: Iterable["UploadStatus.ValueType"] = (),
        page_size: int = 0,
    ) -> AsyncGenerator[Upload, None]:
        """Yields uploads, newest first, page after page. `uid` None: the client's; empty: everybody's."""
        return self._uploads.list_uploads(uid=uid, session_id=session_id, statuses=statuses, page_size=page_size)

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: Literal[False] = False
    ) -> AsyncGenerator[StatusEvent, None]: ...

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: Literal[True]
    ) -> AsyncGenerator[StatusEvent | ProgressEvent, None]: ...

    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: bool = False
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]:
        """Yields every status change after that revision, once and in order, to the final one.

        With `progress`, also how far the upload is in between: only the newest value, at most a few times a second.
        Reconnects by itself. Raises NotFound, OutOfRange and other permanent errors.
        """
        return self._uploads.watch_upload(upload_id, after_revision, progress=progress)

    @overload
    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: Literal[False] = False,
    ) -> AsyncGenerator[StatusEvent, None]: ...

    @overload
    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: Literal[True],
    ) -> AsyncGenerator[StatusEvent | ProgressEvent, None]: ...

    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: bool = False,
    ) -> AsyncGenerator[StatusEvent, None] | AsyncGenerator[StatusEvent | ProgressEvent, None]:
        """Yields every status change of all uploads of a session (None: the client's own), without end.

        `after_revisions` maps upload ids to the last revision seen. `progress` as in watch_upload.
        """
        return self._uploads.watch_session(session_id, after_revisions, progress=progress)

    async def get_asset(self, asset_id: str) -> Asset:
        """Returns an asset, its read URLs as last signed. Raises NotFound."""
        return await self._assets.get_asset(asset_id)

    def list_assets(self, partition: str, *, page_size: int = 0) -> AsyncGenerator[Asset, None]:
        """Yields the assets of a partition, newest first, page after page."""
        return self._assets.list_assets(partition, page_size=page_size)

    def watch_assets(self, partition: str, resume_token: str = "") -> AsyncGenerator[WatchAssetsResponse, None]:
        """Yields every asset that is in a partition, SYNCED, then every addition, refresh and deletion, for ever.

        Goes on by itself through lost connections, without a gap; SYNCED comes again when it has caught up.
        Keep the newest `resume_token` to go on in another process: then only what changed
        since comes first, perhaps with the last minute or two before the token once more.
        Raises ResumeExpired when the token is too old, InvalidArgument when it is not of this partition.
        """
        return self._assets.watch_assets(partition, resume_token)

    async def refresh_asset(self, asset_id: str, if_expires_within: timedelta | None = None) -> Asset:
        """Returns the asset with read URLs that live `expiration_hours` from now.

        With `if_expires_within`, URLs that live longer than that stay as they are. Raises NotFound.
        """
        return await self._assets.refresh_asset(asset_id, if_expires_within)

    async def refresh_assets(
        self, asset_ids: Iterable[str], if_expires_within: timedelta | None = None
    ) -> list[RefreshResult]:
        """Refreshes any number of assets; returns an asset or a failure for each id, in order."""
        return await self._assets.refresh_assets(asset_ids, if_expires_within)

    async def delete_asset(self, asset_id: str) -> None:
        """Deletes an asset and its objects; deleting it again succeeds. Raises NotFound."""
        await self._assets.delete_asset(asset_id)

    async def read_url(self, asset: Asset, variant: str = ORIGINAL) -> str:
        """Returns a URL that reads the variant, and works for at least a minute or a tenth of its life.

        When it is about to expire the asset is refreshed first, and `asset` brought up to date in place.
        Raises NotFound when there is no such variant.
        """
        return await self._downloads.read_url(asset, variant)

    async def download_url(self, asset: Asset, variant: str = ORIGINAL) -> str:
        """Returns a URL that saves the variant under the file's own name, for a link or a browser.

        It works as long as one of `read_url`; that of a public asset for at least 6 days after `asset` was fetched.
        When it is about to expire the asset is refreshed first, as `read_url` does. Raises NotFound likewise.
        """
        return await self._downloads.download_url(asset, variant)

    async def download(
        self,
        asset: Asset,
        variant: str = ORIGINAL,
        *,
        to: str | os.PathLike[str],
        on_received: Callable[[int], None] | None = None,
    ) -> Path:
        """Fetches a variant into the file `to`, which appears complete and checked or not at all.

        A device or a pipe, such as /dev/null, is written to as `download_into` does it.
        Raises NotFound when there is no such variant, TransferFailed, OSError when it cannot be written.
        """
        return await self._downloads.download(asset, variant, to=to, on_received=on_received)

    async def download_into(
        self,
        asset: Asset,
        file: BinaryIO,
        variant: str = ORIGINAL,
        *,
        on_received: Callable[[int], None] | None = None,
    ) -> None:
        """Fetches a variant into a file that is open for writing, such as a pipe; what it has taken stays there.

        Raises as `download` does: after ContentMismatch, forget what came.
        """
        await self._downloads.download_into(asset, file, variant, on_received=on_received)


def _check_text(**texts: str) -> None:
    """Raises InvalidArgument for text that is not UTF-8, as the name of a file may be."""
    for field, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = text.encode("utf-8", "backslashreplace" if field != "file_path" else "surrogateescape")
            fault = f"{shown.decode('utf-8', 'backslashreplace')} is not UTF-8: rename the file or give another {field}"
            raise InvalidArgument(fault, reason="INVALID_FIELD", fields={field: fault}) from None


def _struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct
