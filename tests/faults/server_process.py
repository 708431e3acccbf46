"""Assetlane servers as their operators run them: processes that are started, asked to stop, or killed.

Each runs under the guard of the embedded stack, which takes it down when the tests are gone, however they went.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.leaks import leaks
from tests.log_events import events_of
from tests.servers import accepted

from assetlane_server.config.settings import PREFIX
from assetlane_server.local import StackAddress, guard

START_LIMIT_S: Final = 45.0
KILL_LIMIT_S: Final = 10.0
PROBE_INTERVAL_S: Final = 0.02
# Not gRPC's own errors: it logs one when a caller vanishes in the middle of a message.
OUR_ERRORS: Final = re.compile(r"^.*\"level\": \"(?:error|critical)\".*\"logger\": \"assetlane_server.*$", re.MULTILINE)


def environment_for(
    stack: StackAddress,
    database_name: str,
    *,
    app_name: str = "",
    settings: Mapping[str, str] = MappingProxyType({}),
    **changes: float,
) -> dict[str, str]:
    """Returns the whole environment of a server on these stores; `settings` and `changes` are by field name.

    `app_name` is what failpoints know its MongoDB connections by.
    """
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "mongo_uri": stack.mongo_uri + (f"&appName={app_name}" if app_name else ""),
        "mongo_database": database_name,
        "s3_endpoint": stack.s3_endpoint,
        "s3_region": stack.s3_region,
        "s3_bucket": stack.s3_bucket,
        "s3_access_key_id": stack.s3_access_key_id,
        "s3_secret_access_key": stack.s3_secret_access_key,
        "store_probe": "quick",
        **accepted(),
        **settings,
        **changes,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | {PREFIX + name.upper(): str(value) for name, value in values.items()}


class NotServingError(Exception):
    """A server ended, or was killed, before it served; the end of its log says why."""


class ServerProcess:
    """One `assetlane_server serve`, which may be started again after its end, on another port then."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = dict(environment)
        self._log = log
        self._guard: asyncio.subprocess.Process | None = None
        self._pid: int | None = None
        self.port = 0
        """The port it serves on, or last did."""

    @property
    def target(self) -> str:
        """Where it is called."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id. Raises RuntimeError when it does not run."""
        if self._pid is None or not self.is_running:
            raise RuntimeError("the server does not run")
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._guard is not None and self._guard.returncode is None

    @property
    def log(self) -> str:
        """What it has written so far, in all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def errors(self) -> list[str]:
        """The errors that it has logged."""
        return OUR_ERRORS.findall(self.log)

    async def start(self) -> None:
        """Starts it and returns when it serves. Raises NotServingError; nothing is left running then."""
        offset = self._log.stat().st_size if self._log.exists() else 0
        order = guard.GuardOrder(
            command=(sys.executable, "-m", "assetlane_server", "serve"),
            parent_pid=os.getpid(),
            stop_limit_s=KILL_LIMIT_S,
            kept_fds=(),
            leftovers=(),
        )
        with self._log.open("ab") as log:
            self._guard = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", guard.__file__, order.to_json()),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._guard.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(START_LIMIT_S):
                self._pid = int(await self._guard.stdout.readline() or 0) or None
                while self.is_running:
                    if serving := events_of(self._log_since(offset), "SERVING"):
                        self.port = int(serving[0]["listen"].rpartition(":")[2])
                        return
                    await asyncio.sleep(PROBE_INTERVAL_S)
        await self.kill()
        raise NotServingError(self.log[-2000:])

    def terminate(self) -> None:
        """Sends SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    async def wait(self, limit_s: float) -> int:
        """Returns its exit status, 128 + n when signal n ended it. Raises TimeoutError."""
        if self._guard is None:
            raise RuntimeError("the server was never started")
        async with asyncio.timeout(limit_s):
            return await self._guard.wait()

    async def kill(self) -> None:
        """Ends it as `kill -9` does and returns when it is gone. Harmless when it does not run."""
        if self._guard is None:
            return
        with suppress(RuntimeError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.wait(KILL_LIMIT_S)

    def _log_since(self, offset: int) -> str:
        with self._log.open() as log:
            log.seek(offset)
            return log.read()

    def events(self, code: str) -> list[dict[str, Any]]:
        """Returns the lines of its log with this code."""
        return events_of(self.log, code)

    async def logs(self, code: str, limit_s: float) -> list[dict[str, Any]]:
        """Returns the lines with this code as soon as there is one. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while not (found := self.events(code)):  # noqa: ASYNC110 - only the log shows it
                await asyncio.sleep(PROBE_INTERVAL_S)
        return found


@asynccontextmanager
async def server_process(environment: Mapping[str, str], log: Path) -> AsyncIterator[ServerProcess]:
    """Runs a server as long as the block lasts; whatever is left of it at the end is killed."""
    server = ServerProcess(environment, log)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
    assert leaks(server.log) == [], "secrets in the log"
