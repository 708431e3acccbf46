"""Thousands of open watches in the load generator, kept as cheap as they can be: answers stay bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from assetlane.v1.upload_service_pb2 import Heartbeat, WatchUploadRequest, WatchUploadResponse

STREAMS_PER_CHANNEL: Final = 500
OPENING_AT_A_TIME: Final = 128
OPEN_LIMIT_S: Final = 90.0
METHOD: Final = "/assetlane.v1.UploadService/WatchUpload"
HEARTBEAT: Final = WatchUploadResponse(heartbeat=Heartbeat()).SerializeToString()
# gRPC closes connections in its own time; a server that stops meanwhile makes it write warnings.
FAREWELL_S: Final = 1.0
# Else all channels to one server share one connection.
CHANNEL_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


class EventCounter:
    """Counts events until so many are there."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._is_complete = asyncio.Event()
        self.completed_at = 0.0  # by time.perf_counter

    def count(self) -> None:
        """One more is there."""
        self._left -= 1
        if self._left == 0:
            self.completed_at = time.perf_counter()
            self._is_complete.set()

    async def complete(self, limit_s: float) -> float:
        """Returns when the last one came, by time.perf_counter. Raises TimeoutError with how many are missing."""
        try:
            async with asyncio.timeout(limit_s):
                await self._is_complete.wait()
        except TimeoutError as error:
            raise TimeoutError(f"{self._left:,} events are missing after {limit_s:g} s") from error
        return self.completed_at


class Watches:
    """Open watches on one server. Made by `watches`, which ends them."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._channels: list[grpc.aio.Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._on_event: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._readers)

    async def open(self, requests: Sequence[WatchUploadRequest], first_events: int) -> float:
        """Opens a watch per request and returns how many seconds it took until each had sent its first events.

        Raises TimeoutError, and RuntimeError for a watch that ended.
        """
        begun = time.perf_counter()
        gate = asyncio.Semaphore(OPENING_AT_A_TIME)
        tally = EventCounter(len(requests))
        for request in requests:
            await gate.acquire()
            reader = self._reader(request.SerializeToString(), first_events, gate, tally)
            self._readers.append(asyncio.create_task(reader))
        completed_at = await tally.complete(OPEN_LIMIT_S)
        self.check()
        return completed_at - begun

    def tally(self, events_per_watch: int) -> EventCounter:
        """Counts the events from now on, heartbeats aside, until every watch has so many."""
        tally = EventCounter(self.count * events_per_watch)
        self._on_event = tally.count
        return tally

    def check(self) -> None:
        """Raises RuntimeError if a watch ended."""
        if ended := [reader for reader in self._readers if reader.done()]:
            raise RuntimeError(f"{len(ended)} of {self.count} watches ended") from ended[0].exception()

    async def close(self) -> None:
        """Ends all."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._readers.clear()
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        await asyncio.sleep(FAREWELL_S)

    async def _reader(self, request: bytes, first_events: int, gate: asyncio.Semaphore, tally: EventCounter) -> None:
        # The stubs want a serializer where grpcio takes bytes as they are.
        call: Any = self._channel().unary_stream(METHOD)(request)  # type: ignore[arg-type]
        try:
            for _ in range(first_events):
                await call.read()
        finally:
            gate.release()
        tally.count()
        while (event := await call.read()) is not grpc.aio.EOF:
            if event != HEARTBEAT:
                self._on_event()

    def _channel(self) -> grpc.aio.Channel:
        if len(self._channels) * STREAMS_PER_CHANNEL < self.count + 1:
            self._channels.append(grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS))
        return self._channels[-1]


@asynccontextmanager
async def watches(target: str) -> AsyncIterator[Watches]:
    """Opens none yet, and ends all at the end of the block."""
    opened = Watches(target)
    try:
        yield opened
    finally:
        await opened.close()
