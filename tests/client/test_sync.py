"""The client for programs without an event loop: the same methods, from any thread, closed whatever happens."""

import asyncio
import gc
import inspect
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.client.lane_server import LaneServer
from tests.client.object_store import ObjectStore
from tests.commands import environment
from tests.refusals import raises

import assetlane
from assetlane import ClientUnusable, NotFound, ProgressEvent, StatusEvent, Unavailable, UploadStatus, sync

pytestmark = pytest.mark.timeout(60)

LIMIT_S = 30.0


async def elsewhere(work: Callable[..., Any], *arguments: Any) -> Any:
    """Runs blocking work in a thread: the server lives in this one's loop."""
    return await asyncio.wait_for(asyncio.to_thread(work, *arguments), LIMIT_S)


async def ended(code: str, target: str) -> tuple[int | None, str, str]:
    """Runs a program to its end; every warning is an error."""
    process = await begun(code, target)
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    return process.returncode, out.decode(), err.decode()


async def begun(code: str, target: str) -> asyncio.subprocess.Process:
    """Starts a program."""
    own = {**environment(target), "GRPC_VERBOSITY": "NONE"}
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, stderr=PIPE, env=own)


def test_it_has_every_method_of_the_asynchronous_one() -> None:
    """Methods and parameters are those of the asynchronous client."""
    for name, method in inspect.getmembers(assetlane.Client, inspect.isfunction):
        if name.startswith("_") or name == "aclose":
            continue
        twin = getattr(sync.Client, name)
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(method).parameters), name
        assert twin.__doc__


async def test_it_uploads_reads_lists_and_deletes(server: LaneServer, jpeg: bytes, tmp_path: Path) -> None:
    """Each call returns what the asynchronous client returns."""

    def work() -> None:
        with sync.Client(server.target, uid="ann") as lane:
            steps: list[str] = []
            asset = lane.upload(
                jpeg,
                file_path="a/beach.jpg",
                partition="public",
                on_progress=lambda step: steps.append(step.status_name),
            )
            assert [variant.name for variant in asset.variants] == ["original", "small", "medium", "large"]
            assert steps[-1] == "COMPLETED"
            assert lane.read_url(asset, "small") == asset.variants[1].read_url
            assert lane.download(asset, to=tmp_path / "beach.jpg").read_bytes() == jpeg
            more = [lane.upload(b"hello", file_path=f"{n}.txt", partition="public") for n in range(4)]
            listed = list(lane.list_assets("public", page_size=2))
            assert [found.asset_id for found in listed] == [one.asset_id for one in (*more[::-1], asset)]
            lane.delete_asset(asset.asset_id)
            with pytest.raises(NotFound) as raised:
                lane.get_asset(asset.asset_id)
            assert raised.value.reason == "ASSET_NOT_FOUND"

    await elsewhere(work)


async def test_eight_threads_share_one_client(server: LaneServer) -> None:
    """The first call opens the client, once, whichever thread makes it."""
    lane = sync.Client(server.target, uid="ann")
    before = {thread.ident for thread in threading.enumerate()}

    def work(number: int) -> None:
        for count in range(5):
            asset = lane.upload(f"{number}-{count}".encode(), file_path=f"{number}-{count}.txt", partition="public")
            statuses = [event.upload.status for event in lane.watch_upload(asset.asset_id)]
            assert statuses[-1] == UploadStatus.UPLOAD_STATUS_COMPLETED
            assert lane.get_asset(asset.asset_id).file_path == f"{number}-{count}.txt"

    def all_of_it() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    await elsewhere(all_of_it)
    ours = [thread for thread in threading.enumerate() if thread.name == "assetlane" and thread.ident not in before]
    assert len(ours) == 1
    assert len(server.assets) == 40
    await elsewhere(lane.close)
    assert not ours[0].is_alive()


async def test_a_watch_is_a_generator_that_can_be_left(server: LaneServer) -> None:
    """With and without progress; closing it, or forgetting it, ends the call at the server."""
    with sync.Client(server.target, uid="ann", session_id="S1") as lane:

        def follow() -> None:
            asset = lane.upload(b"hello", file_path="a.txt")
            events = lane.watch_session(progress=True)
            first = next(events)
            assert isinstance(first, StatusEvent | ProgressEvent)
            for event in lane.watch_upload(asset.asset_id):
                assert event.upload.session_id == "S1"
            events.close()
            watch = lane.watch_session("S1")
            next(watch)
            del watch
            gc.collect()

        await elsewhere(follow)
        async with asyncio.timeout(LIMIT_S):
            while server.open_watches:
                server.watch_closed.clear()
                await server.watch_closed.wait()


async def test_a_token_function_is_an_ordinary_one(server: LaneServer) -> None:
    """Called before each call, not in the client's own thread."""
    threads = []

    def token() -> str:
        threads.append(threading.current_thread().name)
        return f"token-{len(threads)}"

    def work() -> None:
        with sync.Client(server.target, token=token) as lane:
            list(lane.list_assets("public"))
            list(lane.list_assets("public"))

    await elsewhere(work)
    assert [sent["authorization"] for sent in server.metadata] == ["Bearer token-1", "Bearer token-2"]
    assert "assetlane" not in threads


