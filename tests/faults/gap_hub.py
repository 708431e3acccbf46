"""A ChangeHub on a real one, with a door into each gap between the steps that begin a watch."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum

from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Asset, Upload
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.ports.mailbox import Mailbox


class Gap(StrEnum):
    """When something happens, as seen from a watch that begins."""

    BEFORE_REGISTERING = "before registering"
    BEFORE_READING = "between registering and reading"
    BEFORE_FOLLOWING = "between reading and following"


class GapHub:
    """Delegates to `hub`, and does `action` once, in the chosen gap of the first watch that comes to it."""

    def __init__(self, hub: ChangeHub, gap: Gap, action: Callable[[], Awaitable[object]]) -> None:
        self._hub = hub
        self._gap = gap
        self._action = action
        self.is_done = False

    def watch_upload(self, upload_id: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """See ChangeHub."""
        return self._opened(self._hub.watch_upload(upload_id))

    def watch_session(self, session_id: str, uid: str) -> AbstractAsyncContextManager[Mailbox[Upload | Progress]]:
        """See ChangeHub."""
        return self._opened(self._hub.watch_session(session_id, uid))

    def watch_partition(self, partition: str) -> AbstractAsyncContextManager[Mailbox[Asset]]:
        """See ChangeHub. No gap is forced there."""
        return self._hub.watch_partition(partition)

    async def read_upload(self, upload_id: str) -> Upload | None:
        """See ChangeHub."""
        await self._arrive(Gap.BEFORE_READING)
        upload = await self._hub.read_upload(upload_id)
        await self._arrive(Gap.BEFORE_FOLLOWING)
        return upload

    async def read_session(self, session_id: str, uid: str) -> list[Upload] | None:
        """See ChangeHub."""
        await self._arrive(Gap.BEFORE_READING)
        uploads = await self._hub.read_session(session_id, uid)
        await self._arrive(Gap.BEFORE_FOLLOWING)
        return uploads

    @asynccontextmanager
    async def _opened(
        self, opening: AbstractAsyncContextManager[Mailbox[Upload | Progress]]
    ) -> AsyncIterator[Mailbox[Upload | Progress]]:
        await self._arrive(Gap.BEFORE_REGISTERING)
        async with opening as mailbox:
            yield mailbox

    async def _arrive(self, gap: Gap) -> None:
        if gap is self._gap and not self.is_done:
            self.is_done = True
            await self._action()
