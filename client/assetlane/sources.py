"""What is going to be stored: bytes in memory or a file, measured and hashed."""

import asyncio
import hashlib
import mimetypes
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import aiofiles.os
from aiofiles.threadpool.binary import AsyncBufferedReader

from assetlane.errors import FileChanged, InvalidArgument

CHUNK_BYTES = 256 * 1024
HASH_BYTES = 1024 * 1024

# What the standard library does not know, or knows only where the system has a table.
_CONTENT_TYPES = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".jfif": "image/jpeg",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".webp": "image/webp",
}
_STANDARD_TYPES = mimetypes.MimeTypes()  # not the module's functions: those read the machine's own tables


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of one object: `data`, or the file at `path`."""

    size_bytes: int
    sha256: bytes
    path: Path | None = None
    data: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> "Source":
        """Returns the source that is `data`."""
        return cls(len(data), hashlib.sha256(data).digest(), data=data)


async def measured(origin: Path | bytes) -> Source:
    """Returns the source with its size and SHA-256, reading it once, in a thread.

    Raises InvalidArgument when there is nothing in it, OSError when it cannot be read.
    """
    stop = threading.Event()
    try:
        source = await asyncio.to_thread(_measured, origin, stop)
    finally:
        stop.set()  # a cancelled task must not leave its thread reading gigabytes
    if source.size_bytes == 0:
        name = "the bytes" if isinstance(origin, bytes) else str(origin)
        raise InvalidArgument(f"there is nothing to upload: {name} has no content", reason="EMPTY_FILE")
    return source


async def chunks(source: Source, file: AsyncBufferedReader | None) -> AsyncGenerator[bytes, None]:
    """Yields exactly `size_bytes` bytes in pieces of at most CHUNK_BYTES, from the start each time.

    `file` is `source.path`, open. It is the caller's to close: who drops a half-read generator must not
    leave a file open. Raises FileChanged as soon as the file turns out to have another size.
    """
    if file is None:
        for start in range(0, source.size_bytes, CHUNK_BYTES):
            yield source.data[start : start + CHUNK_BYTES]
        return
    _expect(source, (await aiofiles.os.stat(file.fileno())).st_size)
    await file.seek(0)
    left = source.size_bytes
    while left:
        chunk = await file.read(min(CHUNK_BYTES, left))
        if not chunk:
            _expect(source, source.size_bytes - left)
        left -= len(chunk)
        yield chunk
    _expect(source, (await aiofiles.os.stat(file.fileno())).st_size)


def _expect(source: Source, size_bytes: int) -> None:
    if size_bytes != source.size_bytes:
        raise FileChanged(
            f"{source.path} changed while it was being sent: "
            f"{source.size_bytes} bytes were promised, it has {size_bytes}",
            reason="FILE_CHANGED",
        )


def guessed_content_type(name: str) -> str:
    """Returns the media type that the name's ending tells, the same on every machine."""
    known = _CONTENT_TYPES.get(Path(name).suffix.lower())
    return known or _STANDARD_TYPES.guess_type(name, strict=False)[0] or "application/octet-stream"


def guessed_ending(content_type: str) -> str:
    """Returns the usual ending of names of that type, such as `.jpg`; empty when there is none."""
    known = {mime: ending for ending, mime in reversed(_CONTENT_TYPES.items())}
    known["image/jpeg"] = ".jpg"
    return known.get(content_type) or _STANDARD_TYPES.guess_extension(content_type, strict=False) or ""


def _measured(origin: Path | bytes, stop: threading.Event) -> Source:
    if isinstance(origin, bytes):
        return Source.of(origin)
    digest = hashlib.sha256()
    size = 0
    with origin.open("rb") as file:
        while not stop.is_set() and (chunk := file.read(HASH_BYTES)):
            digest.update(chunk)
            size += len(chunk)
    return Source(size, digest.digest(), path=origin)
