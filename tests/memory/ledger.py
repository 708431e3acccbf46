"""The ledger in memory: every port that MongoDB stands behind, for unit tests of what uses them.

It passes `tests/contracts/` as MongoDB does. Values are immutable, so what is stored is what was handed in. Each
operation first gives others a turn, as one that waits for a server does, and then happens at once.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from assetlane_server.model.errors import LedgerUnavailable, UploadNotFound
from assetlane_server.model.progress import Progress
from assetlane_server.model.quotas import Account, Balance, Claim, QuotaLimit
from assetlane_server.model.upload import WORK_LEASE, Asset, LedgerTime, Status, Upload
from assetlane_server.records.changes import Change, RecordChange, SessionKey
from assetlane_server.records.clock import LedgerClock
from assetlane_server.records.documents import RecordUnreadable


class MemoryLedger:
    """UploadRecords, SweepRecords, AssetRecords, ProgressRecords and a hub's ChangeSource.

    `is_readable` and `is_writable` are switches: off, the operations of that kind raise LedgerUnavailable.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, Upload] = {}
        self.progress: dict[str, Progress] = {}
        self.quotas = MemoryQuotas()
        self.clock = LedgerClock()
        self.is_readable = True
        self.is_writable = True
        self.operations = 0
        self._cut_timeouts: Counter[str] = Counter()
        self._feeds: set[MemoryFeed] = set()
        self._time = LedgerTime(int(time.time()) << 32)
        self.clock.learn(self._time)

    @property
    def time(self) -> LedgerTime:
        """The ledger's own time: of the newest change, or later."""
        return self._time

    def pass_time(self, seconds: int) -> None:
        """Lets the ledger's clock go on; a stream that is open hears of it."""
        self._time = LedgerTime(self._time + (seconds << 32))
        for feed in self._feeds:
            feed.put(self._time, None)

    def lose_streams(self) -> None:
        """Ends every open change stream."""
        for feed in self._feeds:
            feed.lose()

    # UploadRecords

    async def insert_upload(self, upload: Upload) -> Upload:
        """See UploadRecords."""
        await self._writing()
        if upload.upload_id in self.uploads:
            return self.uploads[upload.upload_id]
        if upload.request_id and (earlier := self._requested(upload.uid, upload.request_id)):
            return earlier
        self._store(upload, is_status=True, is_asset=upload.asset is not None)
        return upload

    async def advance_upload(self, upload: Upload, *, after_revision: int | None = None) -> bool:
        """See UploadRecords."""
        await self._writing()
        stored = self.uploads.get(upload.upload_id)
        if stored is None or stored.revision != (upload.revision - 1 if after_revision is None else after_revision):
            return False
        changed = replace(
            stored,
            history=upload.history,
            sweep_time=upload.sweep_time,
            targets_signed_at=_later(upload.targets_signed_at, stored.targets_signed_at),
            targets_expire_time=_later(upload.targets_expire_time, stored.targets_expire_time),
            multipart_ids=upload.multipart_ids or stored.multipart_ids,
            failure=upload.failure or stored.failure,
            asset=upload.asset,
        )
        self._store(changed, is_status=True, is_asset=upload.asset is not None)
        return True

    async def renew_targets(self, upload: Upload) -> bool:
        """See UploadRecords."""
        await self._writing()
        stored = self.uploads.get(upload.upload_id)
        if stored is None or stored.revision != upload.revision:
            return False
        signed_at, expire_time = upload.targets_signed_at, upload.targets_expire_time
        if stored.targets_signed_at is None or (signed_at is not None and signed_at >= stored.targets_signed_at):
            known = stored.targets_expire_time
            self.uploads[upload.upload_id] = replace(
                stored,
                targets_signed_at=signed_at,
                targets_expire_time=max(known, expire_time) if known and expire_time else expire_time,
                sweep_time=upload.sweep_time,
            )
        return True

    async def find_upload(self, upload_id: str) -> Upload | None:
        """See UploadRecords."""
        await self._reading()
        return self.uploads.get(upload_id)

    async def find_requested(self, uid: str, request_id: str) -> Upload | None:
        """See UploadRecords."""
        await self._reading()
        return self._requested(uid, request_id)

    async def find_uploads(self, upload_ids: Sequence[str]) -> dict[str, Upload | None]:
        """See UploadRecords."""
        await self._reading()
        return {upload_id: self.uploads[upload_id] for upload_id in upload_ids if upload_id in self.uploads}

    async def list_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], before_id: str, limit: int
    ) -> list[Upload]:
        """See UploadRecords."""
        await self._reading()
        found = [one for one in self._matching(uid, session_id, statuses) if not before_id or one.upload_id < before_id]
        return found[::-1][:limit]

    async def scan_uploads(
        self, *, uid: str, session_id: str, statuses: Sequence[Status], after_id: str, limit: int
    ) -> list[Upload]:
        """See UploadRecords."""
        await self._reading()
        return [one for one in self._matching(uid, session_id, statuses) if one.upload_id > after_id][:limit]

    # SweepRecords

    async def uploads_to_sweep(self, *, until: datetime, limit: int) -> list[Upload]:
        """See SweepRecords."""
        await self._reading()
        due = [(one.sweep_time, one) for one in self.uploads.values() if one.sweep_time and one.sweep_time <= until]
        return [one for _, one in sorted(due, key=lambda entry: entry[0])][:limit]

    async def reschedule_upload(self, upload: Upload, sweep_time: datetime | None, *, is_swept: bool) -> bool:
        """See SweepRecords."""
        await self._writing()
        return self._if_due(upload, lambda stored: replace(stored, sweep_time=sweep_time, is_swept=is_swept))

    async def erase_places(self, upload: Upload, sweep_time: datetime) -> bool:
        """See SweepRecords."""
        await self._writing()
        return self._if_due(upload, lambda stored: replace(stored.without_places(), sweep_time=sweep_time))

    async def count_cut_timeout(self, upload_id: str) -> int:
        """See SweepRecords."""
        await self._writing()
        if upload_id not in self.uploads:
            raise UploadNotFound(upload_id)
        self._cut_timeouts[upload_id] += 1
        return self._cut_timeouts[upload_id]

    async def purge_upload(self, upload: Upload) -> bool:
        """See SweepRecords."""
        await self._writing()
        is_due = self._if_due(upload, lambda stored: stored)
        if is_due:
            del self.uploads[upload.upload_id]
        return is_due

    # AssetRecords

    async def find_assets(self, asset_ids: Sequence[str]) -> dict[str, Asset]:
        """See AssetRecords."""
        await self._reading()
        found = (self.uploads[asset_id].asset for asset_id in asset_ids if asset_id in self.uploads)
        return {asset.asset_id: asset for asset in found if asset is not None}

    async def list_assets(self, *, partition: str, before_id: str, limit: int) -> list[Asset]:
        """See AssetRecords."""
        await self._reading()
        listed = [
            asset
            for asset in self._assets(partition)
            if not asset.is_deleted and (not before_id or asset.asset_id < before_id)
        ]
        return sorted(listed, key=lambda asset: asset.asset_id, reverse=True)[:limit]

    async def advance_asset(self, asset: Asset) -> bool:
        """See AssetRecords."""
        await self._writing()
        stored = self.uploads.get(asset.asset_id)
        if stored is None or stored.asset is None or stored.asset.revision != asset.revision - 1:
            return False
        if asset.delete_time is not None:
            stored = replace(stored.without_words(), sweep_time=asset.delete_time + WORK_LEASE)
        self._store(replace(stored, asset=asset), is_status=False, is_asset=True)
        return True

    async def changed_assets(
        self, *, partition: str, since: LedgerTime, after: tuple[LedgerTime, str] | None, limit: int
    ) -> list[Asset]:
        """See AssetRecords."""
        await self._reading()
        bound = after or (since, "")
        changed = [
            (asset.change_time, asset.asset_id, asset)
            for asset in self._assets(partition)
            if asset.change_time is not None and (asset.change_time, asset.asset_id) > bound
        ]
        return [asset for _, _, asset in sorted(changed, key=lambda entry: entry[:2])][:limit]

    # OwnerRecords

    async def erase_words(self, upload: Upload) -> bool:
        """See OwnerRecords."""
        await self._writing()
        stored = self.uploads.get(upload.upload_id)
        if stored is None or stored.revision != upload.revision:
            return False
        self.uploads[upload.upload_id] = replace(stored.without_words(), kept_for=upload.kept_for)
        return True

    async def unreadable_of(self, uid: str) -> list[str]:
        """See OwnerRecords."""
        await self._reading()
        return []

    async def erase_progress(self, uid: str) -> None:
        """See OwnerRecords."""
        await self._writing()
        self.progress = {one: progress for one, progress in self.progress.items() if progress.uid != uid}

    # ProgressRecords

    async def put_progress(self, progress: Progress) -> None:
        """See ProgressRecords."""
        await self._writing()
        self.progress[progress.upload_id] = progress
        self._publish(progress)

    # ChangeSource

    @asynccontextmanager
    async def changes(self) -> AsyncIterator["MemoryFeed"]:
        """See ChangeSource."""
        await self._reading()
        feed = MemoryFeed(self._time)
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.discard(feed)

    async def read_uploads(self, upload_ids: Sequence[str]) -> list[Upload]:
        """See ChangeSource."""
        await self._reading()
        return [self.uploads[upload_id] for upload_id in sorted(upload_ids) if upload_id in self.uploads]

    async def read_sessions(self, sessions: Sequence[SessionKey], limit: int) -> list[Upload] | None:
        """See ChangeSource."""
        await self._reading()
        wanted = {session_id for session_id, _ in sessions}
        found = [one for one in self._matching("", "", ()) if one.session_id in wanted]
        return None if len(found) > limit else found

    def skip(self, record_id: str, error: RecordUnreadable) -> None:
        """See ChangeSource."""
        raise AssertionError(f"{record_id} cannot be read") from error

    async def _reading(self) -> None:
        await self._operation(is_on=self.is_readable)

    async def _writing(self) -> None:
        await self._operation(is_on=self.is_writable)

    async def _operation(self, *, is_on: bool) -> None:
        self.operations += 1
        await asyncio.sleep(0)
        if not is_on:
            raise LedgerUnavailable("It is switched off.")

    def _requested(self, uid: str, request_id: str) -> Upload | None:
        same = (one for one in self.uploads.values() if (one.uid, one.request_id) == (uid, request_id))
        return next(same, None)

    def _matching(self, uid: str, session_id: str, statuses: Sequence[Status]) -> Iterable[Upload]:
        return [
            upload
            for _, upload in sorted(self.uploads.items())
            if uid in ("", upload.uid)
            and session_id in ("", upload.session_id)
            and (not statuses or upload.status in statuses)
        ]

    def _assets(self, partition: str) -> list[Asset]:
        found = (upload.asset for upload in self.uploads.values())
        return [asset for asset in found if asset is not None and asset.partition == partition]

    def _if_due(self, upload: Upload, change: Callable[[Upload], Upload]) -> bool:
        stored = self.uploads.get(upload.upload_id)
        if stored is None or stored.sweep_time != upload.sweep_time:
            return False
        self.uploads[upload.upload_id] = change(stored)
        return True

    def _store(self, upload: Upload, *, is_status: bool, is_asset: bool) -> None:
        self._time = LedgerTime(self._time + 1)
        if upload.asset is not None and is_asset:
            upload = replace(upload, asset=replace(upload.asset, change_time=self._time))
        self.uploads[upload.upload_id] = upload
        session = (upload.session_id, upload.uid) if is_status else None
        self._publish(RecordChange(upload.upload_id, session, upload.asset_partition if is_asset else None))

    def _publish(self, change: Change) -> None:
        for feed in self._feeds:
            feed.put(self._time, change)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


