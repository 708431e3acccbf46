"""The back end of examples/backend: a device gets an upload and a token from it, and goes on by itself."""

import asyncio
import base64
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from examples.backend.app import app
from tests.journeys.backends import backends_server

from assetlane import Client
from assetlane_server.config.settings import Settings

LIMIT_S = 60.0


async def test_a_device_uploads_with_what_the_back_end_hands_it(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP from the back end, then from the store and from Assetlane, as a phone does."""
    async with backends_server(settings, web, tmp_path) as there:
        (tmp_path / "backend.token").write_text(there.issuer.token("clinic-backend"))
        monkeypatch.setenv("BACKEND_TOKEN_FILE", str(tmp_path / "backend.token"))
        monkeypatch.setenv("ASSETLANE_TARGET", there.target)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            serving = asyncio.create_task(server.serve([listening]))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/uploads"
            wanted = {"name": "a.txt", "size_bytes": 5, "content_type": "text/plain"}
            async with asyncio.timeout(LIMIT_S):
                async with web.post(url, json=wanted, headers=login("ann", "wrong")) as refused:
                    assert refused.status == 401
                # The policy does not let this back end act for bob.
                async with web.post(url, json=wanted, headers=login("bob", "hidden")) as refused:
                    assert (refused.status, (await refused.json())["reason"]) == (502, "UID_MISMATCH")
                async with web.post(url, json=wanted, headers=login("ann", "secret")) as answer:
                    assert answer.status == 200
                    handed: dict[str, Any] = await answer.json()
            server.should_exit = True
            await asyncio.wait_for(serving, LIMIT_S)
        target = handed["write_targets"][0]["single_put"]
        async with web.put(target["url"], data=b"hello", headers=target["headers"]) as stored:
            assert stored.status == 200
        async with Client(there.target, token=handed["token"]["token"]) as device:
            asset = await device.complete_upload(handed["upload"]["upload_id"])
        assert asset.uid == "ann"


def test_it_is_short_enough_to_read() -> None:
    """60 lines, blank ones aside."""
    text = (Path(__file__).parents[2] / "examples" / "backend" / "app.py").read_text()
    assert sum(1 for line in text.splitlines() if line.strip()) <= 60


def login(user: str, password: str) -> dict[str, str]:
    """Returns the header of a login (RFC 7617)."""
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
