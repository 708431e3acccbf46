"""The object store on S3 and whatever speaks its API. The only file with boto3.

Needs from outside: a bucket, and credentials (the settings' own, else of boto3's default chain) with
    s3:PutObject      what write URLs are signed with
    s3:GetObject      for read URLs and HEAD
    s3:ListBucket     without it S3 answers a HEAD of a missing object with 403 instead of 404; for `reconcile`
    s3:DeleteObject   for deletion
    s3:AbortMultipartUpload, s3:ListMultipartUploadParts, s3:ListBucketMultipartUploads: see multipart.py
and, where the bucket encrypts with a KMS key of its own, kms:GenerateDataKey and kms:Decrypt. `set_up` needs
more: see bucket.py. The store must refuse what breaks a signed header and honour `if-none-match: *` on PUT.
"""

import asyncio
import base64
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import boto3
import botocore.credentials
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from assetlane_server.objects.bucket import BucketPlan, SetupStep, set_up_bucket
from assetlane_server.objects.multipart import S3Multiparts
from assetlane_server.objects.settings import S3Settings
from assetlane_server.objects.sigv4 import Credentials, Presigner
from assetlane_server.uploads.asset import StoredObject
from assetlane_server.uploads.errors import StoreUnavailable
from assetlane_server.uploads.meter import UNMETERED, Meter
from assetlane_server.uploads.ports import ListedObject, ObjectPage, PresignedRequest
from assetlane_server.uploads.upload import VariantPromise, whole_second

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_DELETED_KEYS = 1000  # as many as one DeleteObjects call takes

_T = TypeVar("_T")
_SECOND = timedelta(seconds=1)
_PIECE_BYTES = 1024 * 1024
_COPY_CALLS = 6  # how many times a call's limit the copy of a whole object has
_SETUP_CALLS = 8  # that set-up makes one after the other
_CREDENTIALS_LIMIT = timedelta(seconds=30)  # a chain of sources, roles to assume, retries with pauses
_STORE = "the object store"
_SOURCE = "the source of S3 credentials"
_log = logging.getLogger(__name__)


