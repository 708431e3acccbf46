"""Puts bytes to a write target, as the store signed it: streamed, repeated when that helps, never logged."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import aiofiles
import aiohttp
import yarl
from aiofiles.threadpool.binary import AsyncBufferedReader

from assetlane.backoff import Backoff
from assetlane.errors import ObjectExists, StoreRefused, StoreUnavailable
from assetlane.files import closing
from assetlane.sources import Source, chunks
from assetlane.v1.upload_pb2 import PresignedRequest

ATTEMPTS = 8
RENEWALS = 5  # of one URL, however slow the way to the store is
FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
STALL = 120.0  # seconds in which nothing moved: neither a piece was taken nor the answer came
CONNECT = 15.0
ERROR_BODY_BYTES = 64 * 1024
CONNECTIONS = 32

_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>")
_REPEATABLE = frozenset({408, 409, 425, 429})
_REPEATABLE_CODES = frozenset({"RequestTimeout"})  # S3 sends it as 400
_STALE_CODES = frozenset({"ExpiredToken"})  # likewise

Renew = Callable[[], Awaitable[PresignedRequest]]
"""Returns a freshly signed way to the same place."""
OnSent = Callable[[int], None]
"""Called with the number of bytes of the current try that the store's connection has taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said: HTTP status, its own error code if any, the wait it asks for in seconds."""

    status: int
    code: str = ""
    retry_after: float = 0.0

    @property
    def arrived(self) -> bool:
        """The object is stored."""
        return 200 <= self.status < 300

    @property
    def exists(self) -> bool:
        """Something is stored in this place already."""
        return self.status == 412

    @property
    def stale(self) -> bool:
        """A fresh signature may help."""
        return self.status == 403 or self.code in _STALE_CODES

    @property
    def repeatable(self) -> bool:
        """The same request may succeed later."""
        return self.status >= 500 or self.status in _REPEATABLE or self.code in _REPEATABLE_CODES


def open_session() -> aiohttp.ClientSession:
    """Opens a session that adds nothing to a request and takes nothing away from an answer.

    It does not read the environment: credentials of a `.netrc` next to a signature are refused by stores.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
        skip_auto_headers=_AUTOMATIC_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def put(
    session: aiohttp.ClientSession,
    source: Source,
    target: PresignedRequest,
    *,
    renew: Renew | None = None,
    may_exist: bool = False,
    on_sent: OnSent | None = None,
    attempts: int = ATTEMPTS,
    stall: float = STALL,
) -> None:
    """Puts `source` to `target`, with constant memory, and returns once the store has it.

    Lost connections, 5xx, 408, 409 and 429 are repeated with jittered waits, `attempts` tries in all.
    When the store refuses the signature, `renew` is asked for another target: once, and again whenever that one has
    expired too. "Already there" (412) is success when an earlier try may have stored the object: a try of this call, or
    of an earlier process (`may_exist`).

    Raises ObjectExists, StoreRefused, StoreUnavailable, FileChanged, and OSError when the file cannot be read. Errors
    of `renew` and `on_sent` are raised unchanged. No error contains the URL.
    """
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    failed, renewals = attempts, 0
    async with AsyncExitStack() as stack:
        file = await stack.enter_async_context(closing(aiofiles.open(source.path, "rb"))) if source.path else None
        while True:
            body = _Body(source, file, on_sent, stall)
            answer, trouble = await _sent(session, target, body)
            if body.fault is not None:
                raise body.fault
            if answer is not None:
                if answer.arrived or (answer.exists and (may_exist or body.passes > 1)):
                    if on_sent is not None and body.sent_bytes < source.size_bytes:
                        on_sent(source.size_bytes)  # the answer came before the last piece was reported
                    return
                if answer.stale and renew is not None and (not renewals or (renewals < RENEWALS and _ran_out(target))):
                    target, renewals = await renew(), renewals + 1
                    continue
                if not answer.repeatable:
                    raise _refusal(answer)
                trouble = _described(answer)
            may_exist = may_exist or body.passes > 0
            failed -= 1
            if failed <= 0:
                raise StoreUnavailable(
                    f"the store did not take the object in {attempts} tries, the last ended with {trouble}",
                    reason="STORE_UNAVAILABLE",
                )
            await asyncio.sleep(backoff.next_delay(answer.retry_after if answer else 0.0))


def _ran_out(target: PresignedRequest) -> bool:
    return target.HasField("expire_time") and target.expire_time.ToDatetime(UTC) <= datetime.now(UTC)


class _Body:
    """The body of one request, counted as it goes.

    aiohttp wraps what a body raises into a connection error and may silently send a body a second time on
    a fresh connection: `fault` keeps the first, `passes` counts the second.
    """

    def __init__(self, source: Source, file: AsyncBufferedReader | None, on_sent: OnSent | None, stall: float) -> None:
        self._source = source
        self._file = file
        self._on_sent = on_sent
        self._stall = stall
        self.limit = asyncio.timeout(None)  # waiting for a free connection is no silence
        self.fault: Exception | None = None
        self.passes = 0
        self.sent_bytes = 0
        self.over = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self.passes += 1
        self.moved()
        self.sent_bytes = 0
        try:
            async for chunk in chunks(self._source, self._file):
                yield chunk
                self.moved()
                self.sent_bytes += len(chunk)
                if self._on_sent is not None:
                    self._on_sent(self.sent_bytes)
        except Exception as error:
            self.fault = error
            raise

    def moved(self) -> None:
        """Gives the request another `stall` seconds."""
        if not self.over and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + self._stall)


async def _sent(session: aiohttp.ClientSession, target: PresignedRequest, body: _Body) -> tuple[Answer | None, str]:
    """Returns the store's answer, or None and what went wrong, in words without the URL."""
    try:
        async with (
            body.limit,
            session.request(
                target.method,
                yarl.URL(target.url, encoded=True),  # decoding it would break the signature
                headers=dict(target.headers),
                data=body,
                allow_redirects=False,
            ) as response,
        ):
            return await read_answer(response), ""
    except TimeoutError:
        return None, "silence"
    except (aiohttp.ClientError, OSError) as error:
        # Its text and its causes hold the URL: only its kind may go on.
        return None, trouble_of(error)
    finally:
        body.over = True  # aiohttp may still be stopping the writer


async def read_answer(response: aiohttp.ClientResponse) -> Answer:
    """Returns what the store says, with its error code when it refuses."""
    if response.status < 300:
        return Answer(response.status)
    start = await response.content.read(ERROR_BODY_BYTES)
    code = _CODE.search(start)
    wait = response.headers.get("Retry-After", "")
    return Answer(
        status=response.status,
        code=code.group(1).decode() if code else "",
        retry_after=min(float(wait), 30.0) if wait.isascii() and wait.isdigit() else 0.0,
    )


def trouble_of(error: Exception) -> str:
    """Returns the kind of a connection error in words that hold no URL."""
    number = getattr(error, "errno", None)
    return f"{type(error).__name__} (errno {number})" if number else type(error).__name__


def _described(answer: Answer) -> str:
    return f"HTTP {answer.status} {answer.code}".rstrip()


def _refusal(answer: Answer) -> StoreRefused:
    if answer.exists:
        return ObjectExists(
            "something is stored in this place already and cannot be overwritten",
            status=answer.status,
            code=answer.code,
            reason="OBJECT_EXISTS",
        )
    return StoreRefused(f"the store refused the object: {_described(answer)}", status=answer.status, code=answer.code)
