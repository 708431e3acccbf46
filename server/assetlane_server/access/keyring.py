"""The keys as they are right now: read again from time to time, and when a token names one that is not there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp

from assetlane_server.access.keys import KeySet, KeysUnusable
from assetlane_server.model.errors import KeysUnavailable

MAX_BYTES = 1024**2
READ_LIMIT_S = 5.0
# Between two readings that tokens cause: made-up names of keys must not make us ask the issuer each time.
COOLDOWN = timedelta(seconds=10)

_MOST_WARNINGS = 20  # lines about keys that are skipped

_log = logging.getLogger(__name__)

Read = Callable[[], Awaitable[bytes]]


class ReadingFailed(Exception):  # noqa: N818 - it says what happened
    """The keys could not be read; the message says why.

    Reasons: FILE_UNREADABLE, FETCH_FAILED, HTTP_STATUS (`status` has it), TOO_LARGE, NO_ANSWER, and those of
    KeysUnusable.
    """

    def __init__(self, reason: str, message: str, *, status: int = 0) -> None:
        self.reason = reason
        self.status = status
        super().__init__(message)


def file_reading(path: Path) -> Read:
    """Returns what reads the file, off the event loop."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)

    async def reading() -> bytes:
        try:
            return _bounded(await asyncio.to_thread(read))
        except OSError as error:
            fault = f"{path} cannot be read: {error.strerror or type(error).__name__}"
            raise ReadingFailed("FILE_UNREADABLE", fault) from error

    return reading


def url_reading(session: aiohttp.ClientSession, url: str) -> Read:
    """Returns what fetches the URL. Follows no redirect: the operator named the place to trust."""

    async def reading() -> bytes:
        limit = aiohttp.ClientTimeout(total=READ_LIMIT_S)
        try:
            async with session.get(url, allow_redirects=False, timeout=limit) as response:
                if response.status != 200:
                    raise ReadingFailed("HTTP_STATUS", f"{url} answers {response.status}", status=response.status)
                chunks = [chunk async for chunk in _start_of(response.content)]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ReadingFailed("FETCH_FAILED", f"{url} cannot be fetched: {type(error).__name__}") from error
        return _bounded(b"".join(chunks))

    return reading


async def _start_of(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    size_bytes = 0
    async for chunk in content.iter_chunked(65_536):
        size_bytes += len(chunk)
        yield chunk
        if size_bytes > MAX_BYTES:
            return


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ReadingFailed("TOO_LARGE", f"there are more than {MAX_BYTES:,} bytes")
    return content


class Keyring:
    """Holds the newest keys that could be read: what is read and is no good changes nothing."""

    def __init__(
        self,
        read: Read,
        parse: Callable[[bytes], KeySet],
        *,
        interval: timedelta,
        clock: Callable[[], float],
        cooldown: timedelta = COOLDOWN,
    ) -> None:
        self._read = read
        self._parse = parse
        self._interval_s = interval.total_seconds()
        self._clock = clock  # seconds, monotonic
        self._cooldown_s = cooldown.total_seconds()
        self._keys: KeySet | None = None
        self._read_at: float | None = None
        self._reading = asyncio.Lock()
        self.generation = 0
        """Rises whenever the keys change: what older ones have verified counts no more."""

    async def keys(self) -> KeySet:
        """Returns the newest keys. Raises KeysUnavailable when there have never been any."""
        if self._keys is None:
            await self._read_once_more()
        if self._keys is None:
            raise KeysUnavailable
        return self._keys

    async def keys_with_more(self) -> KeySet:
        """Returns the keys after a look for newer ones, unless the last look was a moment ago."""
        await self._read_once_more()
        return await self.keys()

    async def load(self) -> None:
        """Reads the keys. Raises ReadingFailed, and then keeps those it has."""
        try:
            async with asyncio.timeout(2 * READ_LIMIT_S):
                keys = self._parse(await self._read())
        except KeysUnusable as error:
            raise ReadingFailed(error.reason, str(error)) from error
        except TimeoutError as error:
            raise ReadingFailed("NO_ANSWER", f"there was no answer within {2 * READ_LIMIT_S:g} s") from error
        finally:
            self._read_at = self._clock()
        known = self._keys
        if known is None or _names(keys) != _names(known):
            _log.info("tokens are verified with %d %s", len(keys.keys), "key" if len(keys.keys) == 1 else "keys")
            self.generation += 1
        if keys.unusable != (() if known is None else known.unusable):
            for fault in keys.unusable[:_MOST_WARNINGS]:
                skipped = {"event_code": "KEY_SKIPPED", "reason": fault.reason}
                _log.warning("skipped, tokens signed with it are refused: %s", fault, extra=skipped)
            if (more := len(keys.unusable) - _MOST_WARNINGS) > 0:
                not_logged = {"event_code": "KEYS_NOT_LOGGED", "count": more}
                _log.warning("%d more keys are skipped", more, extra=not_logged)
        self._keys = keys

    async def run(self) -> None:
        """Reads the keys again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            async with self._reading:
                await self._try_to_load()

    async def _read_once_more(self) -> None:
        async with self._reading:  # those who wait here find that it was done a moment ago
            if self._read_at is None or self._clock() - self._read_at >= self._cooldown_s:
                await self._try_to_load()

    async def _try_to_load(self) -> None:
        try:
            await self.load()
        except ReadingFailed as error:
            kept = "none yet: no token can be verified" if self._keys is None else "the ones read before stay"
            _log.warning("the keys of tokens could not be read, %s: %s", kept, error)


def _names(keys: KeySet) -> tuple[object, ...]:
    """Returns what two sets differ by. Key objects of the library compare by value."""
    return tuple((key.kid, key.algorithm, key.material) for key in keys.keys)
