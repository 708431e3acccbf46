"""The call that is being served: whatever is done for it, and logged, is done in its name."""

import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ANYBODY = "anonymous"
_LONGEST = 128  # characters of what a caller sent, in a line


@dataclass(slots=True)
class CallFacts:
    """What is known of a call so far."""

    method: str  # without its package: `UploadService/RequestUpload`
    request_id: str
    uid: str = ""
    upload_id: str = ""
    asset_id: str = ""

    def fields(self) -> Iterator[tuple[str, str]]:
        """Yields what a line of the log says of it."""
        for field in ("request_id", "method", "uid", "upload_id", "asset_id"):
            if value := getattr(self, field):
                yield field, value

    def is_made_by(self, uid: str | None) -> None:
        """Takes in who calls; None where nobody has to prove it."""
        self.uid = uid or _ANYBODY

    def asks(self, request: Any) -> None:
        """Takes in what the request is about, and the uid that it names if nobody had to prove one."""
        if self.uid == _ANYBODY and (named := getattr(request, "uid", "")):
            self.uid = _bounded(str(named))
        self.upload_id = _bounded(getattr(request, "upload_id", ""))
        self.asset_id = _bounded(getattr(request, "asset_id", ""))

    def is_answered(self, response: Any) -> None:
        """Takes in the upload that a request has led to."""
        if not self.upload_id and (upload := getattr(response, "upload", None)) is not None:
            self.upload_id = upload.upload_id


# Of the task, and of what it starts. Each call has a task of its own, so nobody has to reset it.
_current: ContextVar[CallFacts | None] = ContextVar("assetlane_call", default=None)


def current_call() -> CallFacts | None:
    """Returns the call that this task serves."""
    return _current.get()


def enter(call: CallFacts) -> None:
    """From here on this task serves the call."""
    _current.set(call)


def _bounded(text: str) -> str:
    """Returns what a caller sent as a line can take it: nobody has checked it yet."""
    text = text[:_LONGEST]
    return text if text.isprintable() else ascii(text)


def request_id_of(asked: str | bytes | None) -> str:
    """Returns the caller's id if it is sane (1 to 64 letters, digits and `._:-`), else a new one."""
    if isinstance(asked, str) and _SANE.fullmatch(asked):
        return asked
    return secrets.token_hex(8)
