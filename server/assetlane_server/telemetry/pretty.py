"""How a line of the log looks to people: time, level and event first, then the fields, within 100 columns."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final

COLUMNS: Final = 100
_INDENT: Final = " " * 4
_RESET: Final = "\x1b[0m"
_FAINT: Final = "\x1b[2m"
_COLORS: Final[Mapping[str, str]] = {
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
# Known from the line itself, or of no use to somebody who looks at one process.
_LEFT_OUT: Final = frozenset(
    {
        *("time", "level", "event", "event_code", "pid", "exception", "stack"),
        *(
            "listen",
            "worker",
            "exit_code",
            "delay_s",
            "weakness",
            "record",
        ),  # beside an event code: the sentence has them
    }
)
_CALM: Final = frozenset({"debug", "info"})  # of these it does not help to know which module it was
_PLAIN: Final = re.compile(r"[^\s\"'=]+")


class PrettyRenderer:
    """Renders an event as one line, or as several of which all but the first are indented.

    `12:30:59.123Z info     call ended  method=AssetService/GetAsset uid=ann`: the time is UTC, without its date.
    A traceback follows as it is, in lines of its own. `clean` takes secrets out, before a line is broken in the middle
    of one.
    """

    def __init__(self, *, has_colors: bool, clean: Callable[[str], str]) -> None:
        self._has_colors = has_colors
        self._clean = clean

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        """Returns the text of an event."""
        level = str(event.get("level", ""))
        time = _time_of_day(str(event.get("time", "")))
        message = _printable(self._clean(str(event.get("event", ""))))
        head = f"{time} {level:<8} "
        first, *more = _wrapped(message, COLUMNS - len(head)) or [""]
        lines = [head + first, *(_INDENT + line for line in more)]
        for field in map(self._clean, _fields(event)):
            if len(lines[-1]) + len(field) + 2 <= COLUMNS:
                is_first = lines[-1].endswith(first) and len(lines) == 1
                lines[-1] += ("  " if is_first else " ") + field
            else:
                lines += [_INDENT + line for line in _wrapped(field, COLUMNS - len(_INDENT))]
        if self._has_colors:
            lines = [self._colored(number, line, time, level) for number, line in enumerate(lines)]
        lines += [str(event[trace]) for trace in ("stack", "exception") if event.get(trace)]
        return "\n".join(lines)

    def _colored(self, number: int, line: str, time: str, level: str) -> str:
        """Returns the line with colours, which take no column."""
        if number:
            return f"{_FAINT}{line}{_RESET}"
        rest = line[len(time) + 1 + len(f"{level:<8}") :]
        return f"{_FAINT}{time}{_RESET} {_COLORS.get(level, '')}{level:<8}{_RESET}{rest}"


def _time_of_day(instant: str) -> str:
    """Returns `12:30:59.123Z` of an instant in ISO 8601; what is none stays."""
    found = re.search(r"T(\d\d:\d\d:\d\d)(\.\d{1,3})?", instant)
    return instant if found is None else f"{found[1]}{found[2] or '.000':0<4}Z"


def _fields(event: Mapping[str, Any]) -> Iterator[str]:
    for name, value in event.items():
        if name not in _LEFT_OUT and not (name == "logger" and event.get("level") in _CALM):
            text = value if isinstance(value, str) else repr(value)
            yield f"{name}={text if _PLAIN.fullmatch(text) and text.isprintable() else repr(text)}"


def _printable(text: str) -> str:
    """Returns the text with what would begin a line, or colour it, in a visible form."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=True, break_on_hyphens=False, drop_whitespace=True)
