"""A ChangeHub on a real one, with a door into each gap between the steps that begin a watch."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum

from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.ports import ChangeHub, Mailbox, Snapshot
from assetlane_server.uploads.progress import Progress


class Gap(StrEnum):
    """When something happens, as seen from a watch that begins."""

    BEFORE_REGISTERING = "before registering"
    BEFORE_READING = "between registering and reading"
    BEFORE_FOLLOWING = "between reading and following"


class GapHub:
    """Delegates to `hub`, and does `deed` once, in the chosen gap of the first watch that comes to it."""

    def __init__(self, hub: ChangeHub, gap: Gap, deed: Callable[[], Awaitable[object]]) -> None:
        self._hub = hub
        self._gap = gap
        self._deed = deed
        self.is_done = False

    def watch_upload(self, upload_id: str) -> AbstractAsyncContextManager[Mailbox[Snapshot | Progress]]:
        """See ChangeHub."""
        return self._opened(self._hub.watch_upload(upload_id))

    def watch_session(self, session_id: str, uid: str) -> AbstractAsyncContextManager[Mailbox[Snapshot | Progress]]:
        """See ChangeHub."""
        return self._opened(self._hub.watch_session(session_id, uid))

    def watch_partition(self, partition: str) -> AbstractAsyncContextManager[Mailbox[Asset]]:
        """See ChangeHub. No gap is forced there."""
        return self._hub.watch_partition(partition)

    async def read_upload(self, upload_id: str) -> Snapshot | None:
        """See ChangeHub."""
        await self._arrive(Gap.BEFORE_READING)
        snapshot = await self._hub.read_upload(upload_id)
        await self._arrive(Gap.BEFORE_FOLLOWING)
        return snapshot

    async def read_session(self, session_id: str, uid: str) -> list[Snapshot]:
        """See ChangeHub."""
        await self._arrive(Gap.BEFORE_READING)
        snapshots = await self._hub.read_session(session_id, uid)
        await self._arrive(Gap.BEFORE_FOLLOWING)
        return snapshots

    @asynccontextmanager
    async def _opened(
        self, opening: AbstractAsyncContextManager[Mailbox[Snapshot | Progress]]
    ) -> AsyncIterator[Mailbox[Snapshot | Progress]]:
        await self._arrive(Gap.BEFORE_REGISTERING)
        async with opening as mailbox:
            yield mailbox

    async def _arrive(self, gap: Gap) -> None:
        if gap is self._gap and not self.is_done:
            self.is_done = True
            await self._deed()
