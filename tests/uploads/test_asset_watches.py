"""The watch of a partition, on the ledger in memory: what it sends and what its tokens say, whenever it breaks off."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from tests.memory.ledger import MemoryLedger
from tests.records.hubs import initialized, running
from tests.uploads.samples import NOW, completed

from assetlane_server.model.asset_event import AssetEvent, AssetEventKind
from assetlane_server.model.resume_token import Position, position_of
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import Asset, LedgerTime
from assetlane_server.ports.asset_records import AssetRecords
from assetlane_server.records.hub import Hub
from assetlane_server.uploads import asset_watches as watching
from assetlane_server.uploads.access import UNRESTRICTED
from assetlane_server.uploads.asset_watches import AssetWatches

PARTITION = "user/7f3a"
SIGNER = TokenSigner(b"k" * 32)
HEARTBEAT = timedelta(milliseconds=50)
LIMIT_S = 20.0
MINUTE_S = 60


class Scene:
    """A ledger in memory, a hub on it, and watches of one partition."""

    def __init__(self, ledger: MemoryLedger, hub: Hub) -> None:
        self.ledger = ledger
        self.hub = hub
        self.pages: list[int] = []

    async def add(self, now: datetime = NOW) -> Asset:
        """Returns an asset that has just entered the ledger, by a server whose clock says `now`."""
        upload = await self.ledger.insert_upload(initialized())
        done = completed(upload, now)
        assert await self.ledger.advance_upload(done, after_revision=upload.revision)
        assert done.asset is not None
        return done.asset

    @asynccontextmanager
    async def watch(self, token: str = "", records: Any = None) -> AsyncIterator[AsyncGenerator[AssetEvent]]:
        """Opens a watch."""
        assets = cast(AssetRecords, records or self.ledger)
        watches = AssetWatches(assets=assets, hub=self.hub, signer=SIGNER, heartbeat=HEARTBEAT)
        async with asyncio.timeout(LIMIT_S), aclosing(watches.watch(PARTITION, token, UNRESTRICTED)) as events:
            yield events

    async def delivered(self) -> None:
        """Returns when the hub has put all that happened into its mailboxes."""
        async with asyncio.timeout(LIMIT_S):
            while self.hub._all_delivered_until() < self.ledger.time:  # noqa: ASYNC110 - nothing else shows it
                await asyncio.sleep(0)

    async def events(self, count: int, token: str = "") -> list[AssetEvent]:
        """Returns the first events of a watch, heartbeats left out."""
        async with self.watch(token) as events:
            return [await next_of(events) for _ in range(count)]

    async def until_synced(self, token: str) -> list[AssetEvent]:
        """Returns what a resumed watch sends to catch up."""
        caught_up = []
        async with self.watch(token) as events:
            while (event := await next_of(events)).kind is not AssetEventKind.SYNCED:
                caught_up.append(event)
        return caught_up


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """An empty ledger, watched."""
    ledger = MemoryLedger()
    async with running(ledger) as hub:
        yield Scene(ledger, hub)


async def next_of(events: AsyncGenerator[AssetEvent]) -> AssetEvent:
    """Returns the next event that is no heartbeat."""
    while (event := await anext(events)).kind is AssetEventKind.HEARTBEAT:
        continue
    return event


def kinds(events: Sequence[AssetEvent]) -> list[tuple[AssetEventKind, str]]:
    """Returns what happened to which asset."""
    return [(event.kind, event.asset.asset_id if event.asset else "") for event in events]


def position(event: AssetEvent) -> Position:
    """Returns what the token of an event says."""
    return position_of(SIGNER, event.resume_token, PARTITION)


async def test_a_watch_that_breaks_off_before_synced_goes_on_with_the_rest(scene: Scene) -> None:
    """What was sent is not sent again, but that it changed meanwhile; SYNCED ends the listing for good."""
    assets = [await scene.add() for _ in range(5)][::-1]
    scene.ledger.pass_time(10 * MINUTE_S)
    await scene.delivered()
    begun = await scene.events(2)
    assert kinds(begun) == [(AssetEventKind.PRESENT, one.asset_id) for one in assets[:2]]
    await scene.ledger.advance_asset(assets[0].deleted(NOW))
    await scene.ledger.advance_asset(assets[3].refreshed(NOW + timedelta(hours=1)))
    resumed = await scene.events(5, begun[-1].resume_token)
    assert kinds(resumed) == [
        (AssetEventKind.DELETED, assets[0].asset_id),
        (AssetEventKind.REFRESHED, assets[3].asset_id),
        (AssetEventKind.PRESENT, assets[2].asset_id),
        (AssetEventKind.PRESENT, assets[4].asset_id),
        (AssetEventKind.SYNCED, ""),
    ]
    assert position(resumed[1]).listed_to == assets[1].asset_id
    assert position(resumed[-1]).listed_to == ""
    assert (await scene.events(3, resumed[-1].resume_token))[-1].kind is AssetEventKind.SYNCED


async def test_what_a_resumed_watch_sent_as_a_change_is_not_in_the_rest_of_its_listing(scene: Scene) -> None:
    """However long ago it was: a watch sends a revision once."""
    assets = [await scene.add() for _ in range(5)][::-1]
    scene.ledger.pass_time(10 * MINUTE_S)
    await scene.delivered()
    begun = await scene.events(2)
    for changed in (assets[3], assets[0]):
        await scene.ledger.advance_asset(changed.refreshed(NOW + timedelta(hours=1)))
        scene.ledger.pass_time(10 * MINUTE_S)
    assert kinds(await scene.events(5, begun[-1].resume_token)) == [
        (AssetEventKind.REFRESHED, assets[3].asset_id),
        (AssetEventKind.REFRESHED, assets[0].asset_id),
        (AssetEventKind.PRESENT, assets[2].asset_id),
        (AssetEventKind.PRESENT, assets[4].asset_id),
        (AssetEventKind.SYNCED, ""),
    ]


async def test_no_token_says_that_changes_were_sent_that_wait_together_with_its_own(scene: Scene) -> None:
    """A reader that breaks off in the middle is sent the others."""
    async with scene.watch() as events:
        synced = await next_of(events)
        added = [await scene.add() for _ in range(3)]
        await scene.delivered()
        sent = [await next_of(events) for _ in range(3)]
        assert kinds(sent) == [(AssetEventKind.ADDED, one.asset_id) for one in added]
        assert {position(one) for one in sent} == {position(synced)}
        scene.ledger.pass_time(1)
        while position(heartbeat := await anext(events)).sent_until < scene.ledger.time:
            continue
        assert heartbeat.kind is AssetEventKind.HEARTBEAT
    again = await scene.until_synced(sent[0].resume_token)
    assert {one for _, one in kinds(again)} >= {one.asset_id for one in added[1:]}


async def test_a_quiet_watch_keeps_its_token_young(scene: Scene) -> None:
    """A heartbeat's token says until when there was nothing to send; it never goes back."""
    async with scene.watch() as events:
        begun = position(await next_of(events))
        scene.ledger.pass_time(5 * MINUTE_S)
        while (now := position(await anext(events))).sent_until < scene.ledger.time:
            assert now.sent_until >= begun.sent_until
    assert now.sent_until - begun.sent_until == (5 * MINUTE_S) << 32


