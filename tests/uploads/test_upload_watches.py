"""The watches of one upload and of a session, on the ledger in memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.memory.ledger import MemoryLedger
from tests.records.hubs import running
from tests.refusals import raises
from tests.uploads.samples import NOW, QUARTER, completed, requested
from ulid import ULID

from assetlane_server.model.errors import InvalidRequest, RevisionAhead, UploadNotFound
from assetlane_server.model.ids import earliest_id, is_id
from assetlane_server.model.progress import Progress
from assetlane_server.model.upload import Status, Upload
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.records.hub import Hub
from assetlane_server.uploads import upload_watches
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.upload_watches import SETTLED_AFTER, SessionPosition, UploadWatches

HEARTBEAT = timedelta(milliseconds=50)
LIMIT_S = 30.0
SECOND = timedelta(seconds=1)
Change = tuple[str, int]


def made_at(instant: datetime, **changes: Any) -> Upload:
    """Returns a fresh upload whose id is of that instant."""
    upload_id = str(ULID.from_timestamp(instant.timestamp())).lower()
    return replace(requested(request_id="", **changes), upload_id=upload_id).initialized(NOW, QUARTER)


class Scene:
    """A ledger in memory, a hub on it, and watches."""

    def __init__(self, ledger: MemoryLedger, hub: Hub) -> None:
        self.ledger = ledger
        self.hub = hub

    async def insert(self, instant: datetime = NOW, *, is_completed: bool = False) -> Upload:
        """Stores an upload of that instant, and completes it if asked."""
        upload = await self.ledger.insert_upload(made_at(instant))
        if is_completed:
            upload = completed(upload)
            assert await self.ledger.advance_upload(upload, after_revision=2)
        return upload

    @asynccontextmanager
    async def session(
        self, after: Mapping[str, int] | None = None, records: Any = None
    ) -> AsyncIterator[AsyncGenerator[Upload | Progress | None]]:
        """Opens a watch of the session."""
        uploads = cast(UploadRecords, records or self.ledger)
        watches = UploadWatches(uploads=uploads, hub=self.hub, heartbeat=HEARTBEAT)
        async with asyncio.timeout(LIMIT_S), aclosing(watches.watch_session("phone", after or {}, UNRESTRICTED)) as it:
            yield it

    async def sent(self, after: Mapping[str, int] | None = None) -> list[Change]:
        """Returns what a watch of the session sends until it has nothing more to send."""
        async with self.session(after) as events:
            return [change_of(event) async for event in until_quiet(events)]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """An empty ledger, watched."""
    ledger = MemoryLedger()
    async with running(ledger) as hub:
        yield Scene(ledger, hub)


async def until_quiet(events: AsyncGenerator[Upload | Progress | None]) -> AsyncIterator[Upload]:
    """Yields changes until a heartbeat comes."""
    while (event := await anext(events)) is not None:
        assert isinstance(event, Upload)
        yield event


def change_of(upload: Upload) -> Change:
    """Returns which change an event is about."""
    return upload.upload_id, upload.revision


def all_of(*uploads: Upload) -> list[Change]:
    """Returns every change of these uploads."""
    return [(upload.upload_id, change.revision) for upload in uploads for change in upload.history]


async def test_an_upload_is_watched_to_its_end(scene: Scene) -> None:
    """From the revision that was seen, each change once; the asset comes with the last."""
    upload = await scene.insert()
    watches = UploadWatches(uploads=scene.ledger, hub=scene.hub, heartbeat=HEARTBEAT)
    async with asyncio.timeout(LIMIT_S), aclosing(watches.watch_upload(upload.upload_id, 1, UNRESTRICTED)) as events:
        seen = [await anext(events)]
        assert await anext(events) is None
        await scene.ledger.advance_upload(completed(upload), after_revision=2)
        seen += [event async for event in events if event is not None]
    changes = [one for one in seen if isinstance(one, Upload)]
    assert [change_of(one) for one in changes] == all_of(completed(upload))[1:]
    assert [one.asset is not None for one in changes] == [False, False, True]


@pytest.mark.parametrize(
    ("upload_id", "after", "refusal"),
    [("", 0, InvalidRequest), ("none", 0, UploadNotFound), ("", -1, InvalidRequest)],
)
async def test_what_cannot_be_watched_is_refused(
    scene: Scene, upload_id: str, after: int, refusal: type[Exception]
) -> None:
    """An id that is missing or unknown, a revision below 0."""
    watches = UploadWatches(uploads=scene.ledger, hub=scene.hub, heartbeat=HEARTBEAT)
    with pytest.raises(refusal):
        await anext(watches.watch_upload(upload_id, after, UNRESTRICTED))


async def test_a_revision_that_is_not_reached_yet_is_refused(scene: Scene) -> None:
    """An `after_revision` beyond the newest one raises RevisionAhead; a negative one of a session is a bad field."""
    upload = await scene.insert()
    watches = UploadWatches(uploads=scene.ledger, hub=scene.hub, heartbeat=HEARTBEAT)
    with pytest.raises(RevisionAhead):
        await anext(watches.watch_upload(upload.upload_id, 3, UNRESTRICTED))
    with raises(InvalidRequest, field="after_revisions['x']"):
        await anext(watches.watch_session("phone", {"x": -1}, UNRESTRICTED))


async def test_a_session_is_sent_oldest_first_and_goes_on(scene: Scene) -> None:
    """Uploads that were requested after the watch began are sent too."""
    uploads = [await scene.insert(NOW + number * SECOND, is_completed=bool(number % 2)) for number in range(4)]
    async with scene.session() as events:
        assert [change_of(one) async for one in until_quiet(events)] == all_of(*uploads)
        late = await scene.insert(NOW + 9 * SECOND)
        await scene.ledger.advance_upload(uploads[0].cancelled(NOW))
        sent = {change_of(one) async for one in until_quiet(events)}
        assert sent == {*all_of(late), (uploads[0].upload_id, 3)}


@pytest.mark.parametrize("known", ["all", "open ones and the newest"])
async def test_a_resumed_session_sends_what_is_new_and_nothing_that_was_sent(scene: Scene, known: str) -> None:
    """The caller may name every upload, or leave out those that ended long before the newest one."""
    old = [await scene.insert(NOW - SETTLED_AFTER - number * SECOND, is_completed=True) for number in range(1, 4)]
    waiting = await scene.insert(NOW - 2 * SETTLED_AFTER)
    newest = await scene.insert(NOW, is_completed=True)
    named = {one.upload_id: one.revision for one in (waiting, newest, *(old if known == "all" else ()))}
    assert await scene.sent(named) == []
    await scene.ledger.advance_upload(waiting.cancelled(NOW))
    fresh = await scene.insert(NOW + SECOND, is_completed=True)
    assert sorted(await scene.sent(named)) == sorted([(waiting.upload_id, 3), *all_of(fresh)])


async def test_an_upload_that_is_not_named_is_sent_unless_it_ended_long_before_the_newest(scene: Scene) -> None:
    """One that is open is sent however old it is, one that has just ended too."""
    ended = await scene.insert(NOW - SETTLED_AFTER - SECOND, is_completed=True)
    open_one = await scene.insert(NOW - 3 * SETTLED_AFTER)
    recent = await scene.insert(NOW - SETTLED_AFTER + SECOND, is_completed=True)
    newest = await scene.insert(NOW, is_completed=True)
    assert await scene.sent() == all_of(open_one, ended, recent, newest)
    assert await scene.sent({newest.upload_id: 4}) == all_of(open_one, recent)
    assert await scene.sent({"made up": 7}) == all_of(open_one, ended, recent, newest)


async def test_a_long_session_is_read_page_by_page_as_its_reader_takes_it(scene: Scene) -> None:
    """More uploads than are read at once: all are sent, oldest first, and only a page is held."""
    uploads = [await scene.insert(NOW + number * SECOND, is_completed=bool(number % 3)) for number in range(600)]

    class Counting:
        """Notes how many uploads were read."""

        def __init__(self) -> None:
            self.read = 0

        async def scan_uploads(self, **asked: Any) -> list[Upload]:
            """See UploadRecords."""
            page = await scene.ledger.scan_uploads(**asked)
            self.read += len(page)
            return page

        async def find_uploads(self, upload_ids: list[str]) -> dict[str, Upload | None]:
            """See UploadRecords."""
            self.read += len(upload_ids)
            return await scene.ledger.find_uploads(upload_ids)

    counting = Counting()
    seen: dict[str, int] = {}
    async with scene.session(records=counting) as events:
        sent = []
        async for event in until_quiet(events):
            sent.append(change_of(event))
            seen[event.upload_id] = event.revision
            assert counting.read <= len(seen) + upload_watches._PAGE
    assert sent == all_of(*uploads)

    # Resumed as a client does that forgets what ended long ago.
    newest = max(seen)
    bound = earliest_id(newest, SETTLED_AFTER)
    named = {
        one: revision for one, revision in seen.items() if one >= bound or not scene.ledger.uploads[one].status.is_final
    }
    assert len(named) < len(seen)
    assert await scene.sent(named) == []
    for number in (0, 3, 300):  # open ones, old ones among them
        assert await scene.ledger.advance_upload(uploads[number].cancelled(NOW))
    fresh = await scene.insert(NOW + 601 * SECOND, is_completed=True)
    expected = [(uploads[number].upload_id, 3) for number in (0, 3, 300)]
    assert sorted(await scene.sent(named)) == sorted([*expected, *all_of(fresh)])


async def test_a_slow_reader_of_a_session_reads_again_what_it_missed(scene: Scene) -> None:
    """More uploads change than its mailbox holds: none is left out, none is sent twice."""
    uploads = [await scene.insert(NOW + number * SECOND) for number in range(200)]
    async with scene.session() as events:
        assert [change_of(one) async for one in until_quiet(events)] == all_of(*uploads)
        for upload in uploads:
            await scene.ledger.advance_upload(completed(upload), after_revision=2)
        late = [await scene.insert(NOW + number * SECOND, is_completed=True) for number in range(200, 300)]
        sent: list[Change] = []
        while len(sent) < 2 * 200 + 4 * 100:
            sent += [change_of(one) async for one in until_quiet(events)]
        expected = [change for upload in uploads for change in all_of(completed(upload))[2:]] + all_of(*late)
        assert sorted(sent) == sorted(expected)
        assert [change_of(one) async for one in until_quiet(events)] == []


async def test_what_a_session_remembers_is_bounded_by_what_is_open_and_what_ended_lately() -> None:
    """10,000 uploads come and go, one a second; what was sent is not sent again when it comes by once more."""
    position = SessionPosition({})
    waiting = made_at(NOW - timedelta(days=1))
    assert len(list(position.unsent(waiting))) == 2
    position.sent(waiting)
    for number in range(10_000):
        upload = made_at(NOW + number * SECOND).cancelled(NOW)
        assert len(list(position.unsent(upload))) == 3
        position.sent(upload)
        assert list(position.unsent(upload)) == []
    first = made_at(NOW - SECOND).cancelled(NOW)
    assert list(position.unsent(first)) == []
    assert list(position.unsent(waiting)) == []
    assert [one.status for one in position.unsent(waiting.cancelled(NOW))] == [Status.CANCELLED]
    assert len(position._open) + len(position._ended) <= 2 * upload_watches._PRUNE_AT


LIVES = [completed(made_at(NOW + number * SECOND)) for number in range(3)]


@given(st.lists(st.tuples(st.sampled_from(LIVES), st.integers(1, 4)), max_size=30))
def test_an_older_state_that_comes_after_a_newer_one_changes_nothing(states: list[tuple[Upload, int]]) -> None:
    """A mailbox may hold what an upload was before it was read: each change is sent once, in order, all the same."""
    position = SessionPosition({})
    sent: list[Change] = []
    newest: dict[str, int] = {}
    for upload, revision in states:
        state = next(one for one in upload.after(0) if one.revision == revision)
        sent += [change_of(one) for one in position.unsent(state)]
        position.sent(state)
        newest[upload.upload_id] = max(revision, newest.get(upload.upload_id, 0))
    for upload_id, reached in newest.items():
        assert [revision for one, revision in sent if one == upload_id] == list(range(1, reached + 1))


@given(
    st.integers(10**8, 7 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.timedeltas(timedelta(0), timedelta(days=300)),
)
def test_the_earliest_id_of_an_instant_is_below_all_others_of_it(instant: datetime, before: timedelta) -> None:
    """A ULID begins with milliseconds: no id of the same millisecond is smaller."""
    bound = earliest_id(made_at(instant).upload_id, before)
    milliseconds = int(instant.timestamp() * 1000)
    assert is_id(bound)
    assert abs(ULID.from_str(bound.upper()).milliseconds - (milliseconds - before // timedelta(milliseconds=1))) <= 1
    assert bound[10:] == "0" * 16
