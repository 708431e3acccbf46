"""Objects encrypted with a KMS key of the settings, on a store that has a key service of its own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.doctor.conftest import examined
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.parts import FILM, SMALL_PARTS, film_request, put_parts
from tests.journeys.steps import get, put, request_for
from tests.pictures import gradient
from tests.servers import prepare_bucket, served, settings_for

from assetlane.v1.upload_pb2 import CutMaker, CutPlan
from assetlane.v1.upload_service_pb2 import CompleteUploadRequest
from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import Verdict
from assetlane_server.local import EmbeddedStack
from assetlane_server.local import s3 as seaweedfs

KEY = "assetlane-test-key"
KEYS: dict[str, Any] = {
    "default_provider": "here",
    "providers": {"here": {"type": "local", "enableOnDemandCreate": True}},
}


@pytest.fixture
async def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """A server's settings on a stack of this test's own, whose store has keys."""
    write_configuration = seaweedfs.write_configuration

    def write_with_keys(home: Path, *arguments: Any) -> None:
        write_configuration(home, *arguments)
        file = home / "s3.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "kms": KEYS}))

    monkeypatch.setattr(seaweedfs, "write_configuration", write_with_keys)
    stack = EmbeddedStack(tmp_path)
    await stack.start()
    try:
        origins = {"cors_origins": ("https://app.example",)}
        settings = settings_for(stack.address, "encrypted", "enc/", s3_sse_kms_key_id=KEY, **origins)
        await prepare_bucket(settings, is_own=True)
        yield settings
    finally:
        await stack.kill()


async def encryption_of(settings: Settings) -> dict[str, tuple[str, str]]:
    """Returns how each object is encrypted, by the last part of its key."""
    bucket = Bucket(settings)
    try:
        found = [(key, await bucket.headers(key)) for key in await bucket.keys()]
    finally:
        bucket.close()
    prefix = "x-amz-server-side-encryption"
    return {
        key.rpartition("/")[2]: (headers.get(prefix, ""), headers.get(f"{prefix}-aws-kms-key-id", ""))
        for key, headers in found
    }


async def test_every_object_is_encrypted_with_the_key(settings: Settings, web: aiohttp.ClientSession) -> None:
    """What callers PUT at once or in parts, and what the server makes; it reads back, and doctor finds no fault."""
    picture = gradient((400, 300))
    async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
        reply = await stubs.uploads.RequestUpload(
            request_for({"original": picture}, content_type="image/jpeg", cut_plan=plan)
        )
        request = reply.write_targets[0]
        unencrypted = type(request).FromString(request.SerializeToString())
        del unencrypted.single_put.headers["x-amz-server-side-encryption-aws-kms-key-id"]
        assert await put(web, unencrypted, picture) == 403
        assert await put(web, request, picture) == 200
        complete = CompleteUploadRequest(upload_id=reply.upload.upload_id)
        asset = (await stubs.uploads.CompleteUpload(complete)).asset
        assert await get(web, asset.variants[0].read_url) == (200, picture)
        assert len(asset.variants) == 3
    parts = settings.model_copy(update=SMALL_PARTS)
    async with served(parts) as target, grpc.aio.insecure_channel(target) as channel:
        stubs = Stubs.on(channel)
        upload_id = (await stubs.uploads.RequestUpload(film_request())).upload.upload_id
        await put_parts(stubs, web, upload_id)
        asset = (await stubs.uploads.CompleteUpload(CompleteUploadRequest(upload_id=upload_id))).asset
        assert await get(web, asset.variants[0].read_url) == (200, FILM)
    names = ("original.jpg", "small.jpg", "medium.jpg", "original.html")
    assert await encryption_of(settings) == dict.fromkeys(names, ("aws:kms", KEY))

    report = await examined(settings)
    assert report.of(Verdict.FAILED) == set(), report
