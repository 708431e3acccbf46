"""What is going to be stored: bytes in memory or a file, measured and hashed."""

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import aiofiles.os
from aiofiles.threadpool.binary import AsyncBufferedReader

from assetlane.detection import SNIFFED_BYTES
from assetlane.errors import FileChanged

CHUNK_BYTES = 256 * 1024
HASH_BYTES = 1024 * 1024
LARGE_BYTES = 64 * 1024 * 1024  # the server's default for what arrives in parts


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of one object, or of one part of it: in `data`, or in the file at `path`."""

    size_bytes: int
    sha256: bytes  # empty: not hashed
    path: Path | None = None
    data: bytes = b""
    start_bytes: int = 0  # where they begin
    whole_bytes: int = -1  # the length of the file that they are a part of; -1: they are all of it
    modified_ns: int = 0  # when the file was written, if it was not hashed; 0: unknown

    @classmethod
    def of(cls, data: bytes) -> "Source":
        """Returns the source that is `data`."""
        return cls(len(data), hashlib.sha256(data).digest(), data=data)

    def part(self, start_bytes: int, length_bytes: int) -> "Source":
        """Returns what begins there and is at most so long."""
        size_bytes = min(length_bytes, self.size_bytes - start_bytes)
        return replace(self, size_bytes=size_bytes, sha256=b"", start_bytes=start_bytes, whole_bytes=self.size_bytes)

    def hashed(self, sha256: bytes) -> "Source":
        """Returns the same bytes with their SHA-256."""
        return replace(self, sha256=sha256)


async def measured(origin: Path | bytes) -> Source:
    """Returns the source with its size and SHA-256, reading it once, in a thread.

    Of LARGE_BYTES and more only the size: it is going to be hashed part by part, while other parts are sent.
    Raises OSError when it cannot be read.
    """
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_measured, origin, stop)
    finally:
        stop.set()  # a cancelled task must not leave its thread reading gigabytes


async def start_of(origin: Path | bytes) -> bytes:
    """Returns the first SNIFFED_BYTES, fewer of a shorter file.

    Raises OSError when it cannot be read, and for what is no file: a pipe or a device may have no end.
    """
    return origin[:SNIFFED_BYTES] if isinstance(origin, bytes) else await asyncio.to_thread(_start_of, origin)


async def check_unchanged(source: Source) -> None:
    """Raises FileChanged when the file was written to since it was measured."""
    if source.path is not None and source.modified_ns:
        found = await aiofiles.os.stat(source.path)
        _expect(source, found.st_size)
        if found.st_mtime_ns != source.modified_ns:
            raise FileChanged(f"{source.path} was written to while it was being sent", reason="FILE_CHANGED")


async def chunks(source: Source, file: AsyncBufferedReader | None) -> AsyncGenerator[bytes, None]:
    """Yields exactly `size_bytes` bytes in pieces of at most CHUNK_BYTES, from the start each time.

    `file` is `source.path`, open. It is the caller's to close: who drops a half-read generator must not
    leave a file open. Raises FileChanged as soon as the file turns out to have another size.
    """
    if file is None:
        end = source.start_bytes + source.size_bytes
        for start in range(source.start_bytes, end, CHUNK_BYTES):
            yield source.data[start : min(start + CHUNK_BYTES, end)]
        return
    _expect(source, (await aiofiles.os.stat(file.fileno())).st_size)
    await file.seek(source.start_bytes)
    left = source.size_bytes
    while left:
        chunk = await file.read(min(CHUNK_BYTES, left))
        if not chunk:
            _expect(source, source.start_bytes + source.size_bytes - left)
        left -= len(chunk)
        yield chunk
    _expect(source, (await aiofiles.os.stat(file.fileno())).st_size)


def _expect(source: Source, size_bytes: int) -> None:
    promised = source.size_bytes if source.whole_bytes < 0 else source.whole_bytes
    if size_bytes != promised:
        raise FileChanged(
            f"{source.path} changed while it was being sent: {promised} bytes were promised, it has {size_bytes}",
            reason="FILE_CHANGED",
        )


def _start_of(path: Path) -> bytes:
    mode = path.stat().st_mode  # asked before it is opened: opening a pipe waits for somebody who writes to it
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "this is a pipe, a socket or a device, not a file", str(path))
    with path.open("rb") as file:
        return file.read(SNIFFED_BYTES)


def _measured(origin: Path | bytes, stop: threading.Event) -> Source:
    if isinstance(origin, bytes):
        return Source(len(origin), b"", data=origin) if len(origin) >= LARGE_BYTES else Source.of(origin)
    digest = hashlib.sha256()
    size = 0
    with origin.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size >= LARGE_BYTES:
            return Source(found.st_size, b"", path=origin, modified_ns=found.st_mtime_ns)
        while not stop.is_set() and (chunk := file.read(HASH_BYTES)):
            digest.update(chunk)
            size += len(chunk)
    return Source(size, digest.digest(), path=origin)
