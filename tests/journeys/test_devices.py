"""The curl lines of docs/devices.md, run as they are written, through the web gateway of a real server."""

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from tests.journeys.test_docs import DOCS, LIMIT_S, blocks
from tests.servers import served_twice

from assetlane_server.config.settings import Settings


async def test_the_curl_lines_run(settings: Settings, tmp_path: Path) -> None:
    """An upload from the request to the deletion, with nothing but curl and jq."""
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None and not os.environ.get("CI"):
            pytest.skip(f"{tool} is needed")
    async with served_twice(settings) as (_, url):
        script = "set -eu -o pipefail\n" + "".join(blocks(DOCS / "devices.md", "sh"))
        script = script.replace("http://127.0.0.1:50152", url)
        process = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    printed = output.decode()
    assert process.returncode == 0, printed
    lines = [line for line in printed.splitlines() if line and line != "{}"]
    assert lines[0] == "UPLOAD_STATUS_COMPLETED"
    assert lines[1] == "notes/hello.txt"
    assert [line for line in lines if line.startswith("UPLOAD_STATUS_")][1:] == [
        f"UPLOAD_STATUS_{status}" for status in ("PENDING", "INITIALIZED", "UPLOADED", "COMPLETED")
    ]
    assert "event: end" in lines
    assert lines[-1] == "ASSET_NOT_FOUND"
