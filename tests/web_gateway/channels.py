"""A channel over gRPC-Web, in the place of grpc.aio's: generated stubs call through the web gateway.

So whole suites that were written for the gRPC port run again on the web port.
"""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any
from urllib.parse import unquote

import aiohttp
import grpc
from grpc import aio

CODES = {code.value[0]: code for code in grpc.StatusCode}
TRAILERS = 0x80


class WebChannel:
    """Makes the calls of generated stubs over gRPC-Web."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        """Returns what makes a unary call."""

        def call(request: Any, *, metadata: Any = (), timeout: float | None = None) -> Any:
            return WebCall(self, path, request_serializer(request), response_deserializer, metadata, timeout)

        return call

    def unary_stream(self, path: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Any:
        """Returns what makes a call that streams."""

        def call(request: Any, *, metadata: Any = (), timeout: float | None = None) -> Any:
            return WebStream(self, path, request_serializer(request), response_deserializer, metadata, timeout)

        return call

    async def frames(
        self, path: str, message: bytes, metadata: Any, timeout: float | None
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yields flags and data of each frame of a response."""
        headers = [("content-type", "application/grpc-web+proto"), *metadata]
        if timeout is not None:
            headers.append(("grpc-timeout", f"{int(timeout * 1000)}m"))
        body = struct.pack(">BI", 0, len(message)) + message
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self._session.post(self._url + path, data=body, headers=headers, timeout=limit) as response:
            assert response.status == 200, await response.text()
            if "grpc-status" in response.headers:  # a proxy may have made headers of trailers
                lines = [f"{name}: {value}\r\n" for name, value in response.headers.items()]
                yield TRAILERS, "".join(lines).encode()
                return
            while True:
                try:
                    prefix = await response.content.readexactly(5)
                except asyncio.IncompleteReadError:
                    return
                yield prefix[0], await response.content.readexactly(int.from_bytes(prefix[1:]))


def outcome(data: bytes) -> Any:
    """Returns the error that a trailer frame stands for, None for OK."""
    lines = [line.partition(":") for line in data.decode().split("\r\n") if line]
    fields = [(name.strip().lower(), value.strip()) for name, _, value in lines]
    values = dict(fields)
    code = CODES[int(values["grpc-status"])]
    if code is grpc.StatusCode.OK:
        return None
    trailing = aio.Metadata()
    for name, value in fields:
        if name.endswith("-bin"):
            trailing.add(name, base64.b64decode(value + "=" * (-len(value) % 4)))
        elif name not in ("grpc-status", "grpc-message"):
            trailing.add(name, value)
    return aio.AioRpcError(code, aio.Metadata(), trailing, details=unquote(values.get("grpc-message", "")))


class WebCall:
    """A unary call. Awaiting it makes it."""

    def __init__(
        self, channel: WebChannel, path: str, message: bytes, parse: Callable[[bytes], Any], metadata: Any,
        timeout: float | None,
    ) -> None:  # fmt: skip
        self._frames = channel.frames(path, message, metadata or (), timeout)
        self._parse = parse

    def __await__(self) -> Generator[Any, None, Any]:
        """Returns the response. Raises AioRpcError."""
        return self._answer().__await__()

    async def _answer(self) -> Any:
        answer = None
        async for flags, data in self._frames:
            if not flags & TRAILERS:
                answer = self._parse(data)
            elif (error := outcome(data)) is not None:
                raise error
        return answer


class WebStream:
    """A call that streams: `read`, `async for` and `cancel` as grpc.aio has them."""

    def __init__(
        self, channel: WebChannel, path: str, message: bytes, parse: Callable[[bytes], Any], metadata: Any,
        timeout: float | None,
    ) -> None:  # fmt: skip
        self._frames = channel.frames(path, message, metadata or (), timeout)
        self._parse = parse
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> Any:
        """Returns the next message, or EOF. Raises AioRpcError."""
        async for flags, data in self._frames:
            if not flags & TRAILERS:
                return self._parse(data)
            if (error := outcome(data)) is not None:
                raise error
            return aio.EOF
        raise AssertionError("the stream ended without its trailers")

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yields the messages until the end. Raises AioRpcError."""
        while (message := await self.read()) is not aio.EOF:
            yield message

    def cancel(self) -> None:
        """Leaves the stream, as a closed tab does."""

        async def close() -> None:
            await self._frames.aclose()  # type: ignore[attr-defined]  # of a generator

        self._closing = asyncio.create_task(close())
