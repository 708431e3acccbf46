"""What no line of a log may hold: searched for in everything that a run of the tests logs."""

import logging
import re
from typing import Final

from assetlane_server.telemetry.log import formatter
from assetlane_server.telemetry.redaction import Redaction

_FORBIDDEN: Final = (
    re.compile(r"(?i)x-amz-(?:signature|credential|security-token)(?:=|%3D)(?!\*)[^\s\"&]{6,}"),
    re.compile(r"https?://[^\s\"?]+\?(?!\*)[^\s\"]*"),  # a query
    re.compile(r"(?i)\bbearer\s+(?!\*)[\w.+/-]{8,}"),
    re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\."),  # a token by itself
    re.compile(r"AWS4-HMAC-SHA256 Credential=(?!\*)"),
    re.compile(r"PRIVATE KEY-----"),
)


def leaks(text: str) -> list[str]:
    """Returns the lines that hold what they must not."""
    return [line for line in text.splitlines() if any(pattern.search(line) for pattern in _FORBIDDEN)]


class LogSearch(logging.Handler):
    """Searches every record of ours twice: as a server writes it, and as it was before anything was redacted."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.found: list[str] = []
        self._written = formatter(is_pretty=False, has_colors=False, redaction=Redaction())

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record in."""
        self.count += 1
        # What the code says is held to it as well: the redaction is the second lock, not the first.
        said = record.getMessage() if record.name.startswith("assetlane") else ""
        self.found += leaks(self._written.format(record)) + leaks(said)
