"""Traces of real calls: on an exporter in memory, and on a collector."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web as http
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put, request_for
from tests.processes import command
from tests.records.stores import drop
from tests.refusals import raises
from tests.servers import LIMIT_S, served

from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, GetUploadRequest, WatchUploadRequest
from assetlane_server.composition.observability import wants_traces
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import NotReady

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)


def said(span: ReadableSpan) -> dict[str, Any]:
    """Returns its attributes."""
    return dict(span.attributes or {})


def trace_of(span: ReadableSpan) -> str:
    """Returns the id of its trace, as W3C writes it."""
    return f"{span.context.trace_id:032x}"


async def test_a_call_is_a_span_of_its_callers_trace_with_what_it_asked_of_the_stores(
    settings: Settings, web: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Unary calls and a watch, which is an async generator that somebody else closes."""
    exporter = InMemorySpanExporter()
    prompt = settings.model_copy(update={"heartbeat_seconds": 0.1})
    async with served(prompt, spans=exporter) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        reply = await stubs.uploads.RequestUpload(request_for(), metadata=TRACEPARENT)
        assert await put(web, reply.write_targets[0]) == 200
        upload_id = reply.upload.upload_id
        watch = stubs.uploads.WatchUpload(WatchUploadRequest(upload_id=upload_id), metadata=TRACEPARENT)
        await watch.read()
        hung_up = stubs.uploads.WatchUpload(WatchUploadRequest(session_id="phone"))
        await hung_up.read()
        await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))
        while await watch.read() is not grpc.aio.EOF:
            continue
        with pytest.raises(grpc.aio.AioRpcError):
            await stubs.uploads.GetUpload(GetUploadRequest(upload_id="x"))
        hung_up.cancel()

    spans = exporter.get_finished_spans()
    calls = {said(span)["rpc.method"]: span for span in spans if "rpc.method" in said(span)}
    assert calls.keys() == {"RequestUpload", "WatchUpload", "CompleteUpload", "GetUpload"}
    requested = calls["RequestUpload"]
    assert (requested.name, requested.kind) == ("assetlane.v1.UploadService/RequestUpload", SpanKind.SERVER)
    assert said(requested)["rpc.service"] == "assetlane.v1.UploadService"
    assert said(requested)["assetlane.upload_id"] == upload_id
    watched = [span for span in spans if span.name.endswith("WatchUpload")]
    # Whether the server hears first that its caller went away, or that it is to stop.
    assert sorted(said(span)["rpc.grpc.status_code"] for span in watched) in ([0, 1], [0, 14])
    for span in (requested, next(one for one in watched if trace_of(one) == TRACE)):
        assert trace_of(span) == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT
    # Calls without a parent are traces of their own: nothing of another call is left in their task.
    others = [calls["CompleteUpload"], calls["GetUpload"]]
    assert len({trace_of(span) for span in others} | {TRACE}) == 3
    assert all(span.parent is None for span in others)
    assert said(calls["GetUpload"])["rpc.grpc.status_code"] == 5
    assert calls["GetUpload"].status.status_code is StatusCode.UNSET  # the caller's fault

    def children(call: ReadableSpan) -> set[str]:
        """Returns what was asked outside for a call."""
        return {span.name for span in spans if span.parent and span.parent.span_id == call.context.span_id}

    assert children(requested) == {"mongodb insert uploads"}
    assert children(calls["CompleteUpload"]) >= {
        "s3 look at an object",
        "mongodb update uploads",
    }
    # Neither the sweeper's nor the hub's.
    assert {span.name for span in spans if span.parent is None} == {
        f"assetlane.v1.UploadService/{name}" for name in ("CompleteUpload", "GetUpload", "WatchUpload")
    }
    assert "X-Amz" not in "".join(span.to_json() for span in spans)
    assert "detach" not in caplog.text


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, "asyncio.Queue[bytes]"]]:
    """A collector that takes traces in as OTLP over HTTP, and its address."""
    taken: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(request: http.Request) -> http.Response:
        body = await request.read()
        taken.put_nowait(body)
        return http.Response(content_type="application/x-protobuf")

    app = http.Application()
    app.router.add_post("/v1/traces", take)
    runner = http.AppRunner(app)
    await runner.setup()
    await http.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", taken
    await runner.cleanup()


async def test_traces_reach_the_collector_that_the_environment_names(
    stack: StackAddress, database_name: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the standard variable alone; what is left is sent when the server stops."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix}
    async with collector() as (address, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        async with command(stack, "serve", **place) as server:
            async with grpc.aio.insecure_channel(await server.serves()) as channel:
                await Stubs.on(channel).uploads.RequestUpload(request_for(), timeout=LIMIT_S)
            server.signal(signal.SIGTERM)
            assert await server.ends() == 0
            body = await asyncio.wait_for(taken.get(), LIMIT_S)
    assert b"assetlane.v1.UploadService/RequestUpload" in body
    assert b"mongodb insert uploads" in body
    await drop(stack.mongo_uri, database_name)


async def test_a_collector_that_is_away_neither_fails_a_call_nor_holds_up_the_stop(
    stack: StackAddress, database_name: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces are an extra."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    place = {"mongo_database": database_name, "key_prefix": key_prefix}
    async with command(stack, "serve", **place) as server:
        async with grpc.aio.insecure_channel(await server.serves()) as channel:
            await Stubs.on(channel).uploads.RequestUpload(request_for(), timeout=LIMIT_S)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    assert "Traceback" not in server.log
    await drop(stack.mongo_uri, database_name)


def test_traces_that_are_asked_for_without_the_extra_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, and status 1."""
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "ASSETLANE_MONGO_URI": "mongodb://127.0.0.1:1",
        "ASSETLANE_S3_BUCKET": "nobodys",
    }.items():
        monkeypatch.setenv(name, value)
    script = "import sys; sys.modules['opentelemetry'] = None; from assetlane_server.command.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", script, "serve"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert run.stderr == (
        "assetlane-server: OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and OpenTelemetry is not installed:"
        " pip install 'dist/assetlane-0.2.0-py3-none-any.whl[otel]' (make dist builds it), or unset it\n"
    )


def test_the_standard_variables_are_heard() -> None:
    """On, off, and what there is not."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert not wants_traces({})
    assert wants_traces(endpoint)
    assert wants_traces({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})
    assert not wants_traces({**endpoint, "OTEL_SDK_DISABLED": "true"})
    assert not wants_traces({**endpoint, "OTEL_TRACES_EXPORTER": "none"})
    with raises(
        NotReady, reason="PROTOCOL_UNSUPPORTED", setting="OTEL_EXPORTER_OTLP_PROTOCOL", names=["http/protobuf"]
    ):
        wants_traces({**endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
