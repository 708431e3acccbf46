"""How a watch goes on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest
from tests.client.lane_server import Fault, LaneServer
from ulid import ULID

from assetlane import (
    AssetlaneError,
    Client,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    ServerFailed,
    StatusEvent,
    Unauthenticated,
    Unavailable,
    Upload,
    UploadStatus,
    watching,
)
from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import RequestUploadRequest, WatchUploadResponse

pytestmark = pytest.mark.timeout(20)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the waits between streams short."""
    monkeypatch.setattr(watching, "FIRST_DELAY", 0.001)


@pytest.fixture
async def upload(lane: Client) -> Upload:
    """Gives an upload that is INITIALIZED: two revisions."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5)
    reply = await lane.request_upload(RequestUploadRequest(file_path="a.txt", variants=[promise]))
    return reply.upload


async def finish(server: LaneServer, upload: Upload) -> None:
    """Moves the upload to its end: two more revisions."""
    server.put(upload.upload_id, b"hello")
    await server.complete(upload.upload_id)


async def revisions(events: AsyncGenerator[StatusEvent, None], count: int) -> list[int]:
    """Returns the next revisions that a watch yields."""
    return [(await anext(events)).upload.revision for _ in range(count)]


async def all_revisions(events: AsyncGenerator[StatusEvent, None]) -> list[int]:
    """Returns the revisions up to the end of the watch."""
    async with aclosing(events):
        return [event.upload.revision async for event in events]


class Proxy:
    """Forwards connections to a server until they are dropped."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self.address = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str) -> AsyncIterator["Proxy"]:
        """Runs a proxy on a free port of 127.0.0.1."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._forward, "127.0.0.1", 0)
        proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield proxy
            server.close()
            proxy.drop()

    def drop(self) -> None:
        """Resets every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target.split(":")
        there, back = await asyncio.open_connection(host, int(port))
        self._open |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            writer.transport.abort()
        finally:
            writer.close()
            self._open.discard(writer)


async def test_a_watch_sends_everything_and_ends(lane: Client, server: LaneServer, upload: Upload) -> None:
    """All revisions come in order, and the final one ends the watch."""
    events = lane.watch_upload(upload.upload_id)
    assert await revisions(events, 2) == [1, 2]
    await finish(server, upload)
    assert await all_revisions(events) == [3, 4]


async def test_a_watch_starts_after_what_was_seen(lane: Client, server: LaneServer, upload: Upload) -> None:
    """`after_revision` leaves out what came before, down to nothing."""
    await finish(server, upload)
    assert await all_revisions(lane.watch_upload(upload.upload_id, after_revision=2)) == [3, 4]


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ],
)
async def test_a_watch_resumes_where_the_server_broke_off(
    lane: Client, server: LaneServer, upload: Upload, code: grpc.StatusCode
) -> None:
    """No revision is missed or repeated however often the stream ends early."""
    await finish(server, upload)
    server.faults["WatchUpload"].extend([Fault(code), Fault(code, after=1), Fault(code, after=2)])
    assert await all_revisions(lane.watch_upload(upload.upload_id)) == [1, 2, 3, 4]
    assert [request.after_revision for request in server.called("WatchUpload")] == [0, 0, 1, 3]


@pytest.mark.parametrize("is_bare", [False, True])
async def test_a_watch_that_is_too_much_for_ever_ends_with_its_error(
    lane: Client, server: LaneServer, upload: Upload, is_bare: bool
) -> None:
    """Such as a message that is too large: without a time to wait, it is not tried without end."""
    fault = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", is_bare=is_bare)
    server.faults["WatchUpload"].extend([fault] * 20)
    with pytest.raises(ResourceExhausted) as refused:
        await anext(lane.watch_upload(upload.upload_id))
    assert refused.value.reason == ("RESOURCE_EXHAUSTED" if is_bare else "MESSAGE_TOO_LARGE")
    assert len(server.called("WatchUpload")) < 10


async def test_a_full_server_is_asked_for_a_watch_as_long_as_it_names_a_wait(
    lane: Client, server: LaneServer, upload: Upload
) -> None:
    """More often than what is in doubt is tried, and then there is a place."""
    await finish(server, upload)
    full = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHES", retry_after=0.001)
    server.faults["WatchUpload"].extend([full] * 8)
    assert await all_revisions(lane.watch_upload(upload.upload_id)) == [1, 2, 3, 4]


async def test_a_watch_survives_dropped_connections(server: LaneServer, lane: Client, upload: Upload) -> None:
    """A reset connection is opened again, without a gap or a repeat."""
    async with Proxy.to(server.target) as proxy, Client(proxy.address) as other:
        events = other.watch_upload(upload.upload_id)
        assert await revisions(events, 2) == [1, 2]
        proxy.drop()
        await finish(server, upload)
        assert await all_revisions(events) == [3, 4]


async def test_silence_means_a_dead_peer(lane: Client, server: LaneServer, upload: Upload) -> None:
    """A stream without heartbeats is opened again."""
    cursor = watching.UploadCursor(upload.upload_id, after_revision=2)
    events = watching.watch(lane._server.open_upload_watch, cursor, silence=0.05)
    async with asyncio.TaskGroup() as group:
        received = group.create_task(all_revisions(events))
        for _ in range(3):
            server.watch_opened.clear()
            await server.watch_opened.wait()
        await finish(server, upload)
    assert received.result() == [3, 4]


