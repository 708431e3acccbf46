"""What the command line says: results on stdout, everything else on stderr."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from assetlane.cli import tables
from assetlane.errors import AssetlaneError

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from assetlane import progress

NAME_CELLS = 20  # of a file's name beside its bar
NARROW_CELLS = 64  # below that there is no room for bars
FACT_CELLS = 11  # of a fact's name before it
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 365 * 86_400

# What helps on the command line, where the server's sentence is for every kind of caller.
_ADVICE = {
    "TOKEN_MISSING": "Give a token with --token-file or ASSETLANE_TOKEN_FILE.",
    "TOKEN_INVALID": "Is the token whole, and made for this server?",
    "UID_MISMATCH": "Leave --uid out: the token says who you are.",
}


_live: Any = None  # the console of the bars that are on the screen now


def _put(line: str, *, on_stderr: bool = False) -> None:
    """Prints one line as it is, above the bars where there are any; the terminal wraps it, so that URLs stay whole."""
    if _live is not None and (on_stderr or is_terminal()):
        _live.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
    else:
        # At once: a reader that hung up is noticed here, not at exit.
        print(line, file=sys.stderr if on_stderr else sys.stdout, flush=True)


def say(line: str) -> None:
    """Prints one line of result."""
    _put(printable(line))


def say_json(message: "Message") -> None:
    """Prints a message of the contract as one line of JSON, every plain field present."""
    from assetlane.cli.json_lines import as_line

    _put(as_line(message))


def say_event(event: "Message") -> None:
    """Prints an event of a watch as one line of JSON that says its kind."""
    from assetlane.cli.json_lines import event_line

    _put(event_line(event))


def is_terminal() -> bool:
    """Returns whether results are read by a person."""
    return sys.stdout.isatty()


def width(stream: TextIO | None = None) -> int:
    """Returns how many columns the terminal has, that of standard output unless another is named."""
    if stream is not None and "COLUMNS" not in os.environ:
        with suppress(OSError, ValueError):  # no terminal, or no file at all
            return os.get_terminal_size(stream.fileno()).columns or 80
    return shutil.get_terminal_size().columns


def say_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, optional: str = "", numbers: Sequence[str] = ()
) -> None:
    """Prints rows as a table that fits the terminal; the column `optional` only where there is room for it."""
    shown = [[printable(cell).replace("\t", " ") for cell in row] for row in rows]
    for line in tables.table(columns, shown, width=width(), optional=optional, numbers=numbers):
        _put(line)


def say_records(records: Sequence[Sequence[str]]) -> None:
    """Prints records of several lines: the first as it is, the others indented, empty ones left out."""
    for first, *others in records:
        say(first)
        for line in filter(None, others):
            say(f"  {line}")


def say_row(cells: Sequence[str]) -> None:
    """Prints one row for a program: cells with tabs between them."""
    say("\t".join(cell.replace("\t", " ") for cell in cells))


def say_fact(name: str, fact: str) -> None:
    """Prints a fact behind its name, on a terminal broken between words."""
    line = printable(f"{name + ':':<{FACT_CELLS}}{fact}")
    for part in tables.wrapped(line, width(), FACT_CELLS) if is_terminal() else [line]:
        _put(part)


def note(line: str) -> None:
    """Prints one line for people, on a terminal broken between words. An indented one, such as a command, is not."""
    for part in error_lines(printable(line)):
        _put(part, on_stderr=True)


def error_lines(line: str) -> list[str]:
    """Returns a line as it is printed to standard error: on a terminal broken between words, unless it is indented."""
    is_broken = sys.stderr.isatty() and not line.startswith(" ")
    return tables.wrapped(line, width(sys.stderr)) if is_broken else [line]


def complain(error: BaseException, about: str = "") -> None:
    """Prints an error as one line with its reason."""
    reason = getattr(error, "reason", "")
    text = _described(error)
    words = [f"{about}: " if about and not _is_named(about, error, text) else "", text]
    if reason in _ADVICE:
        words.append(f" {_ADVICE[reason]}")
    if isinstance(reason, str) and reason:
        words.append(f" [{reason}]")
    note("assetlane: " + "".join(words))


def _is_named(name: str, error: BaseException, text: str) -> bool:
    """Returns whether an error names its file or id already. A word such as `pipe` may be the name of a file."""
    if isinstance(error, OSError) and error.strerror:
        return bool(error.filename) and name in str(error.filename)
    is_a_word = name.isalpha() or not any(letter.isalpha() for letter in name)
    return (f"'{name}'" if is_a_word else name) in text


def _described(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    kind = type(error).__name__
    if isinstance(error, AssetlaneError):
        return str(error) or kind
    return f"{kind}: {error}" if str(error) else kind


def printable(text: str) -> str:
    r"""Returns the text without line breaks and control characters: titles of others end up on terminals.

    Bytes of a file's name that are not UTF-8 are shown as `\xff`.
    """
    return "".join(letter if letter.isprintable() or letter == "\t" else _shown(letter) for letter in text)


def _shown(letter: str) -> str:
    is_surrogate = "\ud800" <= letter <= "\udfff"
    if not is_surrogate:
        return "\ufffd"
    is_byte = "\udc80" <= letter <= "\udcff"  # PEP 383
    return f"\\x{ord(letter) - 0xDC00:02x}" if is_byte else f"\\u{ord(letter):04x}"


def sized(size_bytes: int) -> str:
    """Returns a size for people, such as `1.4 MB`."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def counted(size_bytes: int) -> str:
    """Returns a size: for a person as `sized`, for a program the number of bytes."""
    return sized(size_bytes) if is_terminal() else str(size_bytes)


