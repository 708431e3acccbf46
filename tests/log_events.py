"""What a server has logged, as a program reads it: by `event_code` and fields, which docs/observability.md lists."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

LIMIT_S = 30.0
_LOOK_S = 0.02


def events_of(log: str, code: str) -> list[dict[str, Any]]:
    """Returns the lines of a log in JSON that have this code; what is no such line is passed over."""
    return [line for line in _lines(log) if line.get("event_code") == code]


def _lines(log: str) -> Iterator[dict[str, Any]]:
    for text in log.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # a traceback, or half a line that is still being written
        if isinstance(line, dict):
            yield line


def logged(caplog: pytest.LogCaptureFixture, code: str) -> list[Any]:
    """Returns the records with this code; their fields are attributes."""
    return [record for record in caplog.records if getattr(record, "event_code", "") == code]


async def seen(caplog: pytest.LogCaptureFixture, code: str, limit_s: float = LIMIT_S) -> logging.LogRecord:
    """Returns the first record with this code as soon as there is one. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not (records := logged(caplog, code)):  # noqa: ASYNC110 - a handler runs in any thread
            await asyncio.sleep(_LOOK_S)
    found: logging.LogRecord = records[0]
    return found
