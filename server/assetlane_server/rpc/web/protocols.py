"""gRPC-Web and Connect: how a request is read, and how messages, the end and a failure are written.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md and https://connectrpc.com/docs/protocol
"""

import base64
import json
import struct
from typing import Any, Protocol

from aiohttp import web
from multidict import CIMultiDict
from typing_extensions import override

from assetlane_server.rpc.refusals import ContentTypeRefused
from assetlane_server.rpc.web.body import PREFIX_BYTES, body_of, envelope_in_text, inflated, message_in_envelope
from assetlane_server.rpc.web.calls import Method, Trailers, header_value
from assetlane_server.rpc.web.codecs import decode, encode
from assetlane_server.rpc.web.statuses import Failure

_ENVELOPE = struct.Struct(">BI")
_END_OF_CONNECT = 0x02
_TRAILERS_OF_GRPC_WEB = 0x80
# Proxies must keep nothing and hold nothing back.
_UNSTORED = {"cache_control": "no-store"}
_HEADERS = {**_UNSTORED, "x_accel_buffering": "no"}


class WebProtocol(Protocol):
    """One way to write a call over HTTP. An object of it serves one call."""

    __slots__ = ()  # adds nothing to what implements it

    async def read(self, request: web.BaseRequest, method: Method, max_bytes: int) -> Any:
        """Returns the request message, or a Refusal in its place. Raises the gateway's refusals."""
        ...

    def unary(self, message: Any, leading: Trailers, trailers: Trailers) -> web.Response:
        """Returns the response with the one message of a unary call."""
        ...

    def failed(self, failure: Failure, leading: Trailers = ()) -> web.Response:
        """Returns the response of a call that failed before it had a message."""
        ...

    def stream_headers(self, leading: Trailers) -> CIMultiDict[str]:
        """Returns the headers of a response with several messages."""
        ...

    def message(self, message: Any) -> bytes:
        """Returns one of several messages."""
        ...

    def end(self, trailers: Trailers) -> bytes:
        """Returns what follows the last message of a stream that ended in order; it may be empty."""
        ...

    def broken(self, failure: Failure) -> bytes:
        """Returns what follows the last message of a stream that failed."""
        ...


