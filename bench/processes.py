"""Servers as child processes, with the kernel's own account of what they cost."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from assetlane_server.config.settings import PREFIX

START_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 15.0
_POLL_S: Final = 0.05
_SERVING = re.compile(r"serving on ([^\s\"]+)(?:\"|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that takes calls at `target`, in a process of its own."""

    target: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Returns the CPU time that all its threads used since it started."""
        times = self.process.cpu_times()
        return times.user + times.system

    def memory_bytes(self) -> int:
        """Returns what would be free if it ended: no shared pages."""
        return int(self.process.memory_full_info().uss)


@asynccontextmanager
async def server_process(module: Sequence[str], settings: Mapping[str, str]) -> AsyncIterator[ServerProcess]:
    """Runs `python -m MODULE…` with these settings and nobody else's until the block ends.

    It has to log `serving on TARGET` to stderr. Raises RuntimeError with its log when it does not in time.
    """
    with TemporaryDirectory(prefix="assetlane-bench-") as directory:
        log = Path(directory, "log")
        child = _spawn(module, settings, log)
        try:
            yield ServerProcess(await _target(child, log), psutil.Process(child.pid))
        finally:
            child.terminate()
            await asyncio.to_thread(_reap, child)


def _spawn(module: Sequence[str], settings: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with log.open("wb") as stderr:
        return subprocess.Popen(
            (sys.executable, "-m", *module),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**inherited, **settings},
        )


async def _target(child: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline_s = time.monotonic() + START_LIMIT_S
    while child.poll() is None and time.monotonic() < deadline_s:
        if serving := _SERVING.search(_text(log)):
            return serving[1]
        await asyncio.sleep(_POLL_S)
    raise RuntimeError(f"a server did not start:\n{_text(log)[-2000:]}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _reap(child: "subprocess.Popen[bytes]") -> None:
    try:
        child.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
