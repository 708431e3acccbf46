"""`python -m tests.conformance -- COMMAND…` puts a client of yours through the script."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.performance import NonconformingError, perform
from tests.conformance.player import player
from tests.conformance.script import scenarios
from tests.conformance.stage import stage

from assetlane_server.local.stack import embedded_stack


async def put_through(command: Sequence[str], only: str) -> int:
    """Plays the scenarios whose names hold `only`, each to a process of its own; returns how many failed."""
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="assetlane-conformance-") as folder:
        async with (
            embedded_stack(Path(folder) / "data") as stack,
            stage(stack.address, Path(folder)) as open_place,
            stage(stack.address, Path(folder) / "secured", is_secured=True) as secured,
        ):
            for scenario in scenarios():
                if only not in scenario.name:
                    continue
                place = secured if scenario.is_of_backend else open_place
                environment = place.backend_environment if scenario.is_of_backend else place.environment
                try:
                    async with player(command, Path.cwd(), environment) as playing:
                        await perform(scenario, playing, place)
                except NonconformingError as error:
                    failed += 1
                    _say(f"FAILED  {scenario.name}\n{error}")
                else:
                    passed += 1
                    _say(f"passed  {scenario.name}")
    _say(f"{passed} passed, {failed} failed")
    return failed


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios with this in their name")
    parser.add_argument("command", nargs="+", help="the client under test")
    given = parser.parse_args()
    sys.exit(1 if asyncio.run(put_through(given.command, given.only)) else 0)
