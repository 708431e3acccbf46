"""The simulated stores keep the contracts that the real ones keep, as far as their interface goes.

The simulated MongoDB runs all of the ledger's contract tests and all of those of quotas. The simulated object store
runs those that need no bytes, no HTTP and no signature: it has labels in the place of bodies, and a URL of it is an
object that nobody can alter. That signatures break when something is changed is for the real stores to prove.
"""

import inspect
from types import ModuleType
from typing import Any, Final

import pytest
from tests.contracts import test_multipart_store, test_object_store, test_quotas, test_records
from tests.memory.object_store import Answer
from tests.simulation.calm import calm_records, calm_store
from tests.simulation.store import Body, StoreClient

from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.ports.quota_records import QuotaRecords
from assetlane_server.records.mongo import MongoRecords

LEFT_OUT: Final = {
    "it makes no signature that an altered request could break": (
        "a_broken_promise_of_a_part_stores_nothing",
        "a_broken_promise_stores_nothing",
        "a_stored_object_cannot_be_touched_with_its_write_url",
        "headers_that_nobody_signed_are_refused_or_reported",
        "a_read_url_only_reads",
        "a_read_url_reads_no_other_key",
        "a_read_url_works_until_its_instant_and_not_after",
    ),
    "nothing is read through its URLs": (
        "a_key_of_any_letters_goes_all_the_way",
        "a_private_object_is_closed_to_strangers",
        "a_public_object_is_open_to_read_and_closed_to_write",
        "a_url_can_give_another_name",
        "an_object_of_parts_is_served_as_it_was_opened",
        "it_is_served_with_what_was_signed",
        "parts_become_the_promised_object",
        "the_servers_own_processes_have_urls_that_work_from_here",
        "what_is_stored_already_is_not_overwritten",
    ),
    "it has no bytes, and so no checksum of a part and no body that breaks off": (
        "a_body_that_breaks_off_stores_nothing",
        "parts_are_listed_by_number_with_what_proves_them",
    ),
    "its pages of open multipart uploads are shorter": ("open_uploads_are_listed_by_prefix_and_dropped_by_key",),
}


def contract(module: ModuleType) -> dict[str, Any]:
    """Returns the tests of a contract that are run here."""
    left_out = {name for names in LEFT_OUT.values() for name in names}
    subject = module.__name__.rpartition("test_")[2]
    return {
        f"test_{subject}_{name.removeprefix('test_')}": test
        for name, test in vars(module).items()
        if inspect.iscoroutinefunction(test) and name.startswith("test_") and name[5:] not in left_out
    }


globals().update(contract(test_records))
globals().update(contract(test_quotas))
globals().update(contract(test_object_store))
globals().update(contract(test_multipart_store))


class SimCaller:
    """See Caller: it only sends."""

    def __init__(self, store: StoreClient) -> None:
        self._store = store

    async def send(self, request: PresignedRequest, body: bytes = b"") -> Answer:
        """See Caller."""
        assert request.method == "PUT"
        status = self._store._store.put(request, Body(body.decode("latin-1"), len(body), body))
        return Answer(status, {}, b"")


@pytest.fixture
async def records() -> MongoRecords:
    """The ledger on a simulated MongoDB."""
    return calm_records()


@pytest.fixture
async def accounts() -> QuotaRecords:
    """Quotas on a simulated MongoDB."""
    return calm_records().quotas


@pytest.fixture
async def store() -> StoreClient:
    """The simulated object store."""
    return calm_store()


@pytest.fixture
async def http(store: StoreClient) -> SimCaller:
    """A caller that has nothing but URLs."""
    return SimCaller(store)


@pytest.fixture
def key_prefix() -> str:
    """Where a test puts its objects."""
    return "contract/private/"


def test_what_is_left_out_exists() -> None:
    """A test that was renamed runs here too."""
    names = {name[5:] for module in (test_object_store, test_multipart_store) for name in vars(module)}
    assert {name for names in LEFT_OUT.values() for name in names} <= names
