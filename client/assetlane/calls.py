"""Unary calls with a deadline, repeated while the server is unavailable; channels as Assetlane wants them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from assetlane.backoff import Backoff
from assetlane.statuses import error_from, retry_after

Response = TypeVar("Response", bound=Message)
Request = TypeVar("Request", bound=Message)

Token = str | Callable[[], Awaitable[str]]
"""A bearer token, or an async function that returns the current one."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a page of 1,000 assets, each with long signed URLs

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    # The defaults notice a dead peer after hours. The server allows pings this often.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Else only two: a watcher sends nothing else, and would notice a dead peer after minutes.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # The default grows to two minutes: a client would sleep long after a restarted server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


def open_channel(target: str, credentials: grpc.ChannelCredentials | None, *, purpose: str) -> grpc.aio.Channel:
    """Opens a channel to `target`, in the clear without `credentials`.

    Channels of different `purpose` never share a connection: open watches count against the streams
    that a connection may carry, and must not hold up calls.
    """
    options = [*CHANNEL_OPTIONS, ("grpc.channel_id", purpose), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


async def metadata_with(token: Token | None) -> grpc.aio.Metadata:
    """Returns the metadata of one call: the current bearer token, if there is one."""
    if token is None:
        return grpc.aio.Metadata()
    current = token if isinstance(token, str) else await token()
    return grpc.aio.Metadata(("authorization", f"Bearer {current}"))


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
    request: Request,
    *,
    token: Token | None,
    timeout: float,
) -> Response:
    """Returns the answer to `request`.

    While the server is UNAVAILABLE the call is repeated, after the wait the server asks for or a jittered
    one, until `timeout` seconds are over: every RPC of the contract is safe to repeat.
    Raises the `AssetlaneError` for any other status.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    while True:
        metadata = await metadata_with(token)
        try:
            return await method(request, timeout=max(0.001, deadline - loop.time()), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            delay = backoff.next_delay(retry_after(error))
            if error.code() is not grpc.StatusCode.UNAVAILABLE or loop.time() + delay >= deadline:
                raise error_from(error) from error
        await asyncio.sleep(delay)
