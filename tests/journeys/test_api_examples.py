"""The examples of docs/api.md: each call is made to a server, which answers what the page shows."""

import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from tests.journeys.backends import Backends, backends_server
from tests.journeys.steps import put

from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import PartPromise, RequestUploadRequest, RequestUploadResponse, SignPartsRequest
from assetlane_server.config.settings import Settings

pytestmark = pytest.mark.timeout(120)

LIMIT_S = 60.0
EXAMPLES = json.loads((Path(__file__).parents[2] / "protos" / "examples.json").read_text())
BODY = b"hello"
PART = bytes(16 * 1024 * 1024)
NOTE, FILM = "01kb1v3h8q9r7t5w2x4y6z8a0c", "01kb1v5m2n4p6q8r0s3t5v7w9x"  # the uploads of the examples
# What differs from run to run: its kind alone is compared.
VARYING = {"url", "read_url", "expire_time", "refresh_time", "time", "token", "resume_token"}


def method_of(example: dict[str, Any]) -> Any:
    """Returns the descriptor of the RPC that an example calls."""
    service, _, name = example["rpc"].partition(".")
    return Default().FindServiceByName(f"assetlane.v1.{service}").methods_by_name[name]


async def called(there: Backends, example: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """Makes the call of an example, with the ids of this run; returns the answer, or the first event of a watch."""
    method = method_of(example)
    request = json_format.ParseDict(renamed(example["request"], ids), GetMessageClass(method.input_type)())
    path = f"/{method.containing_service.full_name}/{method.name}"
    metadata = (("authorization", f"Bearer {there.issuer.token('clinic-backend')}"),)
    async with grpc.aio.insecure_channel(there.target) as channel:
        parse = GetMessageClass(method.output_type).FromString
        reply: Any
        if method.server_streaming:
            watch = channel.unary_stream(path, type(request).SerializeToString, parse)
            reply = await watch(request, timeout=LIMIT_S, metadata=metadata).read()
        else:
            call = channel.unary_unary(path, type(request).SerializeToString, parse)
            reply = await call(request, timeout=LIMIT_S, metadata=metadata)
    answer = json_format.MessageToDict(reply, preserving_proto_field_name=True)
    assert isinstance(answer, dict)
    return answer


def renamed(value: Any, ids: dict[str, str]) -> Any:
    """Returns a value of the page with this run's ids in the place of the page's."""
    text = json.dumps(value)
    for shown, real in ids.items():
        text = text.replace(shown, real)
    return json.loads(text)


def differences(shown: Any, real: Any, path: str = "") -> list[str]:
    """Returns where an answer is not what is shown; it may have more fields and elements than are shown."""
    if isinstance(shown, dict) and isinstance(real, dict):
        missing = [f"{path}.{name} is missing" for name in shown if name not in real]
        pairs = [(f"{path}.{name}", value, real[name]) for name, value in shown.items() if name in real]
    elif isinstance(shown, list) and isinstance(real, list):
        missing = [f"{path} has {len(real)} elements"] if len(real) < len(shown) else []
        pairs = [(f"{path}[{index}]", *both) for index, both in enumerate(zip(shown, real, strict=False))]
    else:
        varies = path.rpartition(".")[2] in VARYING and isinstance(real, type(shown))
        return [] if varies or shown == real else [f"{path} is {real!r}, not {shown!r}"]
    return missing + [found for name, one, other in pairs for found in differences(one, other, name)]


async def film(there: Backends, web: aiohttp.ClientSession) -> str:
    """Requests an upload in parts, stores its first part, and returns its id."""
    backend = there.backend()
    promise = VariantPromise(name="original", content_type="video/mp4", size_bytes=100 * 1024 * 1024)
    request = RequestUploadRequest(uid="ann", file_path="film.mp4", variants=[promise])
    metadata = (("authorization", f"Bearer {backend.token}"),)
    reply: RequestUploadResponse = await there.stubs.uploads.RequestUpload(request, timeout=LIMIT_S, metadata=metadata)
    upload_id = reply.upload.upload_id
    signing = SignPartsRequest(upload_id=upload_id, variant="original", parts=[PartPromise(part_number=1)])
    signed = await there.stubs.uploads.SignParts(signing, timeout=LIMIT_S, metadata=metadata)
    target = signed.parts[0].request
    async with web.put(target.url, data=io.BytesIO(PART), headers=dict(target.headers)) as response:
        assert response.status == 200
    return upload_id


def test_every_rpc_has_an_example() -> None:
    """Exactly one, and the answer that is shown is a message of the contract."""
    services = [Default().FindServiceByName(f"assetlane.v1.{name}Service") for name in ("Upload", "Asset", "Access")]
    assert sorted(example["rpc"] for example in EXAMPLES) == sorted(
        f"{service.name}.{method.name}" for service in services for method in service.methods
    )
    for example in EXAMPLES:
        json_format.ParseDict(example["response"], GetMessageClass(method_of(example).output_type)())


async def test_the_examples_are_what_a_server_answers(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """In their order, each on what the ones before it left."""
    async with backends_server(settings, web, tmp_path) as there:
        ids = {FILM: await film(there, web)}
        for example in EXAMPLES:
            answer = await called(there, example, ids)
            if example["rpc"] == "UploadService.RequestUpload":
                ids[NOTE] = answer["upload"]["upload_id"]
                target = json_format.ParseDict(answer, RequestUploadResponse()).write_targets[0]
                assert await put(web, target, BODY) == 200
            assert differences(renamed(example["response"], ids), answer) == [], example["rpc"]
