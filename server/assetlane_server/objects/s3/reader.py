"""HEAD and the first bytes of objects, on the event loop: what proving an upload costs.

boto3 takes four to nine times the CPU for a HEAD, in threads that all wait for the GIL. Requests are signed by our own
signer and sent by aiohttp over one pool of connections per process. What boto3 did for its caller is done here:
limits of time, retries with backoff under a quota, its CA bundle and its proxies.
"""

import asyncio
import base64
import binascii
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import aiohttp
from yarl import URL

from assetlane_server.model.errors import CredentialsExpired, StoreFault, StoreRefused, StoreUnavailable
from assetlane_server.model.proof import StoredObject
from assetlane_server.objects.s3.headers import foreign_headers
from assetlane_server.objects.s3.settings import Route
from assetlane_server.objects.s3.sigv4 import Credentials, Presigner
from assetlane_server.ports.meter import UNMETERED, Meter

_T = TypeVar("_T")
_ATTEMPTS = 3
_BACKOFF_S = 0.1  # times 2 with every attempt, then a random part of it
_MAX_BACKOFF_S = 2.0
_KEEPALIVE_S = 15.0  # shorter than the idle limit of the stores and load balancers we know of
_MAX_ERROR_BYTES = 64 * 1024
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
# What a store in trouble answers, as boto3's standard mode has it, and 429 from gateways before it.
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
# What aiohttp would add by itself: unsigned, and an encoding would hide the object's real length.
_SKIPPED_HEADERS = ("accept", "accept-encoding", "user-agent")


class RetryQuota:
    """Bounds retries of a process as a whole: when everything fails, each call is tried once.

    Source: botocore's standard retry mode, `RetryQuota`: 500 tokens, 5 for a retry, given back by its success, and
    1 by every other success.
    """

    _CAPACITY = 500
    _RETRY = 5

    def __init__(self) -> None:
        self._left = self._CAPACITY

    def take(self) -> bool:
        """Takes what one retry costs; returns whether there was enough."""
        if self._left < self._RETRY:
            return False
        self._left -= self._RETRY
        return True

    def succeeded(self, retries: int) -> None:
        """Gives back what a call that succeeded after so many retries took last."""
        self._left = min(self._CAPACITY, self._left + (self._RETRY if retries else 1))


