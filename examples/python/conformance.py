"""Puts `bare_stubs` through the script in tests/conformance: a JSON object a line comes in, one goes out.

tests/conformance/README.md is the protocol.
"""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope, ScopedToken, TokenOptions
from assetlane.v1.asset_pb2 import Asset
from assetlane.v1.asset_service_pb2 import DeleteAssetRequest, GetAssetRequest, RefreshAssetRequest
from assetlane.v1.upload_pb2 import CutMaker, CutPlan, Upload, UploadStatus, WriteTarget
from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    GetUploadRequest,
    RequestUploadRequest,
)
from examples.python.bare_stubs import COMPLETE_LIMIT_S, Client, Refusal, StoreRefused, promise, put, read

Fields = dict[str, Any]


class Player:
    """Plays one step after the other; watches go on beside them."""

    def __init__(self, client: Client, beside: ThreadPoolExecutor) -> None:
        self._client = client
        self._beside = beside
        self._targets: dict[str, list[WriteTarget]] = {}
        self._watches: dict[str, Future[list[Fields]]] = {}

    def hello(self, given: Fields) -> Fields:
        """Says who this is."""
        return {"client": "python"}

    def request_upload(self, given: Fields) -> Fields:
        """Keeps the write targets for `put`."""
        request = RequestUploadRequest(
            request_id=given.get("request_id", ""),
            uid=given.get("uid", self._client.uid),
            file_path=given["file_path"],
            partition=given.get("partition", ""),
            expiration_hours=given.get("expiration_hours"),
            variants=[promise(Path(given["file"]), given["content_type"])],
            cut_plan=CutPlan(maker=CutMaker.CUT_MAKER_SERVER) if given.get("server_cuts") else None,
            issue_token=TokenOptions() if given.get("issue_token") else None,
        )
        reply = self._client.call(self._client.uploads.RequestUpload, request)
        self._targets[reply.upload.upload_id] = list(reply.write_targets)
        fields = {"upload": upload_of(reply.upload), "targets": [target.variant for target in reply.write_targets]}
        return {**fields, "token": token_of(reply.token)} if reply.HasField("token") else fields

    def create_token(self, given: Fields) -> Fields:
        """Reports the token: for an upload, or for partitions of a user."""
        lifetime = Duration(seconds=given["lifetime_s"]) if "lifetime_s" in given else None
        if "upload_id" in given:
            request = CreateTokenRequest(upload_id=given["upload_id"], lifetime=lifetime)
        else:
            scope = PartitionScope(read=given.get("read", []), write=given.get("write", []))
            request = CreateTokenRequest(uid=given.get("uid", self._client.uid), partitions=scope, lifetime=lifetime)
        return {"token": token_of(self._client.create_token(request))}

    def use_token(self, given: Fields) -> Fields:
        """Goes on with that token, on a connection of its own, until the program ends."""
        self._client = Client(given["token"])
        return {}

    def put(self, given: Fields) -> Fields:
        """Sends the file to every target of the upload."""
        try:
            for target in self._targets[given["upload_id"]]:
                put(target.single_put, Path(given["file"]))
        except StoreRefused:
            return {"stored": False}
        return {"stored": True}

    def complete_upload(self, given: Fields) -> Fields:
        """Reports the upload and the asset, or null."""
        request = CompleteUploadRequest(upload_id=given["upload_id"])
        reply = self._client.call(self._client.uploads.CompleteUpload, request, COMPLETE_LIMIT_S)
        return {"upload": upload_of(reply.upload), "asset": asset_of(reply.asset) if reply.HasField("asset") else None}

    def get_upload(self, given: Fields) -> Fields:
        """Reports the upload."""
        request = GetUploadRequest(upload_id=given["upload_id"])
        return {"upload": upload_of(self._client.call(self._client.uploads.GetUpload, request).upload)}

    def cancel_upload(self, given: Fields) -> Fields:
        """Reports the upload."""
        request = CancelUploadRequest(upload_id=given["upload_id"])
        return {"upload": upload_of(self._client.call(self._client.uploads.CancelUpload, request).upload)}

    def start_watch(self, given: Fields) -> Fields:
        """Answers when the first status change has come, or the watch has ended."""
        begun: Future[None] = Future()

        def watch() -> list[Fields]:
            events = []
            for event in self._client.watch(given["upload_id"], given["after_revision"]):
                events.append({"revision": event.upload.revision, "status": status_of(event.upload.status)})
                if not begun.done():
                    begun.set_result(None)
            return events

        watching = self._watches[given["watch"]] = self._beside.submit(watch)
        either: tuple[Future[Any], ...] = (begun, watching)
        wait(either, return_when=FIRST_COMPLETED)
        if watching.done():
            watching.result()
        return {}

    def finish_watch(self, given: Fields) -> Fields:
        """Reports every status change of a watch that ended."""
        return {"events": self._watches[given["watch"]].result()}

    def read(self, given: Fields) -> Fields:
        """Reports length and SHA-256 of what a URL reads."""
        try:
            size, sha256 = read(given["url"])
        except StoreRefused as error:
            return {"http_status": error.status}
        return {"http_status": 200, "size_bytes": size, "sha256": sha256.hex()}

    def get_asset(self, given: Fields) -> Fields:
        """Reports the asset."""
        request = GetAssetRequest(asset_id=given["asset_id"])
        return {"asset": asset_of(self._client.call(self._client.assets.GetAsset, request).asset)}

    def refresh_asset(self, given: Fields) -> Fields:
        """Reports the asset."""
        request = RefreshAssetRequest(asset_id=given["asset_id"])
        return {"asset": asset_of(self._client.call(self._client.assets.RefreshAsset, request).asset)}

    def delete_asset(self, given: Fields) -> Fields:
        """Reports nothing."""
        self._client.call(self._client.assets.DeleteAsset, DeleteAssetRequest(asset_id=given["asset_id"]))
        return {}