async def test_a_progress_callback_may_call_the_client(server: LaneServer) -> None:
    """It runs in another thread; what runs in the client's own thread is refused instead of waiting for ever."""
    with sync.Client(server.target, uid="ann") as lane:
        seen: list[str] = []

        def look(step: assetlane.Progress) -> None:
            seen.append(lane.get_upload(step.upload_id).upload_id)

        def refused(received: int) -> None:
            lane.get_asset("A1")

        def work() -> None:
            asset = lane.upload(b"hello", file_path="a.txt", on_progress=look)
            assert set(seen) == {asset.asset_id}
            with raises(ClientUnusable, reason="CLIENT_CALLED_BACK"):
                lane.download(asset, to="/dev/null.never", on_received=refused)

        await elsewhere(work)


async def test_closing_ends_the_calls_of_other_threads(server: LaneServer) -> None:
    """A watch of another thread ends with CLIENT_CLOSED, a call with that or its result; later ones are refused."""
    lane = sync.Client(server.target, uid="ann", session_id="S1")
    server.gate = asyncio.Event()

    def upload() -> Exception | None:
        try:
            lane.upload(b"hello", file_path="a.txt")
        except Unavailable as error:
            return error
        return None

    def watch() -> Exception | None:
        try:
            list(lane.watch_session("S2"))
        except Unavailable as error:
            return error
        return None

    calls = [asyncio.create_task(elsewhere(work)) for work in (upload, watch)]
    async with asyncio.timeout(LIMIT_S), server.changed:
        await server.changed.wait_for(lambda: server.called("RequestUpload") and server.called("WatchUpload"))
    server.gate.set()
    await elsewhere(lane.close)
    assert {getattr(await call, "reason", None) for call in calls} <= {"CLIENT_CLOSED", None}
    assert (await calls[1]).reason == "CLIENT_CLOSED"
    with raises(ClientUnusable, reason="CLIENT_CLOSED"):
        lane.get_asset("A1")
    lane.close()


async def test_an_interrupted_upload_is_given_up(server: LaneServer, store: ObjectStore) -> None:
    """Ctrl-C reaches the caller; the upload is cancelled at the server before the program ends."""
    store.stall = asyncio.Event()
    code = """
import os
from assetlane import sync
lane = sync.Client(os.environ["ASSETLANE_TARGET"], uid="ann")
try:
    lane.upload(b"hello", file_path="a.txt")
except KeyboardInterrupt:
    print("interrupted")
"""
    process = await begun(code, server.target)
    async with asyncio.timeout(LIMIT_S):
        await store.reached.wait()
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert (process.returncode, out, err) == (0, b"interrupted\n", b"")
    assert [upload.status for upload in server.uploads.values()] == [UploadStatus.UPLOAD_STATUS_CANCELLED]


async def test_a_program_ends_with_an_open_client_and_an_open_watch(server: LaneServer) -> None:
    """Nothing has to be closed by hand: no warning, no hanging, and the server sees the watch end."""
    code = """
import os
from assetlane import sync
lane = sync.Client(os.environ["ASSETLANE_TARGET"], uid="ann", session_id="S1")
lane.upload(b"hello", file_path="a.txt")
watch = lane.watch_session()
print(next(watch).upload.file_path)
"""
    assert await ended(code, server.target) == (0, "a.txt\n", "")
    async with asyncio.timeout(LIMIT_S):
        while server.open_watches:
            server.watch_closed.clear()
            await server.watch_closed.wait()


async def test_a_client_that_is_forgotten_is_closed(server: LaneServer) -> None:
    """Its thread ends with it; a generator that is still held keeps the client open."""

    def work() -> threading.Thread:
        lane = sync.Client(server.target, uid="ann", session_id="S1")
        lane.upload(b"hello", file_path="a.txt")
        (thread,) = [one for one in threading.enumerate() if one.name == "assetlane"]
        watch = lane.watch_session()
        del lane
        gc.collect()
        assert next(watch).upload.file_path == "a.txt"
        watch.close()
        del watch
        gc.collect()
        thread.join(LIMIT_S)
        return thread

    thread = await elsewhere(work)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_after_a_fork_the_error_says_so(server: LaneServer) -> None:
    """Each call in the child, its watches and its end; the parent's client works on, and so does one not yet open."""
    code = """
import os
from assetlane import sync
target = os.environ["ASSETLANE_TARGET"]
lane, unopened = sync.Client(target, uid="ann"), sync.Client(target, uid="ann")
watch = None
if os.environ.get("OPEN_FIRST"):
    lane.upload(b"hello", file_path="a.txt")
    watch = lane.watch_session()
    next(watch)
child = os.fork()
if not child:
    if watch is None:
        print(unopened.upload(b"hello", file_path="b.txt").file_path, flush=True)
        raise SystemExit(0)
    calls = [lambda: lane.get_asset("A1"), lambda: lane.watch_upload("A1"), lambda: list(lane.list_assets("public"))]
    for call in calls:
        try:
            call()
        except RuntimeError as error:
            print("through the fork" in str(error), str(os.getppid()) in str(error), flush=True)
    watch.close()
    lane.close()
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
print(lane.upload(b"hello", file_path="c.txt").file_path)
"""
    assert await ended(code, server.target) == (0, "b.txt\nc.txt\n", "")
    opened = f"import os; os.environ['OPEN_FIRST'] = '1'\n{code}"
    assert await ended(opened, server.target) == (0, "True True\n" * 3 + "c.txt\n", "")


async def test_there_is_no_server(server: LaneServer) -> None:
    """The error has the class and the sentence of the asynchronous client."""

    def work() -> None:
        with (
            sync.Client("127.0.0.1:1", call_timeout=0.2) as lane,
            raises(Unavailable, reason="UNAVAILABLE", names=["127.0.0.1:1"]),
        ):
            lane.get_asset("A1")

    await elsewhere(work)
