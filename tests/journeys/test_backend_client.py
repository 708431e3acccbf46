"""A back end and its devices through the Python client and the command."""

import asyncio
import hashlib
import json
import os
import sys
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from tests.commands import COMMAND
from tests.journeys.backends import backends_server
from tests.journeys.steps import request_for
from tests.refusals import raises

from assetlane import Client, PermissionDenied, TokenOptions, UploadStatus
from assetlane_server.config.settings import Settings

LIMIT_S = 60.0
# A process that is given a token, an upload's id and where the server is, and knows nothing else.
DEVICE = """
import asyncio, json, sys
import aiohttp
from assetlane import Client, UploadStatus

async def main():
    target, upload_id, token, body = json.load(sys.stdin)
    seen = []
    async with Client(target, token=token) as client, aiohttp.ClientSession() as web:
        async for event in client.watch_upload(upload_id):
            seen.append(UploadStatus.Name(event.upload.status))
            for target in event.write_targets:
                put = target.single_put
                async with web.put(put.url, data=body.encode(), headers=dict(put.headers)) as response:
                    assert response.status == 200, await response.text()
            if event.write_targets:
                completing = asyncio.create_task(client.complete_upload(upload_id))
        asset = await completing
    print(json.dumps([seen, asset.asset_id]))

asyncio.run(main())
"""


async def test_a_back_end_hands_an_upload_to_a_process_that_knows_nothing_else(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It watches, stores and completes it with the token alone; the asset is the user's."""
    body = "hello"
    async with backends_server(settings, web, tmp_path) as there:
        async with Client(there.target, uid="ann", token=there.issuer.token("clinic-backend")) as backend:
            request = request_for({"original": body.encode()}, uid="ann", issue_token=TokenOptions())
            request.variants[0].sha256 = hashlib.sha256(body.encode()).digest()
            reply = await backend.request_upload(request)
            device = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DEVICE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            given = json.dumps([there.target, reply.upload.upload_id, reply.token.token, body])
            async with asyncio.timeout(LIMIT_S):
                out, _ = await device.communicate(given.encode())
            assert device.returncode == 0
            seen, asset_id = json.loads(out)
            assert seen == [f"UPLOAD_STATUS_{one}" for one in ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED")]
            upload = await backend.get_upload(asset_id)
            assert (upload.uid, upload.status) == ("ann", UploadStatus.UPLOAD_STATUS_COMPLETED)
            assert [change.acted_by for change in upload.history] == ["clinic"] * 2 + ["token:clinic"] * 2
        async with Client(there.target, token=there.issuer.token("ann")) as ann:
            assert (await ann.get_asset(asset_id)).uid == "ann"


async def test_the_client_uploads_for_a_user_and_makes_tokens(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """`upload`, `list_uploads`, `watch_session` and the rest work as for the user itself."""
    async with backends_server(settings, web, tmp_path) as there:
        async with Client(there.target, uid="ann", token=there.issuer.token("clinic-backend")) as backend:
            asset = await backend.upload(b"hello", file_path="a.txt", write_url_lifetime=timedelta(hours=2))
            assert asset.uid == "ann"
            assert [one.upload_id async for one in backend.list_uploads()] == [asset.asset_id]
            assert (await backend.get_upload(asset.asset_id)).write_url_lifetime.seconds == 7200
            made = await backend.create_token(read=["user/ann"], lifetime=timedelta(minutes=10))
            with pytest.raises(PermissionDenied) as refused:
                await backend.create_token(read=["user/bob"])
            assert refused.value.reason == "SCOPE_TOO_WIDE"
            with raises(ValueError, names=["upload_id", "read", "write"]):
                await backend.create_token()
        async with Client(there.target, token=made.token) as device:
            assert [one.asset_id async for one in device.list_assets("user/ann")] == [asset.asset_id]
            with pytest.raises(PermissionDenied) as refused:
                await device.upload(b"more", file_path="b.txt")
            assert refused.value.reason == "PARTITION_READ_ONLY"
            async with aclosing(device.watch_assets("user/ann")) as events:
                first = await asyncio.wait_for(anext(events), LIMIT_S)
            assert first.asset.asset.asset_id == asset.asset_id


async def test_the_command_acts_for_a_user_and_makes_tokens(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """`--act-for` and `token create`; a token is printed alone, for a program to take."""
    async with backends_server(settings, web, tmp_path) as there:
        (tmp_path / "backend.token").write_text(there.issuer.token("clinic-backend"))
        (tmp_path / "a.txt").write_text("hello")
        base = ("--target", there.target, "--token-file", str(tmp_path / "backend.token"))

        async def command(*words: str, code: int = 0) -> str:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *words,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "NO_COLOR": "1"},
                cwd=tmp_path,
            )
            async with asyncio.timeout(LIMIT_S):
                out, err = await process.communicate()
            assert process.returncode == code, err.decode()
            return (out if code == 0 else err).decode()

        await command(*base, "--act-for", "ann", "upload", "a.txt")
        token = (await command(*base, "--act-for", "ann", "token", "create", "--read", "user/ann")).strip()
        assert "a.txt" in await command("--target", there.target, "--token", token, "ls", "user/ann")
        made = await command(*base, "--act-for", "ann", "token", "create", "--read", "user/ann", "--json")
        assert json.loads(made)["token"].count(".") == 2
        refused: list[tuple[tuple[str, ...], str]] = [
            (("--act-for", "bob", "token", "create", "--read", "user/bob"), "UID_MISMATCH"),
            (("--act-for", "ann", "token", "create", "--read", "**"), "SCOPE_TOO_WIDE"),
        ]
        for words, message in refused:
            assert message in await command(*base, *words, code=1)
        misused: list[tuple[tuple[str, ...], str]] = [
            (("token", "create"), "either --upload"),
            (("token", "create", "--read", "x"), "--act-for"),
            (("--act-for", "ann", "--uid", "bob", "ls"), "two users"),
            (("--act-for", "ann", "token", "create", "--read", "x", "--lifetime", "soon"), "is not a time"),
        ]
        for words, message in misused:
            assert message in await command(*base, *words, code=2)
