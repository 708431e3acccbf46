"""Both ways in for bytes that may be any message: the gRPC port, and the web gateway by gRPC-Web."""

import struct
from http.client import HTTPConnection
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
from google.protobuf.descriptor import MethodDescriptor
from tests.web_gateway.channels import TRAILERS, outcome

Metadata = tuple[tuple[str, str], ...]


class ServerCaller(Protocol):
    """Makes calls of one server, one at a time."""

    def first_answer(self, method: MethodDescriptor, request: bytes, metadata: Metadata, limit_s: float) -> bytes:
        """Sends a request; returns the answer, of a stream the first. Raises grpc.RpcError."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


class GrpcCaller:
    """See Door: the gRPC port."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)

    def first_answer(self, method: MethodDescriptor, request: bytes, metadata: Metadata, limit_s: float) -> bytes:
        """See Door."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        if not method.server_streaming:
            call: Any = self._channel.unary_unary(path)
            return bytes(call(request, metadata=metadata, timeout=limit_s))
        begin: Any = self._channel.unary_stream(path)
        watch = begin(request, metadata=metadata, timeout=limit_s)
        answer = bytes(next(watch))
        watch.cancel()
        return answer

    def close(self) -> None:
        """See Door."""
        self._channel.close()


class WebCaller:
    """See Door: the web gateway. A connection is kept, but for the streams that are left."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._connection: HTTPConnection | None = None

    def first_answer(self, method: MethodDescriptor, request: bytes, metadata: Metadata, limit_s: float) -> bytes:
        """See Door."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        headers = {"content-type": "application/grpc-web+proto", "grpc-timeout": f"{int(limit_s)}S", **dict(metadata)}
        if self._connection is None:
            self._connection = HTTPConnection(self._host, timeout=2 * limit_s)
        self._connection.request("POST", path, struct.pack(">BI", 0, len(request)) + request, headers)
        response = self._connection.getresponse()
        assert response.status == 200, response.read()
        flags, data = self._frame(response)
        if flags & TRAILERS:
            response.read()
            error = outcome(data)
            assert error is not None, "OK without a message"
            raise error
        if method.server_streaming:
            self.close()
        else:
            flags, trailers = self._frame(response)
            assert flags & TRAILERS
            assert outcome(trailers) is None
            response.read()
        return data

    @staticmethod
    def _frame(response: Any) -> tuple[int, bytes]:
        prefix = response.read(5)
        size = int.from_bytes(prefix[1:])
        data = response.read(size)
        assert (len(prefix), len(data)) == (5, size), "the frame breaks off"
        return prefix[0], data

    def close(self) -> None:
        """See Door."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
