"""Schedules that lead to one rare place: what happens there, and in which order, is left to the event loop.

Anything may happen in `World._anything`, so some places are reached once in ten thousand schedules. Each scene makes
the way to one of them short.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.clients import (
    Device,
    PartitionWatcher,
    SessionWatcher,
    UploadWatcher,
    Watcher,
    new_sending,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

_SINGLE: Final = 0  # kinds of `new_sending`
_TWO_VARIANTS: Final = 2
_MULTIPART: Final = 3
_CUTS: Final = 4
_TEAM: Final = "team/all"
_SESSION: Final = "session 0"
_SLOW_WRITE_S: Final = 3.0
_OUTAGE_S: Final = 150.0


async def one_request_twice(world: "World") -> None:
    """A request in parts reaches two servers at once, or a second one when the first has died; or the sweeper does."""
    person = world.people[0]
    world.may_clocks_differ = world.pick(2) == 1
    world.open(2)
    first = world.device(person, new_sending(world, person, _SESSION, 0, kind=_MULTIPART))
    sending = first.sending
    second = Device(world, person, sending)
    how = world.pick(4)
    if how == 0:
        await world.all_of([first.request(), second.request()])
        await world.skip(timedelta(0))
    elif how == 1:
        world.store.on_open = world.kill_at_work
        await world.all_of([first.request(), second.request()])
    else:
        world.store.on_open = world.kill_at_work
        uploads = world.mongo.collections["uploads"]
        asking = world.loop.create_task(first.request_once(), name="a request that is not repeated")
        await asyncio.wait([asking])
        pending = next((one for one in uploads.values() if one["status"] == "PENDING"), None)
        if pending is not None:
            await _until(world, pending["sweep_time"])
        await world.all_of([second.request(), *world.sweeps()])
    if world.pick(2):
        world.auditor.once(lambda document: document["status"] == "COMPLETED", world.kill_at_work)
    await first.send()
    await world.all_of([first.complete(), *([second.complete()] if world.pick(3) == 2 else [])])


async def renewed_at_the_end(world: "World") -> None:
    """Targets are renewed while the upload ends, and bytes come after the sweep that knows nothing of them."""
    person = world.people[0]
    world.may_clocks_differ = world.pick(2) == 1
    world.open(1 + world.pick(2))
    device = world.device(
        person, new_sending(world, person, _SESSION, 0, kind=(_SINGLE, _MULTIPART)[world.pick(4) == 3])
    )
    other = Device(world, person, device.sending)
    await device.request()
    document = world.mongo.collections["uploads"].get(device.sending.upload_id)
    if document is None:
        return
    await world.skip(timedelta(minutes=10 + world.pick(5)))
    is_sent = world.pick(4) == 3 and await device.send()
    for server in world.servers[:1]:
        server.links[0].slow_s = _SLOW_WRITE_S
    await world.all_of([device.request(), other.complete() if is_sent else other.cancel()])
    await world.skip(document.get("targets_expire_time", world.utc()) + timedelta(seconds=10) - world.utc())
    await world.all_of([*world.sweeps(), device.send()])


async def a_full_account(world: "World") -> None:
    """More is asked for at once than an account has room for, and somebody looks whether anything can be given back."""
    person = world.people[0]
    world.may_clocks_differ = world.pick(2) == 1
    world.open(1 + world.pick(3))
    devices = [
        world.device(
            person,
            new_sending(
                world,
                person,
                _SESSION,
                number,
                kind=(_SINGLE, _MULTIPART)[world.pick(2)],
                partition=(person.partition, _TEAM)[world.pick(2)],
            ),
        )
        for number in range(4)
    ]
    await devices[0].request()
    if world.pick(2):
        await devices[0].cancel()
    await asyncio.sleep((0.0, 6.0, 95.0)[world.pick(3)])
    world.faults.write_s = (0.0, 0.5)[world.pick(2)]
    await world.all_of([*(device.request() for device in devices[1:]), *(world.sweeps() if world.pick(2) else [])])
    await world.all_of([device.cancel() for device in devices if world.pick(2)])
    await world.skip(timedelta(0))


async def an_asset_at_once(world: "World") -> None:
    """One asset is refreshed and deleted at once, on several servers."""
    person = world.people[0]
    world.open(2 + world.pick(2))
    device = await _completed(world, 0, (_SINGLE, _TWO_VARIANTS)[world.pick(2)], person.partition)
    world.watch(PartitionWatcher(world, person, person.partition))
    for _ in range(2):
        deeds: list[Callable[[], Any]] = [device.refresh, device.refresh, device.delete, device.list_all]
        await world.all_of([deeds[world.pick(len(deeds))]() for _ in range(2 + world.pick(2))])
        await world.think()


async def a_burst(world: "World") -> None:
    """More writes wait on one server than a batch takes."""
    world.open(1)
    devices = [await _completed(world, number, _SINGLE, _TEAM) for number in range(7)]
    world.faults.write_s = 0.5
    for _ in range(1 + world.pick(2)):
        await world.all_of([(device.refresh, device.delete)[world.pick(4) == 3]() for device in devices])


async def a_listing_in_pieces(world: "World") -> None:
    """A watch of a partition begins when its assets are old, and is cut off while it lists them."""
    person = world.people[0]
    world.open(2)
    devices = [await _completed(world, number, _SINGLE, _TEAM) for number in range(3 + world.pick(2))]
    await world.skip(timedelta(minutes=3))
    for _ in range(2):
        watcher = PartitionWatcher(world, person, _TEAM)
        watcher.is_fickle = True
        world.watch(watcher)
    for _ in range(world.pick(3)):
        await world.think()
        device = devices[world.pick(len(devices))]
        await (device.refresh, device.delete)[world.pick(2)]()
    await asyncio.sleep(60.0)


async def slow_readers(world: "World") -> None:
    """Watches read slowly, hang up and go on, while more happens than their mailboxes hold and streams are lost."""
    person = world.people[0]
    world.open(1 + world.pick(2))
    watchers: list[Watcher] = [PartitionWatcher(world, person, _TEAM), SessionWatcher(world, person, _SESSION)]
    for watcher in watchers:
        watcher.is_fickle = True
        world.watch(watcher)
    devices = [
        world.device(person, new_sending(world, person, _SESSION, number, kind=_SINGLE, partition=_TEAM))
        for number in range(4)
    ]
    for device in devices:
        await device.request()
        if not device.sending.upload_id or not await device.send():
            continue
        if world.pick(4) == 3:
            world.lose_streams()
        await device.complete()
        if world.pick(3) == 2:
            await asyncio.sleep((2.0, 20.0)[world.pick(2)])
    for _ in range(2 + world.pick(3)):
        await asyncio.sleep((0.0, 5.0, 100.0)[world.pick(3)])
        if world.pick(4) == 3:
            world.lose_streams()
        device = devices[world.pick(len(devices))]
        await (device.refresh, device.delete)[world.pick(2)]()


async def a_reader_that_misses_twice(world: "World") -> None:
    """While a watch reads slowly what it was sent, more happens and the stream is lost, twice."""
    person = world.people[0]
    world.use_heartbeat(timedelta(hours=1))
    world.open(1, 0.0)
    watcher = PartitionWatcher(world, person, _TEAM)
    watcher.pauses_s = [100.0, 300.0]  # after SYNCED, and after the first asset
    world.watch(watcher)
    await asyncio.sleep(1.0)
    # More than the connection takes at once: the watch has not read yet what it missed when more of it comes.
    first, *_ = [await _completed(world, number, _SINGLE, _TEAM) for number in range(3)]
    await asyncio.sleep(1.0)
    world.lose_streams()
    await asyncio.sleep(105.0)
    await _completed(world, 3, _SINGLE, _TEAM)
    world.lose_streams()
    await asyncio.sleep(150.0)
    await (first.refresh, first.delete)[world.pick(2)]()


async def a_hub_that_cannot_read(world: "World") -> None:
    """A server hears of changes and cannot read them for minutes; its watch is cut off, and goes on elsewhere."""
    person = world.people[0]
    world.use_heartbeat(timedelta(seconds=20))
    world.open(2, 0.0)
    device = await _completed(world, 0, _SINGLE, _TEAM)
    watcher = PartitionWatcher(world, person, _TEAM)
    world.watch(watcher)
    await asyncio.sleep(60.0)
    server = watcher.server
    if server is None:
        return
    world.is_faultless = False
    server.links[0].is_cut = True
    for _ in range(3):
        await device.refresh()
        await asyncio.sleep(1.0)
    await asyncio.sleep(_OUTAGE_S)
    watcher.hang_up()
    await asyncio.sleep((0.0, 1.0, 30.0)[world.pick(3)])
    server.links[0].is_cut = False
    await asyncio.sleep(30.0)


async def a_completion_that_is_joined(world: "World") -> None:
    """CompleteUpload is called before the PUTs have ended, and again when they have, on the same server."""
    person = world.people[0]
    world.is_hurried = True
    world.open(1)
    device = world.device(
        person, new_sending(world, person, _SESSION, 0, kind=(_SINGLE, _TWO_VARIANTS, _CUTS)[world.pick(3)])
    )
    other = Device(world, person, device.sending)
    await device.request()
    if not device.sending.upload_id:
        return

    async def send_and_complete() -> None:
        await device.send()
        await device.complete()

    await world.all_of([send_and_complete(), *(_early(world, other.complete) for _ in range(1 + world.pick(3)))])


async def _early(world: "World", act: Callable[[], Awaitable[object]]) -> None:
    await world.think()
    await act()


async def _completed(world: "World", number: int, kind: int, partition: str) -> Device:
    """Returns a device whose upload has become an asset, if nothing went wrong."""
    person = world.people[0]
    device = world.device(person, new_sending(world, person, _SESSION, number, kind=kind, partition=partition))
    await device.request()
    if device.sending.upload_id and await device.send():
        await device.complete()
    return device


async def _until(world: "World", instant: datetime) -> None:
    """Waits until shortly before an instant, or after it."""
    early_s = (0.0, 0.01, 0.3, -0.01)[world.pick(4)]
    await asyncio.sleep(max(0.0, (instant - world.utc()).total_seconds() - early_s))


async def a_newer_version(world: "World") -> None:
    """A server of a newer version holds an upload back while it is watched, asked for and swept."""
    person = world.people[0]
    world.open(1 + world.pick(2))
    device = world.device(person, new_sending(world, person, _SESSION, 0, kind=_SINGLE))
    await device.request()
    device.sending.opened.set()
    for watcher in (UploadWatcher(world, person, device.sending), SessionWatcher(world, person, _SESSION)):
        watcher.is_fickle = world.pick(2) == 1
        world.watch(watcher)
    await asyncio.sleep((0.0, 0.3, 5.0)[world.pick(3)])
    world.hold_back()
    deeds: list[Callable[[], Any]] = [device.look, device.complete, device.request, device.cancel]
    for _ in range(2):
        await world.all_of([deeds[world.pick(len(deeds))](), *(world.sweeps() if world.pick(2) else [])])
        await world.think()
    await asyncio.sleep(15.0)


async def cuts_of_a_lost_race(world: "World") -> None:
    """Two servers cut one picture; one of them finds no time and completes the upload without cuts."""
    person = world.people[0]
    world.may_clocks_differ = world.pick(2) == 1
    world.open(2)
    world.faults.cut = 0.5
    device = world.device(person, new_sending(world, person, _SESSION, 0, kind=_CUTS))
    other = Device(world, person, device.sending)
    await device.request()
    if not await device.send():
        return

    async def complete_late() -> None:
        await asyncio.sleep((0.0, 1.0, 20.0, 62.0)[world.pick(4)])
        await other.complete()

    await world.all_of([device.complete(), complete_late(), *world.sweeps()])
    for _ in range(3):
        await asyncio.sleep(35.0)
        await world.all_of([device.complete(), *world.sweeps()])


SCENES: Final[dict[str, Callable[["World"], Awaitable[None]]]] = {
    scene.__name__: scene
    for scene in (
        one_request_twice,
        renewed_at_the_end,
        a_full_account,
        an_asset_at_once,
        a_burst,
        a_listing_in_pieces,
        slow_readers,
        a_reader_that_misses_twice,
        a_hub_that_cannot_read,
        a_completion_that_is_joined,
        a_newer_version,
        cuts_of_a_lost_race,
    )
}
