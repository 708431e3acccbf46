"""Sends a large object in parts: several at once, each signed just before it is sent; memory does not grow with it.

What the store has from an earlier run is asked for, proved against the file, and not sent again.
"""

import asyncio
import hashlib
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import aiohttp

from assetlane import transfer
from assetlane.errors import PreconditionFailed, StoreRefused
from assetlane.sources import Source, check_unchanged
from assetlane.upload_calls import UploadCalls
from assetlane.v1.upload_pb2 import MultipartTarget, PresignedRequest
from assetlane.v1.upload_service_pb2 import PartPromise, StoredPart

AT_ONCE = 4  # parts of one object on their way, as many more are signed and wait
READ_BYTES = 1024 * 1024
REPLACE_DELAY = 1.0  # seconds after a listing: a store that keeps times to the second has to know which is newer

OnSent = Callable[[int], None]
"""Called with the number of bytes of the object that are sent, of each part in its current try."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, hashed."""

    number: int
    source: Source


class PartsTransfer:
    """One variant of one upload on its way in parts."""

    def __init__(
        self,
        uploads: UploadCalls,
        session: aiohttp.ClientSession,
        upload_id: str,
        variant: str,
        source: Source,
        target: MultipartTarget,
        on_sent: OnSent,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._uploads = uploads
        self._session = session
        self._upload_id = upload_id
        self._variant = variant
        self._source = source
        self._target = target
        self._on_sent = on_sent
        self._pause = pause
        self._sent: dict[int, int] = {}
        self._sum = 0

    async def run(self, *, resumes: bool) -> None:
        """Sends every part, or with `resumes` those that the store does not have yet.

        Returns early when the upload is not open any more: completing it returns how it ended. Raises FileChanged
        when the file is not what it was at the start; otherwise what `transfer.put` and the server's calls raise.
        """
        try:
            stored = await self._uploads.list_parts(self._upload_id, self._variant) if resumes else ()
            queue: asyncio.Queue[tuple[Part, PresignedRequest] | None] = asyncio.Queue(AT_ONCE)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sign(queue, {part.part_number: part for part in stored}))
                for _ in range(AT_ONCE):
                    tasks.create_task(self._send(queue))
        except PreconditionFailed:
            return
        except ExceptionGroup as group:
            if all(_says_closed(error) for error in group.exceptions):
                return
            raise
        await check_unchanged(self._source)

    async def _sign(
        self, queue: "asyncio.Queue[tuple[Part, PresignedRequest] | None]", stored: Mapping[int, StoredPart]
    ) -> None:
        """Hashes and signs a few parts at a time, and waits while enough of them are ready."""
        batch: list[Part] = []
        clock = asyncio.get_running_loop().time
        replaceable_at = clock() + REPLACE_DELAY  # all that is stored was stored before
        for number in range(1, self._target.part_count + 1):
            source = self._source.part((number - 1) * self._target.part_size_bytes, self._target.part_size_bytes)
            if number in stored:
                if await _is_same(source, stored[number]):
                    self._report(number, source.size_bytes)
                    continue
                if (left := replaceable_at - clock()) > 0:  # once at most, whatever the number of such parts
                    await self._pause(left)
            batch.append(Part(number, source.hashed(await _digest(source, "sha256"))))
            # The first one goes at once: nothing is on its way yet.
            if len(batch) == AT_ONCE or not self._sent:
                await self._sign_batch(queue, batch)
                batch = []
        if batch:
            await self._sign_batch(queue, batch)
        for _ in range(AT_ONCE):
            await queue.put(None)

    async def _sign_batch(
        self, queue: "asyncio.Queue[tuple[Part, PresignedRequest] | None]", batch: Sequence[Part]
    ) -> None:
        for part, request in zip(batch, await self._signed(batch), strict=True):
            self._sent.setdefault(part.number, 0)
            await queue.put((part, request))

    async def _signed(self, batch: Sequence[Part]) -> list[PresignedRequest]:
        promises = [PartPromise(part_number=part.number, sha256=part.source.sha256) for part in batch]
        signed = await self._uploads.sign_parts(self._upload_id, self._variant, promises)
        requests = {part.part_number: part.request for part in signed}
        return [requests[part.number] for part in batch]

    async def _send(self, queue: "asyncio.Queue[tuple[Part, PresignedRequest] | None]") -> None:
        while (item := await queue.get()) is not None:
            part, request = item
            await transfer.put(
                self._session,
                part.source,
                request,
                renew=partial(self._renewed, part),
                on_sent=partial(self._report, part.number),
            )

    async def _renewed(self, part: Part) -> PresignedRequest:
        return (await self._signed([part]))[0]

    def _report(self, number: int, sent_bytes: int) -> None:
        self._sum += sent_bytes - self._sent.get(number, 0)
        self._sent[number] = sent_bytes
        self._on_sent(self._sum)


async def _is_same(source: Source, stored: StoredPart) -> bool:
    """Whether the store has exactly these bytes, as far as it reports: a size that fits and no hash prove nothing."""
    if stored.size_bytes != source.size_bytes:
        return False
    if stored.sha256:
        return stored.sha256 == await _digest(source, "sha256")
    return stored.etag == (await _digest(source, "md5")).hex()


async def _digest(source: Source, algorithm: str) -> bytes:
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_digested, source, algorithm, stop)
    finally:
        stop.set()  # a cancelled task must not leave its thread reading


def _digested(source: Source, algorithm: str, stop: threading.Event) -> bytes:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    if source.path is None:
        digest.update(memoryview(source.data)[source.start_bytes : source.start_bytes + source.size_bytes])
        return digest.digest()
    buffer = memoryview(bytearray(min(READ_BYTES, source.size_bytes)))
    with source.path.open("rb", buffering=0) as file:
        file.seek(source.start_bytes)
        left = source.size_bytes
        while left and not stop.is_set() and (count := file.readinto(buffer[:left])):
            digest.update(buffer[:count])
            left -= count
    return digest.digest()


def _says_closed(error: Exception) -> bool:
    return isinstance(error, PreconditionFailed) or (isinstance(error, StoreRefused) and error.code == "NoSuchUpload")
