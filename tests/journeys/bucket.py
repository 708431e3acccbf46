"""The bucket seen past Assetlane, with the stack's own keys."""

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from tests.records.stores import mongo

from assetlane_server.config.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Bucket:
    """What somebody with the keys sees and does."""

    def __init__(self, settings: Settings) -> None:
        key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
        self._name = settings.s3_bucket
        self._prefix = settings.key_prefix
        self._client: S3Client = boto3.client(
            "s3",
            region_name=settings.s3_region,
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=key_id.get_secret_value() if key_id else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            # Else boto3 adds a checksum of its own choice.
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )

    async def keys(self) -> list[str]:
        """Returns the keys of this test's objects."""
        return await asyncio.to_thread(self._list)

    async def headers(self, key: str) -> dict[str, str]:
        """Returns what a HEAD of an object says, names in lower case."""
        found = await asyncio.to_thread(self._client.head_object, Bucket=self._name, Key=key)
        return dict(found["ResponseMetadata"]["HTTPHeaders"])

    async def replace(self, url: str, body: bytes, content_type: str, *, with_checksum: bool = True) -> None:
        """Puts another object where a presigned URL points."""
        key = unquote(urlsplit(url).path).removeprefix(f"/{self._name}/")
        options: dict[str, Any] = {"ContentType": content_type}
        if with_checksum:
            options["ChecksumAlgorithm"] = "SHA256"
        await asyncio.to_thread(self._client.put_object, Bucket=self._name, Key=key, Body=body, **options)

    async def open_multiparts(self) -> list[str]:
        """Returns the keys of this test's multipart uploads that are neither completed nor aborted."""
        return await asyncio.to_thread(self._list_open)

    async def rewind(self, settings: Settings, upload_id: str) -> None:
        """Makes the record of an upload what it was when it was PENDING."""
        async with mongo(settings.mongo_uri.get_secret_value()) as client:
            uploads = client[settings.mongo_database]["uploads"]
            document = await uploads.find_one({"_id": upload_id})
            assert document is not None
            pending = {
                "status": "PENDING",
                "revision": 1,
                "history": document["history"][:1],
                "sweep_time": document["create_time"] + timedelta(minutes=1),
            }
            gone = {"multipart_ids": "", "targets_signed_at": "", "targets_expire_time": ""}
            await uploads.update_one({"_id": upload_id}, {"$set": pending, "$unset": gone})

    def _list_open(self) -> list[str]:
        # Not by prefix: MinIO lists those of an exact key, or all.
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name)
        keys = [found["Key"] for page in pages for found in page.get("Uploads", ())]
        return [key for key in keys if key.startswith(self._prefix)]

    def _list(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=self._prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()
