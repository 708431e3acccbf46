"""What a server logs of calls and uploads, as a process of its own, in JSON."""

import json
import logging
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.journeys.steps import RpcFailure, put, request_for
from tests.processes import Command, command
from tests.records.stores import drop
from tests.servers import LIMIT_S, prepare_bucket, served, settings_for

from assetlane.v1.upload_service_pb2 import CompleteUploadRequest, GetUploadRequest
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress
from assetlane_server.telemetry.log import formatter
from assetlane_server.telemetry.redaction import Redaction

ID = "x-request-id"


def lines(server: Command) -> list[dict[str, Any]]:
    """Returns its log, of which every line is an object."""
    return [json.loads(line) for line in server.log.splitlines()]


async def request_id_of(call: Any) -> str | None:
    """Returns the id that a call was answered with."""
    return dict(await call.trailing_metadata()).get(ID)


async def test_a_line_reports_who_called_what_with_which_outcome_and_no_secret(
    stack: StackAddress, database_name: str, key_prefix: str, tmp_path: Path, web: aiohttp.ClientSession
) -> None:
    """Request id, method, uid, upload, status, time; and every change of the upload."""
    issuer = Issuer()
    key_file = tmp_path / "tokens.pem"
    key_file.write_bytes(issuer.file)
    place = {"mongo_database": database_name, "key_prefix": key_prefix, "jwt_key_file": key_file}
    await prepare_bucket(settings_for(stack, database_name, key_prefix))
    token = issuer.token(sub="ann")
    async with command(stack, "serve", **place, log_level="debug") as server:
        async with grpc.aio.insecure_channel(await server.serves()) as channel:
            stubs = Stubs.on(channel)
            said = (("authorization", f"Bearer {token}"), (ID, "from-the-gateway.7"))
            call = stubs.uploads.RequestUpload(request_for(uid=""), metadata=said, timeout=LIMIT_S)
            reply = await call
            assert await request_id_of(call) == "from-the-gateway.7"
            assert await put(web, reply.write_targets[0]) == 200
            upload_id = reply.upload.upload_id
            completing = stubs.uploads.CompleteUpload(
                CompleteUploadRequest(upload_id=upload_id), metadata=said[:1], timeout=LIMIT_S
            )
            asset = (await completing).asset
            made = await request_id_of(completing)
            assert re.fullmatch(r"[0-9a-f]{16}", made or "")
            with pytest.raises(grpc.aio.AioRpcError):
                await stubs.uploads.GetUpload(GetUploadRequest(upload_id="x"), metadata=said, timeout=LIMIT_S)
        server.signal(signal.SIGTERM)
        assert await server.ends() == 0
    await drop(stack.mongo_uri, database_name)

    logged = lines(server)
    assert all({"time", "level", "event", "logger", "pid"} <= line.keys() for line in logged)
    calls = [line for line in logged if line["event"] == "call ended"]
    endings = [
        {name: line.get(name) for name in ("level", "method", "request_id", "uid", "upload_id", "code", "reason")}
        for line in calls
    ]
    base = {"uid": "ann", "upload_id": upload_id, "code": "OK", "reason": None, "level": "debug"}
    assert endings == [
        {**base, "method": "UploadService/RequestUpload", "request_id": "from-the-gateway.7"},
        {**base, "method": "UploadService/CompleteUpload", "request_id": made},
        {
            **base, "method": "UploadService/GetUpload", "request_id": "from-the-gateway.7", "upload_id": "x",
            "code": "NOT_FOUND", "reason": "UPLOAD_NOT_FOUND", "level": "info",
        },
    ]  # fmt: skip
    assert all(line["duration_ms"] > 0 for line in calls)
    changes = [line for line in logged if line["logger"] == "assetlane_server.uploads"]
    assert [(line["level"], line["status"], line["owner"], line["upload_id"]) for line in changes] == [
        ("debug", "PENDING", "ann", upload_id),
        ("debug", "INITIALIZED", "ann", upload_id),
        ("debug", "UPLOADED", "ann", upload_id),
        ("info", "COMPLETED", "ann", upload_id),
    ]
    # What goes on in the background is done in the name of the call that began it.
    assert [line["request_id"] for line in changes] == ["from-the-gateway.7"] * 2 + [made] * 2
    urls = [reply.write_targets[0].single_put.url, asset.variants[0].read_url]
    secrets = [token, token.split(".")[2], stack.s3_secret_access_key, *(url.partition("?")[2] for url in urls)]
    assert not any(secret in server.log for secret in secrets)


async def test_successes_are_silent_unless_asked_for(stack: StackAddress, database_name: str, key_prefix: str) -> None:
    """`failed` is a line per failure, `all` one per call."""
    place = {"mongo_database": database_name, "key_prefix": key_prefix}
    for log_calls, expected in (("failed", ["NOT_FOUND"]), ("all", ["OK", "NOT_FOUND"])):
        async with command(stack, "serve", **place, log_calls=log_calls) as server:
            async with grpc.aio.insecure_channel(await server.serves()) as channel:
                stubs = Stubs.on(channel)
                await stubs.uploads.RequestUpload(request_for(), timeout=LIMIT_S)
                with pytest.raises(grpc.aio.AioRpcError):
                    await stubs.uploads.GetUpload(GetUploadRequest(upload_id="x"), timeout=LIMIT_S)
            server.signal(signal.SIGTERM)
            assert await server.ends() == 0
        calls = [line for line in lines(server) if line["event"] == "call ended"]
        assert [line["code"] for line in calls] == expected
        assert {line["level"] for line in calls} == {"info"}
    await drop(stack.mongo_uri, database_name)


@pytest.mark.parametrize("asked", ["", "a b", "x" * 65, "-rf", 'quo"te', "?id=1"])
async def test_an_id_that_is_not_sane_is_replaced(settings: Settings, asked: str) -> None:
    """Whatever a caller sends stands in nobody's log."""
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        call = Stubs.on(channel).uploads.GetUpload(GetUploadRequest(upload_id="x"), metadata=((ID, asked),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        metadata = dict(refused.value.trailing_metadata() or ())
    assert re.fullmatch(r"[0-9a-f]{16}", str(metadata[ID]))
    assert RpcFailure(refused.value).reason == "UPLOAD_NOT_FOUND"


async def test_what_a_caller_sends_neither_fills_nor_colours_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Before anybody has checked it: a megabyte, and what a terminal would obey."""
    caplog.set_level("INFO", "assetlane_server.calls")
    writing = formatter(is_pretty=False, has_colors=False, redaction=Redaction())
    lines: list[str] = []

    class Written(logging.Handler):
        """Formats within the call, as a server does."""

        def emit(self, record: logging.LogRecord) -> None:
            lines.append(writing.format(record))

    handler = Written()
    calls = logging.getLogger("assetlane_server.calls")
    calls.addHandler(handler)
    try:
        async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
            for upload_id in ("x" * 1_000_000, "\x1b[31mred"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await Stubs.on(channel).uploads.GetUpload(GetUploadRequest(upload_id=upload_id))
    finally:
        calls.removeHandler(handler)
    ids = [json.loads(line)["upload_id"] for line in lines]
    assert ids == ["x" * 128, "'\\x1b[31mred'"]


async def test_two_calls_at_a_time_keep_their_names_apart(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A watch and the calls beside it: each task serves one call."""
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        calls = {
            f"call-{number}": stubs.uploads.RequestUpload(request_for(), metadata=((ID, f"call-{number}"),))
            for number in range(20)
        }
        for name, call in calls.items():
            await call
            assert await request_id_of(call) == name
