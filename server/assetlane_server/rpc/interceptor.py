"""What every RPC of ours passes: who calls, the limits of the process, and what it raises turned into a status."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc import aio

from assetlane_server.rpc.call import Authenticator, Call, admitted
from assetlane_server.rpc.errors import answer_to
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.observation import REQUEST_ID, CallObserver, ObservedCall
from assetlane_server.rpc.reading import check_read, reading
from assetlane_server.uploads.errors import TokenExpired
from assetlane_server.uploads.ports import Access

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a generic class in the stubs only

_LONGEST_S = 365 * 86_400.0  # what a timer of the event loop takes for certain


class RefusalInterceptor(aio.ServerInterceptor):
    """Wraps every handler of ours once. CancelledError and GeneratorExit pass: grpcio leaks a call that hides them."""

    def __init__(self, authenticator: Authenticator, limits: Limits, observer: CallObserver) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._observer = observer
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the wrapped handler of a method, None for one that does not exist."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            # Health and reflection answer for themselves, to anybody.
            if handler is None or not method.startswith("/assetlane."):
                return handler
            wrapped = self._wrapped[method] = _wrap(handler, method, self._authenticator, self._limits, self._observer)
        return wrapped


def _wrap(handler: Any, method: str, authenticator: Authenticator, limits: Limits, observer: CallObserver) -> Handler:
    read = reading(handler.request_deserializer, limits.max_message_bytes)

    async def received(request: Any, context: Any, seen: ObservedCall, metadata: Any) -> Call:
        context.set_trailing_metadata(((REQUEST_ID, seen.request_id),))
        # Before the limits: who is nobody takes nobody's place.
        call = await admitted(authenticator, metadata)
        seen.admitted(call.access.uid, request)
        check_read(request)
        return call

    if handler.unary_unary is not None:

        async def unary(request: Any, context: Any) -> Any:
            metadata = context.invocation_metadata() or ()
            seen = observer.began(method, metadata, is_watch=False)
            try:
                call = await received(request, context, seen, metadata)
                with limits.calls.passed():
                    response = await handler.unary_unary(request, call)
            except Exception as error:
                await _refuse(context, error, method, seen)
            except BaseException:
                seen.ended(_cut_short(context))
                raise
            seen.ended(grpc.StatusCode.OK, response=response)
            return response

        return grpc.unary_unary_rpc_method_handler(unary, read, handler.response_serializer)
    if handler.unary_stream is not None:

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            metadata = context.invocation_metadata() or ()
            seen = observer.began(method, metadata, is_watch=True)
            try:
                call = await received(request, context, seen, metadata)
                with limits.watches.passed(), limits.watches_of_one.passed(call.access.uid):
                    async with aclosing(_until_expired(handler.unary_stream(request, call), call.access)) as responses:
                        async for response in responses:
                            yield response
                            del response  # else it stays in memory until the next one
            except Exception as error:
                await _refuse(context, error, method, seen)
            except BaseException:
                seen.ended(_cut_short(context))
                raise
            seen.ended(grpc.StatusCode.OK)

        return grpc.unary_stream_rpc_method_handler(stream, read, handler.response_serializer)
    raise TypeError(f"{method} takes a stream from its client: no service of ours does")


def _until_expired(responses: Any, access: Access) -> Any:
    return responses if access.expire_time is None else _ending(responses, access.expire_time)


async def _ending(responses: Any, expire_time: datetime) -> AsyncIterator[Any]:
    """Yields the responses until the instant. Raises TokenExpired then, wherever the handler waits."""
    left_s = min((expire_time - datetime.now(UTC)).total_seconds(), _LONGEST_S)
    clock = asyncio.get_running_loop().time
    ends_at = clock() + left_s
    async with aclosing(responses):
        while True:
            if clock() >= ends_at:  # a handler that always has something to say never waits
                raise TokenExpired
            # Only around this wait: what is outside of it, such as a slow reader's write, is not ours to cancel.
            limit = asyncio.timeout_at(ends_at)
            try:
                async with limit:
                    response = await anext(responses, None)
            except TimeoutError:
                if limit.expired():
                    raise TokenExpired from None
                raise
            if response is None:
                return
            yield response
            del response


async def _refuse(context: Any, error: Exception, method: str, seen: ObservedCall) -> NoReturn:
    answer = answer_to(error, method, seen.request_id)
    seen.ended(answer.code, answer.reason)
    # What is given here replaces what was set before.
    await context.abort(answer.code, answer.message, (*answer.trailing_metadata, (REQUEST_ID, seen.request_id)))
    raise AssertionError("abort raises")


def _cut_short(context: Any) -> grpc.StatusCode:
    """Returns what the caller of a cancelled call is told, or would be if he were there."""
    left_s = context.time_remaining()
    is_late = left_s is not None and left_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
