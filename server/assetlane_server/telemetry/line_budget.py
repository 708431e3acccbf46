"""How many lines of one kind the log takes: thousands of refusals must not fill a disk, or hide other lines."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

LINES: Final = 20
WINDOW_S: Final = 10.0


@dataclass(slots=True)
class _Window:
    """What became of the lines of one reason since it began."""

    written: int = 0
    withheld: int = 0


class LineBudget:
    """Lets LINES lines for each reason through in WINDOW_S seconds. At the window's end, one line counts the others."""

    def __init__(self, log: logging.Logger, *, lines: int = LINES, window_s: float = WINDOW_S) -> None:
        self._log = log
        self._lines = lines
        self._window_s = window_s
        self._windows: dict[str, _Window] = {}

    def allows(self, reason: str) -> bool:
        """Returns whether one more line for this reason may be written. Call it in the event loop."""
        window = self._windows.get(reason)
        if window is None:
            window = self._windows[reason] = _Window()
            asyncio.get_running_loop().call_later(self._window_s, self._close, reason)
        if window.written < self._lines:
            window.written += 1
            return True
        window.withheld += 1
        return False

    def _close(self, reason: str) -> None:
        window = self._windows.pop(reason)
        if window.withheld:
            more = {"event_code": "CALLS_NOT_LOGGED", "reason": reason, "count": window.withheld}
            text = "%d more calls ended with %s within %g s"
            self._log.warning(text, window.withheld, reason, self._window_s, extra=more)
