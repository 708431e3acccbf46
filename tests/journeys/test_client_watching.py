"""The thin client's watches and uploads while servers come and go."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeVar

import pytest
from tests.servers import served

from assetlane import (
    AssetChange,
    Client,
    Progress,
    ProgressEvent,
    RequestUploadRequest,
    StatusEvent,
    UploadStatus,
    VariantPromise,
    WatchAssetsResponse,
    reporting,
)
from assetlane_server.config.settings import Settings

LIMIT_S = 30.0
PARTITION = "team/42"
LIFE = ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]

Event = TypeVar("Event")


class Fleet:
    """Two servers on the same stores. Each comes back on the port that it had."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: dict[int, AsyncExitStack] = {}
        self._addresses: dict[int, str] = {}

    @property
    def target(self) -> str:
        """Both addresses, as gRPC takes them: it connects to one that is there."""
        return "ipv4:" + ",".join(self._addresses.values())

    def address(self, number: int) -> str:
        """Where one of them is called."""
        return self._addresses[number]

    async def start(self, number: int) -> None:
        """Starts one of them."""
        listen = self._addresses.get(number, "127.0.0.1:0")
        running = AsyncExitStack()
        settings = self._settings.model_copy(update={"listen": listen})
        self._addresses[number] = await running.enter_async_context(served(settings))
        self._running[number] = running

    async def stop(self, number: int) -> None:
        """Drains and stops one of them."""
        await self._running.pop(number).aclose()

    async def stop_all(self) -> None:
        """Stops what runs."""
        for number in list(self._running):
            await self.stop(number)


@pytest.fixture
async def fleet(settings: Settings) -> AsyncIterator[Fleet]:
    """Two running servers."""
    fleet = Fleet(settings)
    try:
        await fleet.start(1)
        await fleet.start(2)
        yield fleet
    finally:
        await fleet.stop_all()


@asynccontextmanager
async def reading(events: AsyncGenerator[Event, None]) -> AsyncIterator["asyncio.Queue[Event]"]:
    """Reads a watch all the time, as a program does; yields the queue of what it sent."""
    received: asyncio.Queue[Event] = asyncio.Queue()

    async def read() -> None:
        async with aclosing(events):
            async for event in events:
                received.put_nowait(event)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        yield received
        task.cancel()


async def request(client: Client) -> str:
    """Requests an upload of the client's session."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5)
    reply = await client.request_upload(RequestUploadRequest(file_path="a.txt", variants=[promise]))
    return reply.upload.upload_id


def revisions_of(events: list[StatusEvent]) -> list[tuple[str, int]]:
    """Returns upload ids and revisions."""
    return [(event.upload.upload_id, event.upload.revision) for event in events]


async def taken(received: "asyncio.Queue[Event]", count: int) -> list[Event]:
    """Returns the next events."""
    return [await received.get() for _ in range(count)]


async def test_a_session_watch_simply_goes_on_when_servers_stop(fleet: Fleet) -> None:
    """Each of two servers stops and comes back: every change comes once, in order."""
    async with asyncio.timeout(LIMIT_S), Client(fleet.target, uid="7f3a", session_id="phone") as client:
        async with reading(client.watch_session()) as received:
            first = await request(client)
            assert revisions_of(await taken(received, 2)) == [(first, 1), (first, 2)]
            await fleet.stop(1)
            await client.cancel_upload(first)
            assert revisions_of(await taken(received, 1)) == [(first, 3)]
            await fleet.start(1)
            await fleet.stop(2)
            second = await request(client)
            assert revisions_of(await taken(received, 2)) == [(second, 1), (second, 2)]
        assert received.empty()


async def test_an_asset_watch_simply_goes_on_when_servers_stop(fleet: Fleet) -> None:
    """What happens while a server is away is sent once, deletions included; SYNCED says that it caught up."""
    async with asyncio.timeout(LIMIT_S), Client(fleet.target, uid="7f3a") as client:
        present = await upload(client)
        async with reading(client.watch_assets(PARTITION)) as received:
            assert [kind(event) for event in await taken(received, 2)] == [("PRESENT", present), ("SYNCED", "")]
            await fleet.stop(1)
            added = await upload(client)
            assert kind(await news(received)) == ("ADDED", added)
            await fleet.start(1)
            await fleet.stop(2)
            await client.delete_asset(present)
            deleted = await news(received)
            assert kind(deleted) == ("DELETED", present)

        later = await upload(client)
        async with reading(client.watch_assets(PARTITION, deleted.resume_token)) as received:
            resumed = []
            while not (event := await received.get()).HasField("synced"):
                resumed.append(kind(event))
            assert ("ADDED", later) in resumed
            assert "PRESENT" not in dict(resumed)


async def upload(client: Client) -> str:
    """Brings an asset into the partition."""
    return (await client.upload(b"hello", file_path="a.txt", asset_partition=PARTITION)).asset_id


def kind(event: WatchAssetsResponse) -> tuple[str, str]:
    """Returns what happened, and to which asset."""
    if event.HasField("asset"):
        return AssetChange.Name(event.asset.change).removeprefix("ASSET_CHANGE_"), event.asset.asset.asset_id
    return ("DELETED", event.deleted.asset_id) if event.HasField("deleted") else ("SYNCED", "")


async def news(received: "asyncio.Queue[WatchAssetsResponse]") -> WatchAssetsResponse:
    """Returns the next event but SYNCED, which comes again whenever the watch has caught up."""
    while (event := await received.get()).HasField("synced"):
        continue
    return event


async def test_a_server_restarts_under_an_upload(fleet: Fleet) -> None:
    """The bytes go to the store meanwhile, and the calls wait until the server is back: all four statuses."""
    steps: list[Progress] = []
    moving, sent = asyncio.Event(), asyncio.Event()

    def on_progress(step: Progress) -> None:
        steps.append(step)
        if step.variant:
            moving.set()
        if step.sent_bytes == step.size_bytes:
            sent.set()

    async with asyncio.timeout(LIMIT_S), Client(fleet.address(1), uid="7f3a") as client, asyncio.TaskGroup() as group:
        body = bytes(16 * 1024**2)
        uploading = group.create_task(client.upload(body, file_path="a.bin", on_progress=on_progress))
        await moving.wait()
        await fleet.stop(1)
        await sent.wait()
        await fleet.start(1)
    assert uploading.result().variants[0].size_bytes == len(body)
    assert [step.status_name for step in steps if not step.variant] == LIFE


async def test_what_one_client_uploads_another_sees_move(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client at another server sees the bytes between INITIALIZED and COMPLETED."""
    monkeypatch.setattr(reporting, "QUIET", 0.0)
    monkeypatch.setattr(reporting, "INTERVAL", 0.0)
    async with (
        asyncio.timeout(LIMIT_S),
        Client(fleet.address(1), uid="7f3a", session_id="phone") as client,
        Client(fleet.address(2)) as other,
    ):
        await request(client)
        async with reading(other.watch_session("phone", progress=True)) as received:
            await taken(received, 2)
            size_bytes = 48 * 1024**2
            asset = await client.upload(bytes(size_bytes), file_path="a.bin")
            statuses: list[str] = []
            moved: list[ProgressEvent] = []
            while "COMPLETED" not in statuses:
                event = await received.get()
                if isinstance(event, ProgressEvent):
                    moved.append(event)
                else:
                    statuses.append(UploadStatus.Name(event.upload.status).removeprefix("UPLOAD_STATUS_"))
    assert statuses == LIFE
    assert moved
    assert {event.upload_id for event in moved} == {asset.asset_id}
    assert all(0 < event.sent_bytes <= event.size_bytes == size_bytes for event in moved)
