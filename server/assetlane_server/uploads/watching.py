"""The watch of a partition: what is there, then every addition, refresh and deletion."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from assetlane_server.uploads.access import check_may_read
from assetlane_server.uploads.asset import Asset
from assetlane_server.uploads.errors import FieldViolation, InvalidRequest
from assetlane_server.uploads.paths import MAX_PARTITION_BYTES, fault_in_path
from assetlane_server.uploads.ports import VISIBLE_WITHIN, Access, AssetRecords, ChangeHub
from assetlane_server.uploads.resumption import Position, position_of, resume_token

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
    """One event; the token resumes the watch after it."""

    kind: News
    asset: Asset | None
    resume_token: str


class AssetWatches:
    """WatchAssets."""

    def __init__(
        self, *, assets: AssetRecords, hub: ChangeHub, heartbeat: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._assets = assets
        self._hub = hub
        self._heartbeat = heartbeat
        self._now = now

    async def watch(self, partition: str, token: str, access: Access) -> AsyncGenerator[AssetNews]:
        """Yields the assets that are there (with a token: what changed since), SYNCED, then every change.

        A token of before SYNCED goes on with the assets that are there: whatever its holder was told of is
        told when it changes. Never ends by itself. A change is told once per watch; a resumed watch may tell
        what happened shortly before its token again, with the same revision. Raises InvalidRequest,
        PartitionNotFound, ResumeExpired.
        """
        if fault := fault_in_path(partition, MAX_PARTITION_BYTES):
            raise InvalidRequest([FieldViolation("partition", fault)])
        check_may_read(access, partition)
        position = position_of(token, partition, self._now()) if token else Position(self._now())
        story = _Story(partition, position)
        async with self._hub.watch_partition(partition) as mailbox:
            if token:
                for asset in await self._assets.changed_assets(
                    partition=partition, since=position.told_until - VISIBLE_WITHIN
                ):
                    if news := story.told(asset):
                        yield news
            if not token or position.listed_to:
                async with aclosing(self._present(partition, position.listed_to)) as present:
                    async for asset in present:
                        if news := story.listed(asset):
                            yield news
            yield story.synced()
            while True:
                changed = await mailbox.next(self._heartbeat)
                check_may_read(access, partition)  # the right may have been taken away meanwhile
                if not changed:
                    yield story.unchanged_until(mailbox.delivered_until)
                # Oldest first: a token says that everything before it was told.
                for asset in sorted(changed, key=lambda asset: asset.update_time):
                    if news := story.told(asset):
                        yield news
                story.forget_before(self._now() - 2 * VISIBLE_WITHIN)

    async def _present(self, partition: str, before_id: str) -> AsyncGenerator[Asset]:
        while page := await self._assets.list_assets(partition=partition, before_id=before_id, limit=_PAGE):
            for asset in page:
                yield asset
            before_id = page[-1].asset_id


class _Story:
    """What one watcher has been told: as much of it as a change may be told twice for."""

    def __init__(self, partition: str, position: Position) -> None:
        self._partition = partition
        self._position = position
        self._revisions: dict[str, tuple[int, datetime]] = {}

    def listed(self, asset: Asset) -> AssetNews | None:
        """Returns what to tell of an asset of the listing, None if it has been told."""
        if self._knows(asset):
            return None
        if asset.update_time > self._position.told_until - VISIBLE_WITHIN:
            self._remember(asset)  # its last change may still come by
        return self._news(News.PRESENT, asset, listed_to=asset.asset_id)

    def synced(self) -> AssetNews:
        """Returns the mark that the listing has ended."""
        return self._news(News.SYNCED, listed_to="")

    def told(self, asset: Asset) -> AssetNews | None:
        """Returns what to tell of a change, None if that has been told."""
        if self._knows(asset):
            return None
        self._remember(asset)
        kind = News.DELETED if asset.is_deleted else News.ADDED if asset.revision == 1 else News.REFRESHED
        return self._news(kind, asset, told_until=asset.update_time)

    def unchanged_until(self, instant: datetime) -> AssetNews:
        """Returns the sign of life of a watch that has been told everything until then."""
        return self._news(News.HEARTBEAT, told_until=instant)

    def _news(
        self,
        kind: News,
        asset: Asset | None = None,
        *,
        told_until: datetime | None = None,
        listed_to: str | None = None,
    ) -> AssetNews:
        """Moves on, never back, and returns the event with the token of the new position."""
        self._position = Position(
            max(self._position.told_until, told_until or self._position.told_until),
            self._position.listed_to if listed_to is None else listed_to,
        )
        return AssetNews(kind, asset, resume_token(self._partition, self._position))

    def _knows(self, asset: Asset) -> bool:
        return self._revisions.get(asset.asset_id, (0,))[0] >= asset.revision

    def _remember(self, asset: Asset) -> None:
        self._revisions[asset.asset_id] = (asset.revision, asset.update_time)

    def forget_before(self, instant: datetime) -> None:
        """Forgets what can come by no more."""
        if len(self._revisions) > _PRUNE_AT:
            kept = {asset_id: told for asset_id, told in self._revisions.items() if told[1] >= instant}
            self._revisions = kept
