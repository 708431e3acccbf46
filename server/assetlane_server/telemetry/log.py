"""One pipeline for every line that this process logs, its own and its libraries': structured, then redacted.

Code that logs uses `logging`; what a program should find goes into `extra`.
"""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.types import Processor

from assetlane_server.telemetry.calls import current_call
from assetlane_server.telemetry.pretty import PrettyRenderer
from assetlane_server.telemetry.redaction import HIDDEN, SECRET_NAMES, Redaction

Format = Literal["auto", "json", "pretty"]
Event = MutableMapping[str, Any]

# What native libraries write to file descriptor 2 comes from this logger.
NATIVE_LOGGER = "grpc.core"

# Below this level they log what nobody needs, some of it with headers and URLs.
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
    native = logging.getLogger(NATIVE_LOGGER)
    native.setLevel(level.upper())  # GRPC_VERBOSITY says how much the core logs
    native.filters[:] = [_is_news]
    logging.captureWarnings(capture=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Returns whether a native line says what no sentence of our own does: a port that is taken has one."""
    return not record.getMessage().startswith("Failed to add port to server")


def log_handlers() -> list[logging.StreamHandler[TextIO]]:
    """Returns what writes the log of this process, as `log_to` has set it."""
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]


def formatter(*, is_pretty: bool, has_colors: bool, redaction: Redaction) -> logging.Formatter:
    """Returns what makes a line of a record. The redaction comes last: nothing is written past it."""
    renderer: Processor = structlog.processors.JSONRenderer(default=str)
    if is_pretty:
        renderer = PrettyRenderer(has_colors=has_colors, clean=redaction.clean)

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
            structlog.processors.format_exc_info,  # the pretty one of structlog shows the values of variables
            *([] if is_pretty else [_first_things_first]),
            redacted,
        ],
    )


class _Handler(logging.StreamHandler[TextIO]):
    """A line that cannot be written is reported without its content: `logging` itself would print all of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if record.name == NATIVE_LOGGER:
            return  # what is written to stderr comes back from that logger, and would never end
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
