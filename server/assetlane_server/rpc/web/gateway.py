"""Serves one request: who may send it, which call it is, and its answer in the protocol's own form."""

import asyncio
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
        self._in_flight += 1
        self._idle.clear()
        try:
            call = self._admitted(request, path)
            if isinstance(call, web.Response):
                return await self._send(request, call)
            return await self._call(request, call)
        finally:
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
            cors = self._access.headers_for(request.headers.get(hdrs.ORIGIN), hosts[0])
            if request.method == "OPTIONS":
                preflight = self._access.preflight_headers if cors else {"allow": "GET, POST, DELETE"}
                return web.Response(status=204, headers=preflight | cors)
            if self.is_stopping:
                raise ShuttingDown
            method = self._methods.get(path)
            if method is None:
                rest = self._routes.find(request.method, path, request.headers.get(hdrs.ACCEPT, ""))
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

    async def _call(self, request: web.BaseRequest, call: "_Call") -> web.StreamResponse:
        context = _Context(request, call, self._limits)
        handler, protocol = call.method.handler, call.protocol
        limit = asyncio.timeout_at(call.ends_at)
        try:
            async with limit:
                if call.method.is_stream:
                    await handler.stream_stream(None, context)
                    return await context.end(protocol.end(context.trailers))
                message = await handler.stream_unary(None, context)
                response = protocol.unary(message, context.leading, context.trailers)
        except CallAborted as aborted:
            failure = Failure.of(aborted)
        except TimeoutError:
            if not limit.expired():
                raise
            failure = Failure.of_refusal(DeadlinePassed(), call.method.path)
        else:
            return await self._send(request, response, call.cors)
        if context.has_begun:
            return await context.end(protocol.broken(failure))
        return await self._send(request, protocol.failed(failure, context.leading), call.cors)

    async def _send(
        self, request: web.BaseRequest, response: web.Response, cors: Mapping[str, str] | None = None
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


class _Context(WebContext):
    """The context of a call, which writes the messages of a stream: its response begins with the first of them."""

    __slots__ = ("_call", "_request", "_response", "_stall_seconds")

    def __init__(self, request: web.BaseRequest, call: _Call, limits: GatewayLimits) -> None:
        read = partial(call.protocol.read, request, call.method, limits.max_message_bytes)
        super().__init__(request.headers, read, _peer_of(request), call.ends_at)
        self._request = request
        self._call = call
        self._response: web.StreamResponse | None = None
        self._stall_seconds = limits.stall_seconds

    @property
    def has_begun(self) -> bool:
        """Whether the head of a stream's response was written."""
        return self._response is not None

    async def write(self, message: Any) -> None:
        """Sends a message. Raises ReaderGone."""
        try:
            await self._send(self._response or await self._begin(), self._call.protocol.message(message))
        except ReaderGone:
            raise
        except ConnectionError as error:
            raise ReaderGone(str(error)) from error

    async def end(self, data: bytes) -> web.StreamResponse:
        """Sends what follows the last message, and ends the response."""
        response = self._response or await self._begin()
        await self._send(response, data)
        await _taken(self._request, response.write_eof(), self._stall_seconds)
        return response

    async def _begin(self) -> web.StreamResponse:
        connection: Any = self._request.protocol  # one of server.py
        connection.begin_stream()
        response = web.StreamResponse(headers=self._call.protocol.stream_headers(self.leading))
        response.headers.update(self._call.cors)
        await response.prepare(self._request)
        response.headers.clear()  # they are written, and a watch stays for hours
        self._response = response
        return response

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        if data:
            await _taken(self._request, response.write(data), self._stall_seconds)


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
