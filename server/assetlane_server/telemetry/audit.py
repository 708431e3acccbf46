"""The audit log: who asked for which read URL, refresh, token or deletion, when, and for whom.

One JSON object per line, in a file of its own, appended before the answer leaves: whatever was handed out is in it,
even when a server is killed. Lines of all calls that wait are written together and then made durable (fsync). Several
processes may share the file: a batch is one append. A file that was moved away (logrotate) is opened again.
"""

import asyncio
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from assetlane_server.model.errors import AuditUnavailable

_log = logging.getLogger(__name__)

Record = Mapping[str, object]


class AuditLog:
    """Appends records to a file. `is_required`: what cannot be written fails, else it is logged and goes on."""

    def __init__(self, path: Path, *, is_required: bool) -> None:
        self._path = path
        self._is_required = is_required
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._fd = -1
        self._is_line_open = False  # whether a write was cut off in the middle of a line
        self._last_fault = ""

    async def write(self, records: Sequence[Record]) -> None:
        """Returns once the records are durable. Raises AuditUnavailable, where that is required."""
        if not records:
            return
        lines = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((lines, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="audit log")
        try:
            # Shielded: a caller that hangs up does not take back what others wait for.
            await asyncio.shield(written)
        except OSError as error:
            if self._is_required:
                raise AuditUnavailable from error

    async def check(self) -> None:
        """Opens the file. Raises OSError."""
        await asyncio.to_thread(self._open)

    async def aclose(self) -> None:
        """Writes what is waiting, and closes the file."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _write_all(self) -> None:
        try:
            while batch := self._waiting:
                self._waiting = []
                fault: OSError | None = None
                try:
                    await asyncio.to_thread(self._append, b"".join(lines for lines, _ in batch))
                except OSError as error:
                    fault = error
                self._say(fault)
                for _, written in batch:
                    if written.done():
                        continue
                    if fault is None:
                        written.set_result(None)
                    else:
                        written.set_exception(fault)
                        written.exception()  # its caller may be gone
        finally:
            self._writing = None

    def _append(self, lines: bytes) -> None:
        self._open()
        if self._is_line_open:
            lines = b"\n" + lines
        written = 0
        while written < len(lines):
            count = os.write(self._fd, lines[written:])
            written += count
            self._is_line_open = written < len(lines)
        os.fsync(self._fd)

    def _open(self) -> None:
        """Opens the file, again when its name stands for another one by now."""
        if self._fd >= 0:
            ours = os.fstat(self._fd)
            try:
                named = self._path.stat()
            except FileNotFoundError:
                named = None
            if named is not None and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
                return
            os.close(self._fd)
            self._fd, self._is_line_open = -1, False
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _say(self, fault: OSError | None) -> None:
        said = "" if fault is None else fault.strerror or type(fault).__name__
        if said and said != self._last_fault:
            outcome = "calls are refused until it can" if self._is_required else "calls go on unrecorded"
            more = {"event_code": "AUDIT_UNWRITABLE"}
            _log.error("the audit log %s cannot be written, %s: %s", self._path, outcome, said, extra=more)
        elif self._last_fault and not said:
            _log.warning("the audit log %s is written again", self._path)
        self._last_fault = said
