"""How far an upload is, reported while it happens."""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from assetlane.v1.upload_pb2 import UploadStatus

OnProgress = Callable[["Progress"], Awaitable[None] | None]
"""Called with each step, one at a time; sync or async. What it raises ends the upload."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of an upload: bytes that left for the store, or a new status.

    `variant` is empty for a step of the whole upload. A variant that is sent again counts from 0 again.
    """

    upload_id: str
    status: UploadStatus.ValueType
    variant: str
    variant_sent_bytes: int
    variant_size_bytes: int
    sent_bytes: int
    size_bytes: int

    @property
    def status_name(self) -> str:
        """The status without its prefix, such as `INITIALIZED`."""
        return UploadStatus.Name(self.status).removeprefix("UPLOAD_STATUS_")


class ProgressTracker:
    """Adds up what was sent, and calls `on_progress` in a task of its own.

    So a slow callback never delays a transfer. Every status is reported, in order; of bytes only the newest count.
    """

    def __init__(self, upload_id: str, sizes: Mapping[str, int], on_progress: OnProgress | None) -> None:
        self._upload_id = upload_id
        self._sizes = dict(sizes)
        self._sent = dict.fromkeys(sizes, 0)
        self._on_progress = on_progress
        self._newest = self._reported = UploadStatus.UPLOAD_STATUS_UNSPECIFIED
        self._steps: deque[str | UploadStatus.ValueType] = deque()  # a variant's name, or a new status
        self._wake = asyncio.Event()
        self._closed = False

    def sent(self, variant: str, sent_bytes: int) -> None:
        """Notes that so much of the variant has been sent, of the current try."""
        self._sent[variant] = sent_bytes
        if variant not in self._steps:
            self._steps.append(variant)
            self._wake.set()

    def moved(self, status: UploadStatus.ValueType) -> None:
        """Notes that the upload took on a status, unless that is known already."""
        if status != self._newest:
            self._newest = status
            self._steps.append(status)
            self._wake.set()

    def close(self) -> None:
        """Lets `run` return once everything is reported."""
        self._closed = True
        self._wake.set()

    async def run(self) -> None:
        """Reports what is noted until the tally is closed. Raises what the callback raises."""
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            await self.report()

    async def report(self) -> None:
        """Reports what is noted and not reported yet."""
        while self._steps:
            step = self._steps.popleft()
            variant = step if isinstance(step, str) else ""
            if not isinstance(step, str):
                self._reported = step
            if self._on_progress is None:
                continue
            waiting = self._on_progress(
                Progress(
                    upload_id=self._upload_id,
                    status=self._reported,
                    variant=variant,
                    variant_sent_bytes=self._sent.get(variant, 0),
                    variant_size_bytes=self._sizes.get(variant, 0),
                    sent_bytes=sum(self._sent.values()),
                    size_bytes=sum(self._sizes.values()),
                )
            )
            if inspect.isawaitable(waiting):
                await waiting