class MemoryFeed:
    """See ChangeFeed. It never says that there was no change unless the ledger's clock goes on."""

    def __init__(self, instant: LedgerTime) -> None:
        self.time = instant
        self._events: deque[tuple[LedgerTime, Change | None]] = deque()
        self._has_events = asyncio.Event()
        self._is_lost = False

    def put(self, instant: LedgerTime, change: Change | None) -> None:
        """Adds an event."""
        self._events.append((instant, change))
        self._has_events.set()

    def lose(self) -> None:
        """Ends the stream; what was not taken is lost."""
        self._is_lost = True
        self._has_events.set()

    @property
    def is_drained(self) -> bool:
        """See ChangeFeed."""
        return not self._events

    async def next(self) -> Change | None:
        """See ChangeFeed."""
        await asyncio.sleep(0)
        if not self._events and not self._is_lost:
            try:
                async with asyncio.timeout(0.02):
                    await self._has_events.wait()
            except TimeoutError:
                return None
        if self._is_lost:
            raise LedgerUnavailable("The stream is lost.")
        self.time, change = self._events.popleft()
        if not self._events:
            self._has_events.clear()
        return change


class MemoryQuotas:
    """See QuotaRecords."""

    def __init__(self) -> None:
        self.accounts: dict[str, tuple[dict[str, Claim], datetime]] = {}

    async def claim(self, subject: str, claim: Claim, quota: QuotaLimit, sweep_time: datetime) -> Balance | None:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        claims, due = self.accounts.get(subject, ({}, sweep_time))
        if (known := claims.get(claim.key)) is not None:
            ids = (*known.upload_ids, *(one for one in claim.upload_ids if one not in known.upload_ids))
            claims[claim.key] = replace(known, upload_ids=ids, time=claim.time)
            return None
        open_bytes = sum(one.size_bytes for one in claims.values())
        has_bytes = quota.max_bytes is None or open_bytes + claim.size_bytes <= quota.max_bytes
        if len(claims) >= quota.max_uploads or not has_bytes:
            return Balance(subject, len(claims), open_bytes, due)
        claims[claim.key] = claim
        self.accounts[subject] = (claims, min(due, sweep_time))
        return None

    async def settle_claim(self, subject: str, claim: Claim) -> None:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        claims, _ = self.accounts.get(subject, ({}, claim.time))
        if claim.key in claims:
            claims[claim.key] = replace(claims[claim.key], upload_ids=claim.upload_ids)

    async def release(self, subject: str, claim: Claim, *, only_as_of: datetime | None = None) -> bool:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        claims, _ = self.accounts.get(subject, ({}, claim.time))
        known = claims.get(claim.key)
        if known is None or only_as_of not in (None, known.time):
            return False
        del claims[claim.key]
        return True

    async def find_account(self, subject: str) -> Account | None:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        if subject not in self.accounts:
            return None
        return Account(self._balance(subject), tuple(self.accounts[subject][0].values()))

    async def accounts_to_sweep(self, *, until: datetime, limit: int) -> list[Balance]:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        due = (self._balance(subject) for subject in self.accounts)
        waiting = [balance for balance in due if balance.sweep_time <= until]
        return sorted(waiting, key=lambda balance: balance.sweep_time)[:limit]

    async def reschedule_account(self, balance: Balance, sweep_time: datetime) -> bool:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        claims, due = self.accounts.get(balance.subject, ({}, None))
        if due != balance.sweep_time:
            return False
        self.accounts[balance.subject] = (claims, sweep_time)
        return True

    async def close_account(self, subject: str) -> None:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        if subject in self.accounts and not self.accounts[subject][0]:
            del self.accounts[subject]

    async def remove_account(self, subject: str) -> None:
        """See QuotaRecords."""
        await asyncio.sleep(0)
        self.accounts.pop(subject, None)

    def _balance(self, subject: str) -> Balance:
        claims, due = self.accounts[subject]
        return Balance(subject, len(claims), sum(one.size_bytes for one in claims.values()), due)
