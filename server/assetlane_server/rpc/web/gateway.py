"""Serves one request: who may send it, which call it is, and its answer in the protocol's own form."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import hdrs, web

from assetlane_server.model.errors import Refusal, ShuttingDown
from assetlane_server.rpc.refusals import (
    ContentTypeRefused,
    DeadlinePassed,
    HostRefused,
    HttpMethodRefused,
    MethodUnknown,
)
from assetlane_server.rpc.web.access import WebAccess
from assetlane_server.rpc.web.calls import CallAborted, Method, ReaderGone, WebContext, seconds_given
from assetlane_server.rpc.web.protocols import WebProtocol, protocol_for_refusal, protocol_of
from assetlane_server.rpc.web.rest import REST_PREFIX, Binding, Routes, rest_failure
from assetlane_server.rpc.web.statuses import Failure
from assetlane_server.rpc.web.stream import StreamConnection

_log = logging.getLogger(__name__)

_LIVENESS = "/livez"
_READINESS = "/readyz"
# A caller that sends these speaks no protocol of ours, or speaks it wrongly: the status of HTTP says it all.
_HTTP_ONLY = (ContentTypeRefused, HttpMethodRefused)


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """How much a request may be, and how long a reader may take nothing."""

    max_message_bytes: int
    stall_seconds: float


class Gateway:
    """The handler of every request of the web port."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        bindings: Iterable[Binding],
        access: WebAccess,
        limits: GatewayLimits,
        is_serving: Callable[[], bool],
    ) -> None:
        self._methods = methods
        self._routes = Routes(bindings, methods)
        self._access = access
        self._limits = limits
        self._is_serving = is_serving
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_stopping = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Returns the response of a request, written already."""
        path = _path_of(request)
        if request.method in ("GET", "HEAD") and path in (_LIVENESS, _READINESS):
            return self._health(path)  # load balancers ask by address
        self._begin_one()
        try:
            call = self._admitted(request, path)
            if isinstance(call, web.Response):
                return await self._send(request, call)
            response = await (self._stream(request, call) if call.method.is_stream else self._unary(request, call))
            return response if isinstance(response, StreamHead) else await self._send(request, response, call.cors)
        finally:
            self._end_one()

    def _begin_one(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _end_one(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def idle(self) -> None:
        """Waits until no request is in flight."""
        await self._idle.wait()

    def _admitted(self, request: web.BaseRequest, path: str) -> "_Call | web.Response":
        """Returns the call that a request asks for, or the response of one that is none or is refused."""
        content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
        cors: dict[str, str] = {}
        protocol: WebProtocol | None = None
        try:
            hosts = request.headers.getall(hdrs.HOST, ())
            if len(hosts) != 1:
                raise HostRefused(", ".join(hosts))
            self._access.check_host(hosts[0])
            if (authority := _authority_of(request)) is not None:
                self._access.check_host(authority)
            cors = self._access.headers_for(_joined(request, hdrs.ORIGIN), hosts[0])
            if request.method == "OPTIONS":
                preflight = self._access.preflight_headers if cors else {"allow": "GET, POST, DELETE"}
                return web.Response(status=204, headers=preflight | cors)
            if self.is_stopping:
                raise ShuttingDown
            method = self._methods.get(path)
            if method is None:
                rest = self._routes.find(request.method, path, _joined(request, hdrs.ACCEPT) or "")
                if rest is None:
                    raise MethodUnknown(path[:128])
                method, protocol = rest.method, rest
            elif request.method != "POST":
                raise HttpMethodRefused(request.method, ("POST",))
            else:
                protocol = protocol_of(content_type, method)
            seconds = seconds_given(request.headers)
        except Refusal as refusal:
            response = _refused(refusal, Failure.of_refusal(refusal, path), protocol, path, content_type)
            response.headers.update(cors)
            return response
        ends_at = None if seconds is None else asyncio.get_running_loop().time() + seconds
        return _Call(method, protocol, ends_at, cors)

    async def _unary(self, request: web.BaseRequest, call: "_Call") -> web.Response:
        context = WebContext(request.headers, self._reader(request, call), _peer_of(request), call.ends_at)
        handling = call.method.handler.stream_unary(None, context)
        message, failure = await _outcome(call.method.path, call.ends_at, handling)
        if failure is not None:
            return call.protocol.failed(failure, context.leading)
        return call.protocol.unary(message, context.leading, context.trailers)

    async def _stream(self, request: web.BaseRequest, call: "_Call") -> web.StreamResponse:
        """Returns the head of a stream that has begun, or the whole response of one that failed before.

        The stream has a task of its own, and goes on when nothing is left of the request.
        """
        began: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        context = _StreamContext(request, self._reader(request, call), call, began, self._limits.stall_seconds)
        task = asyncio.create_task(self._run(call.method, call.ends_at, context))
        try:
            return await began
        except asyncio.CancelledError:  # the connection is lost
            task.cancel()
            await asyncio.wait((task,))
            raise

    async def _run(self, method: Method, ends_at: float | None, context: "_StreamContext") -> None:
        self._begin_one()
        try:
            _, failure = await _outcome(method.path, ends_at, method.handler.stream_stream(None, context))
            await context.end(failure)
        except ReaderGone:
            pass  # and the interceptor has noted how the call ended
        except Exception as error:
            context.break_off(error)
        finally:
            context.settle()
            self._end_one()

    def _reader(self, request: web.BaseRequest, call: "_Call") -> Callable[[], Awaitable[Any]]:
        return partial(call.protocol.read, request, call.method, self._limits.max_message_bytes)

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, cors: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        if cors:
            response.headers.update(cors)
        if self.is_stopping:
            response.force_close()
        await _taken(request, response.prepare(request), self._limits.stall_seconds)
        await _taken(request, response.write_eof(), self._limits.stall_seconds)
        return response

    def _health(self, path: str) -> web.Response:
        if path == _LIVENESS:
            return web.Response(text="ALIVE\n")
        is_serving = self._is_serving() and not self.is_stopping
        return web.Response(text="SERVING\n") if is_serving else web.Response(status=503, text="NOT_SERVING\n")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that the gateway makes for a request."""

    method: Method
    protocol: WebProtocol
    ends_at: float | None
    """The caller's deadline, by the clock of the event loop."""
    cors: Mapping[str, str]


