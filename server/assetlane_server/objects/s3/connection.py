"""The connection to S3: credentials kept fresh, and boto3 in a bounded pool of threads. The only file with boto3.

Credentials are the settings' own, else of boto3's default chain. `store.py` says which rights they need.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.credentials
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from assetlane_server.model.errors import (
    CredentialsMissing,
    CredentialsSourceFailed,
    StoreFault,
    StoreRefused,
    StoreUnavailable,
)
from assetlane_server.objects.s3.settings import Route, S3Settings
from assetlane_server.objects.s3.sigv4 import Credentials
from assetlane_server.ports.meter import UNMETERED, Meter

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")
_CREDENTIALS_LIMIT = timedelta(seconds=30)  # a chain of sources, roles to assume, retries with pauses
_STORE = "the object store"
_SOURCE = "the source of S3 credentials"
_log = logging.getLogger(__name__)


class S3Connection:
    """A client of one bucket, and the credentials of this moment. Made by `open`.

    Its calls block, so they run in a pool of threads, each within a limit.
    """

    def __init__(
        self,
        settings: S3Settings,
        client: "S3Client",
        source: botocore.credentials.Credentials,
        credentials: Credentials,
        route: Route,
        pool: ThreadPoolExecutor,
        meter: Meter,
    ) -> None:
        self.settings = settings
        self.credentials = credentials
        self.route = route
        self._client = client
        self._source = source
        self._pool = pool
        self._meter = meter

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: S3Settings, meter: Meter = UNMETERED) -> AsyncIterator["S3Connection"]:
        """Finds credentials, keeps them fresh, and closes every connection at the end. Calls no store yet.

        Raises StoreUnavailable when there are no credentials or their source does not answer in time, and
        ValueError for an endpoint that is none.
        """
        pool = ThreadPoolExecutor(settings.pool_size, thread_name_prefix="s3")
        try:
            found = await _within(_CREDENTIALS_LIMIT, pool, lambda: _connect(settings), _SOURCE)
            connection = cls(settings, *found, pool, meter)
            # Not a TaskGroup: it would wrap whatever the body raises in an ExceptionGroup.
            refresher = asyncio.create_task(connection._keep_credentials_fresh())
            try:
                yield connection
            finally:
                refresher.cancel()
                await asyncio.wait([refresher])
                connection._client.close()
        finally:
            # Calls that outlived their limit end with their own socket timeouts: not on the event loop.
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    @property
    def endpoint(self) -> str:
        """The URL of the store as this server calls it."""
        return self._client.meta.endpoint_url

    @property
    def encryption(self) -> Mapping[str, str]:
        """What boto3's writes need for the objects to be encrypted with the settings' key: empty without one."""
        if not self.settings.sse_kms_key_id:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.settings.sse_kms_key_id}

    async def ask(self, question: Callable[["S3Client", str], _T]) -> _T:
        """Asks something about the bucket. What fails becomes StoreUnavailable."""
        return await self.call("answer", "the rights of store.py", question)

    async def call(self, action: str, rights: str, act: Callable[["S3Client", str], _T], calls: int = 1) -> _T:
        """Runs what makes so many calls with the client and the bucket's name, and returns its result.

        What fails becomes StoreUnavailable, whose message names the operation and the rights that it needs.
        """
        bucket = self.settings.bucket
        with self._meter.asking("s3", action):
            try:
                limit = self.settings.call_timeout * calls
                return await _within(limit, self._pool, lambda: act(self._client, bucket))
            except ClientError as error:
                code = _code(error)
                is_final = error.response["ResponseMetadata"]["HTTPStatusCode"] == 403 or code == "NoSuchBucket"
                kind = StoreRefused if is_final else StoreUnavailable
                raise kind(_refusal(error, action, rights), code=code) from error
            except RecursionError as error:  # botocore's, when every answer is a redirect to another region
                circle = "The store redirects in a circle."
                raise StoreUnavailable(circle, fault=StoreFault.REDIRECTED) from error
            except BotoCoreError as error:
                # Its own text holds URLs: that stays in the cause.
                unreachable = f"The store cannot be reached ({type(error).__name__})."
                raise StoreUnavailable(unreachable, fault=StoreFault.UNREACHABLE) from error

    async def _keep_credentials_fresh(self) -> None:
        while self.credentials.expire_time is not None:
            await asyncio.sleep(self.settings.credentials_interval.total_seconds())
            try:
                self.credentials = await _within(_CREDENTIALS_LIMIT, self._pool, lambda: _frozen(self._source), _SOURCE)
            except Exception as error:  # a provider may raise anything; the credentials at hand last a while
                _log.warning(
                    "S3 credentials could not be renewed (%s): those at hand end at %s",
                    type(error).__name__,
                    self.credentials.expire_time,
                    extra={"event_code": "CREDENTIALS_NOT_RENEWED"},
                )


async def _within(limit: timedelta, pool: ThreadPoolExecutor, call: Callable[[], _T], whom: str = _STORE) -> _T:
    seconds = limit.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(pool, call)
    except TimeoutError as error:
        late = f"No answer from {whom} within {seconds:g} s."
        raise StoreUnavailable(late, fault=StoreFault.NO_ANSWER) from error


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
        raise CredentialsSourceFailed(type(error).__name__) from error
    if source is None or credentials is None:
        raise CredentialsMissing
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


def _frozen(source: botocore.credentials.Credentials) -> Credentials:
    """Returns the credentials of this moment, renewed if they are about to end. May block for long."""
    keys = source.get_frozen_credentials()
    # botocore has no public way to ask when temporary credentials end. This end belongs to these keys, because
    # nobody else makes this source renew them.
    expire_time: datetime | None = getattr(source, "_expiry_time", None)
    return Credentials(keys.access_key or "", keys.secret_key or "", keys.token or "", expire_time)


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _refusal(error: ClientError, action: str, rights: str) -> str:
    code = _code(error)
    if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
        return f"The store refuses to {action} ({code}): the server's credentials must be valid and have {rights}."
    if code == "NoSuchBucket":
        return f"The store cannot {action}: there is no such bucket. Run `assetlane-server setup`."
    return f"The store cannot {action} ({code})."
