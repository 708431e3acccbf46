"""How far an upload is, told while it happens."""

import asyncio
import inspect
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


class Tally:
    """Adds up what was sent and tells `on_progress`, in order."""

    def __init__(self, upload_id: str, sizes: Mapping[str, int], on_progress: OnProgress | None) -> None:
        self._upload_id = upload_id
        self._sizes = dict(sizes)
        self._sent = dict.fromkeys(sizes, 0)
        self._status: UploadStatus.ValueType = UploadStatus.UPLOAD_STATUS_UNSPECIFIED
        self._on_progress = on_progress
        self._turn = asyncio.Lock()

    @property
    def status(self) -> UploadStatus.ValueType:
        """The status told last."""
        return self._status

    async def sent(self, variant: str, sent_bytes: int) -> None:
        """Tells that so much of the variant has been sent, of the current try."""
        self._sent[variant] = sent_bytes
        await self._tell(variant)

    async def moved(self, status: UploadStatus.ValueType) -> None:
        """Tells that the upload took on a status, unless that was told already."""
        if status != self._status:
            self._status = status
            await self._tell("")

    async def _tell(self, variant: str) -> None:
        if self._on_progress is None:
            return
        async with self._turn:
            told = self._on_progress(
                Progress(
                    upload_id=self._upload_id,
                    status=self._status,
                    variant=variant,
                    variant_sent_bytes=self._sent.get(variant, 0),
                    variant_size_bytes=self._sizes.get(variant, 0),
                    sent_bytes=sum(self._sent.values()),
                    size_bytes=sum(self._sizes.values()),
                )
            )
            if inspect.isawaitable(told):
                await told
