"""Our clients in four languages: each passes the whole script, and each README's commands work as they stand.

`make test-languages`. A language whose tools are not installed is skipped by name.
"""

import asyncio
import os
import re
import shlex
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from tests.conformance.clients import CLIENTS, EXAMPLES, GO, ROOT, ClientUnderTest
from tests.conformance.performance import perform
from tests.conformance.player import Player, player
from tests.conformance.script import Scenario, scenarios_of
from tests.conformance.stage import Stage, stage

from assetlane_server.local import StackAddress

# With cold caches a build fetches compilers and libraries.
BUILD_LIMIT_S: Final = 600.0
RUN_LIMIT_S: Final = 120.0
ADDRESS: Final = "127.0.0.1:50151"
pytestmark = [
    pytest.mark.languages,
    pytest.mark.timeout(BUILD_LIMIT_S + RUN_LIMIT_S),
    pytest.mark.asyncio(loop_scope="module"),
]


async def ran(command: Sequence[str], cwd: Path, environment: Mapping[str, str], limit_s: float) -> str:
    """Runs a command and returns what it wrote. It must succeed within the limit."""
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, env=dict(environment), stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(limit_s):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode(errors="replace")[-3000:]
    return out.decode(errors="replace")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(stack: StackAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One server for all clients."""
    async with stage(stack, tmp_path_factory.mktemp("stage")) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=CLIENTS, ids=lambda client: client.language)
async def built(request: pytest.FixtureRequest) -> ClientUnderTest:
    """A client, built once."""
    client: ClientUnderTest = request.param
    if missing := client.missing_tools:
        pytest.skip(f"{client.language}: {', '.join(missing)} not installed")
    for command in client.builds:
        await ran(command, client.folder, os.environ, BUILD_LIMIT_S)
    return client


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def playing(built: ClientUnderTest, place: Stage) -> AsyncIterator[Player]:
    """The client's conformance program, one process for all scenarios."""
    async with player(built.conformance, built.folder, place.environment) as client:
        yield client


@pytest.mark.parametrize("scenario", scenarios_of("user"), ids=lambda scenario: scenario.name)
async def test_a_client_conforms(scenario: Scenario, playing: Player, place: Stage) -> None:
    """Step for step; a failure says what was asked, expected and got, and what that means."""
    await perform(scenario, playing, place)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def secured(stack: StackAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """A server with TLS that wants tokens."""
    async with stage(stack, tmp_path_factory.mktemp("secured"), is_secured=True) as built:
        yield built


async def test_a_client_speaks_tls_and_sends_its_token(built: ClientUnderTest, secured: Stage) -> None:
    """The whole life of an upload, watch included; without its token it is refused."""
    watched = next(scenario for scenario in scenarios_of("user") if "watch" in scenario.name)
    async with player(built.conformance, built.folder, secured.environment) as client:
        await perform(watched, client, secured)
    nameless = {name: value for name, value in secured.environment.items() if name != "ASSETLANE_TOKEN"}
    async with player(built.conformance, built.folder, nameless) as client:
        answer = await client.ask("get_asset", {"asset_id": "01JZZZZZZZZZZZZZZZZZZZZZZZ"})
    assert answer["refused"]["reason"] == "TOKEN_MISSING"
    assert answer["refused"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("scenario", scenarios_of("backend"), ids=lambda scenario: scenario.name)
async def test_a_client_conforms_as_back_end_and_device(
    scenario: Scenario, built: ClientUnderTest, secured: Stage
) -> None:
    """Each in a process of its own: it begins as the back end, and goes on as the device."""
    async with player(built.conformance, built.folder, secured.backend_environment) as client:
        await perform(scenario, client, secured)


def commands_of(readme: Path) -> list[list[str]]:
    """Returns the commands of a README's shell blocks, but for `make run`: the server runs already."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines[0] == "make run"
    assert len(lines) == 3, "a README is three commands"
    return [shlex.split(line) for line in lines[1:]]


async def test_the_commands_of_its_readme_work(built: ClientUnderTest, place: Stage) -> None:
    """As they stand, one after the other in one shell; every variant is read back."""
    folder = EXAMPLES / built.language
    lines = [shlex.join(words).replace("'&&'", "&&") for words in commands_of(folder / "README.md")]
    out = await ran(("sh", "-ec", "\n".join(lines)), ROOT, place.environment, BUILD_LIMIT_S)
    examples = len([line for line in lines if "dusk.jpg" in line])
    for expected in ("INITIALIZED", "COMPLETED", "original ", "small ", "medium ", "large ", "reads until 20"):
        assert out.count(expected) >= examples, out


async def test_the_stubs_of_go_are_those_of_the_contract(tmp_path: Path) -> None:
    """They are committed: `make proto` makes them again."""
    if GO.missing_tools:
        pytest.skip("go: not installed")
    buf = ROOT / ".venv" / "bin" / "buf"
    await ran((str(buf), "generate", "-o", str(tmp_path)), GO.folder, os.environ, BUILD_LIMIT_S)
    fresh = {path.name: path.read_text() for path in (tmp_path / "assetlanev1").iterdir()}
    assert fresh == {path.name: path.read_text() for path in (GO.folder / "assetlanev1").iterdir()}


async def test_the_page_of_languages_talks_to_the_server_with_grpcurl(place: Stage, tmp_path: Path) -> None:
    """Each command as it stands, but for the address."""
    if GO.missing_tools:
        pytest.skip("go: not installed")
    page = (ROOT / "docs" / "languages.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert ADDRESS in block
    environment = {**os.environ, "GOBIN": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = block.replace(ADDRESS, place.target)
    out = await ran(("sh", "-ec", script), ROOT, environment, BUILD_LIMIT_S)
    for expected in (
        "assetlane.v1.AssetService\n",
        "rpc WatchUpload ( .assetlane.v1.WatchUploadRequest ) returns ( stream",
        '"status": "SERVING"',
        '"single_put": {',
        '"status": "UPLOAD_STATUS_INITIALIZED"',
    ):
        assert expected in out