@pytest.mark.parametrize("skew_s", [120, 7200, -120, -7200])
async def test_whatever_a_servers_clock_says_a_resumed_watch_misses_nothing(scene: Scene, skew_s: int) -> None:
    """An asset of a server whose clock is off by so much, then others: each token leads to all that came after it."""
    skewed = NOW + timedelta(seconds=skew_s)
    async with scene.watch() as events:
        tokens = [(await next_of(events)).resume_token]
        added = []
        for number in range(6):
            added.append(await scene.add(skewed if number % 2 else NOW))
            tokens.append((await next_of(events)).resume_token)
            scene.ledger.pass_time(50)
    await scene.ledger.advance_asset(added[0].deleted(skewed))
    for number, token in enumerate(tokens):
        caught_up = {one for _, one in kinds(await scene.until_synced(token))}
        assert caught_up >= {one.asset_id for one in (added[0], *added[number:])}


async def test_a_slow_reader_reads_again_what_it_missed_page_by_page(scene: Scene) -> None:
    """More changes than its mailbox holds: every one is sent, none twice, and no more than a page is held."""
    async with scene.watch() as events:
        await next_of(events)
        added = {(await scene.add()).asset_id for _ in range(500)}
        sent = [await next_of(events) for _ in range(500)]
        assert {one for _, one in kinds(sent)} == added
        assert {event.kind for event in sent} == {AssetEventKind.ADDED}
        last = await scene.add()
        assert kinds([await next_of(events)]) == [(AssetEventKind.ADDED, last.asset_id)]


async def test_a_resumed_watch_reads_the_next_page_when_its_reader_has_taken_one(scene: Scene) -> None:
    """Its memory does not grow with what it has to catch up on."""
    token = (await scene.events(1))[0].resume_token
    for _ in range(1000):
        await scene.add()

    class Counting:
        """Notes how many assets were read."""

        def __init__(self) -> None:
            self.read = 0

        async def changed_assets(self, **asked: Any) -> list[Asset]:
            """See AssetRecords."""
            page = await scene.ledger.changed_assets(**asked)
            self.read += len(page)
            return page

    counting = Counting()
    async with scene.watch(token, counting) as events:
        for taken in range(1, 1001):
            await next_of(events)
            assert counting.read <= taken + watching._PAGE


async def test_what_is_remembered_against_repeats_is_bounded(scene: Scene) -> None:
    """A watch remembers so many revisions; beyond them a change may be sent twice, and none is left out."""
    events = watching._Events(SIGNER, PARTITION, Position(LedgerTime(0)), most_remembered=8)
    assets = [await scene.add() for _ in range(100)]
    assert all(events.of_change(one) for one in assets)
    assert len(events._revisions) == 8
    assert events.of_change(assets[-1]) is None
    assert events.of_change(assets[-1].refreshed(NOW + timedelta(days=1))) is not None


async def test_what_was_sent_long_ago_is_forgotten(scene: Scene) -> None:
    """A watch remembers a revision for as long as the change stream may deliver it once more: two minutes."""
    async with scene.watch() as events:
        await next_of(events)
        await scene.add()
        await next_of(events)
    state = watching._Events(SIGNER, PARTITION, Position(LedgerTime(0)))
    one = await scene.add()
    stored = (await scene.ledger.find_assets([one.asset_id]))[one.asset_id]
    assert state.of_change(stored)
    state.is_sent_until(LedgerTime(scene.ledger.time + (1000 << 32)))
    state.forget_before(LedgerTime(scene.ledger.time + (119 << 32)))
    assert len(state._revisions) == 1
    state.forget_before(LedgerTime(scene.ledger.time + (121 << 32)))
    assert len(state._revisions) == 0


async def test_a_lost_stream_loses_no_change(scene: Scene) -> None:
    """What happened meanwhile is read again once another one is open."""
    async with scene.watch() as events:
        await next_of(events)
        scene.ledger.lose_streams()
        added = [await scene.add() for _ in range(3)]
        assert kinds([await next_of(events) for _ in range(3)]) == [
            (AssetEventKind.ADDED, one.asset_id) for one in added
        ]
