"""Callers as the contract wants them: they call again when they are asked to, and count how often."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aiohttp
import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put, request_for

from assetlane.v1.upload_pb2 import Upload, WriteTarget
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CancelUploadResponse,
    CompleteUploadRequest,
    CompleteUploadResponse,
)

T = TypeVar("T")
CALL_LIMIT_S: Final = 15.0
_PASSING: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
# What a lost connection looks like when the server had no time to say anything.
_LOST: Final = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


class Caller:
    """Calls through `stubs`, at most `retries` times more, and PUTs through `web`."""

    def __init__(self, stubs: Callable[[], Stubs], web: aiohttp.ClientSession, retries: int) -> None:
        self._stubs = stubs
        self._web = web
        self._retries = retries
        self.retries: Counter[int] = Counter()
        """How many calls needed so many retries."""

    async def request(self, request_id: str, body: bytes) -> tuple[Upload, WriteTarget]:
        """Requests an upload; returns it and the way in."""
        request = request_for({"original": body}, request_id=request_id)
        answer = await self._persist(lambda: self._stubs().uploads.RequestUpload(request, timeout=CALL_LIMIT_S))
        return answer.upload, answer.write_targets[0]

    async def put(self, target: WriteTarget, body: bytes) -> None:
        """PUTs the bytes; that they are there already is fine."""
        assert await put(self._web, target, body) in (200, 412)

    async def complete(self, upload_id: str) -> CompleteUploadResponse:
        """Completes an upload. Raises AioRpcError for a refusal, or when the retries are used up."""
        request = CompleteUploadRequest(upload_id=upload_id)
        return await self._persist(lambda: self._stubs().uploads.CompleteUpload(request, timeout=CALL_LIMIT_S))

    async def cancel(self, upload_id: str) -> CancelUploadResponse:
        """Cancels an upload. Raises AioRpcError for a refusal, or when the retries are used up."""
        request = CancelUploadRequest(upload_id=upload_id)
        return await self._persist(lambda: self._stubs().uploads.CancelUpload(request, timeout=CALL_LIMIT_S))

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        for retry in range(self._retries + 1):
            try:
                answer = await call()
            except grpc.aio.AioRpcError as error:
                if retry == self._retries or not is_passing(error):
                    raise
            else:
                self.retries[retry] += 1
                return answer
        raise AssertionError("unreachable")


def is_passing(error: grpc.aio.AioRpcError) -> bool:
    """Whether the caller is to call again: asked to, or cut off without an answer."""
    return error.code() in _PASSING or (error.code() in _LOST and not reason_of(error))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Returns the reason that the server gave, empty when the status is gRPC's own."""
    info, status = ErrorInfo(), Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            status.ParseFromString(value)
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")