def status_of(status: "UploadStatus.ValueType") -> str:
    """Returns a status without the prefix."""
    return UploadStatus.Name(status).removeprefix("UPLOAD_STATUS_")


def upload_of(upload: Upload) -> Fields:
    """Returns an upload as the protocol writes it."""
    return {
        "upload_id": upload.upload_id,
        "status": status_of(upload.status),
        "revision": upload.revision,
        "history": [status_of(change.status) for change in upload.history],
        "failure": upload.failure.reason,
    }


def token_of(token: ScopedToken) -> Fields:
    """Returns a scoped token as the protocol writes it."""
    return {"token": token.token, "expire_unix_s": token.expire_time.seconds}


def asset_of(asset: Asset) -> Fields:
    """Returns an asset as the protocol writes it."""
    return {
        "asset_id": asset.asset_id,
        "partition": asset.partition,
        "file_path": asset.file_path,
        "expire_unix_s": asset.expire_time.seconds if asset.HasField("expire_time") else None,
        "revision": asset.revision,
        "variants": [
            {
                "name": variant.name,
                "content_type": variant.content_type,
                "size_bytes": variant.size_bytes,
                "sha256": variant.sha256.hex(),
                "width_px": variant.width_px,
                "height_px": variant.height_px,
                "read_url": variant.read_url,
                "download_url": variant.download_url,
            }
            for variant in asset.variants
        ],
    }


def answers(player: Player) -> Iterator[Fields]:
    """Yields one answer for each line of stdin."""
    for line in sys.stdin:
        step = json.loads(line)
        verb: Callable[[Fields], Fields] | None = getattr(player, step["do"], None)
        answer: Fields = {"id": step["id"]}
        try:
            if verb is None:
                answer["broken"] = f"this client does not know how to {step['do']}"
            else:
                answer["ok"] = verb(step["with"])
        except Refusal as refusal:
            answer["refused"] = {
                "code": refusal.code.name,
                "reason": refusal.reason,
                "message": str(refusal),
                "fields": list(refusal.fields),
                "subjects": refusal.subjects,
            }
        except (OSError, RuntimeError, LookupError) as error:
            answer["broken"] = repr(error)
        yield answer


def main() -> None:
    """Answers until stdin ends."""
    client = Client()
    with ThreadPoolExecutor() as beside:
        for answer in answers(Player(client, beside)):
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()
        client.close()


if __name__ == "__main__":
    main()
