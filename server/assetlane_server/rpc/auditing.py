"""What of a call belongs into the audit log: read from its request and its response. Pure, but for the port."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from assetlane.v1.access_service_pb2 import CreateTokenRequest, ScopedToken
from assetlane.v1.asset_pb2 import Asset
from assetlane_server.ports.access import Access

Record = Mapping[str, object]


class AuditLog(Protocol):
    """Takes records for good."""

    async def write(self, records: Sequence[Record]) -> None:
        """Returns once the records are durable. Raises AuditUnavailable."""
        ...


class Auditor:
    """Records what calls ask for and are given; `log` None: nothing."""

    def __init__(self, log: AuditLog | None, now: Callable[[], datetime]) -> None:
        self._log = log
        self._now = now

    async def asked(self, rpc: str, request: Any, access: Access, request_id: str) -> None:
        """Records a deletion before it is done: so it is recorded even when the server dies in the middle of it."""
        if self._log is not None and rpc == "DeleteAsset":
            entry = {"action": "delete", "stage": "asked", "asset_id": _bounded(request.asset_id)}
            await self._log.write([self._record(entry, access, request_id)])

    async def answered(self, rpc: str, request: Any, response: Any, access: Access, request_id: str) -> None:
        """Records what a response hands out, before it leaves."""
        if self._log is None:
            return
        entries = list(_entries(rpc, request, response))
        if entries:
            await self._log.write([self._record(entry, access, request_id) for entry in entries])

    def _record(self, entry: Record, access: Access, request_id: str) -> Record:
        return {
            "time": self._now().isoformat(timespec="milliseconds"),
            **entry,
            "caller_kind": access.kind.value,
            "caller": access.caller or "anonymous",
            **({"acted_by": access.actor} if access.actor else {}),
            **({"token_id": token_id} if (token_id := getattr(access, "token_id", "")) else {}),
            "request_id": request_id,
        }


NO_AUDIT = Auditor(None, lambda: datetime.now(UTC))


def _entries(rpc: str, request: Any, response: Any) -> Iterator[dict[str, object]]:
    match rpc:
        case "GetAsset" | "CompleteUpload":
            if response.HasField("asset"):
                yield _of_asset("read_url", response.asset)
        case "RefreshAsset":
            yield _of_asset("refresh", response.asset)
        case "ListAssets":
            for asset in response.assets:
                yield _of_asset("read_url", asset)
        case "BatchRefreshAssets":
            for result in response.results:
                if result.WhichOneof("outcome") == "asset":
                    yield _of_asset("refresh", result.asset)
        case "WatchAssets":
            if response.WhichOneof("event") == "asset":
                yield _of_asset("read_url", response.asset.asset)
        case "WatchUpload":
            if response.WhichOneof("event") == "status" and response.status.HasField("asset"):
                yield _of_asset("read_url", response.status.asset)
        case "DeleteAsset":
            yield {"action": "delete", "stage": "done", "asset_id": _bounded(request.asset_id)}
        case "CreateToken":
            yield {"action": "token", **_scope(request), **_of_token(response.token)}
        case "RequestUpload":
            if response.HasField("token"):
                yield {
                    "action": "token",
                    "for_uid": response.upload.uid,
                    "upload_id": response.upload.upload_id,
                    **_of_token(response.token),
                }


def _of_asset(action: str, asset: Asset) -> dict[str, object]:
    return {
        "action": action,
        "asset_id": asset.asset_id,
        "partition": asset.partition,
        "owner": asset.uid,
        **({"expires": asset.expire_time.ToJsonString()} if asset.HasField("expire_time") else {}),
    }


def _of_token(token: ScopedToken) -> dict[str, object]:
    """Returns the name of a token and its end; the token itself is nobody's to read."""
    payload = token.token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {"issued_token_id": claims["jti"], "expires": token.expire_time.ToJsonString()}


def _scope(request: CreateTokenRequest) -> dict[str, object]:
    entry: dict[str, object] = {"for_uid": request.uid} if request.uid else {}
    if request.WhichOneof("scope") == "upload_id":
        return {**entry, "upload_id": request.upload_id}
    return {**entry, "read": list(request.partitions.read), "write": list(request.partitions.write)}


def _bounded(text: str) -> str:
    """Returns what a caller sent as a record can take it: nobody has checked it yet."""
    return text[:128]
