"""The examples of the README, of the Python client and of tokens, run as they are written."""

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest
from examples.picture import photograph
from tests.commands import ran, started
from tests.journeys.steps import get
from tests.servers import served

from assetlane_server.access.policy import DEFAULT_POLICY
from assetlane_server.config.settings import Settings

pytestmark = pytest.mark.timeout(120)

LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
AUTHORIZATION = ROOT / "docs" / "authorization.md"
ADDRESS = "127.0.0.1:50151"


def blocks(page: Path, language: str) -> list[str]:
    """Returns a page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


async def test_the_python_example_runs(target: str, web: aiohttp.ClientSession, tmp_path: Path) -> None:
    """As written but for the address: it prints the steps, the asset, and a URL that reads."""
    (example,) = blocks(README, "python")
    assert ADDRESS in example
    (tmp_path / "photo.jpg").write_bytes(photograph(800, 600))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", example.replace(ADDRESS, target),
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "client")}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    *steps, asset, url = out.decode().splitlines()
    assert steps[0].startswith("Progress(")
    assert asset.endswith("['original', 'small', 'medium', 'large']")
    assert (await get(web, url))[0] == 200


async def test_the_shell_lines_run(target: str) -> None:
    """In the order in which they stand; a watch goes on until Ctrl-C and has printed something by then."""
    lines = [
        words[1:]
        for block in blocks(README, "sh")
        for words in (shlex.split(line, comments=True) for line in block.splitlines())
        if words and Path(words[0]).name == "assetlane"
    ]
    assert [words[0] for words in lines] == ["upload", "ls", "watch"]
    for words in lines:
        if words[0] != "watch":
            result = await ran(target, *words, cwd=ROOT)
            assert (result.code, result.err) == (0, "")
            assert "LICENSE" in result.out
            continue
        watch = await started(target, *words, cwd=ROOT)
        assert watch.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            assert b"LICENSE" in await watch.stdout.readline()
            watch.send_signal(signal.SIGINT)
            await watch.communicate()
        assert watch.returncode == 130


async def test_the_lines_about_tokens_run(settings: Settings, tmp_path: Path) -> None:
    """Key and token are made as written, and do; without the token nothing does."""
    making, using = [block.splitlines() for block in blocks(AUTHORIZATION, "sh")]
    *making, serving = making
    assert serving.startswith("ASSETLANE_JWT_KEY_FILE=issuer.pem ")
    for line in making:
        script = line.replace(".venv/bin/python", sys.executable)
        process = await asyncio.create_subprocess_shell(script, cwd=tmp_path, stderr=PIPE)
        _, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, err.decode()
    (tmp_path / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    guard = settings.model_copy(update={"jwt_key_file": tmp_path / "issuer.pem"})
    async with served(guard) as target:
        for line in using:
            words = shlex.split(line, comments=True)[1:]
            result = await ran(target, "--uid", "", *words, cwd=tmp_path)
            assert (result.code, result.err) == (0, "")
            assert "LICENSE" in result.out
            result = await ran(target, "--uid", "", *words[2:], cwd=tmp_path)
            assert (result.code, "[TOKEN_MISSING]" in result.err) == (1, True)


def test_the_policy_that_is_shown_is_the_default() -> None:
    """To the letter."""
    shown, _ = blocks(AUTHORIZATION, "toml")
    assert shown == DEFAULT_POLICY
