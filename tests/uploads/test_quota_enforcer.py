"""Claims of quotas go by the ledger's clock: servers whose own clocks are hours apart judge them alike."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.memory.ledger import MemoryLedger
from tests.uploads.samples import NOW, requested

from assetlane_server.access.quota_enforcer import QuotaEnforcer
from assetlane_server.access.quotas import Quotas
from assetlane_server.model.errors import LedgerUnavailable, QuotaExceeded
from assetlane_server.model.quotas import QuotaLimit
from assetlane_server.model.upload import Upload
from assetlane_server.records.clock import LedgerClock

LEASE = timedelta(seconds=90)
MINUTE_S = 60
QUARTER_S = 15 * MINUTE_S
OWNER = "uid:7f3a"


class Servers:
    """Servers on one ledger. Each has its own wall clock, and has been running for its own time."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self._passed_s = 0.0
        self._clocks: list[LedgerClock] = []

    def start(self, up_for_s: float) -> QuotaEnforcer:
        """Returns the quotas of a server: two uploads of an owner may be open."""
        clock = LedgerClock(self._monotonic(up_for_s))
        clock.learn(self.ledger.time)
        self._clocks.append(clock)
        quotas = Quotas(of_uid=QuotaLimit(2))
        return QuotaEnforcer(self.ledger, self.ledger.quotas, quotas, lease=LEASE, now=clock.utc)

    def _monotonic(self, up_for_s: float) -> Callable[[], float]:
        return lambda: up_for_s + self._passed_s

    def pass_time(self, seconds: int) -> None:
        """Time goes by, for the ledger and every machine."""
        self._passed_s += seconds
        self.ledger.pass_time(seconds)
        for clock in self._clocks:
            clock.learn(self.ledger.time)


def upload(number: int, ahead: timedelta) -> Upload:
    """Returns an upload that a server whose wall clock is so much ahead has accepted."""
    return replace(requested(request_id=f"r-{number}"), upload_id=f"upload-{number}", create_time=NOW + ahead)


async def open_uploads(servers: Servers) -> int:
    """Returns how many uploads the owner is charged for."""
    account = await servers.ledger.quotas.find_account(OWNER)
    return 0 if account is None else account.balance.open_uploads


@pytest.fixture
def servers() -> Servers:
    """An empty ledger."""
    return Servers()


@pytest.mark.parametrize("ahead_h", [-30, -1, 0, 1, 30])
async def test_a_claim_that_was_just_made_is_kept_whatever_the_clock_of_its_server_says(
    servers: Servers, ahead_h: int
) -> None:
    """Another server that finds the account full, or due, does not take it for one that was left behind."""
    here, there = servers.start(5.0), servers.start(1e6)
    first = upload(0, timedelta(0))
    await here.insert_upload(first)
    servers.pass_time(2 * MINUTE_S)  # the account is due
    servers.ledger.is_writable = False
    with pytest.raises(LedgerUnavailable):
        await here.insert_upload(upload(1, timedelta(hours=ahead_h)))  # claimed; whether it is stored is not known
    servers.ledger.is_writable = True
    with pytest.raises(QuotaExceeded):
        await there.insert_upload(upload(2, timedelta(hours=-ahead_h)))
    await there.sweep()
    assert await open_uploads(servers) == 2


@pytest.mark.parametrize("ahead_h", [-30, -1, 0, 1, 30])
async def test_a_claim_that_was_left_behind_is_given_back_after_its_lease(servers: Servers, ahead_h: int) -> None:
    """The clock of the server that made it was ahead: its lease counts all the same, no less and not hours more."""
    here, there = servers.start(1e6), servers.start(5.0)
    servers.ledger.is_writable = False
    for number in range(2):
        with pytest.raises(LedgerUnavailable):
            await here.insert_upload(upload(number, timedelta(hours=ahead_h)))
    servers.ledger.is_writable = True
    servers.pass_time(MINUTE_S)
    assert await there.sweep() == 0
    assert await open_uploads(servers) == 2
    servers.pass_time(MINUTE_S)
    assert await there.sweep() == 1
    assert await open_uploads(servers) == 0
    await there.insert_upload(upload(2, timedelta(0)))
    servers.pass_time(QUARTER_S)
    await here.sweep()
    assert await open_uploads(servers) == 1, "its upload is stored: it stays, however old it is"
