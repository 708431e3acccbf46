"""Runs a command in a pseudo-terminal of a chosen width, and returns what a person sees there."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte

ROWS = 120
LIMIT_S = 60.0
WIDTHS = (80, 120)


@dataclass(frozen=True)
class Seen:
    """The lines of the screen, and how the command ended."""

    lines: tuple[str, ...]
    code: int

    def __str__(self) -> str:
        return "\n".join((*self.lines, f"[{self.code}]")) + "\n"


class Terminal:
    """A command in a terminal: its keyboard and its screen."""

    def __init__(
        self, process: asyncio.subprocess.Process, end: int, columns: int, clean: Callable[[str], str]
    ) -> None:
        self.process = process
        self._end = end
        self._clean = clean
        self._columns = columns
        self._bytes = b""
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def started(
        cls,
        words: Sequence[str],
        columns: int,
        environment: Mapping[str, str],
        *,
        cwd: Path | None = None,
        clean: Callable[[str], str] = str,
    ) -> "Terminal":
        """Starts a command; `clean` replaces what differs from run to run by something just as long."""
        end, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=inside, stdout=inside, stderr=inside, cwd=cwd, start_new_session=True,
                env={**own, "TERM": "xterm", "NO_COLOR": "1", "LANG": "C.UTF-8"},
            )  # fmt: skip
        finally:
            os.close(inside)
        return cls(process, end, columns, clean)

    async def _read(self) -> None:
        while True:
            try:
                data = await asyncio.to_thread(os.read, self._end, 65536)
            except OSError:  # EIO: the command has ended
                data = b""
            self._bytes += data
            self._news.set()
            if not data:
                return

    def text(self) -> str:
        """Returns all that was drawn so far."""
        return self._bytes.decode(errors="replace")

    async def shows(self, words: str) -> None:
        """Waits until these words were drawn."""
        async with asyncio.timeout(LIMIT_S):
            while not re.search(words, self.text()):
                self._news.clear()
                if self._reading.done():
                    raise AssertionError(f"it ended without {words!r}:\n{self.text()}")
                await self._news.wait()

    def screen(self) -> tuple[str, ...]:
        """Returns the lines that are on the screen."""
        return drawn(self._clean(self.text()), self._columns)

    async def ended(self) -> Seen:
        """Waits for the command's end."""
        async with asyncio.timeout(LIMIT_S):
            code = await self.process.wait()
            await self._reading
        os.close(self._end)
        return Seen(self.screen(), code)


def drawn(text: str, columns: int) -> tuple[str, ...]:
    """Returns the lines of a screen of that width on which this was drawn."""
    screen = pyte.Screen(columns, ROWS)
    pyte.Stream(screen).feed(text)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)


def keep(folder: Path, name: str, columns: int, seen: str) -> None:
    """Compares what was seen with the kept picture of that name; with UPDATE_SCREENS=1 it becomes the picture.

    Read each picture that changes before it is committed: that is the whole point of them.
    """
    picture = folder / f"{name}.{columns}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        folder.mkdir(exist_ok=True)
        picture.write_text(seen)
    assert picture.exists(), f"there is no picture {picture.name}: make it with UPDATE_SCREENS=1, and read it"
    assert seen == picture.read_text(), f"{picture.name} differs"
