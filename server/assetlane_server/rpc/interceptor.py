"""What every RPC passes: who calls, the limits of the process, and what it raises turned into a status."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc import aio

from assetlane_server.model.errors import MessageLate, MessageMalformed, Refusal, TokenExpired
from assetlane_server.ports.access import Access
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.rpc.auditing import NO_AUDIT, Auditor
from assetlane_server.rpc.call import Call, admitted, certificate_names
from assetlane_server.rpc.errors import answer_to
from assetlane_server.rpc.limits import MAX_PROBE_BYTES, Limits
from assetlane_server.rpc.observation import REQUEST_ID, CallObserver, ObservedCall
from assetlane_server.rpc.reading import check_read, reading

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # a generic class in the stubs only

_LONGEST_S = 365 * 86_400.0  # what a timer of the event loop takes for certain


class RefusalInterceptor(aio.ServerInterceptor):
    """Wraps every handler once. CancelledError and GeneratorExit pass: grpcio leaks a call that hides them.

    Handlers are given to gRPC as if their clients streamed, which looks the same on the wire: so it is known who
    calls, and a place is taken, before the request message is waited for. Else a client that begins calls and never
    sends a message would hold as many as it likes, past all limits.
    """

    def __init__(
        self, authenticator: Authenticator, limits: Limits, observer: CallObserver, auditor: Auditor = NO_AUDIT
    ) -> None:
        self._authenticator = authenticator
        self._auditor = auditor
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
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self.wrapped(handler, method)
        return wrapped

    def wrapped(self, handler: Any, method: str) -> Handler:
        """Returns a handler behind all that a call passes: also for the web gateway, which calls it itself."""
        if method.startswith("/assetlane."):
            return _wrap(handler, method, self._authenticator, self._limits, self._observer, self._auditor)
        # Health and reflection answer anybody, within a budget of their own.
        return wrapped_probe(handler, method, self._limits, self._observer)


def _wrap(
    handler: Any,
    method: str,
    authenticator: Authenticator,
    limits: Limits,
    observer: CallObserver,
    auditor: Auditor,
) -> Handler:
    read = reading(handler.request_deserializer, limits.max_message_bytes)
    rpc = method.rpartition("/")[2]

    async def admit(context: Any, seen: ObservedCall, metadata: Any) -> Call:
        context.set_trailing_metadata(((REQUEST_ID, seen.request_id),))
        # Before the limits: a caller without a token takes no place.
        call = await admitted(authenticator, metadata, certificate_names(context))
        seen.admitted(call.access)
        call.access.check(rpc)
        return call

    async def receive(context: Any, seen: ObservedCall) -> Any:
        request = await _message(context, limits.request_seconds)
        seen.asked(request)
        return request

    if handler.unary_unary is not None:

        async def unary(_requests: Any, context: Any) -> Any:
            metadata = context.invocation_metadata() or ()
            seen = observer.began(method, metadata, is_watch=False)
            try:
                call = await admit(context, seen, metadata)
                with limits.calls.passed():
                    request = await receive(context, seen)
                    await auditor.asked(rpc, request, call.access, seen.request_id)
                    response = await handler.unary_unary(request, call)
                    await auditor.answered(rpc, request, response, call.access, seen.request_id)
            except Exception as error:
                await _refuse(context, error, method, seen)
            except BaseException:
                seen.ended(_cut_short(context))
                raise
            seen.ended(grpc.StatusCode.OK, response=response)
            return response

        return grpc.stream_unary_rpc_method_handler(unary, read, handler.response_serializer)
    if handler.unary_stream is not None:
        # Writes instead of yielding: grpcio keeps what a generator has yielded until it yields again.
        async def stream(_requests: Any, context: Any) -> None:
            metadata = context.invocation_metadata() or ()
            seen = observer.began(method, metadata, is_watch=True)
            try:
                call = await admit(context, seen, metadata)
                del metadata  # a watch stays for hours
                with limits.watches.passed(), limits.watches_of_one.passed(call.access.caller, call.access.max_watches):
                    request = await receive(context, seen)
                    watch = handler.unary_stream(request, call)
                    async with aclosing(_until_expired(watch, call.access)) as responses:
                        async for response in responses:
                            call.access.check(rpc)  # what was taken away meanwhile ends the watch
                            await auditor.answered(rpc, request, response, call.access, seen.request_id)
                            await context.write(response)
                            del response  # else it stays in memory until the next one
            except aio.BaseError:  # of the write: nobody is there to be answered
                seen.ended(_cut_short(context))
                raise
            except Exception as error:
                await _refuse(context, error, method, seen)
            except BaseException:
                seen.ended(_cut_short(context))
                raise
            seen.ended(grpc.StatusCode.OK)

        return grpc.stream_stream_rpc_method_handler(stream, read, _once(handler.response_serializer))
    raise TypeError(f"{method} takes a stream from its client: no service of ours does")


def wrapped_probe(
    handler: Any, method: str, limits: Limits, observer: CallObserver, max_bytes: int = MAX_PROBE_BYTES
) -> Handler:
    """Wraps a method of health or reflection. Only what is refused is observed: load balancers ask all the time."""
    read = reading(handler.request_deserializer, max_bytes)

    async def refuse(context: Any, error: Exception) -> NoReturn:
        seen = observer.began(method, context.invocation_metadata() or (), is_watch=False)
        await _refuse(context, error, method, seen)

    if handler.unary_unary is not None:

        async def check(_requests: Any, context: Any) -> Any:
            try:
                with limits.health_checks.passed(), limits.probes_of_one.passed(context.peer()):
                    return await handler.unary_unary(await _message(context, limits.request_seconds), context)
            except aio.AbortError:
                raise
            except Exception as error:
                await refuse(context, error)

        return grpc.stream_unary_rpc_method_handler(check, read, handler.response_serializer)

    places = limits.reflections if handler.unary_stream is None else limits.health_watches

    async def probe(_requests: Any, context: Any) -> None:
        try:
            with places.passed(), limits.probes_of_one.passed(context.peer()):
                if handler.unary_stream is not None:
                    answers = handler.unary_stream(await _message(context, limits.request_seconds), context)
                else:
                    answers = handler.stream_stream(_messages(context), context)
                async with aclosing(answers):
                    async for answer in answers:
                        await context.write(answer)
                        del answer
        except aio.BaseError:
            raise
        except Exception as error:
            await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(probe, read, handler.response_serializer)


async def _message(context: Any, limit_s: float) -> Any:
    """Returns the request message of a call. Raises MessageLate, MessageMalformed and what the reading refuses."""
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            message = await context.read()
    except TimeoutError:
        if limit.expired():
            raise MessageLate(limit_s) from None
        raise
    if message is aio.EOF:
        raise MessageMalformed
    check_read(message)
    return message


async def _messages(context: Any) -> AsyncIterator[Any]:
    """Yields the messages of a client that streams."""
    while (message := await context.read()) is not aio.EOF:
        check_read(message)
        yield message


def _once(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Returns a serializer that keeps its last message: one event goes to many watches, and nobody changes it."""
    last_message: Any = None
    data = b""

    def serialize_once(message: Any) -> bytes:
        nonlocal last_message, data
        if message is not last_message:
            data = serialize(message)
            last_message = message
        return data

    return serialize_once


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
    if isinstance(error, Refusal) and error.caller_uid:
        seen.refused(error.caller_uid)
    answer = answer_to(error, method, seen.request_id)
    seen.ended(answer.code, answer.reason)
    # What is given here replaces what was set before.
    await context.abort(answer.code, answer.message, (*answer.trailing_metadata, (REQUEST_ID, seen.request_id)))
    raise AssertionError("abort raises")


def _cut_short(context: Any) -> grpc.StatusCode:
    """Returns what the caller of a cancelled call receives, or would receive if it were still there."""
    left_s = context.time_remaining()
    is_late = left_s is not None and left_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED
