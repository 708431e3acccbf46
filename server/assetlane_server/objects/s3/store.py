"""The object store on S3 and whatever speaks its API.

Needs from outside: a bucket, and credentials (the settings' own, else of boto3's default chain) with
    s3:PutObject      what write URLs are signed with
    s3:GetObject      for read URLs and HEAD
    s3:ListBucket     without it S3 answers a HEAD of a missing object with 403 instead of 404; for `reconcile`
    s3:DeleteObject   for deletion
    s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucketMultipartUploads: see multipart.py
and, where the bucket encrypts with a KMS key of its own, kms:GenerateDataKey and kms:Decrypt. `set_up_bucket` needs
more: see bucket.py. The store must refuse what breaks a signed header and honour `if-none-match: *` on PUT.
"""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from typing_extensions import override

from assetlane_server.model.listing import ListedObject, ObjectPage
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.connection import S3Connection
from assetlane_server.objects.s3.deletion import delete_objects
from assetlane_server.objects.s3.headers import (
    CACHE_CONTROL,
    CHECKSUM_SHA256,
    CONTENT_DISPOSITION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    ENCRYPTION,
    ENCRYPTION_KEY,
    IF_NONE_MATCH,
)
from assetlane_server.objects.s3.multipart import S3Multiparts
from assetlane_server.objects.s3.reader import ObjectReader
from assetlane_server.objects.s3.settings import S3Settings
from assetlane_server.objects.s3.signing import RequestSigner
from assetlane_server.objects.s3.sigv4 import Addressing, Presigner, is_ip_address
from assetlane_server.ports.meter import UNMETERED, Meter
from assetlane_server.ports.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3ObjectStore(ObjectStore):
    """The objects of one bucket. Made by `open`.

    Signing is pure CPU, `head` and both reads run on the event loop, all else in a bounded pool of threads.
    """

    __slots__ = ("_reader", "connection", "multiparts", "reports_sha256", "signer")

    multiparts: S3Multiparts
    reports_sha256: bool | None

    def __init__(
        self,
        connection: S3Connection,
        signer: RequestSigner,
        reader: ObjectReader,
        reports_sha256: bool | None = None,
    ) -> None:
        self.connection = connection
        self.reports_sha256 = reports_sha256  # None: not known; the probe at the start finds out
        self.multiparts = S3Multiparts(connection, signer)
        self.signer = signer
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: S3Settings, meter: Meter = UNMETERED) -> AsyncIterator["S3ObjectStore"]:
        """Opens a connection, and closes it at the end. Calls no store yet.

        Raises StoreUnavailable when there are no credentials or their source does not answer in time, and
        ValueError for an endpoint that is none.
        """
        async with S3Connection.open(settings, meter) as connection:
            public_endpoint = settings.public_endpoint or connection.endpoint
            presigner = Presigner(public_endpoint, settings.bucket, settings.region, settings.addressing)
            async with ObjectReader.open(
                _own_presigner(connection),
                lambda: connection.credentials,
                route=connection.route,
                connections=settings.pool_size,
                limit=settings.call_timeout,
                meter=meter,
            ) as reader:
                yield cls(connection, RequestSigner(presigner, lambda: connection.credentials), reader)

    @override
    def seen_from_here(self) -> "S3ObjectStore":
        credentials = self.connection.credentials
        signer = RequestSigner(_own_presigner(self.connection), lambda: credentials)
        return S3ObjectStore(self.connection, signer, self._reader, self.reports_sha256)

    @override
    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        headers = put_headers(promise)
        if key_id := self.connection.settings.sse_kms_key_id:
            headers[ENCRYPTION] = "aws:kms"
            headers[ENCRYPTION_KEY] = key_id
        return self.signer.presign("PUT", promise.key, signed_at, lifetime, headers)

    @override
    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        start, lifetime = self.signer.life(signed_at, lifetime)
        query = {"response-expires": _http_date(start + lifetime)}
        if content_disposition:
            query["response-content-disposition"] = content_disposition
        return self.signer.presign_life("GET", key, start, lifetime, query=query)

    @override
    def public_url(self, key: str) -> str:
        if base_url := self.connection.settings.public_base_url:
            return f"{base_url.rstrip('/')}/{quote(key)}"
        return self.signer.url(key)

    @override
    async def head(self, key: str) -> StoredObject | None:
        """To S3 an object in a missing bucket is a missing object too."""
        return await self._reader.head(key)

    @override
    async def read_start(self, key: str, length_bytes: int) -> bytes:
        return await self._reader.read_start(key, length_bytes)

    @override
    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        return await self._reader.read_small(key, limit_bytes)

    @override
    async def delete(self, keys: Sequence[str]) -> None:
        """In a bucket that keeps versions the object is hidden and its versions stay."""
        await delete_objects(self.connection, keys)

    @override
    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """`after` is S3's continuation token: not every store lists in the order of keys."""

        def list_objects(client: "S3Client", bucket: str) -> ObjectPage:
            token: Any = {"ContinuationToken": after} if after else {}
            answer = client.list_objects_v2(
                Bucket=bucket, Prefix=prefix, MaxKeys=self.connection.settings.page_keys, **token
            )
            objects = tuple(
                ListedObject(found["Key"], found["Size"], found["LastModified"]) for found in answer.get("Contents", [])
            )
            return ObjectPage(objects, answer.get("NextContinuationToken", "") if answer["IsTruncated"] else "")

        return await self.connection.call("list objects", "s3:ListBucket", list_objects)


def put_headers(promise: VariantPromise) -> dict[str, str]:
    """Returns the headers that are signed with a PUT of a variant in one piece."""
    headers = {
        CONTENT_TYPE: promise.content_type,
        CONTENT_LENGTH: str(promise.size_bytes),
        CONTENT_DISPOSITION: promise.content_disposition,
        CACHE_CONTROL: promise.cache_control,
        IF_NONE_MATCH: "*",
    }
    if promise.sha256:
        headers[CHECKSUM_SHA256] = base64.b64encode(promise.sha256).decode()
    return headers


def _own_presigner(connection: S3Connection) -> Presigner:
    """Signs what this server itself sends."""
    settings = connection.settings
    host = urlsplit(settings.endpoint).hostname
    # As boto3 does: no bucket in front of an IP address.
    addressing: Addressing = "path" if host and is_ip_address(host) else settings.addressing
    return Presigner(connection.endpoint, settings.bucket, settings.region, addressing)


@lru_cache(maxsize=256)
def _http_date(instant: datetime) -> str:
    """Returns an instant as HTTP headers write it: the variants of an asset, and all who read it, share it."""
    return format_datetime(instant.astimezone(UTC), usegmt=True)
