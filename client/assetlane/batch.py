"""Many uploads at once, a bounded number of them at a time; each ends for itself."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from assetlane.cut_sizes import CutOptions, CutSize
from assetlane.progress import OnProgress
from assetlane.spooling import BinaryFile
from assetlane.spooling import Origin as Origin
from assetlane.v1.asset_pb2 import Asset

T = TypeVar("T")
R = TypeVar("R")


class UploadOptions(TypedDict, total=False):
    """The keyword arguments of `Client.upload`."""

    file_path: str | None
    partition: str
    asset_partition: str
    expiration_hours: float | None
    title: str
    caption: str
    color: str
    duration: timedelta | None
    extra: Mapping[str, Any] | None
    content_type: str | None
    cuts: bool | Sequence[CutSize]
    cut_options: CutOptions
    cut_maker: Literal["client", "server"]
    preview_at: timedelta | None
    require_cuts: bool
    request_id: str | None
    write_url_lifetime: timedelta | None
    on_progress: OnProgress | None


class UploadItem:
    """One of many uploads, with the options in which it differs from the others.

    `UploadItem("beach.jpg", file_path="2026/beach.jpg", title="Beach")`
    """

    __slots__ = ("options", "origin")

    origin: Origin
    options: Mapping[str, Any]

    def __init__(self, origin: Origin, **options: Unpack[UploadOptions]) -> None:
        if not isinstance(origin, str | os.PathLike | bytes | BinaryFile):
            raise TypeError(f"upload takes a path, bytes or an open binary file, not {type(origin).__name__}")
        check_options(options)
        self.origin = origin
        self.options = MappingProxyType(dict(options))

    def __repr__(self) -> str:
        if isinstance(self.origin, bytes):
            shown = f"{len(self.origin)} bytes"
        else:
            shown = repr(os.fspath(self.origin) if isinstance(self.origin, str | os.PathLike) else self.origin)
        return ", ".join([f"UploadItem({shown}", *(f"{name}={value!r}" for name, value in self.options.items())]) + ")"


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """What became of one of many uploads: an asset, or the error that `Client.upload` would have raised.

    `index`: the item's place among all, from 0.
    """

    index: int
    item: UploadItem
    asset: Asset | None
    error: Exception | None

    @property
    def is_stored(self) -> bool:
        """Whether there is an asset."""
        return self.error is None

    def result(self) -> Asset:
        """Returns the asset, or raises the error."""
        if self.error is not None:
            raise self.error
        assert self.asset is not None  # noqa: S101 - one of both is there
        return self.asset


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T, R]):
    """What became of one item: a result, or an error. `index`: its place among all, from 0."""

    index: int
    item: T
    result: R | None = None
    error: Exception | None = None


def check_options(options: Mapping[str, Any]) -> None:
    """Raises TypeError for an option that `Client.upload` does not have."""
    if unknown := options.keys() - UploadOptions.__annotations__.keys():
        raise TypeError(f"upload has no option {', '.join(sorted(unknown))}")


def check_shared(options: Mapping[str, Any]) -> None:
    """Raises TypeError for options that cannot hold for several uploads at once."""
    check_options(options)
    for name in ("file_path", "request_id"):
        if options.get(name) is not None:
            raise TypeError(f"{name} is for one upload: give it to that one's UploadItem")


async def attempted(
    items: Iterable[T] | AsyncIterable[T], work: Callable[[T], Awaitable[R]], concurrency: int
) -> AsyncGenerator[Attempt[T, R], None]:
    """Yields what became of each item, as soon as it is known; `concurrency` of them are under way at a time.

    Items are taken as they are needed, so there may be any number. An `Exception` of `work` is that item's outcome
    and ends no other. What the iterable itself raises is raised here, after the outcomes of what was under way.
    A consumer that stops, or is cancelled, cancels what is under way and waits until it has cleaned up.
    """
    stream = _stream(items)
    running: dict[asyncio.Task[R], tuple[int, T]] = {}
    pulling: asyncio.Task[T] | None = None
    index = 0
    is_over = False
    fault: Exception | None = None
    try:
        while True:
            if pulling is None and not is_over and len(running) < concurrency:
                pulling = asyncio.create_task(_next(stream))
            waiting: list[asyncio.Task[Any]] = [*running, *([pulling] if pulling else [])]
            if not waiting:
                break
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if pulling is not None and pulling in done:
                try:
                    item = pulling.result()
                except StopAsyncIteration:
                    is_over = True
                except Exception as error:
                    is_over, fault = True, error
                else:
                    running[asyncio.create_task(_run(work, item))] = index, item
                    index += 1
                pulling = None
            for task in [task for task in running if task in done]:
                place, item = running.pop(task)
                yield _attempt(place, item, task)
        if fault is not None:
            raise fault
    finally:
        left: list[asyncio.Task[Any]] = [*running, *([pulling] if pulling else [])]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for task in left:
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not warn: nobody waits for it
        await stream.aclose()


def _attempt(index: int, item: T, task: asyncio.Task[R]) -> Attempt[T, R]:
    """Returns what became of an item. Nobody but its own work has cancelled it: that is an error like others."""
    if task.cancelled():
        return Attempt(index, item, error=RuntimeError("the work on it was cancelled from within"))
    error = task.exception()
    if error is None:
        return Attempt(index, item, result=task.result())
    if not isinstance(error, Exception):
        raise error  # SystemExit, KeyboardInterrupt: the whole process is meant
    return Attempt(index, item, error=error)


async def _run(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)


async def _next(stream: AsyncGenerator[T, None]) -> T:
    return await anext(stream)


async def _stream(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
