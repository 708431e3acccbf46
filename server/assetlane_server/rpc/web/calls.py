"""A call that came over HTTP, in the form in which the interceptor and its handlers expect one of gRPC."""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from grpc import aio
from multidict import CIMultiDict, CIMultiDictProxy

from assetlane_server.model.errors import Refusal
from assetlane_server.rpc.observation import Metadata
from assetlane_server.rpc.refusals import FieldRefused

Trailers: TypeAlias = tuple[tuple[str, str | bytes], ...]

_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
_CONNECT_TIMEOUT = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Method:
    """One method that is served: its wrapped handler, and the class of its request."""

    path: str
    handler: Any
    request_class: type[Message]

    @property
    def is_stream(self) -> bool:
        """Whether it answers with several messages."""
        return bool(self.handler.response_streaming)


class Recorder:
    """Takes what `add_…Servicer_to_server` gives a server, and wraps it as the gRPC port does."""

    def __init__(self, wrap: Callable[[Any, str], Any]) -> None:
        self._wrap = wrap
        self.methods: dict[str, Method] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Does nothing: the same handlers come registered as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Takes the handlers of one service; those that take a stream of their client are not served here."""
        pool: Any = descriptor_pool.Default()
        for name, handler in handlers.items():
            if handler.request_streaming:
                continue
            path = f"/{service}/{name}"
            request_class = message_factory.GetMessageClass(pool.FindMethodByName(f"{service}.{name}").input_type)
            self.methods[path] = Method(path, self._wrap(handler, path), request_class)


class CallAborted(aio.AbortError):
    """A call that ends with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str, trailers: Trailers) -> None:
        self.code = code
        self.message = message
        self.trailers = trailers
        super().__init__(message)


class ReaderGone(aio.BaseError, ConnectionResetError):  # noqa: N818 - named as CallAborted is
    """The reader of a response went away, or takes nothing any more: for gRPC's handlers and for aiohttp."""


class WebContext:
    """What the interceptor and handlers use of gRPC's context, for a call over HTTP."""

    __slots__ = ("_ends_at", "_headers", "_peer", "_read", "leading", "trailers")

    def __init__(
        self, headers: CIMultiDictProxy[str], read: Callable[[], Awaitable[Any]], peer: str, ends_at: float | None
    ) -> None:
        """`read` returns the request message, a Refusal in its place, or EOF; it is awaited once.

        `ends_at` is the caller's deadline by the clock of the event loop.
        """
        self._headers = headers
        self._read: Callable[[], Awaitable[Any]] | None = read
        self._peer = peer
        self._ends_at = ends_at
        self.leading: Trailers = ()
        self.trailers: Trailers = ()

    def invocation_metadata(self) -> Metadata:
        """Returns the headers of the request, in a form that is not kept."""
        return metadata_of(self._headers)

    def forget_headers(self) -> None:
        """Lets go of the headers: a watch stays for hours, and who calls is known."""
        self._headers = _NO_HEADERS

    def peer(self) -> str:
        """Returns where the connection comes from, with its port: each connection is a peer of its own."""
        return self._peer

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None: there is none."""
        return None if self._ends_at is None else self._ends_at - asyncio.get_running_loop().time()

    async def read(self) -> Any:
        """Returns the request message, then EOF."""
        read, self._read = self._read, None
        if read is None:
            return aio.EOF
        try:
            return await read()
        except Refusal as refusal:
            return refusal

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Takes the headers of the response."""
        self.leading = tuple(metadata)

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        """Takes the trailers of the response."""
        self.trailers = tuple(metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with this status."""
        raise CallAborted(code, details, tuple(trailing_metadata) or self.trailers)


def metadata_of(headers: CIMultiDictProxy[str]) -> Metadata:
    """Returns headers as gRPC hands them over: names in lower case, and bytes where a name ends with `-bin`."""
    return tuple((name, _binary(value) if name.endswith("-bin") else value) for name, value in _lowered(headers))


def seconds_given(headers: CIMultiDictProxy[str]) -> float | None:
    """Returns how long the caller waits, None where the call says nothing. Raises FieldRefused for what is no time."""
    if (text := headers.get("grpc-timeout")) is not None:
        match = _GRPC_TIMEOUT.fullmatch(text)
        if match is None:
            raise FieldRefused("grpc-timeout", "must be 1 to 8 digits and one of H, M, S, m, u, n")
        return int(match[1]) * _UNITS_S[match[2]]
    if (text := headers.get("connect-timeout-ms")) is not None:
        if _CONNECT_TIMEOUT.fullmatch(text) is None:
            raise FieldRefused("connect-timeout-ms", "must be 1 to 10 digits")
        return int(text) / 1000
    return None


def header_value(value: str | bytes) -> str:
    """Returns metadata as a header carries it: bytes in base64, and nothing that would begin another header."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode().rstrip("=")
    return value.replace("\r", " ").replace("\n", " ")


def _lowered(headers: CIMultiDictProxy[str]) -> Any:
    return ((name.lower(), value) for name, value in headers.items())


def _binary(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
