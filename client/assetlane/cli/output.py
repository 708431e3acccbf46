"""What the command line says: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from assetlane import progress
from assetlane.errors import AssetlaneError

FIXED_COLUMNS = 3  # ids, times and sizes are copied by people and must not break over lines


def say(line: str) -> None:
    """Prints one line of result."""
    print(printable(line), flush=True)  # at once: a reader that hung up is noticed here, not at exit


def say_json(message: Message) -> None:
    """Prints a message of the contract as one line of JSON, every plain field present."""
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    print(json.dumps(fields, ensure_ascii=False), flush=True)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows as a table on a terminal, otherwise as lines with tabs and no heading."""
    if not sys.stdout.isatty():
        for row in rows:
            say("\t".join(cell.replace("\t", " ") for cell in row))
        return
    table = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=position < FIXED_COLUMNS)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def note(line: str) -> None:
    """Prints one line for people."""
    print(printable(line), file=sys.stderr, flush=True)


def complain(error: BaseException, about: str = "") -> None:
    """Prints an error as one line with its reason."""
    words = [f"{about}: " if about else "", _told(error)]
    if isinstance(error, AssetlaneError) and error.reason:
        words.append(f" [{error.reason}]")
    note("assetlane: " + "".join(words))


def _told(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
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


def named(kind: EnumDescriptor, value: int, prefix: str) -> str:
    """Returns the name of an enum's value without its prefix; the number of one that only the server knows."""
    known = kind.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known else str(value)


def timed(time: Timestamp) -> str:
    """Returns an instant in RFC 3339, to the second."""
    return time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")


class Bars:
    """One progress bar for each file, on stderr when that is a terminal; otherwise silent.

    `beside_results`: shown only when the results are on a terminal as well.
    """

    def __init__(self, *, shown: bool, beside_results: bool = False) -> None:
        self.shown = shown and sys.stderr.isatty() and (sys.stdout.isatty() or not beside_results)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),  # both smoothed over half a minute
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(stderr=True),
            disable=not self.shown,
            transient=True,
            # Redirecting would send results to this console, which is stderr: right only on one screen.
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def add(self, name: str, size_bytes: int | None = None) -> "Bar":
        """Shows one more bar."""
        return Bar(self._progress, self._progress.add_task(printable(name), total=size_bytes, status=""))


class Bar:
    """The bar of one file."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def step(self, step: progress.Progress) -> None:
        """Shows a step of an upload."""
        self.show(step.sent_bytes, step.size_bytes, step.status_name)

    def show(self, sent_bytes: int, size_bytes: int, status: str) -> None:
        """Shows how far an upload is."""
        self._bars.update(self._task, completed=sent_bytes, total=size_bytes, status=status)

    def received(self, received_bytes: int) -> None:
        """Shows how much of a download has come."""
        self._bars.update(self._task, completed=received_bytes)

    def remove(self) -> None:
        """Takes the bar away."""
        self._bars.remove_task(self._task)
