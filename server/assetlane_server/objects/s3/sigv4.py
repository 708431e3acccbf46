"""AWS Signature Version 4 for S3: presigned URLs, and signed headers of the server's own reads. No I/O.

The only code that signs. Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters (AWS
Signature Version 4)" and "Using the Authorization Header", and "Create a signed AWS API request" of the IAM User
Guide for the steps. The payload of a presigned URL is `UNSIGNED-PAYLOAD`; what binds the body is the set of signed
headers. A key is percent-encoded once and its `/` kept, as S3 alone among the AWS services wants it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from hmac import HMAC
from hmac import digest as hmac_digest
from ipaddress import ip_address
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote, urlsplit

Addressing = Literal["path", "virtual"]

MAX_LIFETIME = timedelta(days=7)  # X-Amz-Expires is at most 604,800

_SECOND = timedelta(seconds=1)
_NONE: Mapping[str, str] = MappingProxyType({})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_BODY = sha256(b"").hexdigest()
_CACHED_DAYS = 64  # read URLs are signed as of up to seven days ago, with each set of credentials


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs: a key pair, with a token and an end when it is temporary."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expire_time: datetime | None = None  # None: they do not expire


@dataclass(frozen=True, slots=True)
class _Day:
    """What all URLs that were signed with the same credentials on the same UTC day have in common."""

    date: str  # YYYYMMDD
    scope: str
    credential: str  # key id and scope
    query: str  # up to and with X-Amz-Date's date
    token: str  # the X-Amz-Security-Token parameter, or empty
    key: HMAC  # holds the signing key: copied, never updated


class Presigner:
    """Signs URLs for the keys of one bucket, addressed as `endpoint/bucket/key` or `bucket.endpoint/key`."""

    def __init__(self, endpoint: str, bucket: str, region: str, addressing: Addressing = "path") -> None:
        """Raises ValueError for an endpoint that is no http(s) URL, or an IP address with virtual addressing,
        and for an empty bucket or region.
        """
        parts = urlsplit(endpoint)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"an endpoint is http(s)://host[:port][/path], not {endpoint!r}")
        if not bucket or not region:
            raise ValueError("a bucket and a region are needed to sign")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        # Clients leave a scheme's own port out of the Host header, so it must not be signed either.
        if parts.port not in (None, _DEFAULT_PORTS[parts.scheme]):
            host = f"{host}:{parts.port}"
        path = parts.path.rstrip("/")
        if addressing == "virtual":
            if is_ip_address(parts.hostname):
                raise ValueError(f"the IP address in {endpoint!r} needs path addressing")
            host = f"{bucket}.{host}"
        else:
            path = f"{path}/{quote(bucket)}"
        self._region = region
        self._host = host
        self._origin = f"{parts.scheme}://{host}"
        self._root = f"{path}/"
        self._days: dict[tuple[Credentials, int], _Day] = {}

    def url(self, key: str) -> str:
        """Returns the key's URL without a signature."""
        return f"{self._origin}{self._root}{quote(key)}"

    def presign(
        self,
        method: str,
        key: str,
        credentials: Credentials,
        signed_at: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str] = _NONE,
        query: Mapping[str, str] = _NONE,
    ) -> str:
        """Returns a URL that the store accepts from `signed_at`, cut to the second, for `lifetime`.

        The request must carry `headers` with these values; `host` is signed always and not among them.
        `query` is for S3's own parameters, such as `response-content-disposition`. The same arguments give
        the same URL. Raises ValueError when the key is empty, `signed_at` has no time zone, or `lifetime` is
        not 1 to 604,800 whole seconds.
        """
        seconds, fraction = divmod(lifetime, _SECOND)
        if fraction or not _SECOND <= lifetime <= MAX_LIFETIME:
            raise ValueError(f"a URL lives 1 to 604,800 whole seconds, not {lifetime.total_seconds():,}")
        if signed_at.tzinfo is None:
            raise ValueError("signed_at needs a time zone")
        if not key:
            raise ValueError("a key is needed")
        instant = signed_at.astimezone(UTC)
        day = self._day(credentials, instant)
        time = f"T{instant.hour:02}{instant.minute:02}{instant.second:02}Z"

        names, signed_names, quoted_names = _header_names(tuple(headers))
        values = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        values["host"] = self._host
        canonical_headers = "".join([f"{name}:{values[name]}\n" for name in names])

        # Already in canonical order, so that the URL's query is the canonical query.
        parameters = f"{day.query}{time}&X-Amz-Expires={seconds}{day.token}&X-Amz-SignedHeaders={quoted_names}"
        if query:
            parameters = _merged(parameters, query)
        path = self._root + quote(key)
        canonical = f"{method}\n{path}\n{parameters}\n{canonical_headers}\n{signed_names}\nUNSIGNED-PAYLOAD"
        digest = sha256(canonical.encode()).hexdigest()
        signature = day.key.copy()
        signature.update(f"AWS4-HMAC-SHA256\n{day.date}{time}\n{day.scope}\n{digest}".encode())
        return f"{self._origin}{path}?{parameters}&X-Amz-Signature={signature.hexdigest()}"

    def signed_headers(
        self, method: str, key: str, credentials: Credentials, signed_at: datetime, headers: Mapping[str, str] = _NONE
    ) -> dict[str, str]:
        """Returns `headers` and those that authorize a request without a body to `url(key)`, around `signed_at`.

        Cheaper to make and to send than a presigned URL, and no signature ends up in a log of URLs. `host` is
        signed too and not among them. Raises ValueError when the key is empty or `signed_at` has no time zone.
        """
        if signed_at.tzinfo is None:
            raise ValueError("signed_at needs a time zone")
        if not key:
            raise ValueError("a key is needed")
        instant = signed_at.astimezone(UTC)
        day = self._day(credentials, instant)
        date = f"{day.date}T{instant.hour:02}{instant.minute:02}{instant.second:02}Z"
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed |= {"x-amz-content-sha256": _NO_BODY, "x-amz-date": date}
        if credentials.session_token:
            signed["x-amz-security-token"] = credentials.session_token
        names, signed_names, _ = _header_names(tuple(signed))
        values = {**signed, "host": self._host}
        if credentials.session_token:  # blanks are folded in what is signed
            values["x-amz-security-token"] = " ".join(credentials.session_token.split())
        canonical_headers = "".join([f"{name}:{values[name]}\n" for name in names])
        canonical = f"{method}\n{self._root}{quote(key)}\n\n{canonical_headers}\n{signed_names}\n{_NO_BODY}"
        digest = sha256(canonical.encode()).hexdigest()
        signature = day.key.copy()
        signature.update(f"AWS4-HMAC-SHA256\n{date}\n{day.scope}\n{digest}".encode())
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={day.credential}, SignedHeaders={signed_names},"
            f" Signature={signature.hexdigest()}"
        )
        return signed

    def _day(self, credentials: Credentials, instant: datetime) -> _Day:
        index = (credentials, instant.toordinal())
        day = self._days.get(index)
        if day is None:
            if len(self._days) >= _CACHED_DAYS:
                self._days.clear()
            day = self._days[index] = _day_of(credentials, f"{instant:%Y%m%d}", self._region)
        return day


