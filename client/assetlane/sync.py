"""The client for programs without an event loop: Django, Flask, Celery, scripts.

    with Client("127.0.0.1:50151", uid="ann") as client:
        asset = client.upload("beach.jpg", partition="public")
        print(client.read_url(asset, "small"))

It is the asynchronous client, driven from a thread of its own: every method takes the same arguments, returns the same
and raises the same. What is an asynchronous iterator there is a generator here; close it, or leave it to the garbage
collector, to end a watch.

A client may be used from any number of threads at once. It opens itself with the first call, so that a module may
hold one; it closes at the end of a `with` block, with `close()`, or when the program ends. A process that was forked
from one with an open client cannot use that client: each call raises ClientUnusable and says so.
"""

import asyncio
import concurrent.futures
import inspect
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

import grpc

from assetlane import client as asynchronous
from assetlane.client import CALL_TIMEOUT, COMPLETE_TIMEOUT, DEFAULT_TARGET
from assetlane.errors import ClientUnusable, Unavailable
from assetlane.progress import Progress
from assetlane.v1.upload_service_pb2 import ProgressEvent, StatusEvent

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")

CLEAN_UP_SECONDS = 10.0  # what an interrupted upload has to be given up, and a closing client altogether
"""Longer than one upload's own limit for it."""