class StreamHead(web.StreamResponse):
    """The head of a stream's response. What follows goes past aiohttp, and so does the end."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Does nothing: the stream goes on."""


class _StreamContext(WebContext):
    """The context of a stream: its response begins with the first message, and nothing of the request is kept then."""

    __slots__ = ("_began", "_cors", "_protocol", "_request", "_stall_seconds", "_stream")

    def __init__(
        self,
        request: web.BaseRequest,
        read: Callable[[], Awaitable[Any]],
        call: _Call,
        began: asyncio.Future[web.StreamResponse],
        stall_seconds: float,
    ) -> None:
        super().__init__(request.headers, read, _peer_of(request), call.ends_at)
        self._request: web.BaseRequest | None = request
        self._protocol = call.protocol
        self._cors = call.cors
        self._began: asyncio.Future[web.StreamResponse] | None = began
        self._stream: StreamConnection | None = None
        self._stall_seconds = stall_seconds

    async def write(self, message: Any) -> None:
        """Sends a message. Raises ReaderGone."""
        data = self._protocol.message(message)
        stream = self._stream or await self._begin()
        await stream.send(data, self._stall_seconds)

    async def end(self, failure: Failure | None) -> None:
        """Ends the response, as one that failed before its first message where there was none. Raises ReaderGone."""
        if failure is not None and self._stream is None:
            self._respond(self._protocol.failed(failure, self.leading))
            return
        data = self._protocol.end(self.trailers) if failure is None else self._protocol.broken(failure)
        stream = self._stream or await self._begin()
        stream.end(data, self._stall_seconds)

    def break_off(self, error: Exception) -> None:
        """Ends what the gateway did not foresee."""
        if self._began is not None and not self._began.done():
            self._began.set_exception(error)  # it is logged where the response is sent
            return
        _log.error("the web gateway failed", exc_info=error)
        if self._stream is not None:
            self._stream.abort()

    def settle(self) -> None:
        """Makes sure that nobody waits for a response that does not come."""
        if self._began is not None:
            self._began.cancel()

    async def _begin(self) -> StreamConnection:
        request, task = self._request, asyncio.current_task()
        if request is None or task is None:
            raise ReaderGone("the connection is lost")
        head = StreamHead(headers=self._protocol.stream_headers(self.leading))
        head.headers.update(self._cors)
        head.force_close()  # what it has of a connection does not come back
        try:
            await head.prepare(request)
        except ConnectionError as error:
            raise ReaderGone(str(error)) from error
        connection: Any = request.protocol  # one of server.py
        self._stream = connection.hand_over(task, is_chunked=hdrs.TRANSFER_ENCODING in head.headers)
        self._respond(head)
        self._request = None
        self._cors = {}
        self.leading = ()
        self.forget_headers()
        return self._stream

    def _respond(self, response: web.StreamResponse) -> None:
        if self._began is not None and not self._began.done():
            self._began.set_result(response)
        self._began = None


