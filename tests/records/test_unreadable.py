"""A record that this version cannot read stops nothing: it is skipped, logged once and counted each time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.log_events import logged
from tests.records.hubs import LIMIT, initialized, running, status_of_next
from tests.records.ledgers import opened
from tests.records.stores import mongo
from tests.uploads.samples import NOW, completed

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import Advice, RecordNotReadable
from assetlane_server.model.upload import LedgerTime, Status, Upload
from assetlane_server.records.mongo import MongoRecords

DAMAGE: dict[str, dict[str, Any]] = {
    "a status of a newer version": {"$set": {"status": "HELD"}},
    "a history that is damaged": {"$set": {"history": "lost"}},
    "no variants": {"$unset": {"variants": ""}},
}


@pytest.fixture
async def records(stack: StackAddress, database_name: str) -> Any:
    """A ledger on the run's MongoDB."""
    async with opened("MongoDB, windows", stack, database_name) as ledger:
        yield ledger


async def completed_in(records: MongoRecords) -> Upload:
    """Returns a completed upload."""
    upload = await records.insert_upload(initialized())
    done = completed(upload)
    assert await records.advance_upload(done, after_revision=2)
    return done


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_lists_and_reads_leave_it_out(
    records: MongoRecords, damage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The records beside a damaged one are all there; to read it alone is RecordNotReadable, which names it."""
    before, broken, after = [await completed_in(records) for _ in range(3)]
    await records._uploads.update_one({"_id": broken.upload_id}, damage)
    sound = [before.upload_id, after.upload_id]
    everything: dict[str, Any] = {"uid": "", "session_id": "", "statuses": (), "limit": 10}
    assert [one.upload_id for one in await records.scan_uploads(**everything, after_id="")] == sound
    assert [one.upload_id for one in await records.list_uploads(**everything, before_id="")] == sound[::-1]
    listed = await records.list_assets(partition="user/7f3a", before_id="", limit=10)
    assert [one.asset_id for one in listed] == sound[::-1]
    changed = await records.changed_assets(partition="user/7f3a", since=LedgerTime(0), after=None, limit=10)
    assert {one.asset_id for one in changed} == set(sound)
    assert set(await records.find_assets([broken.upload_id, *sound])) == set(sound)
    assert await records.find_uploads([broken.upload_id]) == {broken.upload_id: None}
    assert [one.upload_id for one in await records.read_uploads([broken.upload_id, *sound])] == sound
    with pytest.raises(RecordNotReadable) as refused:
        await records.find_upload(broken.upload_id)
    assert (refused.value.record_id, refused.value.advice) == (broken.upload_id, Advice.UPDATE_SERVER)
    skipped = [one.record for one in logged(caplog, "RECORD_SKIPPED")]
    assert skipped == [f"record {broken.upload_id}"]


async def test_an_erasure_reports_what_it_could_not_read(records: MongoRecords) -> None:
    """The owner's damaged records, without those that can be read and without those of others."""
    mine, _, others = [await completed_in(records) for _ in range(3)]
    await records._uploads.update_one({"_id": mine.upload_id}, DAMAGE["no variants"])
    await records._uploads.update_one({"_id": others.upload_id}, {**DAMAGE["no variants"], "$set": {"uid": "bob"}})
    assert await records.unreadable_of(mine.uid) == [mine.upload_id]
    assert await records.unreadable_of("bob") == [others.upload_id]
    assert await records.unreadable_of("nobody") == []


async def test_a_page_of_nothing_but_such_records_is_not_the_last(records: MongoRecords) -> None:
    """Twenty damaged records in a row, more than a page holds, do not end a list."""
    uploads = [await completed_in(records) for _ in range(30)]
    for upload in uploads[5:25]:
        await records._uploads.update_one({"_id": upload.upload_id}, DAMAGE["no variants"])
    sound = [one.upload_id for one in (*uploads[:5], *uploads[25:])]

    async def listed(size: int) -> list[str]:
        ids: list[str] = []
        while page := await records.list_assets(partition="user/7f3a", before_id=ids[-1] if ids else "", limit=size):
            ids += [one.asset_id for one in page]
        return ids

    async def changed(size: int) -> list[str]:
        ids: list[str] = []
        after = None
        while page := await records.changed_assets(partition="user/7f3a", since=LedgerTime(0), after=after, limit=size):
            ids += [one.asset_id for one in page]
            after = page[-1].change_time or LedgerTime(0), page[-1].asset_id
        return ids

    assert await listed(3) == sound[::-1]
    assert sorted(await changed(3)) == sound


async def test_the_sweeper_finds_what_is_behind_them(records: MongoRecords) -> None:
    """Damaged uploads stay due; the sweeper gets the readable ones behind them."""
    broken = [await records.insert_upload(replace(initialized(), sweep_time=NOW)) for _ in range(12)]
    sound = await records.insert_upload(replace(initialized(), sweep_time=NOW + timedelta(minutes=1)))
    for upload in broken:
        await records._uploads.update_one({"_id": upload.upload_id}, DAMAGE["a history that is damaged"])
    due = await records.uploads_to_sweep(until=NOW + timedelta(hours=1), limit=5)
    assert [one.upload_id for one in due] == [sound.upload_id]
    assert await records.uploads_to_sweep(until=NOW, limit=5) == []


async def test_what_a_newer_version_wrote_survives_our_changes(records: MongoRecords) -> None:
    """Fields that we do not know stay, wherever they are."""
    upload = await records.insert_upload(initialized())
    await records._uploads.update_one(
        {"_id": upload.upload_id}, {"$set": {"verdict": "good", "variants.0.tier": "cold", "history.0.by": "ann"}}
    )
    done = completed(upload)
    assert await records.advance_upload(done, after_revision=2)
    await records._uploads.update_one({"_id": upload.upload_id}, {"$set": {"asset.verdict": "fine"}})
    assert done.asset is not None
    deleted = done.asset.refreshed(NOW).deleted(NOW)
    assert await records.advance_asset(done.asset.refreshed(NOW))
    assert await records.advance_asset(deleted)
    stored = await records.find_upload(upload.upload_id)
    assert stored is not None
    assert await records.erase_places(stored, NOW)
    document = await records._uploads.find_one({"_id": upload.upload_id})
    assert document is not None
    assert (document["verdict"], document["asset"]["verdict"]) == ("good", "fine")
    assert (document["variants"][0]["tier"], document["history"][0]["by"]) == ("cold", "ann")
    assert document["variants"][0]["key"] == ""


EVENTS: dict[str, Callable[[Upload], dict[str, Any]]] = {
    "of another status": lambda upload: {"$set": {"status": "HELD", "route": {"session_id": "phone", "uid": "7f3a"}}},
    "routed in another way": lambda upload: {"$set": {"route": {"to": "everybody"}}},
    "routed by nothing": lambda upload: {"$set": {"route": 7}},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
async def test_watchers_go_on(
    stack: StackAddress, database_name: str, records: MongoRecords, event: Callable[[Upload], dict[str, Any]]
) -> None:
    """The hub hears of a change that it cannot read, and of progress of a stage that it does not know."""
    strange, sound = await records.insert_upload(initialized()), await records.insert_upload(initialized())
    async with running(records) as hub, hub.watch_session("phone", "") as session, mongo(stack.mongo_uri) as client:
        await client[database_name]["uploads"].update_one({"_id": strange.upload_id}, event(strange))
        await client[database_name]["progress"].insert_one({"_id": strange.upload_id, "stage": "SCANNING"})
        await records.advance_upload(sound.cancelled(NOW))
        async with asyncio.timeout(LIMIT.total_seconds()):
            assert await status_of_next(session) is Status.CANCELLED
        assert hub.silence_seconds < LIMIT.total_seconds()


async def test_a_watch_of_one_is_refused_for_now_and_goes_on_when_it_can_be_read(records: MongoRecords) -> None:
    """The answer is an error and not that there is no such upload, which would end the watch of its client."""
    upload = await records.insert_upload(initialized())
    await records._uploads.update_one({"_id": upload.upload_id}, {"$set": {"status": "HELD"}})
    async with running(records) as hub:
        with pytest.raises(RecordNotReadable) as refused:
            await hub.read_upload(upload.upload_id)
        assert (refused.value.record_id, refused.value.advice) == (upload.upload_id, Advice.UPDATE_SERVER)
        await records._uploads.update_one({"_id": upload.upload_id}, {"$set": {"status": "INITIALIZED"}})
        assert await hub.read_upload(upload.upload_id) == upload
        assert await hub.read_upload("missing") is None
