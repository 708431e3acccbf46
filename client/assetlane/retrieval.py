"""Fetches an object from its read URL into a file: streamed, resumed, checked, all or nothing."""

import asyncio
import errno
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import aiofiles
import aiofiles.os
import aiohttp
import yarl
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from assetlane.backoff import Backoff
from assetlane.digests import digest_for
from assetlane.errors import ContentMismatch, StoreRefused, StoreUnavailable
from assetlane.files import closing
from assetlane.sources import CHUNK_BYTES
from assetlane.transfer import (
    ATTEMPTS,
    CONNECT,
    FIRST_DELAY,
    LONGEST_DELAY,
    STALL,
    Answer,
    read_answer,
    trouble_of,
)

Renew = Callable[[], Awaitable[str]]
"""Returns a freshly signed URL of the same object."""
OnReceived = Callable[[int], None]
"""Called with the number of bytes that have arrived so far."""


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    to: Path,
    *,
    size_bytes: int,
    sha256: bytes = b"",
    part_size_bytes: int = 0,
    renew: Renew | None = None,
    on_received: OnReceived | None = None,
    attempts: int = ATTEMPTS,
    stall: float = STALL,
) -> None:
    """Fetches `url` to `to`, with constant memory; `to` appears complete and checked, or not at all.

    Of a link, what it points to is replaced. A lost connection is resumed where it broke; a refused signature is
    renewed once through `renew`. With `part_size_bytes`, `sha256` is that over the SHA-256s of parts of this size.
    Raises StoreRefused, StoreUnavailable, ContentMismatch (other bytes than `size_bytes` and `sha256` say),
    and OSError when the file cannot be written. No error contains the URL.
    """
    to = await asyncio.to_thread(_replaceable, to)
    part = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
    try:
        async with closing(aiofiles.open(part, "xb")) as file:
            download = _Download(session, _FileSink(file), size_bytes, part_size_bytes, on_received, stall)
            await _repeated(download, url, renew, attempts)
        download.check(sha256)
        await aiofiles.os.replace(part, to)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(to)  # the name that the caller knows
        raise
    finally:
        part.unlink(missing_ok=True)  # one call, and this also runs when the task is cancelled


async def stream(
    session: aiohttp.ClientSession,
    url: str,
    to: BinaryIO,
    *,
    size_bytes: int,
    sha256: bytes = b"",
    part_size_bytes: int = 0,
    renew: Renew | None = None,
    on_received: OnReceived | None = None,
    attempts: int = ATTEMPTS,
    stall: float = STALL,
) -> None:
    """Fetches `url` into an open file, such as a pipe, as `fetch` does; what is written stays when it fails.

    Nothing is written twice: a store that does not resume sends again, and what is there already is left out.
    """
    download = _Download(session, _StreamSink(to), size_bytes, part_size_bytes, on_received, stall)
    await _repeated(download, url, renew, attempts)
    download.check(sha256)


class _Sink(Protocol):
    """Where the bytes of a download go."""

    async def write(self, chunk: bytes, /) -> object:
        """Takes the next bytes."""

    async def restart(self) -> None:
        """Expects all of it again, from the first byte."""


def _replaceable(to: Path) -> Path:
    """Returns the path that a new file may replace: what a link points to, however many links there are."""
    place = to.resolve() if to.is_symlink() else to
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(to))
    return place


class _FileSink:
    """A file of our own, which can be written again."""

    def __init__(self, file: AsyncBufferedIOBase) -> None:
        self._file = file

    async def write(self, chunk: bytes, /) -> None:
        await self._file.write(chunk)

    async def restart(self) -> None:
        await self._file.seek(0)
        await self._file.truncate()


class _StreamSink:
    """A file of the caller's, which may be a pipe: what it has it keeps."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._written = 0
        self._position = 0

    async def write(self, chunk: bytes, /) -> None:
        fresh = chunk[max(0, self._written - self._position) :]
        self._position += len(chunk)
        if fresh:
            await asyncio.to_thread(self._file.write, fresh)
            self._written += len(fresh)

    async def restart(self) -> None:
        self._position = 0


async def _repeated(download: "_Download", url: str, renew: Renew | None, attempts: int) -> None:
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    failed = attempts
    while True:
        before = download.received
        refusal, trouble = await download.attempt(url)
        if refusal is None and not trouble:
            return
        wait = 0.0
        if refusal is not None:
            if refusal.stale and renew is not None:
                url, renew = await renew(), None
                continue
            trouble = f"HTTP {refusal.status} {refusal.code}".rstrip()
            wait = refusal.retry_after
            if not refusal.repeatable:
                raise StoreRefused(
                    f"the store refused to give the object: {trouble}",
                    status=refusal.status,
                    code=refusal.code,
                )
        if download.received > before:
            failed = attempts  # it moves: a long download may be interrupted more often
            backoff.reset()
        failed -= 1
        if failed <= 0:
            raise StoreUnavailable(
                f"the store did not give the object in {attempts} tries, the last ended with {trouble}",
                reason="STORE_UNAVAILABLE",
            )
        await asyncio.sleep(backoff.next_delay(wait))


class _Download:
    """What has come so far: its length and its hash."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sink: _Sink,
        size_bytes: int,
        part_size_bytes: int,
        on_received: OnReceived | None,
        stall: float,
    ) -> None:
        self._session = session
        self._sink = sink
        self._size_bytes = size_bytes
        self._on_received = on_received
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=stall)
        self._part_size_bytes = part_size_bytes
        self.received = 0
        self.digest = digest_for(part_size_bytes)

    def check(self, sha256: bytes) -> None:
        """Raises ContentMismatch when what has come is not all of it, or something else."""
        if self.received != self._size_bytes or (sha256 and self.digest.digest() != sha256):
            raise ContentMismatch(
                f"the store sent {self.received} bytes that are not the {self._size_bytes} of the ledger",
                reason="CONTENT_MISMATCH",
            )

    async def attempt(self, url: str) -> tuple[Answer | None, str]:
        """Fetches what is missing. Returns the store's refusal, or what broke in words, or neither."""
        headers = {"Range": f"bytes={self.received}-"} if self.received else {}
        broken = ""
        try:
            async with self._session.get(
                yarl.URL(url, encoded=True), headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status not in (200, 206):
                    return await read_answer(response), ""
                if self.received and response.status == 200:
                    await self._restart()
                await self._take(response)
        except TimeoutError:
            broken = "silence"
        except aiohttp.ClientError as error:
            broken = trouble_of(error)  # its text holds the URL
        return None, broken

    async def _take(self, response: aiohttp.ClientResponse) -> None:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            self.received += len(chunk)
            if self.received > self._size_bytes:
                raise ContentMismatch(
                    f"the store sends more than the {self._size_bytes} bytes of the ledger",
                    reason="CONTENT_MISMATCH",
                )
            self.digest.update(chunk)
            await self._sink.write(chunk)
            if self._on_received is not None:
                self._on_received(self.received)

    async def _restart(self) -> None:
        """Begins again: this store does not resume."""
        await self._sink.restart()
        self.received = 0
        self.digest = digest_for(self._part_size_bytes)