async def test_a_session_is_watched_with_its_later_uploads(lane: Client, server: LaneServer) -> None:
    """A session's watch resumes upload by upload and never repeats."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5)
    request = RequestUploadRequest(file_path="a.txt", variants=[promise], request_id="1")
    first = (await lane.request_upload(request)).upload
    server.faults["WatchUpload"].append(Fault(grpc.StatusCode.UNAVAILABLE, after=3))
    async with aclosing(lane.watch_session()) as events:
        assert await revisions(events, 2) == [1, 2]
        request.request_id = "2"
        second = (await lane.request_upload(request)).upload
        assert await revisions(events, 2) == [1, 2]
        await finish(server, first)
        received = [await anext(events), await anext(events)]
    assert [(event.upload.upload_id, event.upload.revision) for event in received] == [
        (first.upload_id, 3),
        (first.upload_id, 4),
    ]
    assert server.called("WatchUpload")[1].after_revisions == {first.upload_id: 2, second.upload_id: 1}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.OUT_OF_RANGE, OutOfRange),
        (grpc.StatusCode.UNIMPLEMENTED, ServerFailed),
    ],
)
async def test_permanent_errors_are_raised(
    lane: Client, server: LaneServer, upload: Upload, code: grpc.StatusCode, kind: type[AssetlaneError]
) -> None:
    """What a repeat would only meet again ends the watch, once."""
    server.faults["WatchUpload"].append(Fault(code, "SOME_REASON"))
    with pytest.raises(kind) as raised:
        await all_revisions(lane.watch_upload(upload.upload_id))
    assert raised.value.reason == "SOME_REASON"
    assert len(server.called("WatchUpload")) == 1


async def test_a_server_that_keeps_failing_is_not_asked_for_ever(
    lane: Client, server: LaneServer, upload: Upload
) -> None:
    """INTERNAL may be a broken connection, but not six times without a single event."""
    server.faults["WatchUpload"].extend([Fault(grpc.StatusCode.INTERNAL)] * 10)
    with pytest.raises(ServerFailed):
        await all_revisions(lane.watch_upload(upload.upload_id))
    assert len(server.called("WatchUpload")) == 6


async def test_closing_a_watch_ends_its_call(lane: Client, server: LaneServer, upload: Upload) -> None:
    """The server sees the call end when the reader calls `aclose`."""
    events = lane.watch_upload(upload.upload_id)
    await anext(events)
    await events.aclose()
    await server.watch_closed.wait()
    assert server.open_watches == 0


async def test_cancelling_a_watch_ends_its_call(lane: Client, server: LaneServer, upload: Upload) -> None:
    """A cancelled reader is cancelled, and the server feels it."""
    task = asyncio.create_task(all_revisions(lane.watch_upload(upload.upload_id)))
    await server.watch_opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.watch_closed.wait()
    assert server.open_watches == 0


async def test_closing_the_client_ends_its_watches_with_an_error(
    server: LaneServer, lane: Client, upload: Upload
) -> None:
    """Who watches through a closed client gets an error, not a cancellation that nobody asked for."""
    other = await Client(server.target).__aenter__()
    task = asyncio.create_task(all_revisions(other.watch_upload(upload.upload_id)))
    await server.watch_opened.wait()
    await other.aclose()
    with pytest.raises(Unavailable) as closed:
        await task
    assert closed.value.reason == "CLIENT_CLOSED"


def test_what_a_session_watch_remembers_is_bounded() -> None:
    """By what is open and what ended lately: 20,000 uploads come and go, one a second, and the request stays small."""
    cursor = watching.SessionCursor("phone")
    waiting = str(ULID.from_timestamp(1_700_000_000.0)).lower()

    def take(upload_id: str, *statuses: UploadStatus.ValueType) -> None:
        for revision, status in enumerate(statuses, 1):
            upload = Upload(upload_id=upload_id, revision=revision, status=status)
            event = WatchUploadResponse(status=StatusEvent(upload=upload))
            assert cursor.take(event) is event.status
            assert cursor.take(event) is None

    take(waiting, UploadStatus.UPLOAD_STATUS_PENDING, UploadStatus.UPLOAD_STATUS_INITIALIZED)
    newest = ""
    for number in range(20_000):
        newest = str(ULID.from_timestamp(1_800_000_000.0 + number)).lower()
        take(newest, UploadStatus.UPLOAD_STATUS_INITIALIZED, UploadStatus.UPLOAD_STATUS_COMPLETED)
    named = cursor.request().after_revisions
    assert named[waiting] == 2
    assert named[newest] == 2
    assert len(named) < 2500
    assert cursor.request().ByteSize() < 100_000
    # All that ended within five minutes of the newest one is still named.
    recent = [str(ULID.from_timestamp(1_800_000_000.0 + 19_999 - ago)).lower()[:10] for ago in range(299)]
    assert {one[:10] for one in named} >= set(recent)