def _day_of(credentials: Credentials, date: str, region: str) -> _Day:
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac_digest(key, part.encode(), "sha256")
    scope = f"{date}/{region}/s3/aws4_request"
    credential = f"{credentials.access_key_id}/{scope}"
    token = quote(credentials.session_token, safe="")
    return _Day(
        date=date,
        scope=scope,
        credential=credential,
        query=f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(credential, safe='')}&X-Amz-Date={date}",
        token=f"&X-Amz-Security-Token={token}" if token else "",
        key=HMAC(key, digestmod="sha256"),
    )


def is_ip_address(host: str) -> bool:
    """Whether a URL's host is an address and no name: it can have no bucket in front."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=128)
def _header_names(names: tuple[str, ...]) -> tuple[tuple[str, ...], str, str]:
    """Returns the names to sign, `host` included, in canonical order, then joined, then percent-encoded."""
    order = tuple(sorted({"host", *(name.lower() for name in names)}))
    signed = ";".join(order)
    return order, signed, quote(signed, safe="")


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return quote(text, safe="")


def _merged(parameters: str, query: Mapping[str, str]) -> str:
    pairs = [(_quoted(name), _quoted(value)) for name, value in query.items()]
    if min(pairs)[0] > "X-Amz-~":  # as S3's own names do: `partNumber`, `response-expires`
        return "&".join([parameters, *[f"{name}={value}" for name, value in sorted(pairs)]])
    pairs += [(name, value) for name, _, value in (part.partition("=") for part in parameters.split("&"))]
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])
