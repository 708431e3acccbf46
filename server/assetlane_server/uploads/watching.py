"""The watch of a partition: what is there, then every addition, refresh and deletion."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.errors import FieldViolation, InvalidRequest
from assetlane_server.uploads.paths import MAX_PARTITION_BYTES, fault_in_path
from assetlane_server.uploads.ports import VISIBLE_WITHIN, AssetRecords, ChangeHub
from assetlane_server.uploads.resumption import resume_token, told_until

_PAGE = 500  # assets read at once while a watch begins
_PRUNE_AT = 1000  # remembered revisions that are worth a look at their age


class News(StrEnum):
    """What a watcher of a partition is told."""

    PRESENT = "PRESENT"
    ADDED = "ADDED"
    REFRESHED = "REFRESHED"
    DELETED = "DELETED"
    SYNCED = "SYNCED"
    HEARTBEAT = "HEARTBEAT"


@dataclass(frozen=True, slots=True)
class AssetNews:
    """One event; the token (empty before SYNCED) resumes the watch after it."""

    kind: News
    asset: Asset | None = None
    resume_token: str = ""


class AssetWatches:
    """WatchAssets."""

    def __init__(
        self, *, assets: AssetRecords, hub: ChangeHub, heartbeat: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._assets = assets
        self._hub = hub
        self._heartbeat = heartbeat
        self._now = now

    async def watch(self, partition: str, token: str) -> AsyncGenerator[AssetNews]:
        """Yields the assets that are there (with a token: what changed since), SYNCED, then every change.

        Never ends by itself. A change is told once per watch; a resumed watch may tell what happened shortly
        before its token again, with the same revision. Raises InvalidRequest, ResumeExpired.
        """
        if fault := fault_in_path(partition, MAX_PARTITION_BYTES):
            raise InvalidRequest([FieldViolation("partition", fault)])
        story = _Story(partition, told_until(token, partition, self._now()) if token else self._now())
        async with self._hub.watch_partition(partition) as mailbox:
            if token:
                for asset in await self._assets.changed_assets(
                    partition=partition, since=story.told_until - VISIBLE_WITHIN
                ):
                    if news := story.told(asset):
                        yield news
            else:
                async with aclosing(self._present(partition)) as present:
                    async for asset in present:
                        story.listed(asset)
                        yield AssetNews(News.PRESENT, asset)
            yield AssetNews(News.SYNCED, None, story.token())
            while True:
                changed = await mailbox.next(self._heartbeat)
                if not changed:
                    yield AssetNews(News.HEARTBEAT, None, story.token())
                for asset in changed:
                    if news := story.told(asset):
                        yield news
                story.forget_before(self._now() - 2 * VISIBLE_WITHIN)

    async def _present(self, partition: str) -> AsyncGenerator[Asset]:
        before_id = ""
        while page := await self._assets.list_assets(partition=partition, before_id=before_id, limit=_PAGE):
            for asset in page:
                yield asset
            before_id = page[-1].asset_id


class _Story:
    """What one watcher has been told: as much of it as a change may be told twice for."""

    def __init__(self, partition: str, told_until: datetime) -> None:
        self.told_until = told_until
        self._partition = partition
        self._revisions: dict[str, tuple[int, datetime]] = {}

    def token(self) -> str:
        """Returns the token that goes on from here."""
        return resume_token(self._partition, self.told_until)

    def listed(self, asset: Asset) -> None:
        """Remembers an asset of the listing whose last change may still come by."""
        if asset.update_time > self.told_until - VISIBLE_WITHIN:
            self._revisions[asset.asset_id] = (asset.revision, asset.update_time)

    def told(self, asset: Asset) -> AssetNews | None:
        """Returns what to tell of an asset, None if that has been told."""
        if self._revisions.get(asset.asset_id, (0,))[0] >= asset.revision:
            return None
        self._revisions[asset.asset_id] = (asset.revision, asset.update_time)
        self.told_until = max(self.told_until, asset.update_time)
        kind = News.DELETED if asset.is_deleted else News.ADDED if asset.revision == 1 else News.REFRESHED
        return AssetNews(kind, asset, self.token())

    def forget_before(self, instant: datetime) -> None:
        """Forgets what can come by no more."""
        if len(self._revisions) > _PRUNE_AT:
            kept = {asset_id: told for asset_id, told in self._revisions.items() if told[1] >= instant}
            self._revisions = kept
