"""`assetlane-server keys`, and a server that follows it within seconds."""

import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.journeys.backends import backends_server
from tests.journeys.guarded import Person

from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope
from assetlane.v1.upload_service_pb2 import ListUploadsRequest
from assetlane_server.config.settings import Settings

LIMIT_S = 60.0
SERVER = (sys.executable, "-m", "assetlane_server")
ASKED = CreateTokenRequest(uid="zoe", partitions=PartitionScope(read=["other/**"]))


@pytest.mark.parametrize("place", ["mongodb", "files"])
async def test_keys_are_added_rotated_and_dropped_under_a_server_that_goes_on(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, place: str
) -> None:
    """One ring at a time: another back end's tokens are not touched, and no secret is printed."""
    rings = place if place == "mongodb" else str(tmp_path / "own")
    environment = {
        **os.environ,
        "ASSETLANE_MONGO_URI": settings.mongo_uri.get_secret_value(),
        "ASSETLANE_MONGO_DATABASE": settings.mongo_database,
        "ASSETLANE_S3_BUCKET": settings.s3_bucket,
        "ASSETLANE_TOKEN_KEYS": rings,
    }

    async def keys(*words: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *SERVER, "keys", *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return (out if code == 0 else err).decode()

    async with backends_server(settings, web, tmp_path, token_keys=rings) as there:

        async def made(maker: str, request: CreateTokenRequest) -> Person:
            async with asyncio.timeout(LIMIT_S):
                while (failure := await there.backend(maker).refusal("CreateToken", request)) is not None:
                    assert failure.reason == "NO_SIGNING_KEY"
            return await there.device(request, maker)

        assert await keys("list") == ""
        assert "signs tokens now" in await keys("add", "other")
        assert "signs tokens now" in await keys("add", "clinic")
        other = await made("other", ASKED)
        ann = CreateTokenRequest(uid="ann", partitions=PartitionScope(read=["user/ann"]))
        clinic = await made("clinic", ann)
        first = json.loads((await keys("list", "--json")).splitlines()[1])
        assert (first["ring"], first["state"]) == ("other", "in use")
        assert "no other key" in await keys("retire", "other", first["key"], code=1)
        assert "signs tokens from" in await keys("add", "other")
        assert [json.loads(line)["state"] for line in (await keys("list", "--json")).splitlines()] == [
            "in use", "in use", "waiting",
        ]  # fmt: skip
        assert await other.refusal("ListUploads", ListUploadsRequest()) is None
        await keys("drop", "other")
        async with asyncio.timeout(LIMIT_S):
            while (failure := await other.refusal("ListUploads", ListUploadsRequest())) is None:
                continue
        assert failure.reason == "TOKEN_INVALID"
        assert await clinic.refusal("ListUploads", ListUploadsRequest()) is None
        assert "there is no ring" in await keys("drop", "other", code=1)
        assert "has no key" in await keys("drop", "clinic", "nothing", code=1)
        assert "must be 1 to 64" in await keys("add", "Not A Name", code=2)
