"""The TypeScript client in Node passes the whole script of the conformance kit through the web gateway."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from tests.conformance.performance import perform
from tests.conformance.player import Player, player
from tests.conformance.script import Scenario, scenarios_of
from tests.conformance.stage import Stage, stage

from assetlane_server.local import StackAddress

CLIENT: Final = Path(__file__).parents[2] / "web" / "client"
COMMAND: Final = ("node", "dist-conformance/conformance/main.js")
pytestmark = [pytest.mark.web, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(stack: StackAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One server for both protocols."""
    async with stage(stack, tmp_path_factory.mktemp("stage"), has_web=True) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["grpc-web", "connect"])
async def playing(request: pytest.FixtureRequest, place: Stage) -> AsyncIterator[Player]:
    """The client's conformance program, one process for all scenarios."""
    assert shutil.which("node"), "node is not installed"
    environment = {**place.environment, "ASSETLANE_WEB_PROTOCOL": request.param}
    async with player(COMMAND, CLIENT, environment) as client:
        yield client


@pytest.mark.parametrize("scenario", scenarios_of("user"), ids=lambda scenario: scenario.name)
async def test_the_web_client_conforms(scenario: Scenario, playing: Player, place: Stage) -> None:
    """Step for step; a failure says what was asked, expected and got, and what that means."""
    await perform(scenario, playing, place)


async def test_the_web_client_speaks_tls_and_sends_its_token(
    stack: StackAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The whole life of an upload, watch included; a back end and its devices; without a token it is refused."""
    watched = next(scenario for scenario in scenarios_of("user") if "watch" in scenario.name)
    async with stage(stack, tmp_path_factory.mktemp("secured"), is_secured=True, has_web=True) as secured:
        trust = {"NODE_EXTRA_CA_CERTS": secured.environment["ASSETLANE_CA_FILE"]}
        environment = {**secured.environment, **trust}
        async with player(COMMAND, CLIENT, environment) as client:
            await perform(watched, client, secured)
        for scenario in scenarios_of("backend"):
            async with player(COMMAND, CLIENT, {**secured.backend_environment, **trust}) as client:
                await perform(scenario, client, secured)
        nameless = {name: value for name, value in environment.items() if name != "ASSETLANE_TOKEN"}
        async with player(COMMAND, CLIENT, nameless) as client:
            answer = await client.ask("get_asset", {"asset_id": "01JZZZZZZZZZZZZZZZZZZZZZZZ"})
        assert answer["refused"]["reason"] == "TOKEN_MISSING"
        assert answer["refused"]["code"] == "UNAUTHENTICATED"
