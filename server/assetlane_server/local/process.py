"""One store server as a child process: start, stop, kill -9, restart."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from assetlane_server.local import guard
from assetlane_server.local.directory import last_lines
from assetlane_server.local.errors import LocalStackError, NotRunningError, StoreFailedError, StoreMissingError

START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 8.0
GUARD_LIMIT_S: Final = STOP_LIMIT_S + 4.0
PROBE_INTERVAL_S: Final = 0.02
# The stores see none of the caller's secrets and settings, only what finds programs and libraries.
PASSED_VARIABLES: Final = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
)


@dataclass(frozen=True, slots=True)
class Launch:
    """How to run one store and how to see that it answers."""

    name: str
    command: tuple[str, ...]
    working_directory: Path
    log: Path
    is_ready: Callable[[], bool]
    """Asks the server one real question, for a second at most; True when it answered as it should."""
    variables: Mapping[str, str]
    leftovers: tuple[str, ...] = ()
    """Files outside the directory that the server does not remove itself."""


class StoreProcess:
    """One store, run under a guard that outlives neither this process nor the store.

    `kill` and `restart` are for fault tests: ports, credentials and data stay the same.
    """

    def __init__(self, launch: Launch, *, lock_fd: int) -> None:
        self._launch = launch
        self._lock_fd = lock_fd
        self._guard: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The process id of the server itself. Raises NotRunningError when it does not run."""
        if self._pid is None or not self.is_running:
            raise NotRunningError(f"{self._launch.name} is not running")
        return self._pid

    @property
    def is_running(self) -> bool:
        """Says whether the server was started and has not ended."""
        return self._guard is not None and self._guard.poll() is None

    async def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises StoreFailedError, and leaves nothing running, when it ends or does not answer within a minute.
        """
        if self.is_running:
            raise LocalStackError(f"{self._launch.name} is running already")
        try:
            async with asyncio.timeout(START_LIMIT_S):
                self._guard = self._spawn()
                self._pid = await asyncio.to_thread(read_number, self._guard)
                while not await asyncio.to_thread(self._launch.is_ready):
                    self._check_alive()
                    await asyncio.sleep(PROBE_INTERVAL_S)
                self._check_alive()
        except TimeoutError as error:
            await self.kill()
            raise self._failed(f"did not answer within {START_LIMIT_S:.0f} s") from error
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Stops the server: SIGTERM, after eight seconds SIGKILL. Harmless when it does not run."""
        await self._end(b"")

    async def kill(self) -> None:
        """Ends the server as kill -9 does and returns when it is gone. Harmless when it does not run."""
        await self._end(guard.KILL)

    async def restart(self) -> None:
        """Starts the server again, on the same port and data; stops it first when it still runs."""
        await self.stop()
        await self.start()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        order = guard.GuardOrder(
            command=self._launch.command,
            parent_pid=os.getpid(),
            stop_limit_s=STOP_LIMIT_S,
            kept_fds=(self._lock_fd,),
            leftovers=self._launch.leftovers,
        )
        with self._launch.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and file
                (sys.executable, "-I", "-S", guard.__file__, order.to_json()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                cwd=self._launch.working_directory,
                env={name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
                | dict(self._launch.variables),
                pass_fds=(self._lock_fd,),
                # Ctrl-C in the terminal reaches the caller only, who drains first and stops the stores last.
                start_new_session=True,
            )

    async def _end(self, order: bytes) -> None:
        process = self._guard
        if process is None:
            return
        # Whatever happens to this task from here on, the guard has its order.
        release(process, order)
        await asyncio.to_thread(reap, process, self._launch.leftovers)
        self._guard = self._pid = None

    def _check_alive(self) -> None:
        if not self.is_running:
            exit_code = self._guard.poll() if self._guard else None
            raise self._failed(f"ended with exit code {exit_code} before it answered")

    def _failed(self, what: str) -> StoreFailedError:
        log = self._launch.log
        message = f"{self._launch.name} {what}."
        return StoreFailedError(message, store=self._launch.name, log=log, log_end=last_lines(log))


def read_number(process: "subprocess.Popen[bytes]") -> int | None:
    """Returns the process id that a guard reports, None when it could not start its server."""
    line = process.stdout.readline() if process.stdout else b""
    return int(line) if line.strip() else None


def release(process: "subprocess.Popen[bytes]", order: bytes) -> None:
    """Gives a guard its last order and closes the life line; a guard that ended by itself needs neither."""
    if process.stdin is None or process.stdin.closed:
        return
    with process.stdin, suppress(BrokenPipeError):
        process.stdin.write(order)


def reap(process: "subprocess.Popen[bytes]", leftovers: Iterable[str]) -> None:
    """Waits until a guard and its server are gone; does the guard's work if it was killed or is too slow."""
    try:
        exit_code = process.wait(GUARD_LIMIT_S)
    except subprocess.TimeoutExpired:
        exit_code = -signal.SIGKILL
    # A guard ends by a signal only when somebody else sent it: its server may live on, in the guard's group.
    if exit_code < 0:
        kill_group(process.pid)
        process.wait(GUARD_LIMIT_S)
        for leftover in leftovers:
            Path(leftover).unlink(missing_ok=True)
    if process.stdout is not None:
        process.stdout.close()


def kill_group(group: int) -> None:
    """Kills a process group and waits, for a few seconds at most, until nobody is left in it."""
    deadline_s = time.monotonic() + GUARD_LIMIT_S
    try:
        while time.monotonic() < deadline_s:
            os.killpg(group, signal.SIGKILL)
            time.sleep(PROBE_INTERVAL_S)
    except ProcessLookupError:
        return


def find_program(distribution_name: str, program: str) -> str:
    """Returns the path of a program that a wheel brought along.

    Raises StoreMissingError when the wheel or the program is not there.
    """
    try:
        files = distribution(distribution_name).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if Path(file).stem == program and (path := Path(str(file.locate())).resolve()).is_file():
            return str(path)
    raise StoreMissingError(
        f"{program} of {distribution_name} is not installed, the embedded stack needs it: "
        'pip install "$(echo dist/assetlane-*.whl)[local]" (make dist builds it)'
    )