async def _outcome(path: str, ends_at: float | None, handling: Awaitable[Any]) -> tuple[Any, Failure | None]:
    """Returns what a handler returns, and how it failed."""
    limit = asyncio.timeout_at(ends_at)
    try:
        async with limit:
            return await handling, None
    except CallAborted as aborted:
        return None, Failure.of(aborted)
    except TimeoutError:
        if not limit.expired():
            raise
        return None, Failure.of_refusal(DeadlinePassed(), path)


async def _taken(request: web.BaseRequest, writing: Awaitable[object], stall_seconds: float) -> None:
    """Waits until the connection has taken what is written. Cuts off a reader that takes nothing any more."""
    limit = asyncio.timeout(stall_seconds)
    try:
        async with limit:
            await writing
    except TimeoutError:
        if not limit.expired():
            raise
        if request.transport is not None:
            request.transport.abort()
        raise ReaderGone("the reader takes nothing any more") from None


def _refused(
    refusal: Refusal, failure: Failure, protocol: WebProtocol | None, path: str, content_type: str
) -> web.Response:
    """Returns a refusal in the form of the protocol that the caller speaks, as far as it is known."""
    if path.startswith(REST_PREFIX):
        response = rest_failure(failure)
    elif isinstance(refusal, _HTTP_ONLY):
        response = web.Response(status=failure.rest_status, text=f"{refusal.reason}: {refusal}\n")
    elif (form := protocol or protocol_for_refusal(content_type)) is None:
        response = rest_failure(failure)
    else:
        response = form.failed(failure)
        if response.headers[hdrs.CONTENT_TYPE] == "application/json":
            response.set_status(failure.rest_status)
    if isinstance(refusal, HttpMethodRefused):
        response.headers["allow"] = ", ".join(refusal.allowed)
    return response


def _joined(request: web.BaseRequest, name: str) -> str | None:
    """Returns a header's value; of several lines one, as if they were sent so (RFC 9110, 5.3). None without any."""
    values = request.headers.getall(name, None)
    return None if values is None else ", ".join(values)


def _path_of(request: web.BaseRequest) -> str:
    target = request.raw_path
    return (target if target.startswith("/") else request.rel_url.raw_path).partition("?")[0]


def _authority_of(request: web.BaseRequest) -> str | None:
    """Returns the host of a request line with a whole URL: it counts as the header does (RFC 9112, 3.2.2)."""
    scheme, colon, rest = request.raw_path.partition("://")
    return rest.partition("/")[0].partition("?")[0] if colon and scheme.isalpha() else None


def _peer_of(request: web.BaseRequest) -> str:
    name = None if request.transport is None else request.transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if name else "gone"
