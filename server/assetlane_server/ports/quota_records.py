"""The port of the accounts that quotas are counted in."""

from datetime import datetime
from typing import Protocol

from assetlane_server.model.quotas import Account, Balance, Claim, QuotaLimit


class QuotaRecords(Protocol):
    """What is open, counted across all servers; durable as UploadRecords. Each method is one atomic change."""

    async def claim(self, subject: str, claim: Claim, quota: QuotaLimit, sweep_time: datetime) -> Balance | None:
        """Adds a claim if the account stays within its quota, which one alone does; else returns its balance.

        A key that is in the account already counts once: its claim takes on the ids and the time, also in an
        account that is full. `sweep_time` is stored if the account's own is later or unset.
        """
        ...

    async def settle_claim(self, subject: str, claim: Claim) -> None:
        """Replaces the ids of the claim with this key; of one that is not there nothing."""
        ...

    async def release(self, subject: str, claim: Claim, *, only_as_of: datetime | None = None) -> bool:
        """Takes the claim with this key away, given an instant only if its time is still that one.

        Returns whether it did. One that is not there stays away.
        """
        ...

    async def find_account(self, subject: str) -> Account | None:
        """Returns the account as of the last durable write."""
        ...

    async def accounts_to_sweep(self, *, until: datetime, limit: int) -> list[Balance]:
        """Returns accounts whose `sweep_time` has come, the longest waiting first."""
        ...

    async def reschedule_account(self, balance: Balance, sweep_time: datetime) -> bool:
        """Stores `sweep_time` if the stored one is still the balance's; returns whether it did."""
        ...

    async def close_account(self, subject: str) -> None:
        """Removes the account if nothing is open in it."""
        ...

    async def remove_account(self, subject: str) -> None:
        """Removes the account with all its claims."""
        ...
