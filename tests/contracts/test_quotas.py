"""The contract of QuotaRecords: sums that are exact whatever is asked at the same time, on every adapter."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.records.ledgers import opened
from tests.uploads.samples import NOW

from assetlane_server.local import StackAddress
from assetlane_server.model.quotas import Balance, Claim, QuotaLimit
from assetlane_server.ports.quota_records import QuotaRecords

LATER = NOW + timedelta(minutes=10)
ANN = "uid:ann.$ö/" + "x" * 200
ROOMY = QuotaLimit(1000)


def claim(number: int, size_bytes: int = 1) -> Claim:
    """Returns one claim of its own."""
    return Claim(f"{number:024x}", size_bytes, (f"upload-{number}",), NOW)


@pytest.fixture(params=["MongoDB, ordered pages", "memory"])
async def accounts(
    request: pytest.FixtureRequest, stack: StackAddress, database_name: str
) -> AsyncIterator[QuotaRecords]:
    """Each adapter there is, open and empty."""
    async with opened(request.param, stack, database_name) as ledger:
        yield ledger.quotas


async def test_of_sixteen_claims_at_once_as_many_are_made_as_fit(accounts: QuotaRecords) -> None:
    """The rest get the balance, and the account holds exactly those that were made."""
    claims = [claim(number) for number in range(16)]
    outcomes = await asyncio.gather(*(accounts.claim(ANN, one, QuotaLimit(5), LATER) for one in claims))
    assert [balance for balance in outcomes if balance is not None] == [Balance(ANN, 5, 5, LATER)] * 11
    account = await accounts.find_account(ANN)
    assert account is not None
    assert account.balance == Balance(ANN, 5, 5, LATER)
    made = [one for one, balance in zip(claims, outcomes, strict=True) if balance is None]
    assert sorted(account.claims, key=lambda one: one.key) == made


async def test_bytes_are_counted_too(accounts: QuotaRecords) -> None:
    """To the last one, beyond 32 bits."""
    quota = QuotaLimit(1000, 10 * 2**40)
    assert await accounts.claim(ANN, claim(1, 9 * 2**40), quota, LATER) is None
    assert await accounts.claim(ANN, claim(2, 2**40 + 1), quota, LATER) == Balance(ANN, 1, 9 * 2**40, LATER)
    assert await accounts.claim(ANN, claim(3, 2**40), quota, LATER) is None
    assert await accounts.claim(ANN, claim(4, 0), quota, LATER) is None


async def test_a_repeated_claim_counts_once_also_in_a_full_account(accounts: QuotaRecords) -> None:
    """It keeps every id that may be stored, and the time of the newest repeat."""
    again = replace(claim(1), upload_ids=("upload-2",), time=NOW + timedelta(seconds=1))
    assert await accounts.claim(ANN, claim(1), QuotaLimit(1), LATER) is None
    for _ in range(2):
        assert await accounts.claim(ANN, again, QuotaLimit(1), LATER) is None
    account = await accounts.find_account(ANN)
    assert account is not None
    assert account.balance == Balance(ANN, 1, 1, LATER)
    assert account.claims == (replace(again, upload_ids=("upload-1", "upload-2")),)
    await accounts.settle_claim(ANN, again)
    await accounts.settle_claim(ANN, claim(2))
    account = await accounts.find_account(ANN)
    assert account is not None
    assert account.claims == (again,)


async def test_of_sixteen_releases_of_one_claim_one_counts(accounts: QuotaRecords) -> None:
    """A release of what is not there changes nothing; then there is room again."""
    assert await accounts.claim(ANN, claim(1, 7), QuotaLimit(2), LATER) is None
    assert await accounts.claim(ANN, claim(2, 5), QuotaLimit(2), LATER) is None
    released = await asyncio.gather(*(accounts.release(ANN, claim(1, 7)) for _ in range(16)))
    assert released.count(True) == 1
    assert not await accounts.release("uid:nobody", claim(1, 7))
    account = await accounts.find_account(ANN)
    assert account is not None
    assert account.balance == Balance(ANN, 1, 5, LATER)
    assert await accounts.claim(ANN, claim(1, 7), QuotaLimit(2), LATER) is None


async def test_a_claim_that_was_repeated_is_not_released_as_of_before(accounts: QuotaRecords) -> None:
    """A clean-up loses against a claim that goes on."""
    newer = replace(claim(1), time=NOW + timedelta(seconds=1))
    assert await accounts.claim(ANN, claim(1), ROOMY, LATER) is None
    assert await accounts.claim(ANN, newer, ROOMY, LATER) is None
    assert not await accounts.release(ANN, claim(1), only_as_of=NOW)
    assert await accounts.release(ANN, claim(1), only_as_of=newer.time)


async def test_an_account_comes_up_when_its_time_has_come_and_is_taken_once(accounts: QuotaRecords) -> None:
    """The earliest time counts; a later claim does not put it off."""
    assert await accounts.claim(ANN, claim(1), ROOMY, LATER) is None
    assert await accounts.claim(ANN, claim(2), ROOMY, LATER + timedelta(minutes=5)) is None
    assert await accounts.accounts_to_sweep(until=LATER - timedelta(seconds=1), limit=10) == []
    (due,) = await accounts.accounts_to_sweep(until=LATER, limit=10)
    assert due == Balance(ANN, 2, 2, LATER)
    later = LATER + timedelta(minutes=10)
    taken = await asyncio.gather(*(accounts.reschedule_account(due, later) for _ in range(8)))
    assert taken.count(True) == 1
    assert await accounts.accounts_to_sweep(until=LATER, limit=10) == []


async def test_an_account_is_removed_with_all_that_is_open_in_it(accounts: QuotaRecords) -> None:
    """Others stay; one that is not there is no error, and a removed one opens again empty."""
    for subject in (ANN, "uid:bob"):
        for number in range(3):
            assert await accounts.claim(subject, claim(number), ROOMY, LATER) is None
    for _ in range(2):
        await accounts.remove_account(ANN)
        assert await accounts.find_account(ANN) is None
    bob = await accounts.find_account("uid:bob")
    assert bob is not None
    assert bob.balance == Balance("uid:bob", 3, 3, LATER)
    assert not await accounts.release(ANN, claim(1))
    assert await accounts.claim(ANN, claim(1), QuotaLimit(1), LATER) is None


async def test_only_an_empty_account_is_closed(accounts: QuotaRecords) -> None:
    """And one that was closed opens again with the next claim."""
    assert await accounts.claim(ANN, claim(1), ROOMY, LATER) is None
    await accounts.close_account(ANN)
    assert await accounts.find_account(ANN) is not None
    await accounts.release(ANN, claim(1))
    await accounts.close_account(ANN)
    assert await accounts.find_account(ANN) is None
    assert await accounts.claim(ANN, claim(1), QuotaLimit(1), LATER) is None