class GrpcWeb(WebProtocol):
    """gRPC-Web, binary and in base64, with protobuf or JSON in it."""

    __slots__ = ("_content_type", "_is_json", "_is_text")

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._is_text = content_type.startswith("application/grpc-web-text")
        self._is_json = content_type.endswith("+json")

    @override
    async def read(self, request: web.BaseRequest, method: Method, max_bytes: int) -> Any:
        limit = max_bytes + PREFIX_BYTES
        body = await body_of(request, limit * 4 // 3 + 16 if self._is_text else limit)
        if self._is_text:
            body = envelope_in_text(body)
        data = message_in_envelope(body, max_bytes, request.headers.get("grpc-encoding", ""))
        return await decode(method, data, max_bytes, is_json=self._is_json)

    @override
    def unary(self, message: Any, leading: Trailers, trailers: Trailers) -> web.Response:
        return web.Response(body=self.message(message) + self.end(trailers), headers=self.stream_headers(leading))

    @override
    def failed(self, failure: Failure, leading: Trailers = ()) -> web.Response:
        return web.Response(body=self.broken(failure), headers=self.stream_headers(leading))

    @override
    def stream_headers(self, leading: Trailers) -> CIMultiDict[str]:
        return _headers(leading, **_HEADERS, content_type=self._content_type)

    @override
    def message(self, message: Any) -> bytes:
        return self._frame(0, encode(message, is_json=self._is_json))

    @override
    def end(self, trailers: Trailers) -> bytes:
        lines = ["grpc-status: 0", *(f"{name}: {header_value(value)}" for name, value in trailers)]
        return self._frame(_TRAILERS_OF_GRPC_WEB, _block(lines))

    @override
    def broken(self, failure: Failure) -> bytes:
        return self._frame(_TRAILERS_OF_GRPC_WEB, _block(failure.trailer_lines()))

    def _frame(self, flags: int, data: bytes) -> bytes:
        frame = _ENVELOPE.pack(flags, len(data)) + data
        return base64.b64encode(frame) if self._is_text else frame


class ConnectUnary(WebProtocol):
    """Connect for a unary method. Its body is the message itself."""

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._is_json = content_type == "application/json"

    @override
    async def read(self, request: web.BaseRequest, method: Method, max_bytes: int) -> Any:
        body = await body_of(request, max_bytes)
        data = inflated(body, request.headers.get("content-encoding", ""), max_bytes)
        return await decode(method, data, max_bytes, is_json=self._is_json)

    @override
    def unary(self, message: Any, leading: Trailers, trailers: Trailers) -> web.Response:
        headers = _headers((*leading, *_as_headers(trailers)), **_UNSTORED, content_type=self._content_type)
        return web.Response(body=encode(message, is_json=self._is_json), headers=headers)

    @override
    def failed(self, failure: Failure, leading: Trailers = ()) -> web.Response:
        metadata = (*leading, *_as_headers(failure.metadata))
        headers = _headers(metadata, **failure.rest_headers, **_UNSTORED, content_type="application/json")
        body = json.dumps(failure.connect_json()).encode()
        return web.Response(status=failure.http_status, body=body, headers=headers)

    # A unary method has no stream.

    @override
    def stream_headers(self, leading: Trailers) -> CIMultiDict[str]:
        raise NotImplementedError

    @override
    def message(self, message: Any) -> bytes:
        raise NotImplementedError

    @override
    def end(self, trailers: Trailers) -> bytes:
        raise NotImplementedError

    @override
    def broken(self, failure: Failure) -> bytes:
        raise NotImplementedError


class ConnectStream(WebProtocol):
    """Connect for a method that streams."""

    __slots__ = ("_content_type", "_is_json")

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._is_json = content_type.endswith("+json")

    @override
    async def read(self, request: web.BaseRequest, method: Method, max_bytes: int) -> Any:
        body = await body_of(request, max_bytes + PREFIX_BYTES)
        data = message_in_envelope(body, max_bytes, request.headers.get("connect-content-encoding", ""))
        return await decode(method, data, max_bytes, is_json=self._is_json)

    @override
    def unary(self, message: Any, leading: Trailers, trailers: Trailers) -> web.Response:
        return web.Response(body=self.message(message) + self.end(trailers), headers=self.stream_headers(leading))

    @override
    def failed(self, failure: Failure, leading: Trailers = ()) -> web.Response:
        return web.Response(body=self.broken(failure), headers=self.stream_headers(leading))

    @override
    def stream_headers(self, leading: Trailers) -> CIMultiDict[str]:
        return _headers(leading, **_HEADERS, content_type=self._content_type)

    @override
    def message(self, message: Any) -> bytes:
        data = encode(message, is_json=self._is_json)
        return _ENVELOPE.pack(0, len(data)) + data

    @override
    def end(self, trailers: Trailers) -> bytes:
        return self._end({"metadata": _lists(trailers)} if trailers else {})

    @override
    def broken(self, failure: Failure) -> bytes:
        end: dict[str, Any] = {"error": failure.connect_json()}
        if failure.metadata:
            end["metadata"] = _lists(failure.metadata)
        return self._end(end)

    def _end(self, end: dict[str, Any]) -> bytes:
        data = json.dumps(end).encode()
        return _ENVELOPE.pack(_END_OF_CONNECT, len(data)) + data


_GRPC_WEB_TYPES = frozenset(
    f"application/grpc-web{text}{codec}" for text in ("", "-text") for codec in ("", "+proto", "+json")
)
_CONNECT_UNARY_TYPES = ("application/proto", "application/json")
_CONNECT_STREAM_TYPES = ("application/connect+proto", "application/connect+json")


def protocol_of(content_type: str, method: Method) -> WebProtocol:
    """Returns the protocol of a call by the type of its body. Raises ContentTypeRefused."""
    bare = content_type.partition(";")[0].strip().lower()
    if bare in _GRPC_WEB_TYPES:
        return GrpcWeb(bare)
    types = _CONNECT_STREAM_TYPES if method.is_stream else _CONNECT_UNARY_TYPES
    if bare not in types:
        raise ContentTypeRefused(bare[:128], (*types, "application/grpc-web+proto"))
    return ConnectStream(bare) if method.is_stream else ConnectUnary(bare)


def protocol_for_refusal(content_type: str) -> WebProtocol | None:
    """Returns the form in which a caller with this type of body is refused; None: it is no protocol's."""
    bare = content_type.partition(";")[0].strip().lower()
    if bare in _GRPC_WEB_TYPES:
        return GrpcWeb(bare)
    if bare in _CONNECT_STREAM_TYPES:
        return ConnectStream(bare)
    return ConnectUnary("application/json") if bare in _CONNECT_UNARY_TYPES else None


def _block(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def _as_headers(trailers: Trailers) -> Trailers:
    return tuple((f"trailer-{name}", value) for name, value in trailers)


def _headers(metadata: Trailers, **fixed: str) -> CIMultiDict[str]:
    """Returns metadata as headers, and fixed ones whose names have `_` for `-`."""
    headers = CIMultiDict((name, header_value(value)) for name, value in metadata)
    headers.update({name.replace("_", "-"): value for name, value in fixed.items()})
    return headers


def _lists(metadata: Trailers) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in metadata:
        lists.setdefault(name, []).append(header_value(value))
    return lists