class S3ObjectStore:
    """An ObjectStore in one bucket. Made by `open`; signing is pure CPU, all else runs in a bounded pool."""

    def __init__(
        self,
        settings: S3Settings,
        client: "S3Client",
        source: botocore.credentials.Credentials,
        credentials: Credentials,
        pool: ThreadPoolExecutor,
        meter: Meter = UNMETERED,
    ) -> None:
        self._settings = settings
        self._meter = meter
        self._client = client
        self._source = source
        self._credentials = credentials
        self._pool = pool
        endpoint = settings.public_endpoint or client.meta.endpoint_url
        self._presigner = Presigner(endpoint, settings.bucket, settings.region, settings.addressing)
        self.multiparts = S3Multiparts(self)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: S3Settings, meter: Meter = UNMETERED) -> AsyncIterator["S3ObjectStore"]:
        """Finds credentials, keeps them fresh, and closes every connection at the end. Calls no store yet.

        Raises StoreUnavailable when there are no credentials or their source does not answer in time, and
        ValueError for an endpoint that is none.
        """
        pool = ThreadPoolExecutor(settings.pool_size, thread_name_prefix="s3")
        try:
            connection = await _within(_CREDENTIALS_LIMIT, pool, lambda: _connect(settings), _SOURCE)
            store = cls(settings, *connection, pool, meter)
            # Not a TaskGroup: it would wrap whatever the body raises in an ExceptionGroup.
            refresher = asyncio.create_task(store._keep_credentials_fresh())
            try:
                yield store
            finally:
                refresher.cancel()
                await asyncio.wait([refresher])
                store._client.close()
        finally:
            # Calls that outlived their limit end with their own socket timeouts: not on the event loop.
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    @property
    def endpoint(self) -> str:
        """The URL of the store as this server calls it."""
        return self._client.meta.endpoint_url

    def seen_from_here(self) -> "S3ObjectStore":
        """Returns the store with URLs that this server itself can call. For a short while: it shares the
        connections, and its credentials are those of this moment.
        """
        settings = replace(self._settings, public_endpoint="")
        return S3ObjectStore(settings, self._client, self._source, self._credentials, self._pool)

    def presign_put(
        self,
        promise: VariantPromise,
        signed_at: datetime,
        lifetime: timedelta,
        extra_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> PresignedRequest:
        """See ObjectStore; `extra_headers` are signed along.

        Raises StoreUnavailable when temporary credentials ended before `signed_at`.
        """
        headers = {
            **extra_headers,
            "content-type": promise.content_type,
            "content-length": str(promise.size_bytes),
            "if-none-match": "*",
        }
        if promise.disposition:
            headers["content-disposition"] = promise.disposition
        if promise.sha256:
            headers["x-amz-checksum-sha256"] = base64.b64encode(promise.sha256).decode()
        return self.presign("PUT", promise.key, signed_at, lifetime, headers)

    def presign_get(self, key: str, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """See ObjectStore. Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        return self.presign("GET", key, signed_at, lifetime, {})

    def public_url(self, key: str) -> str:
        """See ObjectStore."""
        if self._settings.public_base_url:
            return f"{self._settings.public_base_url.rstrip('/')}/{quote(key)}"
        return self._presigner.url(key)

    async def head(self, key: str) -> StoredObject | None:
        """See ObjectStore. To S3 an object in a missing bucket is a missing object too."""

        def call() -> StoredObject | None:
            try:
                found = self._client.head_object(Bucket=self._settings.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
            # Of an object that arrived in parts it is one of their checksums, with their count: `…=-3`.
            sha256, dash, _ = found.get("ChecksumSHA256", "").partition("-")
            is_of_parts = bool(dash) or found.get("ChecksumType") == "COMPOSITE"
            digest = base64.b64decode(sha256)
            return StoredObject(
                size_bytes=found["ContentLength"],
                content_type=found.get("ContentType", ""),
                etag=found.get("ETag", "").strip('"'),
                version_id=_version_id(found.get("VersionId", "")),
                sha256=b"" if is_of_parts else digest,
                parts_sha256=digest if is_of_parts else b"",
            )

        return await self._call("look at an object", "s3:GetObject and s3:ListBucket", call)

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """See ObjectStore."""
        bucket, span = self._settings.bucket, f"bytes=0-{length_bytes - 1}"

        def call() -> bytes:
            with closing(self._client.get_object(Bucket=bucket, Key=key, Range=span)["Body"]) as body:
                return body.read(length_bytes)

        return await self._call("read the start of an object", "s3:GetObject", call)

    @asynccontextmanager
    async def local_copy(self, key: str, size_bytes: int) -> AsyncIterator[Path]:
        """See ObjectStore. The file lies in the system's folder for temporary ones."""
        bucket = self._settings.bucket
        with tempfile.TemporaryDirectory(prefix="assetlane-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, "object")

            def call() -> int:
                body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
                with closing(body), path.open("xb") as file:
                    # One byte more than expected shows that there is too much.
                    while file.tell() <= size_bytes and (piece := body.read(_PIECE_BYTES)):
                        file.write(piece)
                    return file.tell()

            found_bytes = await self._call("read an object", "s3:GetObject", call, calls=_COPY_CALLS)
            if found_bytes != size_bytes:
                raise StoreUnavailable("The store sent an object of another size than it has told.")
            yield path

    async def put(self, key: str, data: bytes, content_type: str) -> StoredObject | None:
        """See ObjectStore. The store compares the bytes with their SHA-256 before it takes them."""
        bucket, digest = self._settings.bucket, sha256(data).digest()
        checksum = base64.b64encode(digest).decode()

        def call() -> StoredObject | None:
            try:
                stored = self._client.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=data,
                    ContentType=content_type,
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    return None
                raise
            version_id = _version_id(stored.get("VersionId", ""))
            return StoredObject(len(data), content_type, stored.get("ETag", "").strip('"'), version_id, digest)

        return await self._call("store a cut", "s3:PutObject", call)

    async def delete(self, keys: Sequence[str]) -> None:
        """See ObjectStore. In a bucket that keeps versions the object is hidden and its versions stay."""
        if len(keys) > MAX_DELETED_KEYS:
            raise ValueError(f"at most {MAX_DELETED_KEYS:,} keys are deleted at once, not {len(keys):,}")
        if not keys:
            return
        bucket = self._settings.bucket

        def call() -> list[str]:
            if len(keys) == 1:
                self._client.delete_object(Bucket=bucket, Key=keys[0])
                return []
            objects = {"Quiet": True, "Objects": [{"Key": key} for key in keys]}
            answer = self._client.delete_objects(Bucket=bucket, Delete=objects)  # type: ignore[arg-type]
            codes = [error.get("Code", "unknown") for error in answer.get("Errors", [])]
            return [code for code in codes if code != "NoSuchKey"]

        codes = await self._call("delete objects", "s3:DeleteObject", call)
        if codes:
            reasons = ", ".join(sorted(set(codes)))
            raise StoreUnavailable(f"The store did not delete {len(codes)} of {len(keys)} objects: {reasons}.")

    async def list_keys(self, prefix: str, after: str) -> ObjectPage:
        """See ObjectStore. `after` is S3's continuation token: not every store lists in the order of keys."""

        def call() -> ObjectPage:
            token: Any = {"ContinuationToken": after} if after else {}
            answer = self._client.list_objects_v2(
                Bucket=self._settings.bucket, Prefix=prefix, MaxKeys=self._settings.page_keys, **token
            )
            objects = tuple(
                ListedObject(found["Key"], found["Size"], found["LastModified"]) for found in answer.get("Contents", [])
            )
            return ObjectPage(objects, answer.get("NextContinuationToken", "") if answer["IsTruncated"] else "")

        return await self._call("list objects", "s3:ListBucket", call)

    async def purge(self, folder: str) -> None:
        """Deletes what lies in a folder with all its versions, at most 1,000. Needs the rights for versions."""
        if not folder.endswith("/"):
            raise ValueError(f"a folder ends with '/', unlike {folder!r}")

        def call() -> None:
            bucket = self._settings.bucket
            listed = self._client.list_object_versions(Bucket=bucket, Prefix=folder)
            for found in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
                self._client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])

        await self._call("delete versions", "s3:ListBucketVersions and s3:DeleteObjectVersion", call, calls=4)

    async def ask(self, question: Callable[["S3Client", str], _T]) -> _T:
        """Puts a question to the client about the bucket, in the pool. What fails becomes StoreUnavailable."""
        return await self.call("answer", "the rights of s3.py", question)

    async def call(self, wish: str, rights: str, act: Callable[["S3Client", str], _T], calls: int = 1) -> _T:
        """Does something with the client and the bucket that makes so many calls, in the pool.

        What fails becomes StoreUnavailable, told as a wish that needs these rights.
        """
        bucket = self._settings.bucket
        return await self._call(wish, rights, lambda: act(self._client, bucket), calls)

    async def set_up(self, plan: BucketPlan) -> tuple[SetupStep, ...]:
        """Makes the bucket what the plan wants and tells each step's result. Safe to repeat.

        What the store refuses is a step's outcome; raises StoreUnavailable when it does not answer.
        """
        bucket, region = self._settings.bucket, self._settings.region
        return await self._call(
            "set up the bucket",
            "the rights of bucket.py",
            lambda: set_up_bucket(self._client, bucket, region, plan),
            calls=_SETUP_CALLS,
        )

    def presign(
        self,
        method: str,
        key: str,
        signed_at: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str],
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> PresignedRequest:
        """Signs a request with exactly these headers and these parameters of S3's own in its query.

        Raises StoreUnavailable when temporary credentials ended before `signed_at`.
        """
        start = whole_second(signed_at)
        credentials = self._credentials
        if credentials.expire_time is not None:
            left = credentials.expire_time - start
            if left < _SECOND:
                raise StoreUnavailable("The server's S3 credentials have expired and are not renewed yet.")
            lifetime = min(lifetime, left)
        lifetime -= lifetime % _SECOND
        url = self._presigner.presign(method, key, credentials, start, lifetime, headers, query)
        return PresignedRequest(method, url, headers, start + lifetime)

    async def _call(self, wish: str, rights: str, call: Callable[[], _T], calls: int = 1) -> _T:
        """Runs what makes so many calls to the store in the pool. What fails becomes StoreUnavailable."""
        with self._meter.asking("s3", wish):
            try:
                return await _within(self._settings.call_timeout * calls, self._pool, call)
            except ClientError as error:
                raise StoreUnavailable(_refusal(error, wish, rights)) from error
            except BotoCoreError as error:
                # Its own text holds URLs: that stays in the cause.
                raise StoreUnavailable(f"The store cannot be reached ({type(error).__name__}).") from error

    async def _keep_credentials_fresh(self) -> None:
        while self._credentials.expire_time is not None:
            await asyncio.sleep(self._settings.credentials_interval.total_seconds())
            try:
                self._credentials = await _within(
                    _CREDENTIALS_LIMIT, self._pool, lambda: _frozen(self._source), _SOURCE
                )
            except Exception as error:  # a provider may raise anything; the credentials at hand last a while
                _log.warning(
                    "S3 credentials could not be renewed (%s): those at hand end at %s",
                    type(error).__name__,
                    self._credentials.expire_time,
                )


async def _within(limit: timedelta, pool: ThreadPoolExecutor, call: Callable[[], _T], whom: str = _STORE) -> _T:
    seconds = limit.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(pool, call)
    except TimeoutError as error:
        raise StoreUnavailable(f"No answer from {whom} within {seconds:g} s.") from error


def _connect(settings: S3Settings) -> tuple["S3Client", botocore.credentials.Credentials, Credentials]:
    # Two sessions: what signs must be renewed by us alone, see _frozen.
    signing, calling = (
        boto3.session.Session(
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=settings.secret_access_key or None,
            region_name=settings.region,
        )
        for _ in range(2)
    )
    try:
        source = signing.get_credentials()
        credentials = None if source is None else _frozen(source)
    except (BotoCoreError, ClientError, RuntimeError) as error:
        raise StoreUnavailable(f"The source of S3 credentials gives none ({type(error).__name__}).") from error
    if source is None or credentials is None:
        raise StoreUnavailable(
            "No S3 credentials found: set an access key id and its secret, or give this process a role, "
            "a profile or AWS_* variables as boto3 knows them."
        )
    seconds = settings.call_timeout.total_seconds()
    client = calling.client(
        "s3",
        endpoint_url=settings.endpoint or None,
        config=Config(
            signature_version="s3v4",
            # The global endpoint of us-east-1 redirects, which breaks CORS.
            s3={"addressing_style": settings.addressing, "us_east_1_regional_endpoint": "regional"},
            # Else boto3 adds a CRC32 to its writes, which R2 and older MinIO refuse.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=settings.pool_size,
            # A thread whose caller gave up is free again soon after.
            connect_timeout=seconds / 4,
            read_timeout=seconds / 2,
            retries={"mode": "standard", "total_max_attempts": 2},
        ),
    )
    return client, source, credentials


def _version_id(told: str) -> str:
    """Returns a version id, empty for that of an object from before the bucket kept versions."""
    return "" if told == "null" else told


def _frozen(source: botocore.credentials.Credentials) -> Credentials:
    """Returns the credentials of this moment, renewed if they are about to end. May block for long."""
    keys = source.get_frozen_credentials()
    # botocore tells in nothing public when temporary credentials end. This end belongs to these keys, because
    # nobody else makes this source renew them.
    expire_time: datetime | None = getattr(source, "_expiry_time", None)
    return Credentials(keys.access_key or "", keys.secret_key or "", keys.token or "", expire_time)


def _refusal(error: ClientError, wish: str, rights: str) -> str:
    code = error.response["Error"]["Code"]
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
        return f"The store refuses to {wish} ({code}): the server's credentials must be valid and have {rights}."
    if code == "NoSuchBucket":
        return f"The store cannot {wish}: there is no such bucket. Run `assetlane-server setup`."
    return f"The store cannot {wish} ({code})."
