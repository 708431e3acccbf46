"""Open files of every kind are read to their end before an upload begins."""

import asyncio
import io
import os
import threading
from pathlib import Path

import pytest
from tests.refusals import raises

from assetlane.spooling import IN_MEMORY_BYTES, spooled

LIMIT_S = 20.0


async def read(file: object) -> bytes:
    """Returns what is spooled of a file."""
    async with spooled(file) as content:  # type: ignore[arg-type]
        return content if isinstance(content, bytes) else content.read_bytes()


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1, 3 * IN_MEMORY_BYTES])
async def test_all_of_it_is_there(size: int) -> None:
    """A stream of any size is read whole, from where it stands."""
    body = os.urandom(1024) * (size // 1024 + 1)
    file = io.BytesIO(b"before" + body[:size])
    file.seek(6)
    assert await read(file) == body[:size]


async def test_a_large_one_lies_in_a_file_that_goes_away() -> None:
    """What is too large for memory goes to a temporary file, which is removed in the end."""
    async with spooled(io.BytesIO(bytes(IN_MEMORY_BYTES + 1))) as content:
        assert isinstance(content, Path)
        assert content.stat().st_size == IN_MEMORY_BYTES + 1
    assert not content.parent.exists()


async def test_short_reads_are_not_the_end() -> None:
    """A pipe may return fewer bytes than were asked for before its end."""
    ours, theirs = os.pipe()

    def write() -> None:
        for number in range(20):
            os.write(theirs, b"%d" % number)
        os.close(theirs)

    threading.Thread(target=write).start()
    with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123, ASYNC230 - a number, and no disk
        assert await read(pipe) == b"".join(b"%d" % number for number in range(20))


async def test_a_silent_pipe_holds_nobody_up() -> None:
    """Cancelling does not wait for a pipe that sends nothing."""
    ours, theirs = os.pipe()
    with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123, ASYNC230
        reading = asyncio.create_task(read(pipe))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, LIMIT_S)
        os.close(theirs)


async def test_what_reading_raises_is_raised() -> None:
    """A text file raises TypeError, and a file that fails raises its own error."""
    with raises(TypeError, names=["open(name,"]):
        await read(io.StringIO("text"))

    class Broken:
        def read(self, size: int) -> bytes:
            raise fault

    fault = OSError(5, "the disk is gone")
    with pytest.raises(OSError) as raised:  # noqa: PT011 - it is that very error
        await read(Broken())
    assert raised.value is fault
