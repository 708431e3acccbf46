"""The watch of a partition: what its tokens say, whenever it breaks off."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from tests.uploads.samples import NOW, requested

from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.asset import Asset, StoredObject, asset_of
from assetlane_server.uploads.ports import AssetRecords, ChangeHub, Mailbox
from assetlane_server.uploads.resumption import Position, position_of
from assetlane_server.uploads.watching import AssetNews, AssetWatches, News

PARTITION = "user/7f3a"
MINUTE = timedelta(minutes=1)


def asset(number: int, update_time: datetime = NOW - 60 * MINUTE, revision: int = 1) -> Asset:
    """Returns an asset; a higher number is a newer one."""
    upload = requested()
    stored = [StoredObject(variant.size_bytes, variant.content_type) for variant in upload.variants]
    made = asset_of(upload, stored, NOW - 60 * MINUTE)
    return replace(made, asset_id=f"A{number}", update_time=update_time, revision=revision)


class Scene:
    """A ledger, a hub and a mailbox in one; `changes` are what the mailbox gives, one batch after the other."""

    def __init__(self, *assets: Asset) -> None:
        self.assets = {one.asset_id: one for one in assets}
        self.changes: list[list[Asset]] = []
        self.delivered_until = NOW

    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        """See AssetRecords."""
        ids = [one for one in sorted(self.assets, reverse=True) if not before_id or one < before_id]
        return [self.assets[one] for one in ids if not self.assets[one].is_deleted][:limit]

    async def changed_assets(self, *, partition: str, since: datetime) -> list[Asset]:
        """See AssetRecords."""
        changed = [one for one in self.assets.values() if one.update_time >= since]
        return sorted(changed, key=lambda one: one.update_time)

    @asynccontextmanager
    async def watch_partition(self, partition: str) -> AsyncIterator[Mailbox[Asset]]:
        """See ChangeHub."""
        yield self

    async def next(self, timeout: timedelta) -> Sequence[Asset]:
        """See Mailbox."""
        return self.changes.pop(0) if self.changes else ()

    async def told(self, count: int, token: str = "") -> list[AssetNews]:
        """Returns the first events of a watch."""
        records, hub = cast(AssetRecords, self), cast(ChangeHub, self)  # as much of both as a watch needs
        watches = AssetWatches(assets=records, hub=hub, heartbeat=MINUTE, now=lambda: NOW)
        async with aclosing(watches.watch(PARTITION, token, UNRESTRICTED)) as events:
            return [await anext(events) for _ in range(count)]


def kinds(events: Sequence[AssetNews]) -> list[tuple[News, str]]:
    """Returns what happened to which asset."""
    return [(event.kind, event.asset.asset_id if event.asset else "") for event in events]


def position(event: AssetNews) -> Position:
    """Returns what the token of an event says."""
    return position_of(event.resume_token, PARTITION, NOW)


async def test_a_watch_that_breaks_off_before_synced_goes_on_with_the_rest() -> None:
    """What was told is not told again, but that it was deleted meanwhile; SYNCED ends the listing for good."""
    scene = Scene(*(asset(number) for number in range(5)))
    begun = await scene.told(2)
    assert kinds(begun) == [(News.PRESENT, "A4"), (News.PRESENT, "A3")]
    scene.assets["A4"] = asset(4, NOW, revision=2).deleted(NOW)
    scene.assets["A1"] = asset(1, NOW, revision=2)
    resumed = await scene.told(5, begun[-1].resume_token)
    assert set(kinds(resumed[:2])) == {(News.DELETED, "A4"), (News.REFRESHED, "A1")}
    assert kinds(resumed[2:]) == [(News.PRESENT, "A2"), (News.PRESENT, "A0"), (News.SYNCED, "")]
    assert position(resumed[1]).listed_to == "A3"
    assert position(resumed[-1]).listed_to == ""
    assert kinds(await scene.told(3, resumed[-1].resume_token))[-1] == (News.SYNCED, "")


async def test_changes_that_wait_together_are_told_oldest_first() -> None:
    """Whoever resumes after a change has been told every older one."""
    scene = Scene()
    scene.changes = [[asset(1, NOW), asset(2, NOW - 5 * MINUTE)]]
    events = await scene.told(3)
    assert kinds(events)[1:] == [(News.ADDED, "A2"), (News.ADDED, "A1")]


async def test_a_quiet_watch_keeps_its_token_young() -> None:
    """A heartbeat's token says until when there was nothing to tell; it never goes back."""
    scene = Scene()
    scene.delivered_until = NOW + 5 * MINUTE
    _, heartbeat = await scene.told(2)
    assert position(heartbeat).told_until == NOW + 5 * MINUTE
    scene.delivered_until = NOW - 5 * MINUTE
    _, heartbeat = await scene.told(2)
    assert position(heartbeat).told_until == NOW
