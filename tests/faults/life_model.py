"""The life of uploads and assets, by the server's state table. Pure: no store, no clock but the instant it is given."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from assetlane_server.model.state_table import NEXT, Status
from assetlane_server.model.upload import DELETED_KEPT_FOR, LONGEST_PUT, SWEEP_MARGIN, WORK_LEASE


class Ledger(StrEnum):
    """What the ledger says of an asset."""

    NOTHING = "nothing"
    THERE = "there"
    DELETED = "deleted"


class Stored(StrEnum):
    """What is in the bucket."""

    NOTHING = "nothing"
    PROMISED = "the promised bytes"
    OTHER = "other bytes"


@dataclass
class Life:
    """One upload, its asset and its object."""

    deadline: datetime
    targets_end: datetime
    kept_for: timedelta
    status: Status = Status.INITIALIZED
    ended: datetime | None = None
    ledger: Ledger = Ledger.NOTHING
    asset_sweep: datetime | None = None
    """When the sweeper deletes the object of a deleted asset again."""
    deleted: datetime | None = None
    is_erased: bool = False
    """Where a deleted asset was filed is forgotten."""
    refreshed: datetime | None = None
    stored: Stored = Stored.NOTHING
    has_record: bool = True
    uploaded: datetime | None = None
    """Since when it is UPLOADED with nobody at work."""

    def renew(self, now: datetime, lifetime: timedelta) -> None:
        """RequestUpload again."""
        if self.status == "INITIALIZED":
            self.targets_end = max(self.targets_end, min(now + lifetime, self.deadline))

    def _move(self, *path: Status) -> None:
        """Takes on these statuses, one after the other, but for the one that it has."""
        for status in path:
            if status is not self.status:
                assert status in NEXT[self.status], f"{self.status} cannot become {status}"
                self.status = status

    def may_put(self, now: datetime) -> bool:
        """Whether its newest write URL still lives."""
        return now < self.targets_end

    def put(self) -> int:
        """A PUT through a living URL; returns the HTTP status."""
        if self.stored is not Stored.NOTHING:
            return 412
        self.stored = Stored.PROMISED
        return 200

    def complete(self, now: datetime) -> str:
        """CompleteUpload; returns the status that it answers, or the reason of its refusal."""
        if not self.has_record:
            return "UPLOAD_NOT_FOUND"
        if self.status in ("CANCELLED", "EXPIRED"):
            return f"UPLOAD_{self.status}"
        if self.status == "INITIALIZED" and self.stored is Stored.NOTHING:
            return "VARIANTS_MISSING"
        if self.status in ("INITIALIZED", "UPLOADED"):
            if self.stored is Stored.PROMISED:
                self._move(Status.UPLOADED, Status.COMPLETED)
                self.ledger, self.refreshed = Ledger.THERE, now
            else:
                self._move(Status.UPLOADED, Status.FAILED)
                self.stored = Stored.NOTHING
            self.ended = now
        return self.status

    def cancel(self, now: datetime) -> str:
        """CancelUpload; answers like `complete`."""
        if not self.has_record:
            return "UPLOAD_NOT_FOUND"
        if self.status is not Status.CANCELLED and Status.CANCELLED not in NEXT.get(self.status, ()):
            return f"UPLOAD_{self.status}"
        if self.status == "INITIALIZED":
            self._move(Status.CANCELLED)
            self.ended = now
        self.stored = Stored.NOTHING
        return self.status

    def refresh(self, now: datetime) -> str:
        """RefreshAsset; answers the instant of the read URLs, or a reason."""
        if self.ledger is not Ledger.THERE:
            return "ASSET_NOT_FOUND"
        self.refreshed = now
        return now.isoformat()

    def delete(self, now: datetime) -> str:
        """DeleteAsset; answers empty, or a reason."""
        if self.ledger is Ledger.NOTHING:
            return "ASSET_NOT_FOUND"
        if self.ledger is Ledger.THERE:
            self.ledger, self.deleted, self.asset_sweep = Ledger.DELETED, now, now + WORK_LEASE
        self.stored = Stored.NOTHING
        return ""

    def die_uploaded(self, now: datetime) -> None:
        """A server died in CompleteUpload after it had written UPLOADED."""
        self._move(Status.UPLOADED)
        self.uploaded = now

    def settle(self, now: datetime) -> None:
        """The sweepers have done all that had come up by now."""
        if self.status == "UPLOADED" and self.uploaded is not None and now >= self.uploaded + WORK_LEASE:
            self.complete(now)
        if self.status == "INITIALIZED" and now >= self.targets_end + SWEEP_MARGIN:
            if self.stored is not Stored.NOTHING:
                self.complete(now)
            elif now >= self.deadline + SWEEP_MARGIN:
                self._move(Status.EXPIRED)
                self.ended = now
        if self.has_record and self.ended is not None and self.status != "COMPLETED":
            if now >= max(self.ended, self.targets_end) + SWEEP_MARGIN:
                self.stored = Stored.NOTHING
            self.has_record = now < self.ended + self.kept_for
        if self.asset_sweep is not None and now >= self.asset_sweep:
            self.stored = Stored.NOTHING
            looks = [self.targets_end + wait for wait in (SWEEP_MARGIN, LONGEST_PUT)]
            self.asset_sweep = next((look for look in looks if now < look), None)
            self.is_erased = self.asset_sweep is None
        if self.is_erased and self.deleted is not None:
            self.has_record = now < max(self.deleted + DELETED_KEPT_FOR, self.targets_end + LONGEST_PUT)
            self.ledger = self.ledger if self.has_record else Ledger.NOTHING
