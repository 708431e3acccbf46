"""What every RPC of ours passes: the limits of the process, and the turning of what it raises into a status."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from grpc import aio

from assetlane_server.rpc.errors import answer_to
from assetlane_server.rpc.limits import Limits

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a generic class in the stubs only


class RefusalInterceptor(aio.ServerInterceptor):
    """Wraps every handler of ours once. CancelledError and GeneratorExit pass: grpcio leaks a call that hides them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
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
            # Health and reflection answer for themselves.
            if handler is None or not method.startswith("/assetlane."):
                return handler
            wrapped = self._wrapped[method] = _wrap(handler, method, self._limits)
        return wrapped


def _wrap(handler: Any, method: str, limits: Limits) -> Handler:
    if handler.unary_unary is not None:

        async def unary(request: Any, context: Any) -> Any:
            try:
                with limits.calls.passed():
                    return await handler.unary_unary(request, context)
            except aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error, method)

        return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)
    if handler.unary_stream is not None:

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                with limits.watches.passed():
                    async with aclosing(handler.unary_stream(request, context)) as responses:
                        async for response in responses:
                            yield response
                            del response  # else it stays in memory until the next one
            except aio.AbortError:
                raise
            except Exception as error:
                await _abort(context, error, method)

        return grpc.unary_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)
    raise TypeError(f"{method} takes a stream from its client: no service of ours does")


async def _abort(context: Any, error: Exception, method: str) -> None:
    answer = answer_to(error, method)
    await context.abort(answer.code, answer.message, answer.trailing_metadata)
