"""Steps that journeys share, on bare stubs and plain HTTP."""

import hashlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc
import yarl
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from assetlane.v1.upload_pb2 import VariantPromise, WriteTarget
from assetlane.v1.upload_service_pb2 import RequestUploadRequest

BODY = b"five!"


def request_for(
    bodies: Mapping[str, bytes] | None = None, *, content_type: str = "text/plain", **fields: Any
) -> RequestUploadRequest:
    """Returns a request that promises these bodies, by variant name."""
    promises = [
        VariantPromise(name=name, content_type=content_type, size_bytes=len(body), sha256=hashlib.sha256(body).digest())
        for name, body in (bodies or {"original": BODY}).items()
    ]
    return RequestUploadRequest(**{"file_path": "a/b.jpg", "uid": "7f3a", "variants": promises, **fields})


async def put(web: aiohttp.ClientSession, target: WriteTarget, body: bytes = BODY, **options: Any) -> int:
    """PUTs as the target says and returns the HTTP status."""
    request = target.single_put
    url = yarl.URL(request.url, encoded=True)
    async with web.request(request.method, url, headers=dict(request.headers), data=body, **options) as response:
        return response.status


async def get(web: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    """Returns the HTTP status and the body behind a URL."""
    async with web.get(yarl.URL(url, encoded=True)) as response:
        return response.status, await response.read()


class RpcFailure:
    """What a failed call says: code, reason and details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.message = error.details() or ""
        self.fields: dict[str, str] = {}
        self.subjects: list[str] = []
        self.quotas: dict[str, str] = {}
        self.retry_after_s: float | None = None
        infos = []
        status = Status()
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                status.ParseFromString(value)
        for detail in status.details:
            info, bad, unmet, quota, retry = (
                ErrorInfo(),
                BadRequest(),
                PreconditionFailure(),
                QuotaFailure(),
                RetryInfo(),
            )
            if detail.Unpack(info):
                infos.append(info)
            elif detail.Unpack(bad):
                self.fields = {violation.field: violation.description for violation in bad.field_violations}
            elif detail.Unpack(unmet):
                self.subjects = [violation.subject for violation in unmet.violations]
            elif detail.Unpack(quota):
                self.quotas = {violation.subject: violation.description for violation in quota.violations}
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        assert [info.domain for info in infos] == ["assetlane"], "exactly one ErrorInfo"
        self.reason: str = infos[0].reason
