"""Runs the `assetlane` command as a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import assetlane

CLIENT_ROOT = Path(assetlane.__file__).parents[1]  # the sources, or the wheel under test
COMMAND = (sys.executable, "-m", "assetlane.cli")


@dataclass(frozen=True)
class Result:
    """What a finished command left."""

    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of the result."""
        return self.out.splitlines()


def environment(target: str) -> dict[str, str]:
    """Returns an environment in which the command finds the server and speaks for ann."""
    own = {"ASSETLANE_TARGET": target, "ASSETLANE_UID": "ann", "PYTHONPATH": str(CLIENT_ROOT)}
    return {**os.environ, **own, "PYTHONWARNINGS": "error", "COLUMNS": "200"}


async def started(target: str, *arguments: str | Path, cwd: Path | None = None) -> asyncio.subprocess.Process:
    """Starts the command."""
    return await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), stdout=PIPE, stderr=PIPE, env=environment(target), cwd=cwd
    )


async def finished(process: asyncio.subprocess.Process) -> Result:
    """Waits for the command's end."""
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), (err or b"").decode())


async def ran(target: str, *arguments: str | Path, cwd: Path | None = None) -> Result:
    """Runs the command to its end. It never shows a traceback."""
    result = await finished(await started(target, *arguments, cwd=cwd))
    assert "Traceback" not in result.err
    return result
