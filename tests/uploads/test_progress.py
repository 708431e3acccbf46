"""Reports of progress: how few writes they cost."""

import asyncio
from datetime import timedelta

from tests.uploads.samples import NOW, requested

from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.model.progress import Progress, Stage, progress_of
from assetlane_server.uploads.progress import ProgressReporter

LIMIT_S = 60.0


class Ledger:
    """Takes progress, one at a time, when it is let."""

    def __init__(self) -> None:
        self.written: list[Progress] = []
        self.fails = False
        self.wrote = asyncio.Event()

    async def put_progress(self, progress: Progress) -> None:
        """Keeps it."""
        if self.fails:
            raise LedgerUnavailable
        self.written.append(progress)
        self.wrote.set()


def report(board: ProgressReporter, count: int) -> None:
    """Reports so many bytes of the small cut."""
    board.report(progress_of(requested(), {"small": count}, NOW))


async def test_a_thousand_reports_cost_two_writes_and_the_newest_wins() -> None:
    """The first report is written at once, then the newest one of an interval."""
    ledger = Ledger()
    board = ProgressReporter(ledger, timedelta(milliseconds=20))
    report(board, 0)
    await ledger.wrote.wait()
    ledger.wrote.clear()
    for count in range(1000):
        report(board, count)
    async with asyncio.timeout(LIMIT_S):
        await ledger.wrote.wait()
    assert [progress.sent_bytes["small"] for progress in ledger.written] == [0, 999]
    await board.finish()


async def test_verifying_is_reported_only_to_watchers_of_progress() -> None:
    """An upload that reports nothing costs no write."""
    ledger = Ledger()
    board = ProgressReporter(ledger, timedelta(milliseconds=20))
    board.verifying(requested(), NOW)
    await board.finish()
    assert ledger.written == []
    report(board, 1)
    board.verifying(requested(), NOW)
    async with asyncio.timeout(LIMIT_S):
        await ledger.wrote.wait()
    assert ledger.written[-1].stage is Stage.VERIFYING
    await board.finish()


async def test_a_ledger_that_is_away_does_not_end_reporting() -> None:
    """A report that cannot be written is dropped, and the next one tries again."""
    ledger = Ledger()
    board = ProgressReporter(ledger, timedelta(milliseconds=1))
    ledger.fails = True
    report(board, 1)
    async with asyncio.timeout(LIMIT_S):
        while board._newest:  # noqa: ASYNC110 - until the failed write is forgotten
            await asyncio.sleep(0)
    ledger.fails = False
    report(board, 2)
    async with asyncio.timeout(LIMIT_S):
        await ledger.wrote.wait()
    assert ledger.written[-1].sent_bytes["small"] == 2
    await board.finish()
