"""The server under test of `connectconformance`: its service behind our gateway and our interceptor.

Started once for each combination of features: reads a ServerCompatRequest from stdin, writes where it serves to stdout,
serves until it is ended. Its first argument is the folder of the generated stubs. It imports little: the runner gives
it a few seconds to start, on a busy machine too.
"""

import asyncio
import base64
import os
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status

from assetlane_server.rpc import interceptor
from assetlane_server.rpc.errors import Answer, answer_to
from assetlane_server.rpc.interceptor import wrapped_probe
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.tls import Tls
from assetlane_server.rpc.web import statuses
from assetlane_server.rpc.web.calls import Recorder
from assetlane_server.rpc.web.gateway import Gateway
from assetlane_server.rpc.web.server import WebTerms, gateway_limits, web_access, web_serving
from assetlane_server.telemetry.instruments import Instruments

sys.path.insert(0, sys.argv[1])

from connectrpc.conformance.v1 import (  # type: ignore[import-not-found]
    server_compat_pb2,
    service_pb2,
    service_pb2_grpc,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}
_NO_LIMIT = 2**22


@dataclass(frozen=True)
class Material:
    """See rpc.tls.Material."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


class Conformance(service_pb2_grpc.ConformanceServiceServicer):  # type: ignore[misc]  # generated when it runs
    """Answers as each request defines."""

    async def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns one message, or the error."""
        return service_pb2.UnaryResponse(payload=await self._unary(request, context))

    async def IdempotentUnary(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The same."""
        return service_pb2.IdempotentUnaryResponse(payload=await self._unary(request, context))

    async def _unary(self, request: Any, context: Any) -> Any:
        definition = request.response_definition
        info = info_of(request, context)
        await context.send_initial_metadata(metadata_of(definition.response_headers))
        context.set_trailing_metadata(metadata_of(definition.response_trailers))
        await asyncio.sleep(definition.response_delay_ms / 1000)
        if definition.WhichOneof("response") == "error":
            await fail(context, definition, info)
        return service_pb2.ConformancePayload(data=definition.response_data, request_info=info)

    async def Unimplemented(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Is not there."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not implemented")

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Yields the messages, then the error if there is one."""
        definition = request.response_definition
        info = info_of(request, context)
        await context.send_initial_metadata(metadata_of(definition.response_headers))
        context.set_trailing_metadata(metadata_of(definition.response_trailers))
        for number, data in enumerate(definition.response_data):
            await asyncio.sleep(definition.response_delay_ms / 1000)
            payload = service_pb2.ConformancePayload(data=data, request_info=info if number == 0 else None)
            yield service_pb2.ServerStreamResponse(payload=payload)
        if definition.HasField("error"):
            await fail(context, definition, None if definition.response_data else info)


def info_of(request: Any, context: Any) -> Any:
    """Returns what came."""
    info = service_pb2.ConformancePayload.RequestInfo()
    values: dict[str, list[str]] = {}
    for name, value in context.invocation_metadata():
        text = base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value
        values.setdefault(name, []).append(text)
    for name, texts in values.items():
        info.request_headers.add(name=name, value=texts)
    if (left_s := context.time_remaining()) is not None:
        info.timeout_ms = round(left_s * 1000)
    whole = AnyMessage()
    whole.Pack(request)
    info.requests.append(whole)
    return info


def metadata_of(headers: Any) -> list[tuple[str, str | bytes]]:
    """Returns headers as gRPC's metadata."""
    pairs = [(header.name.lower(), value) for header in headers for value in header.value]
    return [
        (name, base64.b64decode(value + "=" * (-len(value) % 4)) if name.endswith("-bin") else value)
        for name, value in pairs
    ]


async def fail(context: Any, definition: Any, info: Any) -> None:
    """Ends the call with the error of a definition, and with what came."""
    error = definition.error
    status = Status(code=error.code, message=error.message, details=error.details)
    if info is not None:
        status.details.add().Pack(info)
    trailers = metadata_of(definition.response_trailers)
    trailers.append(("grpc-status-details-bin", status.SerializeToString()))
    await context.abort(CODES[error.code], error.message, tuple(trailers))


def without_details(error: Exception, method: str, request_id: str) -> Answer:
    """Returns our answer to a refusal as the suite's client takes it: it expects no details, and knows not ours."""
    return replace(answer_to(error, method, request_id), trailing_metadata=())


async def main() -> None:
    """Serves until the runner ends it."""
    size = struct.unpack(">I", await asyncio.to_thread(sys.stdin.buffer.read, 4))[0]
    asked = server_compat_pb2.ServerCompatRequest.FromString(await asyncio.to_thread(sys.stdin.buffer.read, size))
    max_bytes = asked.message_receive_limit or _NO_LIMIT
    limits = Limits(max_calls=1000, max_watches=1000, max_watches_per_uid=1000, max_message_bytes=max_bytes)
    observer = Instruments(None, None)
    recorder: Any = Recorder(partial(wrapped, limits=limits, observer=observer, max_bytes=max_bytes))
    service_pb2_grpc.add_ConformanceServiceServicer_to_server(Conformance(), recorder)
    web = WebTerms(
        listen="127.0.0.1:0", origins=(), hosts=("127.0.0.1", "localhost"), max_message_bytes=max_bytes,
        max_connections=1000, head_seconds=20, silent_seconds=60, handshake_seconds=20, shares_port=False,
    )  # fmt: skip
    tls = None
    if asked.use_tls:
        creds = asked.server_creds
        tls = Tls(lambda: Material(creds.cert, creds.key, asked.client_tls_cert or None))
    gateway = Gateway(recorder.methods, (), web_access(web), gateway_limits(web), lambda: True)
    async with web_serving(gateway, web, tls) as server:
        answer = server_compat_pb2.ServerCompatResponse(
            host="127.0.0.1", port=server.port, pem_cert=asked.server_creds.cert if asked.use_tls else b""
        ).SerializeToString()
        os.write(1, struct.pack(">I", len(answer)) + answer)
        await asyncio.Event().wait()


def wrapped(handler: Any, method: str, *, limits: Limits, observer: Any, max_bytes: int) -> Any:
    """Returns a handler behind our interceptor, as health and reflection are: with gRPC's context, without a token."""
    return wrapped_probe(handler, method, limits, observer, max_bytes)


if __name__ == "__main__":
    for module in (interceptor, statuses):
        vars(module)["answer_to"] = without_details
    asyncio.run(main())
