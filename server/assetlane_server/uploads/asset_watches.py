"""The watch of a partition: what is there, then every addition, refresh and deletion."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Final

from assetlane_server.model.asset_event import AssetEvent, AssetEventKind
from assetlane_server.model.delivery import VISIBLE_WITHIN
from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.paths import MAX_PARTITION_BYTES, fault_in_path
from assetlane_server.model.resume_token import Position, check_age, position_of, resume_token
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Asset, LedgerTime
from assetlane_server.ports.access import Access
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.ports.change_hub import ChangeHub
from assetlane_server.uploads.access import check_may_read

_PAGE: Final = 200  # assets read at once while a watch catches up
_MOST_REMEMBERED: Final = 4096  # revisions; what changes beyond that between two deliveries may be sent twice


class AssetWatches:
    """WatchAssets."""

    def __init__(self, *, assets: AssetRecords, hub: ChangeHub, signer: TokenSigner, heartbeat: timedelta) -> None:
        self._assets = assets
        self._hub = hub
        self._signer = signer
        self._heartbeat = heartbeat

    async def watch(self, partition: str, token: str, access: Access) -> AsyncGenerator[AssetEvent]:
        """Yields the assets that are there (with a token: what changed since), SYNCED, then every change.

        A token of before SYNCED goes on with the assets that are there: whatever its holder was sent is
        sent again when it changes. Never ends by itself. What it has to catch up on is read page by page, as the caller
        takes it. A change is sent once per watch; a resumed watch may send what happened shortly before its token
        again, with the same revision. Raises InvalidRequest, PartitionNotFound, ResumeExpired.
        """
        if fault := fault_in_path(partition, MAX_PARTITION_BYTES):
            raise InvalidRequest([FieldViolation("partition", fault.message, fault.reason)])
        check_may_read(access, partition)
        resumed = position_of(self._signer, token, partition) if token else None
        async with self._hub.watch_partition(partition) as mailbox:
            if resumed is not None:
                check_age(resumed, mailbox.opened_at)
            events = _Events(self._signer, partition, resumed or Position(mailbox.opened_at))
            if resumed is not None:
                async with aclosing(self._changed(partition, resumed.sent_until)) as changed:
                    async for asset in changed:
                        if news := events.of_change(asset, asset.change_time):
                            yield news
            if resumed is None or resumed.listed_to:
                async with aclosing(self._present(partition, resumed.listed_to if resumed else "")) as present:
                    async for asset in present:
                        if news := events.of_listing(asset):
                            yield news
            yield events.synced()
            while True:
                delivery = await mailbox.next(self._heartbeat)
                check_may_read(access, partition)  # the right may have been taken away meanwhile
                has_sent = False
                for asset in delivery.news:
                    # The position stays: what changed before these may be among those that come after.
                    if news := events.of_change(asset):
                        has_sent = True
                        yield news
                if delivery.missed_since is not None:
                    async with aclosing(self._changed(partition, delivery.missed_since)) as changed:
                        async for asset in changed:
                            if news := events.of_change(asset, asset.change_time):
                                has_sent = True
                                yield news
                events.is_sent_until(delivery.until)
                events.forget_before(delivery.until)
                if not has_sent:
                    yield events.heartbeat()

    async def _changed(self, partition: str, since: LedgerTime) -> AsyncGenerator[Asset]:
        since = LedgerTime(since - VISIBLE_WITHIN)
        after: tuple[LedgerTime, str] | None = None
        while page := await self._assets.changed_assets(partition=partition, since=since, after=after, limit=_PAGE):
            for asset in page:
                yield asset
            last = page[-1]
            if len(page) < _PAGE or last.change_time is None:
                return
            after = last.change_time, last.asset_id

    async def _present(self, partition: str, before_id: str) -> AsyncGenerator[Asset]:
        while page := await self._assets.list_assets(partition=partition, before_id=before_id, limit=_PAGE):
            for asset in page:
                yield asset
            if len(page) < _PAGE:
                return
            before_id = page[-1].asset_id


class _Events:
    """The events of one watch: what was sent lately is not sent again, and each has the token that goes on after it."""

    def __init__(
        self,
        signer: TokenSigner,
        partition: str,
        position: Position,
        most_remembered: int = _MOST_REMEMBERED,
    ) -> None:
        self._most_remembered = most_remembered
        self._signer = signer
        self._partition = partition
        self._position = position
        self._revisions: dict[str, tuple[int, LedgerTime]] = {}  # the latest last

    def of_listing(self, asset: Asset) -> AssetEvent | None:
        """Returns the event of an asset of the listing, None if it was sent."""
        if self._was_sent(asset):
            return None
        if _change_time(asset) > self._position.sent_until - VISIBLE_WITHIN:
            self._remember(asset)  # its last change may still come by
        self._position = Position(self._position.sent_until, asset.asset_id)
        return self._event(AssetEventKind.PRESENT, asset)

    def synced(self) -> AssetEvent:
        """Returns the mark that the listing has ended."""
        self._position = Position(self._position.sent_until)
        return self._event(AssetEventKind.SYNCED)

    def of_change(self, asset: Asset, sent_until: LedgerTime | None = None) -> AssetEvent | None:
        """Returns the event of a change, None if it was sent. Every change until `sent_until` was sent before it."""
        if self._was_sent(asset):
            return None
        self._remember(asset)
        if sent_until is not None:
            self.is_sent_until(sent_until)
        kind = AssetEventKind.ADDED if asset.revision == 1 else AssetEventKind.REFRESHED
        if asset.is_deleted:
            kind = AssetEventKind.DELETED
        return self._event(kind, asset)

    def heartbeat(self) -> AssetEvent:
        """Returns the sign of life of a watch that has nothing else to send."""
        return self._event(AssetEventKind.HEARTBEAT)

    def is_sent_until(self, instant: LedgerTime) -> None:
        """Every change until that instant was sent."""
        if instant > self._position.sent_until:
            self._position = Position(instant, self._position.listed_to)

    def forget_before(self, delivered_until: LedgerTime) -> None:
        """Forgets what cannot come by again: no later delivery has a change from before the end of this one.

        What was sent may be newer than the delivery, where it was read from the ledger: that says nothing of the next.
        """
        bound = delivered_until - 2 * VISIBLE_WITHIN
        while self._revisions:
            oldest = next(iter(self._revisions))
            if self._revisions[oldest][1] >= bound:
                return
            del self._revisions[oldest]

    def _event(self, kind: AssetEventKind, asset: Asset | None = None) -> AssetEvent:
        return AssetEvent(kind, asset, resume_token(self._signer, self._partition, self._position))

    def _was_sent(self, asset: Asset) -> bool:
        return self._revisions.get(asset.asset_id, (0,))[0] >= asset.revision

    def _remember(self, asset: Asset) -> None:
        self._revisions.pop(asset.asset_id, None)
        self._revisions[asset.asset_id] = (asset.revision, _change_time(asset))
        if len(self._revisions) > self._most_remembered:
            del self._revisions[next(iter(self._revisions))]


def _change_time(asset: Asset) -> LedgerTime:
    return asset.change_time or LedgerTime(0)
