"""Watchers that write down what they see: the thin client, and bare stubs that resume by hand."""

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from tests.faults.plan import WatcherPlan
from tests.faults.verdict import Sighting

from assetlane import Client
from assetlane.v1.upload_pb2 import UploadStatus
from assetlane.v1.upload_service_pb2 import StatusEvent, WatchUploadRequest, WatchUploadResponse

if TYPE_CHECKING:
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

HEARTBEAT_S: Final = 5.0
SILENCE_S: Final = 12.0
RECONNECT_PAUSE_S: Final = 1.0
SLOW_PAUSE_S: Final = 4.0

STATUS_PREFIX: Final = "UPLOAD_STATUS_"
FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED", "EXPIRED"})
# What a lost connection looks like; with a reason of ours, only UNAVAILABLE asks to come back.
LOST: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class Watcher:
    """One watcher: its plan, and its record over all its connections."""

    def __init__(self, plan: WatcherPlan, seed: int) -> None:
        self.plan = plan
        self.seen: list[Sighting] = []
        self.reconnects = 0
        self.pauses = 0
        self.is_quiet = False
        """Whether a sign of life was the last thing that came; only bare stubs see those."""
        self.has_ended = False
        """Whether the server said that nothing can come any more."""
        self._dice = random.Random(f"{seed} {plan.number}")

    def is_content(self, owed: int) -> bool:
        """Whether it has seen so many events, and a sign of life or the end after them."""
        return len(self.seen) >= owed and (self.has_ended or self.is_quiet or self.plan.is_thin)

    async def watch_thin(self, client: Client, upload_id: str) -> None:
        """Watches until the upload's end; a session, until it is cancelled."""
        await asyncio.sleep(self.plan.delay_s)
        if upload_id:
            watch = client.watch_upload(upload_id, self.plan.after_revision)
        else:
            watch = client.watch_session(self.plan.session_id)
        async with aclosing(watch) as events:
            async for event in events:
                await self._take(event)
        self.has_ended = True

    async def watch_bare(self, stub: "UploadServiceAsyncStub", upload_id: str) -> None:
        """The same, resuming by hand after what it has seen. Raises AioRpcError that is no lost connection."""
        await asyncio.sleep(self.plan.delay_s)
        while not self.has_ended:
            call = stub.WatchUpload(self._request(upload_id))
            try:
                await self._follow(call)
            except grpc.aio.AioRpcError as error:
                if error.code() not in LOST or (error.code() is not grpc.StatusCode.UNAVAILABLE and _reason(error)):
                    raise
            except TimeoutError:
                pass
            finally:
                call.cancel()
            if not self.has_ended:
                self.reconnects += 1
                await asyncio.sleep(self._dice.uniform(0, RECONNECT_PAUSE_S))

    async def _follow(self, call: "grpc.aio.UnaryStreamCall[WatchUploadRequest, WatchUploadResponse]") -> None:
        while True:
            async with asyncio.timeout(SILENCE_S):
                event = await call.read()
            if not isinstance(event, WatchUploadResponse):  # the end of the stream, said with OK
                self.has_ended = True
                return
            if event.HasField("status"):
                await self._take(event.status)
            else:
                self.is_quiet = True

    async def _take(self, event: StatusEvent) -> None:
        self.seen.append(sighting_of(event))
        self.is_quiet = False
        if self.plan.is_slow and self._dice.random() < self.plan.pause_share:
            self.pauses += 1
            await asyncio.sleep(self._dice.uniform(1, SLOW_PAUSE_S))

    def _request(self, upload_id: str) -> WatchUploadRequest:
        if upload_id:
            after = max((one.revision for one in self.seen), default=self.plan.after_revision)
            return WatchUploadRequest(upload_id=upload_id, after_revision=after)
        # What came last of each upload, as it came: a judge wants to see it if that is not the newest.
        return WatchUploadRequest(
            session_id=self.plan.session_id,
            after_revisions={one.upload_id: one.revision for one in self.seen},
        )


def sighting_of(event: StatusEvent) -> Sighting:
    """Returns what an event says; the status also says if the event is not the upload as of that revision."""
    upload = event.upload
    status = UploadStatus.Name(upload.status).removeprefix(STATUS_PREFIX)
    faults = []
    if [change.revision for change in upload.history] != list(range(1, upload.revision + 1)):
        faults.append("history of another revision")
    elif upload.history[-1].status != upload.status:
        faults.append("status of another revision")
    if bool(event.write_targets) is not (status == "INITIALIZED"):
        faults.append("write targets")
    if event.HasField("asset") is not (status == "COMPLETED"):
        faults.append("asset")
    if upload.HasField("failure") is not (status == "FAILED"):
        faults.append("failure")
    return Sighting(upload.upload_id, upload.revision, " with wrong ".join([status, *faults]))


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Returns the reason that the server gave, empty when the status is gRPC's own."""
    info, status = ErrorInfo(), Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            status.ParseFromString(value)
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")
