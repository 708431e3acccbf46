"""The web port: connections and their limits, TLS that follows its files, and its way of stopping."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from assetlane_server.model.errors import NotReady
from assetlane_server.rpc.refusals import HeadTooLarge, HttpMalformed
from assetlane_server.rpc.tls import Tls
from assetlane_server.rpc.web.access import WebAccess
from assetlane_server.rpc.web.calls import ReaderGone
from assetlane_server.rpc.web.gateway import Gateway, GatewayLimits
from assetlane_server.rpc.web.statuses import Failure
from assetlane_server.rpc.web.stream import StreamConnection, StreamTask

# As the gRPC port's metadata: room for a token of 16 KiB that is too large, so that it is refused with a reason.
MAX_HEAD_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024
_MAX_HEADERS = 100
_IDLE_S = 75.0  # between two requests of one connection
_LINGERING_S = 2.0  # in which the rest of a refused body is read, so that the answer arrives
_CUT_OFF_S = 1.0
_BACKLOG = 1024
_SERVER_ERROR = 500
_HEAD_TOO_LARGE = HeadTooLarge(MAX_HEAD_BYTES, _MAX_LINE_BYTES)
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b"
)


@dataclass(frozen=True, slots=True)
class WebTerms:
    """What the settings say about the web port."""

    listen: str
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    max_message_bytes: int
    max_connections: int
    head_seconds: float
    """Time that the head of a request has to arrive, from the connection's begin on or its first byte."""
    silent_seconds: float
    """Time after which a peer that acknowledges nothing is given up, and a reader that takes nothing is."""
    handshake_seconds: float
    shares_port: bool