class _Driver:
    """An event loop in a thread, and the asynchronous client that lives there."""

    def __init__(self, make: Callable[[], asynchronous.Client]) -> None:
        """Starts the thread and opens the client. Raises what opening it raises."""
        self.pid = os.getpid()
        self.client = make()
        self._loop = asyncio.new_event_loop()
        # A daemon: the interpreter waits for other threads before it closes what is open.
        self._thread = threading.Thread(target=self._run, name="assetlane", daemon=True)
        self._tasks: dict[concurrent.futures.Future[Any], asyncio.Task[Any]] = {}
        self._gate = threading.Lock()
        self._is_closed = False
        self._thread.start()
        try:
            self.call(self.client.__aenter__())
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    @property
    def is_here(self) -> bool:
        """Whether the caller is a callback that runs in the client's own thread."""
        return threading.current_thread() is self._thread

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` in the thread, and returns or raises what it does.

        When the caller is interrupted meanwhile (Ctrl-C, a time limit of Celery), the work is cancelled and has
        CLEAN_UP_SECONDS to end.
        """
        if self.is_here:
            work.close()
            message = "a callback of the client must not call it: it would wait for itself"
            raise ClientUnusable(message, reason="CLIENT_CALLED_BACK")
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        if not self._hand_over(work, outcome):
            raise _closed()
        try:
            return outcome.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            if not outcome.done():
                self._loop.call_soon_threadsafe(self._cancel, outcome)
                concurrent.futures.wait([outcome], timeout=CLEAN_UP_SECONDS)
            raise

    def schedule(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work` in the thread some time, without waiting for it; drops it when the client is closed."""
        self._hand_over(work, concurrent.futures.Future())

    def _hand_over(self, work: Coroutine[Any, Any, T], outcome: "concurrent.futures.Future[T]") -> bool:
        # Under the lock: what is handed over at all comes before the closing, which ends it.
        with self._gate:
            if self._is_closed or os.getpid() != self.pid:
                work.close()
                return False
            self._loop.call_soon_threadsafe(self._start, work, outcome)
            return True

    def _start(self, work: Coroutine[Any, Any, T], outcome: "concurrent.futures.Future[T]") -> None:
        task = self._tasks[outcome] = self._loop.create_task(work)
        task.add_done_callback(partial(self._ended, outcome))

    def _cancel(self, outcome: "concurrent.futures.Future[Any]") -> None:
        if (task := self._tasks.get(outcome)) is not None:
            task.cancel()

    def _ended(self, outcome: "concurrent.futures.Future[T]", task: "asyncio.Task[T]") -> None:
        del self._tasks[outcome]
        if task.cancelled():
            outcome.cancel()
            outcome.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    def close(self) -> None:
        """Ends what is under way, closes the client and ends the thread. Harmless after a fork, and twice."""
        if os.getpid() != self.pid:
            return
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._begin_to_shut)
        if not self.is_here:  # the garbage collector runs anywhere
            self._thread.join(2 * CLEAN_UP_SECONDS)

    def _begin_to_shut(self) -> None:
        self._shutting = self._loop.create_task(self._shut())  # the loop itself holds tasks weakly

    async def _shut(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLEAN_UP_SECONDS)
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self.client.aclose()
        finally:
            self._loop.stop()


def _closed() -> Unavailable:
    return Unavailable("the client was closed during the call", reason="CLIENT_CLOSED")


def _blocking(
    method: Callable[Concatenate[asynchronous.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Client", P], T]:
    """Returns the method that waits for this one's result."""

    @wraps(method)
    def waits(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        driver = self._open_driver()
        return driver.call(method(driver.client, *args, **_with_callbacks_elsewhere(kwargs)))

    return waits


def _iterating(
    method: Callable[Concatenate[asynchronous.Client, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate["Client", P], Generator[T, None, None]]:
    """Returns the method that gives a generator of what this one yields."""

    @wraps(method)
    def gives(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        driver = self._open_driver()
        return _items(self, driver, method(driver.client, *args, **_with_callbacks_elsewhere(kwargs)))

    return gives


def _items(owner: "Client", driver: _Driver, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yields what `items` yields; holds the client, which would be closed once nobody does."""

    async def following() -> tuple[T] | None:
        try:
            return (await anext(items),)
        except StopAsyncIteration:
            return None

    async def end() -> None:
        await items.aclose()

    try:
        while (item := driver.call(following())) is not None:
            yield item[0]
    finally:
        # Not awaited: the garbage collector may run this anywhere, in the client's own thread too.
        driver.schedule(end())


def _with_callbacks_elsewhere(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Moves `on_progress` to a thread of its own: it may take its time, and may call the client."""
    given = dict(kwargs)
    on_progress = given.get("on_progress")
    if on_progress is not None and not inspect.iscoroutinefunction(on_progress):

        async def elsewhere(progress: Progress) -> None:
            await asyncio.to_thread(on_progress, progress)

        given["on_progress"] = elsewhere
    return given


class Client:
    """A connection to an Assetlane server, for use as `with Client(target) as client:` or held by a module.

    Takes what `assetlane.Client` takes; where `token` is a function, it is an ordinary one that returns the
    current token, called in a thread of its own. `on_progress` is called in another thread too, one call at a time.

    Raises ClientUnusable when it is used after `close()`, in a process forked after it was opened, or in a callback
    that runs in its own thread (`on_received`).
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        uid: str = "",
        session_id: str | None = None,
        token: str | Callable[[], str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        call_timeout: float = CALL_TIMEOUT,
        complete_timeout: float = COMPLETE_TIMEOUT,
    ) -> None:
        self._make = partial(
            asynchronous.Client,
            target,
            uid=uid,
            session_id=session_id,
            token=_awaitable(token) if callable(token) else token,
            credentials=credentials,
            call_timeout=call_timeout,
            complete_timeout=complete_timeout,
        )
        self._lock = threading.Lock()
        self._driver: _Driver | None = None
        self._is_closed = False
        self.target = target
        self.uid = uid

    def __enter__(self) -> Self:
        self._open_driver()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def session_id(self) -> str:
        """The session that uploads belong to unless they name another."""
        return self._open_driver().client.session_id

    def close(self) -> None:
        """Closes every connection. Calls under way in other threads raise Unavailable (CLIENT_CLOSED)."""
        with self._lock:
            driver, self._driver, self._is_closed = self._driver, None, True
        if driver is not None:
            driver.close()

    def _open_driver(self) -> _Driver:
        driver = self._driver
        if driver is None:
            with self._lock:
                if self._is_closed:
                    raise ClientUnusable("the client is closed: make another one", reason="CLIENT_CLOSED")
                driver = self._driver
                if driver is None:
                    driver = self._driver = _Driver(self._make)
                    # When nobody holds the client any more, and when the program ends.
                    weakref.finalize(self, driver.close)
        if driver.pid != os.getpid():
            raise ClientUnusable(
                f"this client was opened in process {driver.pid}, and its thread and connections did not come along"
                " through the fork: make a client in each process, or open none before the fork",
                reason="CLIENT_FORKED",
            )
        return driver

    upload = _blocking(asynchronous.Client.upload)
    upload_many = _iterating(asynchronous.Client.upload_many)
    request_upload = _blocking(asynchronous.Client.request_upload)
    create_token = _blocking(asynchronous.Client.create_token)
    sign_parts = _blocking(asynchronous.Client.sign_parts)
    list_parts = _blocking(asynchronous.Client.list_parts)
    report_progress = _blocking(asynchronous.Client.report_progress)
    complete_upload = _blocking(asynchronous.Client.complete_upload)
    cancel_upload = _blocking(asynchronous.Client.cancel_upload)
    get_upload = _blocking(asynchronous.Client.get_upload)
    list_uploads = _iterating(asynchronous.Client.list_uploads)
    get_asset = _blocking(asynchronous.Client.get_asset)
    list_assets = _iterating(asynchronous.Client.list_assets)
    watch_assets = _iterating(asynchronous.Client.watch_assets)
    refresh_asset = _blocking(asynchronous.Client.refresh_asset)
    refresh_assets = _blocking(asynchronous.Client.refresh_assets)
    delete_asset = _blocking(asynchronous.Client.delete_asset)
    read_url = _blocking(asynchronous.Client.read_url)
    download_url = _blocking(asynchronous.Client.download_url)
    download = _blocking(asynchronous.Client.download)
    download_into = _blocking(asynchronous.Client.download_into)

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: Literal[False] = False
    ) -> Generator[StatusEvent, None, None]: ...

    @overload
    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: Literal[True]
    ) -> Generator[StatusEvent | ProgressEvent, None, None]: ...

    def watch_upload(
        self, upload_id: str, after_revision: int = 0, *, progress: bool = False
    ) -> Generator[StatusEvent, None, None] | Generator[StatusEvent | ProgressEvent, None, None]:
        """Yields every status change, as `assetlane.Client.watch_upload` does."""
        driver = self._open_driver()
        if progress:
            return _items(self, driver, driver.client.watch_upload(upload_id, after_revision, progress=True))
        return _items(self, driver, driver.client.watch_upload(upload_id, after_revision))

    @overload
    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: Literal[False] = False,
    ) -> Generator[StatusEvent, None, None]: ...

    @overload
    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: Literal[True],
    ) -> Generator[StatusEvent | ProgressEvent, None, None]: ...

    def watch_session(
        self,
        session_id: str | None = None,
        after_revisions: Mapping[str, int] | None = None,
        *,
        progress: bool = False,
    ) -> Generator[StatusEvent, None, None] | Generator[StatusEvent | ProgressEvent, None, None]:
        """Yields every status change of a session's uploads, as `assetlane.Client.watch_session` does."""
        driver = self._open_driver()
        if progress:
            return _items(self, driver, driver.client.watch_session(session_id, after_revisions, progress=True))
        return _items(self, driver, driver.client.watch_session(session_id, after_revisions))


def _awaitable(token: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    async def current() -> str:
        return await asyncio.to_thread(token)

    return current
