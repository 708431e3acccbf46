"""One scenario, played by one client."""

import hashlib
import io
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tests.conformance.matching import difference, filled, picked, shown
from tests.conformance.player import NoAnswerError, Player
from tests.conformance.script import Ask, MakeFile, RestartServer, Scenario
from tests.conformance.stage import Stage


class NonconformingError(AssertionError):
    """A client does something else than the script wants; says which step, what was expected, and what it means."""


async def perform(scenario: Scenario, player: Player, stage: Stage) -> None:
    """Plays every step. Raises NonconformingError at the first that goes wrong."""
    values: dict[str, Any] = {"run": f"run-{secrets.token_hex(6)}", "now_unix_s": int(time.time())}
    for number, step in enumerate(scenario.steps, start=1):
        match step:
            case MakeFile():
                values |= _made(step, stage.folder)
            case RestartServer():
                await stage.restart_server()
            case Ask():
                where = f"step {number} of {len(scenario.steps)} of {scenario.name!r}"
                values |= await _asked(step, player, values, where, stage)


def _made(step: MakeFile, folder: Path) -> dict[str, Any]:
    if step.jpeg:
        out = io.BytesIO()
        Image.linear_gradient("L").resize(step.jpeg).save(out, "JPEG")
        content = out.getvalue()
    else:
        content = (step.text or "").encode()
    path = folder / f"{secrets.token_hex(6)}-{step.name}"
    path.write_bytes(content)
    return {
        f"{step.name}.path": str(path),
        f"{step.name}.sha256": hashlib.sha256(content).hexdigest(),
        f"{step.name}.size_bytes": len(content),
    }


async def _asked(step: Ask, player: Player, values: Mapping[str, Any], where: str, stage: Stage) -> dict[str, Any]:
    arguments, expected = filled(step.arguments, values), filled(step.expect, values)
    answer: dict[str, Any] | None = None
    try:
        answer = await player.ask(step.do, arguments)
        fault = difference(expected, answer)
    except NoAnswerError as error:
        fault = str(error)
    if fault is None:
        assert answer is not None
        return {name: picked(answer, path) for name, path in step.save.items()}
    lines = [
        f"{where}: {step.do}",
        f"  fault     {fault}",
        f"  asked     {shown(arguments)}",
        f"  expected  {shown(expected)}",
        f"  got       {shown(answer)}",
        f"  means     {step.means}",
        *(f"  stderr    {line}" for line in player.last_words),
        *(f"  server    {line}" for line in stage.server_errors),
    ]
    raise NonconformingError("\n".join(lines))
