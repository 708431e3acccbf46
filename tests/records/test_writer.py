"""Group commit: whatever happens to a batch, each caller gets the outcome of its own write."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.records.scripted_collection import Script, ScriptedCollection
from tests.uploads.samples import NOW, QUARTER, completed, requested

from assetlane_server.composition.app import new_id
from assetlane_server.model.errors import LedgerBusy, LedgerUnavailable
from assetlane_server.model.upload import Details, Upload
from assetlane_server.records.documents import (
    Change,
    NotEncodable,
    asset_advance,
    upload_advance,
    upload_document,
    upload_of,
)
from assetlane_server.records.writer import LedgerWriter

HALVES: list[Callable[[int], bool]] = [lambda index: bool(index % 2), lambda index: not index % 2]


def initialized(**changes: Any) -> Upload:
    """Returns a fresh upload."""
    return replace(requested(**{"request_id": "", **changes}), upload_id=new_id()).initialized(NOW, QUARTER)


class WriterBench:
    """A writer on a scripted collection."""

    def __init__(self, max_waiting: int = 1000, **options: Any) -> None:
        self.collection = ScriptedCollection()
        self.writer = LedgerWriter(
            self.collection,
            asking=lambda verb: nullcontext(),
            unavailable=lambda error: LedgerUnavailable(str(error)),
            max_waiting=max_waiting,
            **options,
        )

    async def stored(self, count: int) -> list[Upload]:
        """Returns so many uploads that are in the collection."""
        uploads = [initialized() for _ in range(count)]
        for upload in uploads:
            assert await self.writer.insert(upload_document(upload))
        self.collection.requests.clear()
        return uploads

    async def together(self, *writes: Any) -> list[Any]:
        """Runs writes at once, behind two that hold both batches; returns their outcomes or exceptions."""
        self.collection.may_go.clear()
        self.collection.scripts[:0] = [Script(), Script()]
        first = []
        for _ in range(2):  # one after the other, or they would be one batch
            first.append(asyncio.create_task(self.writer.insert(upload_document(initialized()))))
            await self.collection.waits_for(len(first))
        tasks = [asyncio.ensure_future(one) for one in writes]
        await asyncio.sleep(0)
        self.collection.may_go.set()
        await asyncio.gather(*first)
        return await asyncio.gather(*tasks, return_exceptions=True)

    def now(self, upload: Upload) -> Upload:
        """Returns what is stored of an upload."""
        return upload_of(self.collection.documents[upload.upload_id])


def insert(bench: WriterBench, upload: Upload) -> Any:
    """Returns the insert of an upload."""
    return bench.writer.insert(upload_document(upload))


def advance(bench: WriterBench, upload: Upload, after_revision: int = 2) -> Any:
    """Returns the update that stores a status change."""
    return bench.writer.update(upload_advance(upload, after_revision))


async def test_a_lone_write_goes_at_once_and_by_itself() -> None:
    """A write is sent without a wait for others when none is under way."""
    bench = WriterBench()
    upload = initialized()
    assert await insert(bench, upload)
    assert await advance(bench, upload.cancelled(NOW))
    assert bench.collection.requests == [[upload.upload_id]] * 2
    assert bench.now(upload) == upload.cancelled(NOW)


async def test_what_waits_goes_together_while_the_batch_before_is_under_way() -> None:
    """A hundred writes of a hundred callers are a few requests, never more than two at a time."""
    bench = WriterBench()
    known = await bench.stored(50)
    fresh = [initialized() for _ in range(50)]
    outcomes = await bench.together(
        *(insert(bench, one) for one in fresh), *(advance(bench, one.cancelled(NOW)) for one in known)
    )
    assert outcomes == [True] * 100
    assert [len(request) for request in bench.collection.requests] == [1, 1, 100]
    assert bench.collection.most_under_way == 2
    assert all(bench.now(one) == one.cancelled(NOW) for one in known)


@pytest.mark.parametrize(("long_s", "at_once"), [(3600.0, 1), (0.0, 2)])
async def test_a_second_batch_begins_only_beside_one_that_takes_long(long_s: float, at_once: int) -> None:
    """One at a time, however many come meanwhile; never a third."""
    bench = WriterBench(long_s=long_s)
    bench.collection.may_go.clear()
    writing = []
    for _ in range(4):
        writing.append(asyncio.create_task(insert(bench, initialized())))
        await bench.collection.waits_for(min(len(writing), at_once))
    bench.collection.may_go.set()
    assert await asyncio.gather(*writing) == [True] * 4
    assert [len(request) for request in bench.collection.requests] == [1] * at_once + [4 - at_once]
    assert bench.collection.most_under_way == at_once


async def test_losers_of_a_batch_learn_it_and_only_they() -> None:
    """Updates whose revision is gone, among updates and inserts that are made."""
    bench = WriterBench()
    known = await bench.stored(6)
    for one in known[:3]:
        assert await advance(bench, one.cancelled(NOW))
    outcomes = await bench.together(
        *(advance(bench, completed(one)) for one in known), *(insert(bench, initialized()) for _ in range(2))
    )
    assert outcomes == [False] * 3 + [True] * 5
    assert [bench.now(one).status for one in known] == ["CANCELLED"] * 3 + ["COMPLETED"] * 3


async def test_a_change_that_was_made_and_changed_again_since_was_made() -> None:
    """The loser is recognised by the ids of changes, not by what the document says now."""
    bench = WriterBench()
    winner, loser = await bench.stored(2)
    assert await advance(bench, loser.cancelled(NOW))
    uploaded = winner.uploaded(NOW)
    find = bench.collection.find

    def changed_meanwhile(query: Any, projection: Any) -> Any:
        change = upload_advance(completed(uploaded), 3)
        bench.collection._update(change.query, change.update)
        return find(query, projection)

    bench.collection.find = changed_meanwhile  # type: ignore[method-assign]  # another server, before the look
    assert await bench.together(advance(bench, uploaded), advance(bench, loser.uploaded(NOW))) == [True, False]


@pytest.mark.parametrize("is_deletion", [False, True])
async def test_of_two_asset_changes_in_a_batch_the_loser_learns_it(is_deletion: bool) -> None:
    """They have no history, and ids all the same."""
    bench = WriterBench()
    assets = []
    for upload in await bench.stored(2):
        done = completed(upload)
        assert done.asset is not None
        assert await advance(bench, done)
        assets.append(done.asset)
    later = NOW + timedelta(hours=1)
    changes = [one.deleted(later) if is_deletion else one.refreshed(later) for one in assets]
    assert await bench.writer.update(asset_advance(assets[1].refreshed(later)))
    outcomes = await bench.together(*(bench.writer.update(asset_advance(one)) for one in changes))
    assert outcomes == [True, False]


async def test_a_duplicate_key_is_its_owners_alone() -> None:
    """Two of one request id in one batch, and one that was there before."""
    bench = WriterBench()
    earlier = initialized(request_id="r")
    assert await insert(bench, earlier)
    same = [initialized(request_id="s") for _ in range(3)]
    outcomes = await bench.together(
        insert(bench, initialized(request_id="r")), *(insert(bench, one) for one in same), insert(bench, initialized())
    )
    assert outcomes == [False, True, False, False, True]


@pytest.mark.parametrize("applied", [*HALVES, lambda index: True, lambda index: False])
@pytest.mark.parametrize("reply", ["lost", "write concern"])
async def test_of_a_batch_whose_reply_does_not_count_nobody_gets_an_outcome(
    reply: str, applied: Callable[[int], bool]
) -> None:
    """Half of it applied, all of it or nothing: each caller gets LEDGER_UNAVAILABLE, and may repeat."""
    bench = WriterBench()
    known = await bench.stored(3)
    fresh = [initialized(request_id=f"r{number}") for number in range(3)]

    def writes() -> list[Any]:
        return [*(insert(bench, one) for one in fresh), *(advance(bench, one.cancelled(NOW)) for one in known)]

    bench.collection.scripts = [Script(applied, reply)]
    outcomes = await bench.together(*writes())
    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 6
    was_made = [applied(index) for index in range(6)]
    assert await asyncio.gather(*writes()) == [not made for made in was_made]
    assert all(bench.now(one) == one for one in fresh)
    assert all(bench.now(one) == one.cancelled(NOW) for one in known)
    assert all(len(bench.collection.documents[one.upload_id]["history"]) == 3 for one in known)


@pytest.mark.parametrize("reply", ["lost", "write concern"])
async def test_of_a_lone_write_whose_reply_does_not_count_the_outcome_is_unknown(reply: str) -> None:
    """It was made, and nobody may rely on it."""
    bench = WriterBench()
    (upload,) = await bench.stored(1)
    for write in (insert(bench, initialized()), advance(bench, upload.cancelled(NOW))):
        bench.collection.scripts = [Script(reply=reply)]
        with pytest.raises(LedgerUnavailable):
            await write


async def test_losers_that_cannot_be_looked_for_are_unknown() -> None:
    """A write of the batch lost its race, and the read that would find out which one fails."""
    bench = WriterBench()
    known = await bench.stored(3)
    assert await advance(bench, known[0].cancelled(NOW))
    bench.collection.are_reads_lost = True
    outcomes = await bench.together(*(advance(bench, one.uploaded(NOW)) for one in known))
    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 3


async def test_what_the_server_refuses_of_a_batch_fails_alone() -> None:
    """A document that grew too large fails, and the others of its batch are made."""
    bench = WriterBench()
    known = await bench.stored(3)
    bench.collection.scripts = [Script(refused={1: 17419})]
    outcomes = await bench.together(*(advance(bench, one.cancelled(NOW)) for one in known))
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [True, LedgerUnavailable, True]


@pytest.mark.parametrize("value", [2**70, "\ud800", object(), "x" * 17_000_000])
async def test_what_cannot_be_encoded_fails_alone_and_at_once(value: object) -> None:
    """It is refused before its batch is sent, and the good writes of the batch are made."""
    bench = WriterBench()
    bad = initialized(details=Details(title="t"))
    document = {**upload_document(bad), "details": {"extra": {"a": value}}}
    good = [initialized() for _ in range(3)]
    outcomes = await bench.together(*(insert(bench, one) for one in good), bench.writer.insert(document))
    assert outcomes[:3] == [True] * 3
    assert isinstance(outcomes[3], NotEncodable)
    assert bad.upload_id not in bench.collection.documents
    with pytest.raises(NotEncodable):
        await bench.writer.update(Change({"_id": good[0].upload_id}, {"$set": {"a": value}}, b"1"))


async def test_two_writes_to_one_document_are_in_two_batches_in_their_order() -> None:
    """The second finds what the first has made, also while that one is under way."""
    bench = WriterBench()
    (upload,) = await bench.stored(1)
    uploaded = upload.uploaded(NOW)
    outcomes = await bench.together(
        advance(bench, uploaded),
        advance(bench, upload.cancelled(NOW)),
        advance(bench, completed(uploaded), 3),
        insert(bench, initialized()),
    )
    assert outcomes == [True, False, True, True]
    assert [upload.upload_id in request for request in bench.collection.requests] == [False, False, True, True, True]
    assert bench.now(upload) == completed(uploaded)

    # The same while the first one is under way and the second comes.
    (other,) = await bench.stored(1)
    bench.collection.may_go.clear()
    first = asyncio.create_task(advance(bench, other.uploaded(NOW)))
    await bench.collection.waits_for(1)
    second = asyncio.create_task(advance(bench, completed(other.uploaded(NOW)), 3))
    for _ in range(20):
        await asyncio.sleep(0)
    assert bench.collection.most_under_way <= 2
    assert bench.collection.requests == [[other.upload_id]]
    bench.collection.may_go.set()
    assert (await first, await second) == (True, True)


@pytest.mark.parametrize("is_under_way", [False, True])
async def test_a_caller_that_is_cancelled_hurts_nobody(is_under_way: bool) -> None:
    """While it waits its write is taken back; while it is under way the batch goes on, with it."""
    bench = WriterBench()
    known = await bench.stored(3)
    bench.collection.may_go.clear()
    holding = [asyncio.create_task(insert(bench, initialized()))]
    await bench.collection.waits_for(1)
    if not is_under_way:
        holding.append(asyncio.create_task(insert(bench, initialized())))
        await bench.collection.waits_for(2)
    tasks = [asyncio.create_task(advance(bench, one.cancelled(NOW))) for one in known]
    await bench.collection.waits_for(2)
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    bench.collection.may_go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*holding)
    assert [outcomes[0], type(outcomes[1]), outcomes[2]] == [True, asyncio.CancelledError, True]
    assert (bench.now(known[1]) == known[1].cancelled(NOW)) is is_under_way


async def test_only_a_new_upload_meets_the_limit_of_the_queue() -> None:
    """A write that ends work never does."""
    bench = WriterBench(max_waiting=2)
    known = await bench.stored(5)
    bench.collection.may_go.clear()
    holding = []
    for number in range(2):
        holding.append(asyncio.create_task(insert(bench, initialized())))
        await bench.collection.waits_for(number + 1)
    ending = [asyncio.create_task(advance(bench, one.cancelled(NOW))) for one in known]
    await asyncio.sleep(0)
    assert bench.writer.waiting == 5
    with pytest.raises(LedgerBusy):
        await insert(bench, initialized())
    bench.collection.may_go.set()
    assert await asyncio.gather(*holding, *ending) == [True] * 7
    assert await insert(bench, initialized())


async def test_no_write_is_left_waiting_however_they_come() -> None:
    """One comes at every step of those before it, also right when a batch has ended and nothing waited."""
    bench = WriterBench()

    async def after(steps: int) -> bool:
        for _ in range(steps):
            await asyncio.sleep(0)
        made: bool = await insert(bench, initialized())
        return made

    async with asyncio.timeout(30):
        for spacing in range(1, 9):
            for count in range(1, 5):
                outcomes = await asyncio.gather(*(after(number * spacing) for number in range(count)))
                assert all(outcomes)
                assert all(await asyncio.gather(*(after(steps) for steps in range(12))))


async def test_it_ends_when_nothing_is_under_way() -> None:
    """`finish` waits for the write that is under way."""
    bench = WriterBench()
    bench.collection.may_go.clear()
    writing = asyncio.create_task(insert(bench, initialized()))
    await asyncio.sleep(0)
    ending = asyncio.create_task(bench.writer.finish())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ending.done()
    bench.collection.may_go.set()
    await ending
    assert await writing


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(data=st.data())
def test_whatever_happens_no_outcome_is_false(data: st.DataObject) -> None:
    """Random writes to few documents, batches half applied, replies lost: what was answered is what is stored.

    Every change is reported as made at most once, and if its outcome is known it is in the history or it is not.
    """
    numbers = st.integers(0, 3)

    async def run() -> None:
        bench = WriterBench()
        uploads = await bench.stored(4)
        answers: list[tuple[bytes | str, Any]] = []

        async def write(number: int, revision: int) -> None:
            change = upload_advance(uploads[number].uploaded(NOW), 2)
            change.query["revision"] = revision
            change.update["$set"]["revision"] = revision + 1
            try:
                answers.append((change.change_id, await bench.writer.update(change)))
            except LedgerUnavailable:
                answers.append((change.change_id, None))

        async def add() -> None:
            upload = initialized()
            try:
                answers.append((upload.upload_id, await insert(bench, upload)))
            except LedgerUnavailable:
                answers.append((upload.upload_id, None))

        for _ in range(data.draw(st.integers(1, 5))):
            kept = data.draw(st.sets(st.integers(0, 12)))
            reply = data.draw(st.sampled_from(["sent", "sent", "lost", "write concern"]))
            # An answer that arrives covers all: only what is lost may be half applied.
            kept = kept if reply != "sent" else set(range(13))
            bench.collection.scripts = [Script(kept.__contains__, reply)]
            works = data.draw(st.lists(st.one_of(st.none(), st.tuples(numbers, st.integers(2, 5))), max_size=12))
            await asyncio.gather(*(add() if work is None else write(*work) for work in works))
        ids = {one["id"] for document in bench.collection.documents.values() for one in document["history"]}
        for name, outcome in answers:
            is_there = name in (bench.collection.documents if isinstance(name, str) else ids)
            assert outcome is None or outcome is is_there

    asyncio.run(run())
