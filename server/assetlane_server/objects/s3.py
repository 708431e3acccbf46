"""The object store on S3 and whatever speaks its API. The only file with boto3; reader.py reads objects.

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
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import boto3
import botocore.credentials
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from assetlane_server.model.asset import StoredObject
from assetlane_server.model.errors import StoreRefused, StoreUnavailable
from assetlane_server.model.listing import ListedObject, ObjectPage
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import VariantPromise, whole_second
from assetlane_server.objects.bucket import BucketPlan, SetupStep, set_up_bucket
from assetlane_server.objects.headers import (
    CACHE_CONTROL,
    CHECKSUM_SHA256,
    CONTENT_DISPOSITION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    ENCRYPTION,
    ENCRYPTION_KEY,
    IF_NONE_MATCH,
    check_signed_headers,
)
from assetlane_server.objects.multipart import S3Multiparts
from assetlane_server.objects.reader import ObjectReader
from assetlane_server.objects.settings import Route, S3Settings
from assetlane_server.objects.sigv4 import Addressing, Credentials, Presigner, is_ip_address
from assetlane_server.ports.meter import UNMETERED, Meter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_DELETED_KEYS = 1000  # in one call of `delete`

_T = TypeVar("_T")
_SECOND = timedelta(seconds=1)
_DELETED_AT_ONCE = 100  # in one request: some stores take 50 ms for each object, and each request has a limit
_SETUP_CALLS = 12  # that set-up makes one after the other
_CREDENTIALS_LIMIT = timedelta(seconds=30)  # a chain of sources, roles to assume, retries with pauses
_STORE = "the object store"
_SOURCE = "the source of S3 credentials"
_log = logging.getLogger(__name__)


class S3ObjectStore:
    """An ObjectStore in one bucket. Made by `open`.

    Signing is pure CPU; `head`, `read_start` and `read_small` run on the event loop; all else in a bounded pool of
    threads.
    """

    def __init__(
        self,
        settings: S3Settings,
        client: "S3Client",
        source: botocore.credentials.Credentials,
        credentials: Credentials,
        route: Route,
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
        self._reader: ObjectReader | None = None
        self.route = route
        self.reports_sha256: bool | None = None  # None: not known; the probe at the start finds out
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
                async with ObjectReader.open(
                    _own_presigner(settings, store.endpoint),
                    lambda: store._credentials,
                    route=store.route,
                    connections=settings.pool_size,
                    limit=settings.call_timeout,
                    meter=meter,
                ) as store._reader:
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

    @property
    def bucket(self) -> str:
        """The name of the bucket."""
        return self._settings.bucket

    @property
    def region(self) -> str:
        """The region that is signed."""
        return self._settings.region

    def seen_from_here(self) -> "S3ObjectStore":
        """See ObjectStore. It shares the connections."""
        settings = replace(self._settings, public_endpoint="", addressing=_own_addressing(self._settings))
        store = S3ObjectStore(settings, self._client, self._source, self._credentials, self.route, self._pool)
        store._reader, store.reports_sha256 = self._reader, self.reports_sha256
        return store

    def presign_put(self, promise: VariantPromise, signed_at: datetime, lifetime: timedelta) -> PresignedRequest:
        """See ObjectStore. Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        headers = put_headers(promise)
        if key_id := self._settings.sse_kms_key_id:
            headers[ENCRYPTION] = "aws:kms"
            headers[ENCRYPTION_KEY] = key_id
        return self.presign("PUT", promise.key, signed_at, lifetime, headers)

    def presign_get(
        self, key: str, signed_at: datetime, lifetime: timedelta, content_disposition: str = ""
    ) -> PresignedRequest:
        """See ObjectStore. Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        start, lifetime = self._life(signed_at, lifetime)
        query = {"response-expires": _http_date(start + lifetime)}
        if content_disposition:
            query["response-content-disposition"] = content_disposition
        return self.presign("GET", key, start, lifetime, {}, query)

    @property
    def encryption(self) -> Mapping[str, str]:
        """What boto3's writes need for the objects to be encrypted with the settings' key: empty without one."""
        if not self._settings.sse_kms_key_id:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self._settings.sse_kms_key_id}

    def public_url(self, key: str) -> str:
        """See ObjectStore."""
        if self._settings.public_base_url:
            return f"{self._settings.public_base_url.rstrip('/')}/{quote(key)}"
        return self._presigner.url(key)

    async def head(self, key: str) -> StoredObject | None:
        """See ObjectStore. To S3 an object in a missing bucket is a missing object too."""
        return await self._opened_reader.head(key)

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """See ObjectStore."""
        return await self._opened_reader.read_start(key, length_bytes)

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """See ObjectStore."""
        return await self._opened_reader.read_small(key, limit_bytes)

    @property
    def _opened_reader(self) -> ObjectReader:
        if self._reader is None:
            raise RuntimeError("an S3ObjectStore is made by `open`")
        return self._reader

    async def delete(self, keys: Sequence[str]) -> None:
        """See ObjectStore. In a bucket that keeps versions the object is hidden and its versions stay.

        Goes in batches, each with a call's limit; what raises leaves the batches after it undone.
        """
        if len(keys) > MAX_DELETED_KEYS:
            raise ValueError(f"at most {MAX_DELETED_KEYS:,} keys are deleted at once, not {len(keys):,}")
        if not keys:
            return
        codes: list[str] = []
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            batch = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
            codes += await self._delete_batch(batch, "delete objects", "s3:DeleteObject")
        if codes:
            reasons = ", ".join(sorted(set(codes)))
            raise StoreUnavailable(f"The store did not delete {len(codes)} of {len(keys)} objects: {reasons}.")

    async def _delete_batch(self, batch: Sequence[Mapping[str, str]], wish: str, rights: str) -> list[str]:
        """Deletes these keys or versions and returns the store's word for each that it did not delete."""
        bucket = self._settings.bucket

        def call() -> list[str]:
            if len(batch) == 1:
                self._client.delete_object(Bucket=bucket, **batch[0])  # type: ignore[arg-type]
                return []
            objects = {"Quiet": True, "Objects": batch}
            answer = self._client.delete_objects(Bucket=bucket, Delete=objects)  # type: ignore[arg-type]
            codes = [error.get("Code", "unknown") for error in answer.get("Errors", [])]
            return [code for code in codes if code != "NoSuchKey"]

        return await self._call(wish, rights, call)

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

        def call() -> list[dict[str, str]]:
            listed = self._client.list_object_versions(Bucket=self._settings.bucket, Prefix=folder)
            found: list[Any] = [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]
            return [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]

        wish, rights = "delete versions", "s3:ListBucketVersions and s3:DeleteObjectVersion"
        versions = await self._call(wish, rights, call)
        for start in range(0, len(versions), _DELETED_AT_ONCE):
            if codes := await self._delete_batch(versions[start : start + _DELETED_AT_ONCE], wish, rights):
                raise StoreUnavailable(f"The store did not delete {len(codes)} versions: {', '.join(set(codes))}.")

    async def ask(self, question: Callable[["S3Client", str], _T]) -> _T:
        """Puts a question to the client about the bucket, in the pool. What fails becomes StoreUnavailable."""
        return await self.call("answer", "the rights of s3.py", question)

    async def call(self, wish: str, rights: str, act: Callable[["S3Client", str], _T], calls: int = 1) -> _T:
        """Does something with the client and the bucket that makes so many calls, in the pool.

        What fails becomes StoreUnavailable, with a message that names these rights.
        """
        bucket = self._settings.bucket
        return await self._call(wish, rights, lambda: act(self._client, bucket), calls)

    async def set_up(self, plan: BucketPlan) -> tuple[SetupStep, ...]:
        """Makes the bucket what the plan wants and returns each step's result. Safe to repeat.

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
        if method == "PUT":
            check_signed_headers(headers)
        start, lifetime = self._life(signed_at, lifetime)
        url = self._presigner.presign(method, key, self._credentials, start, lifetime, headers, query)
        return PresignedRequest(method, url, headers, start + lifetime)

    def _life(self, signed_at: datetime, lifetime: timedelta) -> tuple[datetime, timedelta]:
        """Returns from when and for how long a URL lives: whole seconds, and no longer than the credentials."""
        start = whole_second(signed_at)
        if (end := self._credentials.expire_time) is not None:
            if end - start < _SECOND:
                raise StoreUnavailable("The server's S3 credentials have expired and are not renewed yet.")
            lifetime = min(lifetime, end - start)
        return start, lifetime - lifetime % _SECOND

    async def _call(self, wish: str, rights: str, call: Callable[[], _T], calls: int = 1) -> _T:
        """Runs what makes so many calls to the store in the pool. What fails becomes StoreUnavailable."""
        with self._meter.asking("s3", wish):
            try:
                return await _within(self._settings.call_timeout * calls, self._pool, call)
            except ClientError as error:
                is_final = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403 or _code(error) == "NoSuchBucket"
                raise (StoreRefused if is_final else StoreUnavailable)(_refusal(error, wish, rights)) from error
            except RecursionError as error:  # botocore's, when every answer is a redirect to another region
                raise StoreUnavailable("The store redirects in a circle.") from error
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


async def _within(limit: timedelta, pool: ThreadPoolExecutor, call: Callable[[], _T], whom: str = _STORE) -> _T:
    seconds = limit.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(pool, call)
    except TimeoutError as error:
        raise StoreUnavailable(f"No answer from {whom} within {seconds:g} s.") from error


def _connect(settings: S3Settings) -> tuple["S3Client", botocore.credentials.Credentials, Credentials, Route]:
    # Two sessions: what signs must be renewed by us alone, see _frozen.
    core = botocore.session.get_session()
    signing, calling = (
        boto3.session.Session(
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=settings.secret_access_key or None,
            region_name=settings.region,
            botocore_session=session,
        )
        for session in (botocore.session.get_session(), core)
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
    return client, source, credentials, _route(client.meta.endpoint_url, core.get_config_variable("ca_bundle"))


def _route(endpoint: str, ca_bundle: str | None) -> Route:
    """Returns what boto3 itself would use, by botocore's own rules (botocore/endpoint.py, httpsession.py)."""
    scheme = urlsplit(endpoint).scheme
    proxy: str = get_environ_proxies(endpoint).get(scheme, "")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if scheme != "https":
        return Route(proxy=proxy)
    return Route(ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or str(get_cert_path(True)), proxy)