class WebServer:
    """A web port that listens. `port` is the one in use, also when 0 was asked for."""

    def __init__(self, gateway: Gateway, connections: "_Connections", listener: asyncio.Server, port: int) -> None:
        self._gateway = gateway
        self._connections = connections
        self._listener = listener
        self.port = port

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._connections.count

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new call, gives those in flight that long, then ends them."""
        self._gateway.is_stopping = True
        self._listener.close()
        self._connections.close_idle()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._gateway.idle()
        except TimeoutError:
            pass  # cut off below, and logged by the caller
        await self._connections.shutdown(_CUT_OFF_S)


@asynccontextmanager
async def web_serving(gateway: Gateway, terms: WebTerms, tls: Tls | None) -> AsyncIterator[WebServer]:
    """Listens until the block ends. Raises NotReady if the address cannot be had."""
    connections = _Connections(gateway, terms)
    host, _, port = terms.listen.rpartition(":")
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl": following_context(tls), "ssl_handshake_timeout": terms.handshake_seconds}
    try:
        listener = await asyncio.get_running_loop().create_server(
            connections, host.strip("[]"), int(port), backlog=_BACKLOG, reuse_port=terms.shares_port or None, **options
        )
    except OSError as error:
        fault = f"cannot listen on {terms.listen}: {error.strerror or error}"
        raise NotReady.of_setting("ASSETLANE_WEB_LISTEN", "CANNOT_LISTEN", fault) from error
    server = WebServer(gateway, connections, listener, listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        await server.stop(0)


def gateway_limits(terms: WebTerms) -> GatewayLimits:
    """Returns the limits of one request."""
    return GatewayLimits(max_message_bytes=terms.max_message_bytes, stall_seconds=terms.silent_seconds)


def web_access(terms: WebTerms) -> WebAccess:
    """Returns who may call."""
    return WebAccess(origins=terms.origins, hosts=terms.hosts)


def following_context(tls: Tls) -> ssl.SSLContext:
    """Returns a context for a listener whose handshakes take the newest certificate that `tls` has read."""
    outer = tls.ssl_context

    def choose(connection: ssl.SSLObject, _name: str | None, _outer: ssl.SSLContext) -> None:
        connection.context = tls.ssl_context

    outer.sni_callback = choose
    return outer


class _Connections(web.Server):
    """Makes the protocol of each new connection. The newest is closed when there are too many."""

    def __init__(self, gateway: Gateway, terms: WebTerms) -> None:
        super().__init__(gateway.handle, handler_cancellation=True)
        self.terms = terms
        self._streams: set[StreamConnection] = set()
        self._no_stream = asyncio.Event()
        self._no_stream.set()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self)

    @property
    def count(self) -> int:
        """How many connections are open, those of streams included."""
        return len(self._connections) + len(self._streams)

    def close_idle(self) -> None:
        """Closes those that wait for a request."""
        for connection in self.connections:
            if isinstance(connection, _Connection) and connection.is_waiting:
                connection.close()

    def taken_over(self, connection: "_Connection", stream: StreamConnection) -> None:
        """Counts a connection as that of a stream from now on."""
        del self._connections[connection]
        self._streams.add(stream)
        self._no_stream.clear()

    def stream_lost(self, stream: StreamConnection) -> None:
        """Counts it no more."""
        self._streams.discard(stream)
        if not self._streams:
            self._no_stream.set()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Ends what is left; what is being sent of streams that ended has that long to go out."""
        tasks = [stream.task for stream in self._streams]
        for stream in tuple(self._streams):
            if not stream.is_ending:
                stream.abort()
        await super().shutdown(timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._no_stream.wait()
        except TimeoutError:
            for stream in tuple(self._streams):
                stream.abort()
            await self._no_stream.wait()
        if tasks:
            await asyncio.wait(tasks)


class _Connection(web.RequestHandler):
    """One connection: its head is limited in bytes and time, and a peer that vanished is noticed."""

    __slots__ = ("_head_bytes", "_head_timer", "_terms")

    def __init__(self, connections: _Connections) -> None:
        super().__init__(
            connections,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            keepalive_timeout=_IDLE_S,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=_MAX_HEADERS,
            lingering_time=_LINGERING_S,
            auto_decompress=False,  # it knows no limit of what comes out
        )
        self._terms = connections.terms
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for the head of a request."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a connection, or closes it when there are too many."""
        super().connection_made(transport)
        manager = self._manager
        if isinstance(manager, _Connections) and manager.count > self._terms.max_connections:
            self.force_close()
            return
        _notice_silence(transport.get_extra_info("socket"), self._terms.silent_seconds)
        self._limit_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends what it serves."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes in bytes; while they are a head, within its limits."""
        was_waiting = self.is_waiting
        super().data_received(data)
        if not self.is_waiting:
            self._head_arrived()
        elif was_waiting:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._limit_head()
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def hand_over(self, task: StreamTask, *, is_chunked: bool) -> StreamConnection:
        """Gives the connection to a stream whose head is written, and keeps nothing of it. Raises ReaderGone.

        A client that has sent more meanwhile than is read ahead is cut off.
        """
        transport, manager = self.transport, self._manager
        if transport is None or not isinstance(manager, _Connections):
            raise ReaderGone("the connection is lost")
        if not transport.is_reading():
            self.force_close()
            raise ReaderGone("the client sends on and on")
        stream = StreamConnection(
            transport, task, manager.stream_lost, is_chunked=is_chunked, is_paused=self.writing_paused
        )
        transport.set_protocol(stream)
        manager.taken_over(self, stream)
        self.keep_alive(False)  # and no timer holds it
        self.close()  # there is no next request
        self.transport = None
        self._parser = None  # each refers to the other: it would stay until the garbage is collected
        return stream

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers what is no HTTP, in JSON and without quoting it; logs what the gateway did not foresee."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client is gone
        if status >= _SERVER_ERROR:
            self.log_exception("the web gateway failed", exc_info=exc)
            failure = Failure(grpc.StatusCode.INTERNAL, "Something is wrong in the server.", ())
        elif isinstance(exc, LineTooLong):
            failure = Failure.of_refusal(_HEAD_TOO_LARGE, "")
        else:
            failure = Failure.of_refusal(HttpMalformed(_MAX_HEADERS), "")
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun, and cannot end in order")
        response = web.json_response(failure.rest_json(), status=failure.rest_status)
        response.force_close()
        return response

    def _limit_head(self) -> None:
        self._head_timer = self._loop.call_later(self._terms.head_seconds, self._head_is_late)

    def _head_arrived(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.is_waiting:
            self.force_close()

    def _refuse_head(self) -> None:
        transport = self.transport
        if transport is not None:
            failure = Failure.of_refusal(_HEAD_TOO_LARGE, "")
            body = json.dumps(failure.rest_json()).encode()
            transport.write(_TOO_LARGE % (len(body), body))
        self.force_close()


def _notice_silence(connection: socket.socket | None, seconds: float) -> None:
    """Has the kernel give up a peer that acknowledges nothing, also where nothing is being sent."""
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    half = max(1, round(seconds / 2))
    values = (("TCP_KEEPIDLE", half), ("TCP_KEEPINTVL", max(1, half // 3)), ("TCP_KEEPCNT", 3))
    for name, value in (*values, ("TCP_USER_TIMEOUT", round(seconds * 1000))):
        if (option := getattr(socket, name, None)) is not None:  # macOS names or lacks some
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
