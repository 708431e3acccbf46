"""The connection to a server: channels, stubs, and calls that are repeated while it is unavailable."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from assetlane.backoff import Backoff
from assetlane.diagnosis import diagnosed, is_loopback, target_fault
from assetlane.errors import (
    CallFailed,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    ServerFailed,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from assetlane.statuses import error_from, is_bare_exhaustion
from assetlane.v1.access_service_pb2_grpc import AccessServiceStub
from assetlane.v1.asset_service_pb2 import WatchAssetsRequest, WatchAssetsResponse
from assetlane.v1.asset_service_pb2_grpc import AssetServiceStub
from assetlane.v1.upload_service_pb2 import WatchUploadRequest, WatchUploadResponse
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

if TYPE_CHECKING:
    from assetlane.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from assetlane.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

logger = logging.getLogger(__name__)

Response = TypeVar("Response", bound=Message)
Request = TypeVar("Request", bound=Message)

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or an async function that returns the current one: it is asked before each call and watch."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
RENEWALS = 2  # a function that keeps its token may hand out one that expires on the way

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)  # RFC 6750 allows fewer; the server judges those

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
    """Two channels to one server, unencrypted without `credentials`: calls on one, watches on the other.

    Open watches count against the streams that a connection may carry, and must not hold up calls.
    """

    def __init__(
        self, target: str, credentials: grpc.ChannelCredentials | None, token: Token | None, timeout: float
    ) -> None:
        if fault := target_fault(target):
            raise InvalidArgument(fault.message, reason="TARGET_INVALID", fields={"target": fault.message})
        self._target = target
        self._is_secure = credentials is not None
        self._token = token
        self._timeout = timeout
        if token is not None and not self._is_secure and not is_loopback(target):
            logger.warning("the token is sent unencrypted to %s: give credentials for TLS", target)
        self._calls, self._streams = (_channel(target, credentials) for _ in range(2))
        self.uploads: UploadServiceAsyncStub = UploadServiceStub(self._calls)
        self.assets: AssetServiceAsyncStub = AssetServiceStub(self._calls)
        self.access: AccessServiceAsyncStub = AccessServiceStub(self._calls)
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
        has expired is replaced by a new one, where that is possible. Raises the `AssetlaneError` for any other status.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        renewals = RENEWALS if self.renews_token else 0
        is_repeat = False
        doubts = DOUBTS
        while True:
            metadata = await self._metadata()
            try:
                return await method(request, timeout=max(0.001, deadline - loop.time()), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                failed, is_permanent = await self.explained(error, self._timeout if timeout is None else timeout)
                delay = backoff.next_delay(failed.retry_after or 0.0)
                passes = not is_permanent and (error.code() in _GONE or _passes(failed))
                if is_bare_exhaustion(failed) and doubts and not is_permanent:
                    doubts, passes = doubts - 1, True
                if isinstance(failed, TokenExpired) and renewals:
                    renewals, passes = renewals - 1, True
                if not passes or loop.time() + delay >= deadline:
                    raise failed from error
                if not is_repeat and deadline - loop.time() >= 1:
                    left = deadline - loop.time()
                    logger.info("no answer from %s yet, trying for another %.0f s", self._target, left)
                is_repeat = True
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

    async def explained(self, error: grpc.aio.AioRpcError, timeout: float | None = None) -> tuple[CallFailed, bool]:
        """Returns the error of a failed call, and whether a repeat would certainly meet it again.

        What the server said stands as it is. What gRPC says by itself becomes a sentence that says what to do.
        """
        failed = error_from(error)
        code = error.code()
        if failed.reason != code.name:
            return failed, False
        if code is grpc.StatusCode.UNAVAILABLE:
            found = await diagnosed(failed.message, self._target, is_secure=self._is_secure)
            if found is not None:
                return Unavailable(found.message, reason=found.reason), found.is_permanent
            if "Socket closed" in failed.message or "Connection reset" in failed.message:
                message = f"The connection to {self._target} was lost: the server may be restarting."
                return Unavailable(message, reason=failed.reason), False
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout is not None:
            message = (
                f"No answer from {self._target} within {timeout:g} s: is it an Assetlane server, and not overloaded?"
            )
            return DeadlineExceeded(message, reason=failed.reason), False
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            message = f"The server at {self._target} does not know this call: is it Assetlane, and new enough?"
            return ServerFailed(message, reason=failed.reason), True
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and self._token and "metadata size" in failed.message:
            message = "The token is too long for a call: is it the right file?"
            return Unauthenticated(message, reason="TOKEN_TOO_LARGE"), True
        return failed, False

    async def _metadata(self) -> grpc.aio.Metadata:
        if self._token is None:
            return grpc.aio.Metadata()
        token = self._token if isinstance(self._token, str) else await self._token()
        if not _TOKEN.fullmatch(token):
            # gRPC would refuse the call with the names of its classes, and write the token into its log.
            message = (
                "The token holds characters that no token has, such as a line break or a blank: is it the right one?"
            )
            raise Unauthenticated(message, reason="TOKEN_MALFORMED")
        if (size_bytes := len(token.encode())) > MAX_METADATA_BYTES - _OTHER_METADATA_BYTES:
            message = f"The token has {size_bytes:,} bytes, too long for a call: is it the right file?"
            raise Unauthenticated(message, reason="TOKEN_TOO_LARGE")
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
