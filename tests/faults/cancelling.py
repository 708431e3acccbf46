"""A program that cancels many watches and says what it holds afterwards, as the thin client or as a bare stub.

python -m tests.faults.cancelling TARGET UPLOAD_ID thin|bare COUNT
"""

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from typing import Final

import grpc
import psutil

from assetlane import Client
from assetlane.v1.upload_service_pb2 import WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub

AT_ONCE: Final = 50
WARM_UP: Final = 1000
LIMIT_S: Final = 60.0
QUIET_LOOKS: Final = 10

Watch = Callable[[asyncio.Event], Awaitable[None]]
"""Opens a watch, reads its first event, sets this one, and waits for the next event until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the program held when some watches were cancelled, and when all were."""

    before_bytes: int
    after_bytes: int
    calls: int  # objects of grpc that stand for a call, afterwards
    tasks: int
    objects: int  # more than before, that the garbage collector knows


async def held_after(watch: Watch, count: int, *, warm_up: int = WARM_UP) -> Held:
    """Cancels so many watches, a bounded number at a time, and looks before and after."""
    await _cancel_many(watch, warm_up)
    before_bytes, before_objects = await _settled()
    await _cancel_many(watch, count)
    after_bytes, after_objects = await _settled()
    calls = sum(isinstance(one, grpc.aio.Call) for one in gc.get_objects())
    return Held(before_bytes, after_bytes, calls, len(asyncio.all_tasks()), after_objects - before_objects)


async def _cancel_many(watch: Watch, count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for _ in numbers:
            is_open = asyncio.Event()
            async with asyncio.timeout(LIMIT_S):
                task = asyncio.ensure_future(watch(is_open))
                opening = asyncio.ensure_future(is_open.wait())
                await asyncio.wait([task, opening], return_when=asyncio.FIRST_COMPLETED)
                opening.cancel()
                task.cancel()  # while it reads
                with suppress(asyncio.CancelledError):
                    await task

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())


async def _settled() -> tuple[int, int]:
    """Returns the memory and the number of objects once the loop and the collector have done what is left to do."""
    for _ in range(QUIET_LOOKS):
        await asyncio.sleep(0.05)
        gc.collect()
    return int(psutil.Process().memory_full_info().uss), len(gc.get_objects())


def bare(target: str, upload_id: str) -> tuple[grpc.aio.Channel, Watch]:
    """Returns a watch on a stub of grpcio, with nothing of ours; it is cancelled as grpcio's page says."""
    channel = grpc.aio.insecure_channel(target)
    stub = UploadServiceStub(channel)

    async def watch(is_open: asyncio.Event) -> None:
        call = stub.WatchUpload(WatchUploadRequest(upload_id=upload_id, after_revision=1))
        try:
            while True:
                await call.read()
                is_open.set()
        finally:
            call.cancel()

    return channel, watch


def thin(client: Client, upload_id: str) -> Watch:
    """Returns a watch of the thin client."""

    async def watch(is_open: asyncio.Event) -> None:
        async with aclosing(client.watch_upload(upload_id, after_revision=1)) as events:
            async for _ in events:
                is_open.set()

    return watch


async def main(target: str, upload_id: str, kind: str, count: int) -> Held:
    """Measures one of the two."""
    if kind == "thin":
        async with Client(target) as client:
            return await held_after(thin(client, upload_id), count)
    channel, watch = bare(target, upload_id)
    async with channel:
        return await held_after(watch, count)


if __name__ == "__main__":
    _, TARGET, UPLOAD_ID, KIND, COUNT = sys.argv
    sys.stdout.write(json.dumps(asdict(asyncio.run(main(TARGET, UPLOAD_ID, KIND, int(COUNT))))) + "\n")