def named(kind: "EnumDescriptor", value: int, prefix: str) -> str:
    """Returns the name of an enum's value without its prefix; the number of one that only the server knows."""
    known = kind.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known else str(value)


def timed(time: "Timestamp") -> str:
    """Returns an instant in RFC 3339, to the second."""
    return time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")


def aged(then: "Timestamp") -> str:
    """Returns how long ago an instant is, such as `3h`; nothing below a second or in the future."""
    return spanned(time.time() - then.ToNanoseconds() / 1e9)


def expiring(asset: Any) -> str:
    """Returns when the read URLs of an asset end, such as `in 23h`; PUBLIC when they never do."""
    if not asset.HasField("expire_time"):
        return "PUBLIC"
    left = asset.expire_time.ToNanoseconds() / 1e9 - time.time()
    return f"in {spanned(left)}" if left > 0 else "expired"


def spanned(seconds: float) -> str:
    """Returns a span of time in its largest whole unit: `5s`, `12m`, `3h`, `27d`, `2y`."""
    seconds = max(0, int(seconds))
    for unit, letter in ((_YEAR, "y"), (_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


class Bars:
    """One progress bar for each file, on stderr when that is a terminal; otherwise silent.

    `beside_results`: shown only when the results are on a terminal as well.
    """

    def __init__(self, *, shown: bool, beside_results: bool = False) -> None:
        self.shown = shown and sys.stderr.isatty() and (sys.stdout.isatty() or not beside_results)
        self._progress: Any = _progress() if self.shown else None
        self._total: Any = None
        self._files = 0

    def __enter__(self) -> Self:
        global _live
        if self.shown:
            self._progress.start()
            _live = self._progress.console
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _live
        if self.shown:
            _live = None
            self._progress.stop()

    def add(self, name: str, size_bytes: int | None = None) -> "Bar":
        """Shows one more bar."""
        if not self.shown:
            return Bar(None, None)
        name = tables.padded(tables.shortened(printable(name), NAME_CELLS), NAME_CELLS)
        return Bar(self._progress, self._progress.add_task(name, total=size_bytes, status=""))

    def add_total(self, files: int, size_bytes: int) -> None:
        """Shows a bar of all files together, before theirs."""
        self._files = files
        if self.shown:
            self._total = self._progress.add_task("", total=size_bytes, status="")
            self.show_total(0, 0)

    def show_total(self, files_over: int, sent_bytes: int) -> None:
        """Shows how far all files together are."""
        if self._total is not None:
            name = tables.padded(f"{files_over} of {self._files} files", NAME_CELLS)
            self._progress.update(self._total, description=name, completed=sent_bytes)


class Bar:
    """The bar of one file."""

    def __init__(self, bars: Any, task: Any) -> None:
        self._bars = bars
        self._task = task

    def step(self, step: "progress.Progress") -> None:
        """Shows a step of an upload."""
        self.show(step.sent_bytes, step.size_bytes, step.status_name)

    def show(self, sent_bytes: int, size_bytes: int, status: str) -> None:
        """Shows how far an upload is."""
        if self._bars is not None:
            self._bars.update(self._task, completed=sent_bytes, total=size_bytes, status=status)

    def received(self, received_bytes: int) -> None:
        """Shows how much of a download has come."""
        if self._bars is not None:
            self._bars.update(self._task, completed=received_bytes)

    def remove(self) -> None:
        """Takes the bar away."""
        if self._bars is not None:
            self._bars.remove_task(self._task)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    cells = width(sys.stderr)
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
    if cells >= NARROW_CELLS:
        columns += [BarColumn(bar_width=10 if cells < 100 else 30), DownloadColumn()]
    else:
        columns.append(TextColumn("{task.percentage:>3.0f}%"))
    if cells >= 80:
        columns += [TransferSpeedColumn(), TimeRemainingColumn(compact=True)]  # both smoothed over half a minute
    return Progress(
        *columns,
        TextColumn("{task.fields[status]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        # Redirecting would break long lines, and send results to this console, which is stderr.
        redirect_stdout=False,
        redirect_stderr=False,
    )
