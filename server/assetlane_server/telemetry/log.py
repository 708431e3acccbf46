"""One pipeline for every line that this process logs, its own and its libraries': structured, then redacted.

Whoever has something to say uses `logging`; what a program should find goes into `extra`.
"""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.types import Processor

from assetlane_server.telemetry.calls import current_call
from assetlane_server.telemetry.redaction import HIDDEN, SECRET_NAMES, Redaction

Format = Literal["auto", "json", "pretty"]
Event = MutableMapping[str, Any]

# Below this they tell what nobody asked for, some of it with headers and URLs.
_NOISY = (
    "pymongo", "botocore", "boto3", "urllib3", "asyncio", "aiohttp", "opentelemetry", "grpc", "requests", "concurrent",
)  # fmt: skip


def log_to(stream: TextIO, *, level: str, form: Format, secrets: Iterable[str] = ()) -> None:
    """Sends every line from `level` on to the stream; `auto` is pretty on a terminal, else JSON.

    Replaces what was set before. Warnings of Python come along.
    """
    handler = _Handler(stream)
    is_pretty = form == "pretty" or (form == "auto" and stream.isatty())
    handler.setFormatter(formatter(is_pretty=is_pretty, has_colors=stream.isatty(), redaction=Redaction(secrets)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def formatter(*, is_pretty: bool, has_colors: bool, redaction: Redaction) -> logging.Formatter:
    """Returns what makes a line of a record. The redaction comes last: nothing is written past it."""
    renderer: Processor
    if is_pretty:
        plain = structlog.dev.plain_traceback  # the pretty one shows the values of variables
        renderer = structlog.dev.ConsoleRenderer(colors=has_colors, exception_formatter=plain, pad_event_to=0)
    else:
        renderer = structlog.processors.JSONRenderer(default=str)

    def redacted(logger: Any, name: str, event: Event) -> str:
        return redaction.clean(str(renderer(logger, name, event)))

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.ExtraAdder(),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _add_process,
            _add_call,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _hide_by_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            *([] if is_pretty else [_first_things_first]),
            redacted,
        ],
    )


class _Handler(logging.StreamHandler[TextIO]):
    """A line that cannot be written is told of without what it says: `logging` itself would print all of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[0]
        sys.stderr.write(f"a line of {record.name} could not be logged ({error.__name__ if error else 'unknown'})\n")


def _add_process(logger: Any, name: str, event: Event) -> Event:
    event["pid"] = event["_record"].process
    return event


def _add_call(logger: Any, name: str, event: Event) -> Event:
    """Says for which call something is done, also in what goes on when its caller has hung up."""
    if (call := current_call()) is not None:
        for field, value in call.fields():
            event.setdefault(field, value)
    return event


def _hide_by_name(logger: Any, name: str, event: Event) -> Event:
    for field in event.keys() & SECRET_NAMES:
        event[field] = HIDDEN
    return event


def _first_things_first(logger: Any, name: str, event: Event) -> Event:
    first = ("time", "level", "event", "logger")
    return {**{field: event[field] for field in first if field in event}, **event}
