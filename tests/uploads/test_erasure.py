"""`erase`: everything of one owner, on the ledger and the store in memory."""

from datetime import timedelta
from typing import Any

import pytest
from tests.memory.site import SECOND, Site
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


def erasure_of(site: Site) -> Erasure:
    """Returns an erasure on a site."""
    return Erasure(
        records=site.records, accounts=site.records.quotas, changes=site.changes, store=site.store, now=site.now
    )


async def everything_of(site: Site, uid: str) -> list[Upload]:
    """Returns one upload in each situation there is."""
    fields: dict[str, Any] = {"uid": uid, "details": SAID, "file_path": "private/secret.txt"}
    pending, _ = await site.request(**fields)
    arrived = await site.uploaded(**fields, notices=(Notice("LEFT_OUT", "my secret.heic"),))
    being_cut = await site.uploaded(**fields, cut_plan=CutPlan())
    assert await site.records.advance_upload(being_cut.uploaded(site.now()))
    completed = await site.completed(**fields)
    deleted = await site.completed(**fields)
    await site.assets.delete_asset(deleted.upload_id, UNRESTRICTED)
    cancelled, (target,) = await site.request(**fields)
    await site.uploads.cancel_upload(cancelled.upload_id, UNRESTRICTED)
    assert await site.put(target) == 200  # through a URL that still lives
    return [pending, arrived, being_cut, completed, deleted, cancelled]


def words_of(site: Site, uid: str) -> str:
    """Returns all that the ledger says of an owner."""
    return str([upload for upload in site.records.uploads.values() if upload.uid == uid])


async def test_everything_of_an_owner_goes_and_nothing_of_anybody_else() -> None:
    """What was said and every object at once; records when nobody needs them any more, by the sweeper."""
    site = Site()
    mine, others = await everything_of(site, "ann"), await everything_of(site, "bob")
    before = words_of(site, "bob"), sorted(site.store.objects)
    report = await erasure_of(site).erase("ann")
    assert (report.uploads_ended, report.assets_deleted, report.records_removed) == (3, 1, 0)
    assert report.records_left == 6
    assert report.left_until == site.now_is + DELETED_KEPT_FOR
    left = words_of(site, "ann")
    assert not [word for word in ("a title", "a caption", "#102030", "who", "secret.heic") if word in left]
    assert not any(site.holds(upload) for upload in mine)
    assert words_of(site, "bob") == before[0]
    assert all(site.holds(upload) for upload in others[1:4])

    await site.sweep_after(QUARTER + timedelta(minutes=1))
    await site.sweep_after(DAY)
    assert "secret" not in words_of(site, "ann")
    assert {upload.asset is not None for upload in site.records.uploads.values() if upload.uid == "ann"} == {True}
    await site.sweep_after(DELETED_KEPT_FOR)
    assert words_of(site, "ann") == "[]"
    again = await erasure_of(site).erase("ann")
    assert again == ErasureReport()


async def test_what_ended_long_ago_goes_at_once() -> None:
    """No URL lives that could write an object, and every watcher has learned of the deletion."""
    site = Site()
    mine = await everything_of(site, "ann")
    await site.sweep_after(2 * DAY)
    first = await erasure_of(site).erase("ann")
    assert first.records_removed > 0
    site.now_is += DELETED_KEPT_FOR + SECOND  # no server runs meanwhile
    second = await erasure_of(site).erase("ann")
    assert (second.records_left, second.left_until) == (0, None)
    assert first.records_removed + second.records_removed == len(mine)
    assert words_of(site, "ann") == "[]"


async def test_an_erasure_that_was_interrupted_is_finished_by_the_next() -> None:
    """Whatever was done stays done."""
    site = Site()
    mine = await everything_of(site, "ann")
    find = site.records.find_upload
    calls = 0

    async def fail_at_the_third(upload_id: str) -> Upload | None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise LedgerUnavailable("It is away.")
        return await find(upload_id)

    site.records.find_upload = fail_at_the_third  # type: ignore[method-assign]  # in the middle
    with pytest.raises(ExceptionGroup):
        await erasure_of(site).erase("ann")
    await erasure_of(site).erase("ann")
    assert not any(site.holds(upload) for upload in mine)
    assert "a title" not in words_of(site, "ann")


async def test_an_upload_that_completes_meanwhile_is_erased_too() -> None:
    """The erasure loses the race, looks again, and deletes the asset."""
    site = Site()
    upload = await site.uploaded(uid="ann")
    advance = site.records.advance_upload
    has_raced = False

    async def complete_first(upload: Upload, *, after_revision: int | None = None) -> bool:
        nonlocal has_raced
        if not has_raced:
            has_raced = True
            await site.completions.complete_upload(upload.upload_id, UNRESTRICTED)
        return await advance(upload, after_revision=after_revision)

    site.records.advance_upload = complete_first  # type: ignore[method-assign]  # at the worst moment
    report = await erasure_of(site).erase("ann")
    assert (report.uploads_ended, report.assets_deleted) == (0, 1)
    stored = await site.stored(upload)
    assert stored is not None
    assert (stored.status, stored.readable_asset) == (Status.COMPLETED, None)


@pytest.mark.parametrize("uid", ["", "a\nb", "a" * 129, "\udcff"])
async def test_a_name_that_no_owner_can_have_erases_nothing(uid: str) -> None:
    """An empty filter of a list lets everything through: an empty name must not."""
    site = Site()
    upload = await site.completed(uid="ann")
    before = words_of(site, "ann")
    with raises(InvalidRequest, field="uid"):
        await erasure_of(site).erase(uid)
    assert words_of(site, "ann") == before
    assert site.holds(upload)


async def test_what_was_open_counts_no_more() -> None:
    """The owner's account is gone, with claims that nobody would have given back."""
    site = Site()
    upload_quotas = QuotaEnforcer(
        site.records,
        site.records.quotas,
        Quotas(QuotaLimit(10), QuotaLimit(10)),
        lease=timedelta(minutes=1),
        now=site.now,
    )
    limited = Site(site.records, site.store, upload_quotas=upload_quotas)
    for _ in range(3):
        await limited.request(uid="ann")
    assert set(site.records.quotas.accounts) == {"uid:ann", "partition:user/ann"}
    await erasure_of(limited).erase("ann")
    assert site.records.quotas.accounts == {}
