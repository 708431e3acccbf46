"""Many watchers at once, and the question whether all of them have seen everything."""

import asyncio
from collections.abc import Sequence

from tests.faults.clients import ClientPool
from tests.faults.histories import Histories
from tests.faults.plan import WatcherPlan
from tests.faults.verdict import Verdict
from tests.faults.watchers import Watcher


class PlannedWatchers:
    """The watchers of a plan."""

    def __init__(self, plans: Sequence[WatcherPlan], seed: int) -> None:
        self.watchers = [Watcher(plan, seed) for plan in plans]

    async def watch(self, clients: ClientPool, upload_ids: Sequence["asyncio.Future[str]"]) -> None:
        """Runs every watcher until it ends or is cancelled; that of an upload begins when its id is known."""

        async def watch(watcher: Watcher) -> None:
            number = watcher.plan.upload
            upload_id = "" if number is None else await asyncio.shield(upload_ids[number])
            if watcher.plan.is_thin:
                await watcher.watch_thin(await clients.client(), upload_id)
            else:
                await watcher.watch_bare(await clients.stub(is_narrow=watcher.plan.is_slow), upload_id)

        async with asyncio.TaskGroup() as tasks:
            for watcher in self.watchers:
                tasks.create_task(watch(watcher))

    async def caught_up(self, histories: Histories, limit_s: float) -> None:
        """Returns when every watcher has seen as much as it was owed and heard that nothing else is new.

        Raises TimeoutError.
        """
        waiting = {watcher: histories.owed(watcher.plan) for watcher in self.watchers}
        async with asyncio.timeout(limit_s):
            while waiting := {watcher: owed for watcher, owed in waiting.items() if not watcher.is_content(owed)}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def verdicts(self, histories: Histories) -> dict[WatcherPlan, Verdict]:
        """Judges every record."""
        return {watcher.plan: histories.verdict(watcher.plan, watcher.seen) for watcher in self.watchers}

    def summary(self) -> str:
        """Returns who they are."""
        thin = sum(watcher.plan.is_thin for watcher in self.watchers)
        sessions = sum(watcher.plan.upload is None for watcher in self.watchers)
        slow = sum(watcher.plan.is_slow for watcher in self.watchers)
        pauses = sum(watcher.pauses for watcher in self.watchers)
        return f"{len(self.watchers)}: {sessions} of sessions, {thin} thin, {slow} slow ({pauses} pauses)"

    @property
    def events(self) -> int:
        """How many events they have seen."""
        return sum(len(watcher.seen) for watcher in self.watchers)

    @property
    def reconnects(self) -> int:
        """How often the bare ones lost their connection."""
        return sum(watcher.reconnects for watcher in self.watchers)
