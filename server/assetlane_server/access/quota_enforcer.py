"""Keeps every caller within the quotas: wraps what use cases and servicers call."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from typing_extensions import override

from assetlane_server.access.quotas import (
    LOOK_INTERVAL,
    CallRate,
    Quotas,
    claim_of,
    forfeited,
    never_fits,
    shortage,
)
from assetlane_server.model.errors import CallRateExceeded, LedgerBusy, LedgerUnavailable, QuotaExceeded
from assetlane_server.model.quotas import Balance, Claim, QuotaLimit
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.ports.quota_records import QuotaRecords
from assetlane_server.ports.upload_quotas import UploadQuotas
from assetlane_server.ports.upload_records import UploadRecords

_log = logging.getLogger(__name__)

_BATCH = 100  # accounts looked at in one go
_READ_AT_ONCE = 1000  # uploads


class RatedCallers(Authenticator):
    """Counts each call that another authenticator lets in, and refuses those beyond the caller's rate."""

    def __init__(self, authenticator: Authenticator, rate: CallRate) -> None:
        self._authenticator = authenticator
        self._rate = rate

    @override
    async def access_of(self, authorization: str | None, certificate_names: Sequence[str] = ()) -> Access:
        """Raises CallRateExceeded too."""
        access = await self._authenticator.access_of(authorization, certificate_names)
        if access.caller is not None:
            try:
                self._rate.take(access.caller, access.calls_per_second)
            except CallRateExceeded as refusal:
                refusal.caller_uid = access.uid or access.caller
                raise
        return access


class QuotaEnforcer(UploadQuotas):
    """Stores a new upload when its accounts have room for it, and makes room when one ends.

    The claim comes first, then the upload. What a crash leaves between the two, or between an upload's end and the
    release, is found by `run`, and by every request that finds the account full.
    """

    def __init__(
        self,
        uploads: UploadRecords,
        accounts: QuotaRecords,
        quotas: Quotas,
        *,
        lease: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._accounts = accounts
        self._quotas = quotas
        self._lease = lease
        self._now = now

    @override
    async def insert_upload(self, upload: Upload) -> Upload:
        claim = claim_of(upload, self._now())
        claimed: list[str] = []
        try:
            for subject, quota in self._quotas.of(upload):
                await self._claim(subject, claim, quota)
                claimed.append(subject)
        except QuotaExceeded:
            for subject in claimed:
                # Unless the same request is just being repeated, and rests on it.
                await self._accounts.release(subject, claim, only_as_of=claim.time)
            earlier = await self._uploads.find_requested(upload.uid, upload.request_id) if upload.request_id else None
            if earlier is None:
                raise
            return earlier
        try:
            stored = await self._uploads.insert_upload(upload)
        except LedgerBusy:
            for subject in claimed:
                await self._accounts.release(subject, claim, only_as_of=claim.time)
            raise
        if stored.upload_id != upload.upload_id:
            await self._settle(claimed, claim, stored)
        return stored

    @override
    async def release(self, upload: Upload) -> None:
        try:
            await self._release([subject for subject, _ in self._quotas.of(upload)], claim_of(upload, self._now()))
        except LedgerUnavailable as error:
            # The upload has ended anyway; the clean-up of quotas finds the claim.
            _log.warning("upload %s has ended and still counts: %s", upload.upload_id, error)

    async def run(self, interval: timedelta) -> None:
        """Gives back what nobody gave back, every `interval`, half to one and a half times, until cancelled."""
        while True:
            await asyncio.sleep(interval.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            try:
                while await self.sweep() >= _BATCH:
                    continue
            except LedgerUnavailable as error:
                _log.warning("quotas could not be cleaned up: %s", error)

    async def sweep(self) -> int:
        """Looks at one batch of accounts whose time has come; returns how many. Raises LedgerUnavailable."""
        due = await self._accounts.accounts_to_sweep(until=self._now(), limit=_BATCH)
        for balance in due:
            if balance.open_uploads == 0:
                await self._accounts.close_account(balance.subject)
            elif await self._accounts.reschedule_account(balance, self._now() + self._lease):
                await self._heal(balance.subject)
        return len(due)

    async def _claim(self, subject: str, claim: Claim, quota: QuotaLimit) -> None:
        if refusal := never_fits(subject, claim, quota):
            raise refusal
        sweep_time = claim.time + self._lease
        balance = await self._accounts.claim(subject, claim, quota, sweep_time)
        if balance is not None and await self._may_look(balance) and await self._heal(subject):
            balance = await self._accounts.claim(subject, claim, quota, sweep_time)
        if balance is not None:
            raise shortage(balance, claim, quota)

    async def _may_look(self, balance: Balance) -> bool:
        """Returns whether nobody, on no server, has looked at the account for a while: then it is our turn."""
        now = self._now()
        is_long_ago = balance.sweep_time < now + self._lease - LOOK_INTERVAL
        return is_long_ago and await self._accounts.reschedule_account(balance, now + self._lease)

    async def _heal(self, subject: str) -> bool:
        """Releases the claims that nobody will give back; returns whether there were any."""
        account = await self._accounts.find_account(subject)
        if account is None:
            return False
        upload_ids = [upload_id for claim in account.claims for upload_id in claim.upload_ids]
        uploads: dict[str, Upload | None] = {}
        for start in range(0, len(upload_ids), _READ_AT_ONCE):
            uploads |= await self._uploads.find_uploads(upload_ids[start : start + _READ_AT_ONCE])
        lost = forfeited(account, uploads, self._now() - self._lease)
        for claim in lost:
            # Unless its request is repeated just now, which makes it good again.
            await self._accounts.release(subject, claim, only_as_of=claim.time)
        if lost:
            _log.info("%s: released %d claims that a server had left behind", subject, len(lost))
        return bool(lost)

    async def _settle(self, claimed: Sequence[str], claim: Claim, stored: Upload) -> None:
        """Keeps the claim that the stored upload of an earlier request rests on, and no other."""
        if stored.status.is_final or claim_of(stored, claim.time).key != claim.key:
            await self._release(claimed, claim)
            return
        for subject in claimed:
            await self._accounts.settle_claim(subject, claim_of(stored, claim.time))

    async def _release(self, subjects: Sequence[str], claim: Claim) -> None:
        for subject in subjects:
            await self._accounts.release(subject, claim)
