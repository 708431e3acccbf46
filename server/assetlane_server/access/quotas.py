"""How much of the service one owner, or one partition, may have at a time. The decisions are pure.

What is open is counted in MongoDB, for all servers together: a claim is made before an upload is stored and given
back when it ends. Calls a second are counted by each process for itself.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from assetlane_server.model.errors import CallRateExceeded, QuotaExceeded, TooManyBytes, TooManyUploads
from assetlane_server.model.quotas import Account, Balance, Claim, QuotaLimit
from assetlane_server.model.upload import Upload

# How many claims one account holds where only bytes are limited: its document has to stay small.
MOST_UPLOADS = 10_000
# An account that is full is looked at again for claims that nobody gave back, at most this often.
LOOK_INTERVAL = timedelta(seconds=5)
_RETRY_AFTER = timedelta(seconds=5)  # uploads take seconds to minutes


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of every owner and of every partition; None: none."""

    of_uid: QuotaLimit | None = None
    of_partition: QuotaLimit | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to count."""
        return self.of_uid is None and self.of_partition is None

    def of(self, upload: Upload) -> tuple[tuple[str, QuotaLimit], ...]:
        """Returns the accounts that an upload counts in, with their limits: its owner's, and where its asset goes."""
        named = ((f"uid:{upload.uid}", self.of_uid), (f"partition:{upload.asset_partition}", self.of_partition))
        return tuple((subject, quota) for subject, quota in named if quota is not None)


def quota_of(max_uploads: int | None, max_bytes: int | None) -> QuotaLimit | None:
    """Returns what two settings mean, None where neither is set."""
    if max_uploads is None and max_bytes is None:
        return None
    return QuotaLimit(max_uploads or MOST_UPLOADS, max_bytes)


def claim_of(upload: Upload, now: datetime) -> Claim:
    """Returns what an upload takes of its accounts; a repeat of its request takes the same, so it counts once."""
    size_bytes = sum(variant.size_bytes for variant in upload.variants)
    # The size belongs to it: releasing the claim has to know how much it was.
    words = (upload.uid, upload.request_id, str(size_bytes)) if upload.request_id else (upload.upload_id,)
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]
    return Claim(key, size_bytes, (upload.upload_id,), now)


def never_fits(subject: str, claim: Claim, quota: QuotaLimit) -> QuotaExceeded | None:
    """Returns the refusal of what is too large for an empty account; a repeat would not help."""
    if quota.max_bytes is None or claim.size_bytes <= quota.max_bytes:
        return None
    limit = f"open uploads may promise {quota.max_bytes:,} bytes together, this one promises {claim.size_bytes:,}"
    return TooManyBytes(subject, limit, None)


def shortage(balance: Balance, claim: Claim, quota: QuotaLimit) -> QuotaExceeded:
    """Returns the refusal of what a full account has no room for: it names the limit."""
    if balance.open_uploads >= quota.max_uploads:
        limit = f"at most {quota.max_uploads:,} uploads may be open at a time"
        return TooManyUploads(balance.subject, limit, _RETRY_AFTER)
    limit = (
        f"open uploads may promise {quota.max_bytes:,} bytes together, {balance.open_bytes:,} are promised,"
        f" and this one promises {claim.size_bytes:,}"
    )
    return TooManyBytes(balance.subject, limit, _RETRY_AFTER)


def claim_lease(write_timeout: timedelta) -> timedelta:
    """Returns after which time an upload that was claimed for is stored, or never will be: it takes three writes."""
    return timedelta(minutes=1) + 3 * write_timeout


def forfeited(account: Account, uploads: Mapping[str, Upload | None], claimed_before: datetime) -> list[Claim]:
    """Returns the claims that nobody will give back: their uploads have ended, or were not stored in their time."""
    return [claim for claim in account.claims if _is_forfeited(claim, uploads, claimed_before)]


def _is_forfeited(claim: Claim, uploads: Mapping[str, Upload | None], claimed_before: datetime) -> bool:
    stored = [uploads[upload_id] for upload_id in claim.upload_ids if upload_id in uploads]
    if stored:
        # One that this version cannot read may be open.
        return all(upload is not None and upload.status.is_final for upload in stored)
    return claim.time < claimed_before


class CallRate:
    """A token bucket per caller, of one second's calls: so many a second, and as many at once after a pause.

    Keeps one instant per caller, at which its bucket is full again (GCRA, ITU-T I.371), and forgets full ones.
    """

    def __init__(self, calls_per_second: float | None, clock: Callable[[], float]) -> None:
        self._calls_per_second = calls_per_second  # None: only those are counted that have a rate of their own
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._prune_at = 1024

    def take(self, caller: str, calls_per_second: float | None = None) -> None:
        """Counts one call, against a rate of the caller's own if it is given.

        Raises CallRateExceeded, with the time until the next one, if it is one too many.
        """
        rate = calls_per_second or self._calls_per_second
        if rate is None:
            return
        interval_s = 1 / rate
        now = self._clock()
        full_at = max(now, self._full_at.get(caller, now)) + interval_s
        wait_s = full_at - now - max(1.0, interval_s)
        if wait_s > 1e-9:
            limit = f"at most {rate:g} calls a second are answered by one server process"
            raise CallRateExceeded(caller, limit, timedelta(seconds=wait_s))
        self._full_at[caller] = full_at
        if len(self._full_at) > self._prune_at:
            self._full_at = {name: instant for name, instant in self._full_at.items() if instant > now}
            self._prune_at = max(1024, 2 * len(self._full_at))
