"""The directory of one stack: its lock, its secrets, its logs."""

import asyncio
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from assetlane_server.local.errors import DirectoryInUseError, LocalStackError

RETRY_INTERVAL_S: Final = 0.05
LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What a stack keeps from one start to the next (`stack.json`)."""

    s3_access_key_id: str
    s3_secret_access_key: str
    first_port: int | None = None
    """Where the port block began last time: tried first, so that URLs survive a restart."""


class DirectoryLock:
    """Holds a directory for one stack, by `flock` on an open file that the stores inherit.

    So the directory stays in use until the last store has ended, also after a kill -9 of their parent.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor to hand to the stores. The lock must be held."""
        if self._fd is None:
            raise LocalStackError(f"the lock of {self._directory} is not held")
        return self._fd

    async def acquire(self, *, limit_s: float) -> None:
        """Takes the lock; waits only for stores that are still stopping because their parent is gone.

        Raises DirectoryInUseError at once when the stack that holds it is alive, else after the limit.
        """
        fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            async with asyncio.timeout(limit_s):
                while not try_lock(fd):
                    self._refuse_living_owner(read_pid(fd))
                    await asyncio.sleep(RETRY_INTERVAL_S)
        except TimeoutError as error:
            os.close(fd)
            raise DirectoryInUseError(
                f"{self._directory} is still in use by stores whose stack is gone: "
                "end them (`weed`, `secantusd-py`) or choose another directory",
                directory=self._directory,
            ) from error
        except BaseException:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def _refuse_living_owner(self, owner_pid: int | None) -> None:
        if owner_pid is not None and is_alive(owner_pid):
            raise DirectoryInUseError(
                f"{self._directory} is in use by the stack of process {owner_pid}: "
                "stop that one or choose another directory",
                directory=self._directory,
            )

    def release(self) -> None:
        """Lets the directory go. Harmless when the lock is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def try_lock(fd: int) -> bool:
    """Says whether this open file now holds its lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_pid(fd: int) -> int | None:
    """Returns the process id in a lock file, None while its owner has not written one yet."""
    text = os.pread(fd, 32, 0).decode()
    return int(text) if text.isdecimal() else None


def is_alive(pid: int) -> bool:
    """Says whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step, readable by its owner only (0600)."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open_private(new) as fd:
        os.write(fd, text.encode())
    new.replace(path)


@contextmanager
def open_private(path: Path) -> Iterator[int]:
    """Opens a new file with mode 0600 and closes it at the end."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def load_settings(directory: Path) -> StackSettings:
    """Reads the settings of this directory; makes them, with random credentials, at the first start."""
    path = directory / "stack.json"
    if path.exists():
        try:
            return StackSettings(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise LocalStackError(f"{path} is damaged ({error}): remove {directory} to start afresh") from error
    settings = StackSettings(
        s3_access_key_id="LOCAL" + secrets.token_hex(8).upper(),
        s3_secret_access_key=secrets.token_urlsafe(30),
    )
    write_private(path, json.dumps(asdict(settings), indent=2) + "\n")
    return settings


def remember_port(directory: Path, settings: StackSettings, first_port: int) -> None:
    """Keeps the port block for the next start."""
    if settings.first_port != first_port:
        write_private(
            directory / "stack.json",
            json.dumps(asdict(replace(settings, first_port=first_port)), indent=2) + "\n",
        )


def turn_log(path: Path) -> None:
    """Puts a log that has grown past 16 MiB aside as `.1`, in place of the one before."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_name(path.name + ".1"))


def last_lines(path: Path, count: int = 20) -> str:
    """Returns the end of a log, at most 8 KiB of it; empty when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
