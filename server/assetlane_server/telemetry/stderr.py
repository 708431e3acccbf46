"""Takes what native libraries write to file descriptor 2 into the log: gRPC's core knows no other way.

Its raw lines would stand between lines of JSON, and no program could read the stream any more.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from assetlane_server.telemetry.log import NATIVE_LOGGER, log_handlers

_log = logging.getLogger(NATIVE_LOGGER)

# absl: a letter for the severity, month and day, the time (seconds of the epoch before absl is set up), the thread,
# file and line, then the message.
_ABSL: Final = re.compile(r"([IWEF])\d{4} \d\d:\d\d:[\d.]+\s+\d+ ([\w./-]+:\d+)\] (.*)", re.DOTALL)
# What the core calls information is for those who look into the core.
_LEVELS: Final = {"I": logging.DEBUG, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
# What absl says once per process, of itself.
_PREFACE: Final = "WARNING: All log messages before absl::InitializeLog()"
_MAX_LINE_BYTES: Final = 8192
_READ_BYTES: Final = 65_536
_STDERR: Final = 2
_END_LIMIT_S: Final = 5.0


@contextmanager
def native_lines_logged() -> Iterator[None]:
    """Logs every line that anybody writes to file descriptor 2 meanwhile; the log itself goes where 2 led before.

    Blocks nothing but the thread that reads. Has to begin after the process was forked: threads stay behind.
    """
    sys.stderr.flush()
    outside = os.dup(_STDERR)
    reading_fd, writing_fd = os.pipe()
    os.set_inheritable(outside, False)
    stream = os.fdopen(outside, "w", buffering=1, errors="backslashreplace", closefd=False)
    handlers = [handler for handler in log_handlers() if handler.stream is sys.stderr]
    for handler in handlers:
        handler.setStream(stream)
    os.dup2(writing_fd, _STDERR)
    os.close(writing_fd)
    reader = threading.Thread(target=_read, args=(reading_fd,), name="native log lines", daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(outside, _STDERR)  # the last end that writes into the pipe is gone: its reader comes to the end
        reader.join(_END_LIMIT_S)
        for handler in handlers:
            handler.setStream(sys.stderr)
        stream.flush()
        os.close(outside)


def _read(fd: int) -> None:
    """Logs line by line until nobody can write any more."""
    rest = b""
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        while data := pipe.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                _log_line(line)
    _log_line(rest)


def _log_line(line: bytes) -> None:
    text = line[:_MAX_LINE_BYTES].decode(errors="backslashreplace").rstrip()
    if not text or text.startswith(_PREFACE):
        return
    if found := _ABSL.fullmatch(text):
        severity, place, message = found.groups()
        _log.log(_LEVELS[severity], "%s", message, extra={"source": place})
    else:
        # A line that follows another one, or not gRPC's at all.
        _log.warning("%s", text, extra={"source": "stderr"})
