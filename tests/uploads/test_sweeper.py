"""The sweeper, when it is stopped in the middle of a batch."""

import asyncio
import gc
import warnings
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from tests.uploads.samples import NOW, requested

from assetlane_server.uploads.sweeper import Sweeper
from assetlane_server.uploads.upload import Upload


class Records:
    """As much of SweepRecords as a sweep begins with; taking an upload never ends."""

    def __init__(self) -> None:
        self.taken = 0

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """See SweepRecords."""
        return [replace(requested(), upload_id=f"U{number}") for number in range(limit)]

    async def assets_to_sweep(self, *, until: datetime, limit: int) -> list[Any]:
        """See SweepRecords."""
        return []

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        self.taken += 1
        await asyncio.Event().wait()
        return True


async def test_a_sweep_that_is_cancelled_leaves_nothing_unawaited() -> None:
    """Most of a batch waits for its turn: it has not begun, and is not to be warned of."""
    records = Records()
    sweeper = Sweeper(
        records=cast(Any, records),
        uploads=cast(Any, None),
        store=cast(Any, None),
        broker=cast(Any, None),
        interval=timedelta(seconds=1),
        now=lambda: NOW,
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sweep = asyncio.create_task(sweeper.sweep())
        async with asyncio.timeout(30):
            while records.taken < 8:  # noqa: ASYNC110 - as many as are settled at the same time
                await asyncio.sleep(0)
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep
        del sweep
        gc.collect()
    assert [str(warning.message) for warning in told] == []
    assert records.taken == 8
