"""A program as a user writes it, for the type checkers: whatever it touches has to be typed, and right."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from assetlane import (
    AssetlaneError,
    Client,
    CutSize,
    Progress,
    RequestUploadRequest,
    StatusEvent,
    UploadItem,
    UploadStatus,
    sync,
)


def show(step: Progress) -> None:
    """Prints a step."""
    print(step.status_name, step.sent_bytes, step.size_bytes)


def blocking() -> None:
    """Uses the synchronous client."""
    with sync.Client("127.0.0.1:50151", uid="ann", token=lambda: "t") as client:
        asset = client.upload(
            "photo.jpg", partition="public", cuts=[CutSize("icon", 32)], on_progress=show, expiration_hours=0
        )
        with Path("notes.txt").open("rb") as file:
            print(client.upload(file).asset_id)
        for variant in asset.variants:
            print(variant.name, variant.size_bytes, variant.sha256.hex())
        url: str = client.read_url(asset, "icon")
        print(url)
        for found in client.list_assets("public", page_size=10):
            print(found.asset_id, found.details.title)
        for event in client.watch_upload("U1"):
            print(event.upload.status == UploadStatus.UPLOAD_STATUS_COMPLETED)
        for both in client.watch_session(progress=True):
            if isinstance(both, StatusEvent):
                print(both.upload.upload_id)
            else:
                print(both.sent_bytes)
        for news in client.watch_assets("public"):
            print(news.asset.asset.file_path, news.resume_token)
        for outcome in client.upload_many(["a.jpg", UploadItem(b"b", file_path="b.txt")], partition="public"):
            print(outcome.index, outcome.result().asset_id)
        reply = client.request_upload(RequestUploadRequest(file_path="a.txt"))
        print(reply.write_targets[0].single_put.url)
        made = client.create_token(upload_id=reply.upload.upload_id, lifetime=timedelta(hours=1))
        print(made.token, client.create_token(uid="bob", read=["user/bob"]).expire_time.ToDatetime())
        for result in client.refresh_assets([asset.asset_id], timedelta(hours=1)):
            print(result.failure.reason)
        print(client.download(asset, to="x").name)
        client.download_into(asset, sys.stdout.buffer)
        client.delete_asset(asset.asset_id)


async def flowing() -> None:
    """Uses the asynchronous client."""
    async with Client("127.0.0.1:50151", uid="ann") as client:
        try:
            asset = await client.upload(b"hello", file_path="hello.txt", on_progress=show)
        except AssetlaneError as error:
            print(error.reason)
            return
        async for event in client.watch_upload(asset.asset_id, progress=True):
            print(event)


if __name__ == "__main__":
    blocking()
    asyncio.run(flowing())