def _own_presigner(settings: S3Settings, endpoint: str) -> Presigner:
    return Presigner(endpoint, settings.bucket, settings.region, _own_addressing(settings))


def _own_addressing(settings: S3Settings) -> Addressing:
    """Returns how this server addresses the bucket; boto3, too, puts none in front of an IP address."""
    host = urlsplit(settings.endpoint).hostname
    return "path" if host and is_ip_address(host) else settings.addressing


@lru_cache(maxsize=256)
def _http_date(instant: datetime) -> str:
    """Returns an instant as HTTP headers write it: the variants of an asset, and all who read it, share it."""
    return format_datetime(instant.astimezone(UTC), usegmt=True)


def _frozen(source: botocore.credentials.Credentials) -> Credentials:
    """Returns the credentials of this moment, renewed if they are about to end. May block for long."""
    keys = source.get_frozen_credentials()
    # botocore has no public way to ask when temporary credentials end. This end belongs to these keys, because
    # nobody else makes this source renew them.
    expire_time: datetime | None = getattr(source, "_expiry_time", None)
    return Credentials(keys.access_key or "", keys.secret_key or "", keys.token or "", expire_time)


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _refusal(error: ClientError, wish: str, rights: str) -> str:
    code = _code(error)
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
        return f"The store refuses to {wish} ({code}): the server's credentials must be valid and have {rights}."
    if code == "NoSuchBucket":
        return f"The store cannot {wish}: there is no such bucket. Run `assetlane-server setup`."
    return f"The store cannot {wish} ({code})."
