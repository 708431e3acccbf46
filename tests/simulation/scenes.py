"""Schedules that lead to one rare place: what happens there, and in which order, is left to the event loop.

Anything may happen in `Cluster._anything`, so some places are reached once in ten thousand schedules. Each scene makes
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
    from tests.simulation.cluster import Cluster

_SINGLE: Final = 0  # kinds of `new_sending`
_TWO_VARIANTS: Final = 2
_MULTIPART: Final = 3
_CUTS: Final = 4
_TEAM: Final = "team/all"
_SESSION: Final = "session 0"
_SLOW_WRITE_S: Final = 3.0
_OUTAGE_S: Final = 150.0


async def one_request_twice(cluster: "Cluster") -> None:
    """A request in parts reaches two servers at once, or a second one when the first has died; or the sweeper does."""
    person = cluster.people[0]
    cluster.may_clocks_differ = cluster.pick(2) == 1
    cluster.open(2)
    first = cluster.device(person, new_sending(cluster, person, _SESSION, 0, kind=_MULTIPART))
    sending = first.sending
    second = Device(cluster, person, sending)
    how = cluster.pick(4)
    if how == 0:
        await cluster.all_of([first.request(), second.request()])
        await cluster.skip(timedelta(0))
    elif how == 1:
        cluster.store.on_open = cluster.kill_at_work
        await cluster.all_of([first.request(), second.request()])
    else:
        cluster.store.on_open = cluster.kill_at_work
        uploads = cluster.mongo.collections["uploads"]
        asking = cluster.loop.create_task(first.request_once(), name="a request that is not repeated")
        await asyncio.wait([asking])
        pending = next((one for one in uploads.values() if one["status"] == "PENDING"), None)
        if pending is not None:
            await _until(cluster, pending["sweep_time"])
        await cluster.all_of([second.request(), *cluster.sweeps()])
    if cluster.pick(2):
        cluster.auditor.once(lambda document: document["status"] == "COMPLETED", cluster.kill_at_work)
    await first.send()
    await cluster.all_of([first.complete(), *([second.complete()] if cluster.pick(3) == 2 else [])])


async def renewed_at_the_end(cluster: "Cluster") -> None:
    """Targets are renewed while the upload ends, and bytes come after the sweep that knows nothing of them."""
    person = cluster.people[0]
    cluster.may_clocks_differ = cluster.pick(2) == 1
    cluster.open(1 + cluster.pick(2))
    device = cluster.device(
        person, new_sending(cluster, person, _SESSION, 0, kind=(_SINGLE, _MULTIPART)[cluster.pick(4) == 3])
    )
    other = Device(cluster, person, device.sending)
    await device.request()
    document = cluster.mongo.collections["uploads"].get(device.sending.upload_id)
    if document is None:
        return
    await cluster.skip(timedelta(minutes=10 + cluster.pick(5)))
    is_sent = cluster.pick(4) == 3 and await device.send()
    for server in cluster.servers[:1]:
        server.links[0].slow_s = _SLOW_WRITE_S
    await cluster.all_of([device.request(), other.complete() if is_sent else other.cancel()])
    await cluster.skip(document.get("targets_expire_time", cluster.utc()) + timedelta(seconds=10) - cluster.utc())
    await cluster.all_of([*cluster.sweeps(), device.send()])


async def a_full_account(cluster: "Cluster") -> None:
    """More is asked for at once than an account has room for, and somebody looks whether anything can be given back."""
    person = cluster.people[0]
    cluster.may_clocks_differ = cluster.pick(2) == 1
    cluster.open(1 + cluster.pick(3))
    devices = [
        cluster.device(
            person,
            new_sending(
                cluster,
                person,
                _SESSION,
                number,
                kind=(_SINGLE, _MULTIPART)[cluster.pick(2)],
                partition=(person.partition, _TEAM)[cluster.pick(2)],
            ),
        )
        for number in range(4)
    ]
    await devices[0].request()
    if cluster.pick(2):
        await devices[0].cancel()
    await asyncio.sleep((0.0, 6.0, 95.0)[cluster.pick(3)])
    cluster.faults.write_s = (0.0, 0.5)[cluster.pick(2)]
    await cluster.all_of(
        [*(device.request() for device in devices[1:]), *(cluster.sweeps() if cluster.pick(2) else [])]
    )
    await cluster.all_of([device.cancel() for device in devices if cluster.pick(2)])
    await cluster.skip(timedelta(0))


async def an_asset_at_once(cluster: "Cluster") -> None:
    """One asset is refreshed and deleted at once, on several servers."""
    person = cluster.people[0]
    cluster.open(2 + cluster.pick(2))
    device = await _completed(cluster, 0, (_SINGLE, _TWO_VARIANTS)[cluster.pick(2)], person.partition)
    cluster.watch(PartitionWatcher(cluster, person, person.partition))
    for _ in range(2):
        actions: list[Callable[[], Any]] = [device.refresh, device.refresh, device.delete, device.list_all]
        await cluster.all_of([actions[cluster.pick(len(actions))]() for _ in range(2 + cluster.pick(2))])
        await cluster.think()


async def a_burst(cluster: "Cluster") -> None:
    """More writes wait on one server than a batch takes."""
    cluster.open(1)
    devices = [await _completed(cluster, number, _SINGLE, _TEAM) for number in range(7)]
    cluster.faults.write_s = 0.5
    for _ in range(1 + cluster.pick(2)):
        await cluster.all_of([(device.refresh, device.delete)[cluster.pick(4) == 3]() for device in devices])


async def a_listing_in_pieces(cluster: "Cluster") -> None:
    """A watch of a partition begins when its assets are old, and is cut off while it lists them."""
    person = cluster.people[0]
    cluster.open(2)
    devices = [await _completed(cluster, number, _SINGLE, _TEAM) for number in range(3 + cluster.pick(2))]
    await cluster.skip(timedelta(minutes=3))
    for _ in range(2):
        watcher = PartitionWatcher(cluster, person, _TEAM)
        watcher.is_fickle = True
        cluster.watch(watcher)
    for _ in range(cluster.pick(3)):
        await cluster.think()
        device = devices[cluster.pick(len(devices))]
        await (device.refresh, device.delete)[cluster.pick(2)]()
    await asyncio.sleep(60.0)


async def slow_readers(cluster: "Cluster") -> None:
    """Watches read slowly, hang up and go on, while more happens than their mailboxes hold and streams are lost."""
    person = cluster.people[0]
    cluster.open(1 + cluster.pick(2))
    watchers: list[Watcher] = [
        PartitionWatcher(cluster, person, _TEAM),
        SessionWatcher(cluster, person, _SESSION),
    ]
    for watcher in watchers:
        watcher.is_fickle = True
        cluster.watch(watcher)
    devices = [
        cluster.device(person, new_sending(cluster, person, _SESSION, number, kind=_SINGLE, partition=_TEAM))
        for number in range(4)
    ]
    for device in devices:
        await device.request()
        if not device.sending.upload_id or not await device.send():
            continue
        if cluster.pick(4) == 3:
            cluster.lose_streams()
        await device.complete()
        if cluster.pick(3) == 2:
            await asyncio.sleep((2.0, 20.0)[cluster.pick(2)])
    for _ in range(2 + cluster.pick(3)):
        await asyncio.sleep((0.0, 5.0, 100.0)[cluster.pick(3)])
        if cluster.pick(4) == 3:
            cluster.lose_streams()
        device = devices[cluster.pick(len(devices))]
        await (device.refresh, device.delete)[cluster.pick(2)]()


async def a_reader_that_misses_twice(cluster: "Cluster") -> None:
    """While a watch reads slowly what it was sent, more happens and the stream is lost, twice."""
    person = cluster.people[0]
    cluster.use_heartbeat(timedelta(hours=1))
    cluster.open(1, 0.0)
    watcher = PartitionWatcher(cluster, person, _TEAM)
    watcher.pauses_s = [100.0, 300.0]  # after SYNCED, and after the first asset
    cluster.watch(watcher)
    await asyncio.sleep(1.0)
    # More than the connection takes at once: the watch has not read yet what it missed when more of it comes.
    first, *_ = [await _completed(cluster, number, _SINGLE, _TEAM) for number in range(3)]
    await asyncio.sleep(1.0)
    cluster.lose_streams()
    await asyncio.sleep(105.0)
    await _completed(cluster, 3, _SINGLE, _TEAM)
    cluster.lose_streams()
    await asyncio.sleep(150.0)
    await (first.refresh, first.delete)[cluster.pick(2)]()


async def a_hub_that_cannot_read(cluster: "Cluster") -> None:
    """A server hears of changes and cannot read them for minutes; its watch is cut off, and goes on elsewhere."""
    person = cluster.people[0]
    cluster.use_heartbeat(timedelta(seconds=20))
    cluster.open(2, 0.0)
    device = await _completed(cluster, 0, _SINGLE, _TEAM)
    watcher = PartitionWatcher(cluster, person, _TEAM)
    cluster.watch(watcher)
    await asyncio.sleep(60.0)
    server = watcher.server
    if server is None:
        return
    cluster.is_faultless = False
    server.links[0].is_cut = True
    for _ in range(3):
        await device.refresh()
        await asyncio.sleep(1.0)
    await asyncio.sleep(_OUTAGE_S)
    watcher.hang_up()
    await asyncio.sleep((0.0, 1.0, 30.0)[cluster.pick(3)])
    server.links[0].is_cut = False
    await asyncio.sleep(30.0)


async def a_completion_that_is_joined(cluster: "Cluster") -> None:
    """CompleteUpload is called before the PUTs have ended, and again when they have, on the same server."""
    person = cluster.people[0]
    cluster.is_hurried = True
    cluster.open(1)
    device = cluster.device(
        person, new_sending(cluster, person, _SESSION, 0, kind=(_SINGLE, _TWO_VARIANTS, _CUTS)[cluster.pick(3)])
    )
    other = Device(cluster, person, device.sending)
    await device.request()
    if not device.sending.upload_id:
        return

    async def send_and_complete() -> None:
        await device.send()
        await device.complete()

    await cluster.all_of([send_and_complete(), *(_early(cluster, other.complete) for _ in range(1 + cluster.pick(3)))])


async def _early(cluster: "Cluster", act: Callable[[], Awaitable[object]]) -> None:
    await cluster.think()
    await act()


async def _completed(cluster: "Cluster", number: int, kind: int, partition: str) -> Device:
    """Returns a device whose upload has become an asset, if nothing went wrong."""
    person = cluster.people[0]
    device = cluster.device(person, new_sending(cluster, person, _SESSION, number, kind=kind, partition=partition))
    await device.request()
    if device.sending.upload_id and await device.send():
        await device.complete()
    return device


async def _until(cluster: "Cluster", instant: datetime) -> None:
    """Waits until shortly before an instant, or after it."""
    early_s = (0.0, 0.01, 0.3, -0.01)[cluster.pick(4)]
    await asyncio.sleep(max(0.0, (instant - cluster.utc()).total_seconds() - early_s))


async def a_newer_version(cluster: "Cluster") -> None:
    """A server of a newer version holds an upload back while it is watched, asked for and swept."""
    person = cluster.people[0]
    cluster.open(1 + cluster.pick(2))
    device = cluster.device(person, new_sending(cluster, person, _SESSION, 0, kind=_SINGLE))
    await device.request()
    device.sending.opened.set()
    for watcher in (UploadWatcher(cluster, person, device.sending), SessionWatcher(cluster, person, _SESSION)):
        watcher.is_fickle = cluster.pick(2) == 1
        cluster.watch(watcher)
    await asyncio.sleep((0.0, 0.3, 5.0)[cluster.pick(3)])
    cluster.hold_back()
    actions: list[Callable[[], Any]] = [device.look, device.complete, device.request, device.cancel]
    for _ in range(2):
        await cluster.all_of([actions[cluster.pick(len(actions))](), *(cluster.sweeps() if cluster.pick(2) else [])])
        await cluster.think()
    await asyncio.sleep(15.0)


async def cuts_of_a_lost_race(cluster: "Cluster") -> None:
    """Two servers cut one picture; one of them finds no time and completes the upload without cuts."""
    person = cluster.people[0]
    cluster.may_clocks_differ = cluster.pick(2) == 1
    cluster.open(2)
    cluster.faults.cut = 0.5
    device = cluster.device(person, new_sending(cluster, person, _SESSION, 0, kind=_CUTS))
    other = Device(cluster, person, device.sending)
    await device.request()
    if not await device.send():
        return

    async def complete_late() -> None:
        await asyncio.sleep((0.0, 1.0, 20.0, 62.0)[cluster.pick(4)])
        await other.complete()

    await cluster.all_of([device.complete(), complete_late(), *cluster.sweeps()])
    for _ in range(3):
        await asyncio.sleep(35.0)
        await cluster.all_of([device.complete(), *cluster.sweeps()])


async def a_server_that_stood_still(cluster: "Cluster") -> None:
    """A server stands still for days while it cuts a picture; another one completes it, and its asset is deleted."""
    person = cluster.people[0]
    cluster.open(2, 0.0)
    device = cluster.device(person, new_sending(cluster, person, _SESSION, 0, kind=_CUTS))
    other = Device(cluster, person, device.sending)
    await device.request()
    if not await device.send():
        return
    standing_still = asyncio.create_task(device.complete(), name="a completion that stands still")
    await asyncio.sleep(2.0)
    await other.complete()
    await other.delete()
    for days in (0.1, 1.1, 9.1):
        await cluster.skip(timedelta(days=days))
        await cluster.all_of(cluster.sweeps())
    await standing_still
    await asyncio.sleep(30.0)


SCENES: Final[dict[str, Callable[["Cluster"], Awaitable[None]]]] = {
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
        a_server_that_stood_still,
    )
}
