"""`assetlane-server` as an operator runs it: a process with an environment, signals and an exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
from tests.leaks import leaks
from tests.log_events import events_of
from tests.servers import LIMIT_S, accepted

from assetlane_server.config.settings import PREFIX
from assetlane_server.local import StackAddress

LOOK_S = 0.02


class Command:
    """One run of the command; `log` is what it has written to standard error so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""

    async def read(self) -> None:
        """Takes in standard error until it ends."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line.decode()

    async def serves(self, sign: str = "SERVING") -> str:
        """Returns its target once it has logged this event."""
        await until(lambda: bool(self.events(sign)) or self.process.returncode is not None)
        assert self.events(sign), self.log
        target: str = self.events("SERVING")[0]["listen"]
        return target

    def events(self, code: str) -> list[dict[str, Any]]:
        """Returns the lines of its log with this code."""
        return events_of(self.log, code)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to this one process."""
        self.process.send_signal(number)

    async def ends(self, limit_s: float = LIMIT_S) -> int:
        """Returns the exit status."""
        return await asyncio.wait_for(self.process.wait(), limit_s)

    def workers(self) -> list[psutil.Process]:
        """Returns its child processes that live."""
        return [child for child in psutil.Process(self.process.pid).children() if is_alive(child)]


@asynccontextmanager
async def command(stack: StackAddress, *arguments: str, **settings: object) -> AsyncIterator[Command]:
    """Runs the command on a stack, with settings by field name; kills what is left of it at the end."""
    given = {
        "listen": "127.0.0.1:0",
        "grace_seconds": 10,
        "store_probe": "quick",
        **accepted(),
        **{name: getattr(stack, name) for name in ("mongo_uri", "s3_endpoint", "s3_region", "s3_bucket")},
        **{name: getattr(stack, name) for name in ("s3_access_key_id", "s3_secret_access_key")},
        **settings,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment |= {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assetlane_server", *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    run = Command(process)
    reading = asyncio.create_task(run.read())
    try:
        yield run
    finally:
        if process.returncode is None:
            for one in (psutil.Process(process.pid), *run.workers()):
                one.kill()
        await asyncio.wait_for(process.wait(), LIMIT_S)
        await asyncio.wait_for(reading, LIMIT_S)
    assert leaks(run.log) == [], "secrets in the log"


def is_alive(process: psutil.Process) -> bool:
    """Says whether a process runs; one that only waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Returns once something is so that nobody announces."""
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 - a process outside and a proxy are no events
            await asyncio.sleep(LOOK_S)
