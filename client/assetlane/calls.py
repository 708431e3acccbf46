"""The connection to a server: channels, stubs, and calls that are repeated while it is unavailable."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from assetlane.backoff import Backoff
from assetlane.errors import CallFailed, ResourceExhausted, TokenExpired, Unauthenticated, Unavailable
from assetlane.statuses import error_from, is_bare_exhaustion
from assetlane.v1.asset_service_pb2 import WatchAssetsRequest, WatchAssetsResponse
from assetlane.v1.asset_service_pb2_grpc import AssetServiceStub
from assetlane.v1.upload_service_pb2 import WatchUploadRequest, WatchUploadResponse
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

if TYPE_CHECKING:
    from assetlane.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

Response = TypeVar("Response", bound=Message)
Request = TypeVar("Request", bound=Message)

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or an async function that returns the current one: it is asked before each call and watch."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
RENEWALS = 2  # a function that keeps its token may hand out one that expires on the way

# CANCELLED by the other end: a server cuts off what is in flight when its grace period is over, and our own
# cancelling arrives as CancelledError.
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})

# Of refusals without details, as gRPC itself makes them: a burst that an older server's queue could not take passes,
# metadata or a message that is too large does not.
DOUBTS = 3

# Above this gRPC refuses a call's metadata without details. The server itself reads tokens of up to 16 KiB.
MAX_METADATA_BYTES = 64 * 1024
_OTHER_METADATA_BYTES = 2048  # the method, the host, what gRPC and this client add

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a page of 1,000 assets, each with long signed URLs

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    # The defaults notice a dead peer after hours. The server allows pings this often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What decides how long a ping may go unanswered (grpcio 1.85: the timeout above has no effect of its own).
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Else only two: a watcher sends nothing else, and would notice a dead peer after minutes.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Of answers; both the same: between the soft and the hard limit gRPC refuses at random.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # The default grows to two minutes: a client would sleep long after a restarted server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Channels to one server would share a connection otherwise.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """Two channels to one server, in the clear without `credentials`: calls on one, watches on the other.

    Open watches count against the streams that a connection may carry, and must not hold up calls.
    """

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None, token: Token | None, timeout: float
    ) -> None:
        self._token = token
        self._timeout = timeout
        self._calls, self._streams = (_channel(target, credentials) for _ in range(2))
        self.uploads: UploadServiceAsyncStub = UploadServiceStub(self._calls)
        self.assets: AssetServiceAsyncStub = AssetServiceStub(self._calls)
        self._upload_watches: UploadServiceAsyncStub = UploadServiceStub(self._streams)
        self._asset_watches: AssetServiceAsyncStub = AssetServiceStub(self._streams)

    @property
    def renews_token(self) -> bool:
        """Whether another token can be had when one expires."""
        return callable(self._token)

    async def aclose(self) -> None:
        """Closes both channels, and with them every open watch."""
        await self._streams.close()
        await self._calls.close()

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Returns the answer to `request`.

        While the server is UNAVAILABLE or gone, or RESOURCE_EXHAUSTED and says how long to wait, the call is
        repeated, after that wait or a jittered one, until `timeout` seconds are over: every RPC of the
        contract is safe to repeat. RESOURCE_EXHAUSTED without any details is repeated a few times. A token that
        has expired is fetched anew, where that can be done. Raises the `AssetlaneError` for any other status.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        renewals = RENEWALS if self.renews_token else 0
        doubts = DOUBTS
        while True:
            metadata = await self._metadata()
            try:
                return await method(request, timeout=max(0.001, deadline - loop.time()), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failed = error_from(error)
                delay = backoff.next_delay(failed.retry_after or 0.0)
                passes = error.code() in _GONE or _passes(failed)
                if is_bare_exhaustion(failed) and doubts:
                    doubts, passes = doubts - 1, True
                if isinstance(failed, TokenExpired) and renewals:
                    renewals, passes = renewals - 1, True
                if not passes or loop.time() + delay >= deadline:
                    raise failed from error
            await asyncio.sleep(delay)

    async def open_upload_watch(
        self, request: WatchUploadRequest
    ) -> grpc.aio.UnaryStreamCall[WatchUploadRequest, WatchUploadResponse]:
        """Starts one stream, without a deadline: heartbeats stand in for it."""
        return self._upload_watches.WatchUpload(request, metadata=await self._metadata())

    async def open_asset_watch(
        self, request: WatchAssetsRequest
    ) -> grpc.aio.UnaryStreamCall[WatchAssetsRequest, WatchAssetsResponse]:
        """Starts one stream, as open_upload_watch does."""
        return self._asset_watches.WatchAssets(request, metadata=await self._metadata())

    async def _metadata(self) -> grpc.aio.Metadata:
        if self._token is None:
            return grpc.aio.Metadata()
        token = self._token if isinstance(self._token, str) else await self._token()
        if (size_bytes := len(token.encode())) > MAX_METADATA_BYTES - _OTHER_METADATA_BYTES:
            told = f"the token has {size_bytes:,} bytes, gRPC does not carry it and servers read at most 16,384"
            raise Unauthenticated(told, reason="TOKEN_TOO_LARGE")
        return grpc.aio.Metadata(("authorization", f"Bearer {token}"))


def _passes(failed: CallFailed) -> bool:
    """Returns whether a repeat may succeed: a message that is too large is exhausting for ever, and has no wait."""
    if isinstance(failed, ResourceExhausted):
        return failed.retry_after is not None
    return isinstance(failed, Unavailable)


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
