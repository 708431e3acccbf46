"""Plain HTTP to an object store, as its callers speak it: what a signed or unsigned URL really does.

For `probe.py` and the doctor. The service itself never carries a byte.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

import aiohttp
from yarl import URL

from assetlane_server.model.errors import StoreFault, StoreRefused, StoreUnavailable
from assetlane_server.model.presigned import PresignedRequest

_MAX_BODY_BYTES = 64 * 1024  # what we sent is short, and so is an error's XML
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a store answered."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether it did what it was asked."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """S3's own word for a refusal, empty when there is none."""
        code = _CODE.search(self.body)
        return code[1].decode() if code else ""

    @property
    def detail(self) -> str:
        """The status with S3's own word for it, such as `403 AccessDenied`."""
        return f"{self.status} {self.code}".rstrip()


class Wire:
    """Sends requests as they stand. Follows no redirect: a browser that PUTs does not either."""

    def __init__(self, session: aiohttp.ClientSession, limit: timedelta) -> None:
        self._session = session
        self._limit = limit

    async def send(
        self, request: PresignedRequest, body: bytes | None = None, headers: Mapping[str, str] = _NONE
    ) -> Reply:
        """Sends a presigned request with a body, `headers` on top of its own, and returns the answer.

        Raises StoreUnavailable when there is none in time.
        """
        return await self.ask(request.method, request.url, {**request.headers, **headers}, body)

    async def ask(self, method: str, url: str, headers: Mapping[str, str] = _NONE, body: bytes | None = None) -> Reply:
        """Sends one request and returns the answer.

        Raises StoreUnavailable when there is none in time, StoreRefused for a certificate that cannot be trusted.
        """
        where = URL(url, encoded=True)
        place = f"{where.scheme}://{where.authority}"  # a URL's query is a secret
        try:
            async with (
                asyncio.timeout(self._limit.total_seconds()),
                self._session.request(
                    method,
                    where,
                    headers=headers,
                    data=body,
                    skip_auto_headers=["content-type"],
                    allow_redirects=False,
                ) as answer,
            ):
                content = await answer.content.read(_MAX_BODY_BYTES)
                return Reply(answer.status, {name.lower(): value for name, value in answer.headers.items()}, content)
        except TimeoutError as error:
            late = f"No answer from {place} within {self._limit.total_seconds():g} s."
            raise StoreUnavailable(late, fault=StoreFault.NO_ANSWER) from error
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or type(error).__name__
            raise _untrusted(StoreRefused, place, why) from error
        except aiohttp.ClientSSLError as error:
            raise _untrusted(StoreUnavailable, place, type(error).__name__) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            unreachable = f"{place} cannot be reached ({type(error).__name__})."
            raise StoreUnavailable(unreachable, fault=StoreFault.UNREACHABLE) from error


def _untrusted(kind: type[StoreUnavailable], place: str, why: str) -> StoreUnavailable:
    message = f"The certificate of {place} is not accepted ({why})."
    return kind(message, fault=StoreFault.CERTIFICATE_NOT_ACCEPTED)


@asynccontextmanager
async def open_wire(limit: timedelta) -> AsyncIterator[Wire]:
    """Opens connections of one's own, closed at the end; each request has `limit`."""
    # As boto3 does: proxies named in the environment are used.
    async with aiohttp.ClientSession(trust_env=True) as session:
        yield Wire(session, limit)
