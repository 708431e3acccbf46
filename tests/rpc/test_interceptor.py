"""What every call passes, on a real gRPC server with handlers that break."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tests.journeys.lanes import RpcFailure
from tests.refusals import shows

from assetlane.v1.upload_service_pb2 import GetUploadRequest, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import (
    UploadServiceServicer,
    UploadServiceStub,
    add_UploadServiceServicer_to_server,
)
from assetlane_server.access.identity import Anonymous
from assetlane_server.rpc.interceptor import RefusalInterceptor
from assetlane_server.rpc.limits import Limits
from assetlane_server.telemetry.instruments import Instruments
from assetlane_server.telemetry.metrics import Metrics


class Broken(UploadServiceServicer):
    """Raises what nobody foresaw."""

    async def GetUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Fails."""
        raise RuntimeError("the teapot is empty")

    async def WatchUpload(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Fails after its first word."""
        from assetlane.v1.upload_service_pb2 import Heartbeat, WatchUploadResponse

        yield WatchUploadResponse(heartbeat=Heartbeat())
        raise RuntimeError("the teapot is empty")


@pytest.fixture
async def broken() -> AsyncIterator[tuple[Any, Metrics]]:
    """A stub of a server whose handlers break, and its metrics."""
    metrics = Metrics()
    interceptor = RefusalInterceptor(
        Anonymous(),
        Limits(max_calls=9, max_watches=9, max_watches_per_uid=10, max_message_bytes=2**20),
        Instruments(metrics, None),
    )
    server = grpc.aio.server(interceptors=[interceptor])
    add_UploadServiceServicer_to_server(Broken(), server)  # type: ignore[abstract]  # two are enough
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield UploadServiceStub(channel), metrics
    await server.stop(0)


async def test_what_nobody_foresaw_is_internal_with_the_id_that_the_log_has(
    broken: tuple[Any, Metrics], caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the id and nothing else; the log has the traceback, once."""
    stub, metrics = broken
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.GetUpload(GetUploadRequest(upload_id="x"), metadata=(("x-request-id", "find-me"),))
    failure = RpcFailure(failed.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    shows(failure.message, "find-me")
    assert "teapot" not in failure.message
    assert dict(failed.value.trailing_metadata() or ())["x-request-id"] == "find-me"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["assetlane_server.rpc.errors", "assetlane_server.calls"]
    assert [bool(record.exc_info) for record in errors] == [True, False]
    shows(errors[0].getMessage(), "find-me")
    labels = {"method": "UploadService/GetUpload", "code": "INTERNAL"}
    assert metrics.registry.get_sample_value("assetlane_calls_total", labels) == 1


async def test_a_stream_that_breaks_is_counted_once_and_closed(broken: tuple[Any, Metrics]) -> None:
    """Its place is free again."""
    stub, metrics = broken
    watch = stub.WatchUpload(WatchUploadRequest(upload_id="x"))
    assert (await watch.read()).HasField("heartbeat")
    with pytest.raises(grpc.aio.AioRpcError):
        await watch.read()
    method = {"method": "UploadService/WatchUpload"}
    value = metrics.registry.get_sample_value
    assert value("assetlane_calls_total", {**method, "code": "INTERNAL"}) == 1
    assert value("assetlane_watches_open", method) == 0
