"""What is read from an open file, put where it can be measured, hashed and read again."""

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

CHUNK_BYTES = 1024 * 1024
IN_MEMORY_BYTES = 8 * 1024 * 1024


@runtime_checkable
class BinaryFile(Protocol):
    """An open file, a pipe, a framework's uploaded file: whatever gives bytes until there are none."""

    def read(self, size: int, /) -> bytes:
        """Returns at most so many bytes, none at the end."""


Origin = str | os.PathLike[str] | bytes | BinaryFile
"""What is uploaded: the path of a file, bytes, or a file that is open for reading bytes."""


def name_of(origin: Origin) -> str:
    """Returns the name of what is uploaded, without folders. Raises TypeError for what has none."""
    if isinstance(origin, str | os.PathLike):
        return Path(origin).name
    name = getattr(origin, "name", None)  # of a pipe or a temporary file it is a number
    if not isinstance(name, str) or name.startswith("<") or not Path(name).name:
        raise TypeError(f"{'bytes have' if isinstance(origin, bytes) else 'this file has'} no name: give file_path")
    return Path(name).name


@asynccontextmanager
async def readable_again(origin: Origin) -> AsyncIterator[Path | bytes]:
    """Yields what can be read as often as needed: a path or bytes as they are, an open file spooled."""
    if isinstance(origin, bytes):
        yield origin
    elif isinstance(origin, str | os.PathLike):
        yield Path(origin)
    elif not isinstance(origin, BinaryFile):
        raise TypeError(f"upload takes a path, bytes or an open binary file, not {type(origin).__name__}")
    else:
        async with spooled(origin) as content:
            yield content


@asynccontextmanager
async def spooled(file: BinaryFile) -> AsyncIterator[Path | bytes]:
    """Yields all that is left to read: bytes up to IN_MEMORY_BYTES, more in a temporary file that is removed after.

    The size and the hash of an upload are promised before its first byte is sent, so that a pipe has to end first.
    Reads in a thread that ends with the process: a pipe that says nothing holds nobody up. Raises what `read` raises,
    and TypeError for a file that is open for text.
    """
    with tempfile.TemporaryDirectory(prefix="assetlane-") as folder:
        yield await _read_in_thread(file, Path(folder) / "spooled")


async def _read_in_thread(file: BinaryFile, spare: Path) -> Path | bytes:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Path | bytes] = loop.create_future()
    stop = threading.Event()

    def settle(content: Path | bytes | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        elif content is not None:
            outcome.set_result(content)

    def work() -> None:
        content: Path | bytes | None = None
        failure: BaseException | None = None
        try:
            content = _read(file, spare, stop)
        except BaseException as error:
            failure = error
        if not stop.is_set():
            loop.call_soon_threadsafe(settle, content, failure)

    # No thread of a pool: those are waited for, and a read of a silent pipe never ends.
    threading.Thread(target=work, name="assetlane-spool", daemon=True).start()
    try:
        return await outcome
    finally:
        stop.set()


def _read(file: BinaryFile, spare: Path, stop: threading.Event) -> Path | bytes:
    begun = bytearray()
    while not stop.is_set() and len(begun) <= IN_MEMORY_BYTES:
        chunk = _chunk(file)
        if not chunk:
            return bytes(begun)
        begun += chunk
    with spare.open("wb") as copy:
        copy.write(begun)
        while not stop.is_set() and (chunk := _chunk(file)):
            copy.write(chunk)
    return spare


def _chunk(file: BinaryFile) -> bytes:
    chunk: object = file.read(CHUNK_BYTES)
    if not isinstance(chunk, bytes):
        raise TypeError("the file is open for text: open it in binary mode, such as open(name, 'rb')")
    return chunk