class ObjectReader:
    """Reads heads and starts of the objects of one bucket. Opened by `open`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        presigner: Presigner,
        credentials: Callable[[], Credentials],
        limit: timedelta,
        proxy: str = "",
        meter: Meter = UNMETERED,
    ) -> None:
        self._session = session
        self._presigner = presigner
        self._credentials = credentials
        self._limit_s = limit.total_seconds()
        self._proxy = proxy or None
        self._meter = meter
        self._quota = RetryQuota()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        presigner: Presigner,
        credentials: Callable[[], Credentials],
        *,
        route: Route,
        connections: int,
        limit: timedelta,
        meter: Meter = UNMETERED,
    ) -> AsyncIterator["ObjectReader"]:
        """Opens no connection yet. `limit` is that of one call with all its attempts and waits."""
        tls = ssl.create_default_context(cafile=route.ca_bundle) if route.ca_bundle else True
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEPALIVE_S, ssl=tls)
        seconds = limit.total_seconds()
        async with aiohttp.ClientSession(
            connector=connector,
            # As boto3's: an attempt that hangs leaves time for another.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=seconds / 4, sock_read=seconds / 2),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            yield cls(session, presigner, credentials, limit, route.proxy, meter)

    async def head(self, key: str) -> StoredObject | None:
        """Returns what the store says about an object, None if there is none."""

        async def read(answer: aiohttp.ClientResponse) -> StoredObject | None:
            if answer.status == 404:
                return None
            if answer.status == 200:
                return stored_object(answer.headers)
            raise await self._refusal(answer, "look at an object", "s3:GetObject and s3:ListBucket")

        return await self._ask("look at an object", "HEAD", key, {"x-amz-checksum-mode": "ENABLED"}, read)

    async def read_start(self, key: str, length_bytes: int) -> bytes:
        """Returns the first bytes of an object, at most so many."""

        async def read(answer: aiohttp.ClientResponse) -> bytes:
            if answer.status == 416:
                return b""  # it is empty
            if answer.status in (200, 206):  # 200: of a store that knows no ranges; the connection is closed then
                return await _body(answer, length_bytes)
            raise await self._refusal(answer, "read the start of an object", "s3:GetObject")

        return await self._ask(
            "read the start of an object", "GET", key, {"range": f"bytes=0-{length_bytes - 1}"}, read
        )

    async def read_small(self, key: str, limit_bytes: int) -> tuple[StoredObject, bytes] | None:
        """Returns what `head` does, and the first bytes of the object, at most so many."""

        async def read(answer: aiohttp.ClientResponse) -> tuple[StoredObject, bytes] | None:
            if answer.status == 404:
                return None
            if answer.status == 200:
                return stored_object(answer.headers), await _body(answer, limit_bytes)
            raise await self._refusal(answer, "read an object", "s3:GetObject and s3:ListBucket")

        # Without a range: to a part of an object S3 gives no checksum of the whole.
        return await self._ask("read an object", "GET", key, {"x-amz-checksum-mode": "ENABLED"}, read)

    async def _ask(
        self,
        action: str,
        method: str,
        key: str,
        headers: Mapping[str, str],
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
    ) -> _T:
        with self._meter.asking("s3", action):
            try:
                async with asyncio.timeout(self._limit_s):
                    return await self._attempts(action, method, key, headers, read)
            except TimeoutError as error:
                late = f"No answer from the object store within {self._limit_s:g} s."
                raise StoreUnavailable(late, fault=StoreFault.NO_ANSWER) from error

    async def _attempts(
        self,
        action: str,
        method: str,
        key: str,
        headers: Mapping[str, str],
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
    ) -> _T:
        for retries in range(_ATTEMPTS):
            cause: Exception | None = None
            try:
                async with self._session.request(
                    method,
                    self._url(key),
                    headers=self._signed(method, key, headers),
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as answer:
                    if answer.status not in _TRANSIENT:
                        outcome = await read(answer)
                        self._quota.succeeded(retries)
                        return outcome
                    failure = _failed(action, await _code(answer))
            except aiohttp.ClientConnectorCertificateError as error:  # no attempt will change that
                raise _untrusted(error) from error
            except (aiohttp.ClientError, OSError) as error:  # a TimeoutError of a socket is an OSError
                # Its own text holds URLs: that stays in the cause.
                failure, cause = _unreachable(error), error
            if retries + 1 == _ATTEMPTS or not self._quota.take():
                raise failure from cause
            await asyncio.sleep(random.random() * min(_BACKOFF_S * 2**retries, _MAX_BACKOFF_S))  # noqa: S311 - jitter
        raise AssertionError("every attempt returns, raises or is followed by another")

    def _url(self, key: str) -> URL:
        return URL(self._presigner.url(key), encoded=True)

    def _signed(self, method: str, key: str, headers: Mapping[str, str]) -> dict[str, str]:
        # For each attempt: credentials and the clock may have moved on.
        now, credentials = datetime.now(UTC), self._credentials()
        if credentials.expire_time is not None and credentials.expire_time <= now:
            raise CredentialsExpired
        return self._presigner.signed_headers(method, key, credentials, now, headers)

    async def _refusal(self, answer: aiohttp.ClientResponse, action: str, rights: str) -> StoreUnavailable:
        code = await _code(answer)
        if answer.status == 403:
            return StoreRefused(
                f"The store refuses to {action} ({code}): the server's credentials must be valid and have {rights}.",
                code=code,
            )
        if 300 <= answer.status < 400:
            region = answer.headers.get("x-amz-bucket-region", "")
            hint = (
                f"the bucket is in {region}: set ASSETLANE_S3_REGION"
                if region
                else "check ASSETLANE_S3_ENDPOINT and ASSETLANE_S3_REGION"
            )
            message = f"The store sends elsewhere to {action} ({code}): {hint}."
            return StoreUnavailable(message, fault=StoreFault.REDIRECTED, code=code)
        return _failed(action, code)


def stored_object(headers: Mapping[str, str]) -> StoredObject:
    """Returns what the headers of a HEAD say. Raises StoreUnavailable for ones that make no sense."""
    # Of an object that arrived in parts it is one of their checksums, with their count: `…=-3`.
    checksum, dash, _ = headers.get("x-amz-checksum-sha256", "").partition("-")
    is_of_parts = bool(dash) or headers.get("x-amz-checksum-type") == "COMPOSITE"
    try:
        digest = base64.b64decode(checksum, validate=True)
    except (ValueError, binascii.Error) as error:
        malformed = "The store reports a SHA-256 of an object that is none."
        raise StoreUnavailable(malformed, fault=StoreFault.CHECKSUM_MALFORMED) from error
    try:
        size_bytes = int(headers["content-length"])
    except (KeyError, ValueError) as error:
        missing = "The store reports no size of an object."
        raise StoreUnavailable(missing, fault=StoreFault.SIZE_MISSING) from error
    version_id = headers.get("x-amz-version-id", "")
    return StoredObject(
        size_bytes=size_bytes,
        content_type=headers.get("content-type", ""),
        etag=headers.get("etag", "").strip('"'),
        version_id="" if version_id == "null" else version_id,  # `null`: from before the bucket kept versions
        sha256=b"" if is_of_parts else digest,
        parts_sha256=digest if is_of_parts else b"",
        foreign_headers=foreign_headers(headers),
    )


async def _code(answer: aiohttp.ClientResponse) -> str:
    """Returns S3's own word for a refusal, else the status: a HEAD has no word."""
    found = _CODE.search(await _body(answer, _MAX_ERROR_BYTES))
    return found[1].decode() if found else str(answer.status)


async def _body(answer: aiohttp.ClientResponse, length_bytes: int) -> bytes:
    """Returns at most so many bytes of the body. What is left unread closes the connection."""
    pieces: list[bytes] = []
    left = length_bytes
    while left and (piece := await answer.content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _failed(action: str, code: str) -> StoreUnavailable:
    return StoreUnavailable(f"The store cannot {action} ({code}).", code=code)


def _unreachable(error: Exception) -> StoreUnavailable:
    message = f"The store cannot be reached ({type(error).__name__})."
    return StoreUnavailable(message, fault=StoreFault.UNREACHABLE)


def _untrusted(error: aiohttp.ClientConnectorCertificateError) -> StoreUnavailable:
    reason = error.certificate_error
    why = getattr(reason, "verify_message", "") or type(reason).__name__
    message = f"The store's certificate is not accepted: {why}."
    return StoreUnavailable(message, fault=StoreFault.CERTIFICATE_NOT_ACCEPTED)
