"""`erase`: everything of one owner, on the ledger and the store in memory."""

from datetime import timedelta
from typing import Any

import pytest
from tests.memory.server import SECOND, MemoryServer
from tests.refusals import raises
from tests.uploads.samples import QUARTER

from assetlane_server.access.quota_enforcer import QuotaEnforcer
from assetlane_server.access.quotas import Quotas
from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.errors import InvalidRequest, LedgerUnavailable
from assetlane_server.model.quotas import QuotaLimit
from assetlane_server.model.upload import DELETED_KEPT_FOR, Details, Notice, Status, Upload
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.erasure import Erasure, ErasureReport

DAY = timedelta(days=1)
SAID = Details("a title", "a caption", "#102030", timedelta(seconds=3), {"who": "ann"})


def erasure_of(server: MemoryServer) -> Erasure:
    """Returns an erasure on a server."""
    return Erasure(
        records=server.records,
        accounts=server.records.quotas,
        changes=server.changes,
        store=server.store,
        now=server.now,
    )


async def everything_of(server: MemoryServer, uid: str) -> list[Upload]:
    """Returns one upload in each situation there is."""
    fields: dict[str, Any] = {"uid": uid, "details": SAID, "file_path": "private/secret.txt"}
    pending, _ = await server.request(**fields)
    arrived = await server.uploaded(**fields, notices=(Notice("LEFT_OUT", "my secret.heic"),))
    being_cut = await server.uploaded(**fields, cut_plan=CutPlan())
    assert await server.records.advance_upload(being_cut.uploaded(server.now()))
    completed = await server.completed(**fields)
    deleted = await server.completed(**fields)
    await server.assets.delete_asset(deleted.upload_id, UNRESTRICTED)
    cancelled, (target,) = await server.request(**fields)
    await server.uploads.cancel_upload(cancelled.upload_id, UNRESTRICTED)
    assert await server.put(target) == 200  # through a URL that still lives
    return [pending, arrived, being_cut, completed, deleted, cancelled]


def words_of(server: MemoryServer, uid: str) -> str:
    """Returns all that the ledger says of an owner."""
    return str([upload for upload in server.records.uploads.values() if upload.uid == uid])


async def test_everything_of_an_owner_goes_and_nothing_of_anybody_else() -> None:
    """Words and objects go at once, records once nobody needs them, by the sweeper; other owners keep theirs."""
    server = MemoryServer()
    mine, others = await everything_of(server, "ann"), await everything_of(server, "bob")
    before = words_of(server, "bob"), sorted(server.store.objects)
    report = await erasure_of(server).erase("ann")
    assert (report.uploads_ended, report.assets_deleted, report.records_removed) == (3, 1, 0)
    assert report.records_left == 6
    assert report.left_until == server.now_is + DELETED_KEPT_FOR
    left = words_of(server, "ann")
    assert not [word for word in ("a title", "a caption", "#102030", "who", "secret.heic") if word in left]
    assert not any(server.holds(upload) for upload in mine)
    assert words_of(server, "bob") == before[0]
    assert all(server.holds(upload) for upload in others[1:4])

    await server.sweep_after(QUARTER + timedelta(minutes=1))
    await server.sweep_after(DAY)
    assert "secret" not in words_of(server, "ann")
    assert {upload.asset is not None for upload in server.records.uploads.values() if upload.uid == "ann"} == {True}
    await server.sweep_after(DELETED_KEPT_FOR)
    assert words_of(server, "ann") == "[]"
    again = await erasure_of(server).erase("ann")
    assert again == ErasureReport()


async def test_what_ended_long_ago_goes_at_once() -> None:
    """No URL lives that could write an object, and every watcher has learned of the deletion."""
    server = MemoryServer()
    mine = await everything_of(server, "ann")
    await server.sweep_after(2 * DAY)
    first = await erasure_of(server).erase("ann")
    assert first.records_removed > 0
    server.now_is += DELETED_KEPT_FOR + SECOND  # no server runs meanwhile
    second = await erasure_of(server).erase("ann")
    assert (second.records_left, second.left_until) == (0, None)
    assert first.records_removed + second.records_removed == len(mine)
    assert words_of(server, "ann") == "[]"


async def test_an_erasure_that_was_interrupted_is_finished_by_the_next() -> None:
    """What the first run erased stays erased; the next one does the rest."""
    server = MemoryServer()
    mine = await everything_of(server, "ann")
    find = server.records.find_upload
    calls = 0

    async def fail_at_the_third(upload_id: str) -> Upload | None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise LedgerUnavailable("It is away.")
        return await find(upload_id)

    server.records.find_upload = fail_at_the_third  # type: ignore[method-assign]  # in the middle
    with pytest.raises(ExceptionGroup):
        await erasure_of(server).erase("ann")
    await erasure_of(server).erase("ann")
    assert not any(server.holds(upload) for upload in mine)
    assert "a title" not in words_of(server, "ann")


async def test_an_upload_that_completes_meanwhile_is_erased_too() -> None:
    """The erasure loses the race, looks again, and deletes the asset."""
    server = MemoryServer()
    upload = await server.uploaded(uid="ann")
    advance = server.records.advance_upload
    has_raced = False

    async def complete_first(upload: Upload, *, after_revision: int | None = None) -> bool:
        nonlocal has_raced
        if not has_raced:
            has_raced = True
            await server.completions.complete_upload(upload.upload_id, UNRESTRICTED)
        return await advance(upload, after_revision=after_revision)

    server.records.advance_upload = complete_first  # type: ignore[method-assign]  # at the worst moment
    report = await erasure_of(server).erase("ann")
    assert (report.uploads_ended, report.assets_deleted) == (0, 1)
    stored = await server.stored(upload)
    assert stored is not None
    assert (stored.status, stored.readable_asset) == (Status.COMPLETED, None)


@pytest.mark.parametrize("uid", ["", "a\nb", "a" * 129, "\udcff"])
async def test_a_name_that_no_owner_can_have_erases_nothing(uid: str) -> None:
    """An empty filter of a list lets everything through: an empty name must not."""
    server = MemoryServer()
    upload = await server.completed(uid="ann")
    before = words_of(server, "ann")
    with raises(InvalidRequest, field="uid"):
        await erasure_of(server).erase(uid)
    assert words_of(server, "ann") == before
    assert server.holds(upload)


async def test_what_was_open_counts_no_more() -> None:
    """The owner's account is gone, with claims that nobody would have given back."""
    server = MemoryServer()
    upload_quotas = QuotaEnforcer(
        server.records,
        server.records.quotas,
        Quotas(QuotaLimit(10), QuotaLimit(10)),
        lease=timedelta(minutes=1),
        now=server.now,
    )
    limited = MemoryServer(server.records, server.store, upload_quotas=upload_quotas)
    for _ in range(3):
        await limited.request(uid="ann")
    assert set(server.records.quotas.accounts) == {"uid:ann", "partition:user/ann"}
    await erasure_of(limited).erase("ann")
    assert server.records.quotas.accounts == {}
