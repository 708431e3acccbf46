"""Files that are opened in a thread while the task that wanted them is cancelled."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import aiofiles
import pytest

from assetlane.files import closing

LONG = 20.0


class SlowOpener:
    """Opens a file in a thread once the test lets it."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.released = threading.Event()
        self.descriptor = -1

    def __call__(self, path: str, flags: int) -> int:
        """Opens `path` as `os.open` does, once `released` is set."""
        self.started.set()
        assert self.released.wait(LONG)
        self.descriptor = os.open(path, flags)
        return self.descriptor


async def test_a_file_that_opens_after_its_task_was_cancelled_is_closed(tmp_path: Path) -> None:
    """The task ends once the file is closed, so that what it removes then does not come back."""
    path, opener = tmp_path / "film.bin", SlowOpener()

    async def use() -> None:
        try:
            async with closing(aiofiles.open(path, "xb", opener=opener)):
                pytest.fail("the task was cancelled before the file was open")
        finally:
            path.unlink()

    task = asyncio.create_task(use())
    assert await asyncio.to_thread(opener.started.wait, LONG)
    task.cancel()
    await asyncio.sleep(0)
    opener.released.set()
    async with asyncio.timeout(LONG):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert opener.descriptor >= 0
    with pytest.raises(OSError) as closed:  # noqa: PT011 - errno says which
        os.fstat(opener.descriptor)
    assert closed.value.errno == errno.EBADF
    assert not path.exists()


async def test_a_file_that_cannot_be_opened_is_reported_once(tmp_path: Path) -> None:
    """The caller gets what `aiofiles.open` raised, with the file's name."""
    with pytest.raises(FileNotFoundError) as refused:
        async with closing(aiofiles.open(tmp_path / "gone.bin", "rb")):
            pytest.fail("there is no such file")
    assert refused.value.filename == str(tmp_path / "gone.bin")
