"""Watches come and go by the thousand: the server is afterwards as big as it was before."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import psutil
import pytest
from tests.faults.conftest import Report
from tests.faults.server_process import environment_for, server_process
from tests.journeys.steps import request_for

from assetlane.v1.upload_service_pb2 import CancelUploadRequest, WatchUploadRequest
from assetlane.v1.upload_service_pb2_grpc import UploadServiceStub
from assetlane_server.local import EmbeddedStack

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

pytestmark = pytest.mark.faults

WARM_UP: Final = 2000
WATCHES: Final = 20_000
AT_ONCE: Final = 100
MOST_GROWTH_MIB: Final = 10.0
SETTLING_LIMIT_S: Final = 20.0  # the allocator gives memory back when it likes
WATCH_LIMIT_S: Final = 30.0
MIB: Final = 1024 * 1024


class Churn:
    """Opens and ends watches of every kind, in every way there is."""

    def __init__(self, stub: "UploadServiceAsyncStub", open_upload: str, ended_upload: str) -> None:
        self._stub = stub
        self._open_upload = open_upload
        self._ended_upload = ended_upload
        self.ways: Counter[str] = Counter()

    async def run(self, count: int) -> None:
        """Runs so many watches, a bounded number at a time."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                async with asyncio.timeout(WATCH_LIMIT_S):
                    await self._watch(number)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())

    async def _watch(self, number: int) -> None:
        match number % 6:
            case 0:
                self.ways["cancelled while the server waits for news"] += 1
                await self._read(WatchUploadRequest(upload_id=self._open_upload), events=2)
            case 1:
                self.ways["cancelled after the first event"] += 1
                await self._read(WatchUploadRequest(upload_id=self._open_upload), events=1)
            case 2:
                self.ways["a session's, cancelled"] += 1
                await self._read(WatchUploadRequest(session_id="phone"), events=2)
            case 3:
                self.ways["cancelled at once"] += 1
                await self._read(WatchUploadRequest(upload_id=self._open_upload), events=0)
            case 4:
                self.ways["watched to the end"] += 1
                call = self._stub.WatchUpload(WatchUploadRequest(upload_id=self._ended_upload))
                assert [event.status.upload.revision async for event in call] == [1, 2, 3]
            case _:
                self.ways["refused"] += 1
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await self._read(WatchUploadRequest(upload_id="missing"), events=1)
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND

    async def _read(self, request: WatchUploadRequest, *, events: int) -> None:
        call = self._stub.WatchUpload(request)
        try:
            for _ in range(events):
                await call.read()
        finally:
            call.cancel()


@pytest.mark.timeout(300)
async def test_twenty_thousand_watches_leave_nothing_in_the_server(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """Cancelled by the caller, ended or refused: no task, mailbox or stream stays, so no memory does."""
    environment = environment_for(own_stack.address, "churn")
    async with server_process(environment, directory / "server.log") as server:
        process = psutil.Process(server.pid)

        def size_mib() -> float:
            return float(process.memory_info().rss) / MIB

        async with grpc.aio.insecure_channel(server.target) as channel:
            stub: UploadServiceAsyncStub = UploadServiceStub(channel)
            going_on = (await stub.RequestUpload(request_for(session_id="phone"))).upload.upload_id
            ended = (await stub.RequestUpload(request_for(session_id="tablet"))).upload.upload_id
            await stub.CancelUpload(CancelUploadRequest(upload_id=ended))
            churn = Churn(stub, going_on, ended)
            start_mib = size_mib()
            await churn.run(WARM_UP)
            warm_mib = size_mib()
            began = asyncio.get_running_loop().time()
            await churn.run(WATCHES)
            seconds = asyncio.get_running_loop().time() - began
            peak_mib = size_mib()
        growth_mib = await settled(lambda: size_mib() - warm_mib)
        report(
            f"watches           {churn.ways.total()}: {', '.join(f'{n} {way}' for way, n in churn.ways.items())}\n"
            f"server            {start_mib:.1f} MiB, after {WARM_UP} watches {warm_mib:.1f} MiB,"
            f" after {WATCHES} more {peak_mib:.1f} MiB, growth once settled {growth_mib:+.1f} MiB\n"
            f"seconds           {seconds:.0f}"
        )
        assert growth_mib <= MOST_GROWTH_MIB
        assert not server.errors


async def settled(growth_mib: Callable[[], float]) -> float:
    """Returns the growth once it is small enough, else what it is when the limit is over."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + SETTLING_LIMIT_S
    while (growth := growth_mib()) > MOST_GROWTH_MIB and clock() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    return growth
