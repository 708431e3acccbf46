"""Many uploads at once: each ends for itself, and one bad item never ends the others."""

import asyncio
import inspect
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from tests.client.lane_server import Fault, LaneServer
from tests.client.object_store import ObjectStore
from tests.commands import ran
from tests.refusals import raises

from assetlane import Client, InvalidArgument, PermissionDenied, StoreRefused, UploadItem, UploadOptions, UploadStatus
from assetlane.batch import Origin, attempted

pytestmark = pytest.mark.timeout(60)


def odd_file(folder: Path, name: bytes) -> Path:
    """Writes a file whose name need not be UTF-8, and returns its path."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_text("a")
    return path


async def test_every_item_has_an_outcome(lane: Client, server: LaneServer, tmp_path: Path) -> None:
    """Paths, bytes and items with options of their own; each outcome knows which item it is of."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    items: list[Origin | UploadItem] = [
        str(tmp_path / "a.txt"),
        tmp_path / "b.txt",
        UploadItem(b"c", file_path="notes/c.txt", title="C", partition="team/1"),
        UploadItem(tmp_path / "a.txt", file_path="again.txt"),
    ]
    outcomes = {outcome.index: outcome async for outcome in lane.upload_many(items, partition="team/42", title="all")}
    assert sorted(outcomes) == [0, 1, 2, 3]
    assert all(outcome.is_stored for outcome in outcomes.values())
    found = [(asset.file_path, asset.details.title, asset.partition) for asset in
             (outcomes[index].result() for index in range(4))]  # fmt: skip
    assert found == [
        ("a.txt", "all", "team/42"),
        ("b.txt", "all", "team/42"),
        ("notes/c.txt", "C", "team/1"),
        ("again.txt", "all", "team/42"),
    ]
    assert outcomes[2].item is items[2]
    assert outcomes[1].item.origin == items[1]
    assert len(server.assets) == 4


async def test_whatever_is_wrong_with_one_the_others_go_in(lane: Client, server: LaneServer, tmp_path: Path) -> None:
    """The error is the one that `upload` raises: not there, no file, no name, refused by server or store, a mistake."""
    good = [tmp_path / f"{number}.txt" for number in range(4)]
    for path in good:
        path.write_text(path.name)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    unnamed = odd_file(tmp_path, b"caf\xe9.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        bad: dict[object, type[Exception]] = {
            tmp_path / "missing.txt": FileNotFoundError,
            tmp_path / "folder": IsADirectoryError,
            tmp_path / "pipe": OSError,
            tmp_path / "socket": OSError,
            Path("/dev/zero"): OSError,
            tmp_path / "loop": OSError,
            tmp_path / ("x" * 300): OSError,
            str(tmp_path / "nul\0.txt"): ValueError,
            unnamed: InvalidArgument,
            b"no name": TypeError,
        }
        items: list[Any] = [good[0], *bad, *good[1:]]
        outcomes = [outcome async for outcome in lane.upload_many(items, concurrency=3)]
    assert len(outcomes) == len(items)
    for outcome in outcomes:
        origin = outcome.item.origin
        if origin in good:
            assert outcome.is_stored
        else:
            assert isinstance(outcome.error, bad[origin]), origin
            assert outcome.asset is None
            with pytest.raises(bad[origin]):
                outcome.result()
    assert sorted(asset.file_path for asset in server.assets.values()) == [path.name for path in good]


async def test_a_name_that_is_not_utf_8_is_named_readably(lane: Client, tmp_path: Path) -> None:
    """With its bytes escaped, and what to do; another `file_path` brings the file in."""
    path = odd_file(tmp_path, b"caf\xe9.txt")
    with raises(InvalidArgument, field="file_path", names=[r"caf\xe9.txt"]) as refused:
        await lane.upload(path)
    assert list(refused.value.fields) == ["file_path"]
    assert str(refused.value).isprintable()
    assert (await lane.upload(path, file_path="café.txt")).file_path == "café.txt"
    with raises(InvalidArgument, field="title"):
        await lane.upload(path, file_path="a.txt", title="\udce9")


async def test_a_refusal_and_a_failing_store_are_one_items_own(
    lane: Client, server: LaneServer, store: ObjectStore
) -> None:
    """The server refuses one, the store another: the third is in."""
    server.faults["RequestUpload"].append(Fault(grpc.StatusCode.PERMISSION_DENIED, "PARTITION_DENIED"))
    items = [UploadItem(b"a", file_path=f"{number}.txt") for number in range(3)]
    outcomes = []
    async with aclosing(lane.upload_many(items, concurrency=1)) as stream:
        async for outcome in stream:
            outcomes.append(outcome)
            if len(outcomes) == 1:
                store.script.append(400)
    kinds = [type(outcome.error) for outcome in sorted(outcomes, key=lambda outcome: outcome.index)]
    assert kinds[0] is PermissionDenied
    assert kinds.count(StoreRefused) == 1
    assert kinds.count(type(None)) == 1


async def test_no_more_are_under_way_than_allowed() -> None:
    """Items are taken from the iterable as earlier ones end, not before."""
    taken = under_way = most = 0
    full = asyncio.Event()

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    async def work(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        assert taken <= number + 4
        if under_way == 4:
            full.set()
        await full.wait()
        under_way -= 1
        return number

    results = [attempt async for attempt in attempted(items(), work, 4)]
    assert sorted(attempt.result for attempt in results if attempt.result is not None) == list(range(20))
    assert [attempt.error for attempt in results] == [None] * 20
    assert most == 4


async def test_an_asynchronous_iterable_is_taken_too(lane: Client) -> None:
    """What is under way goes on while the next item is waited for."""
    came = asyncio.Event()

    async def items() -> AsyncIterator[UploadItem]:
        yield UploadItem(b"a", file_path="a.txt")
        await came.wait()
        yield UploadItem(b"b", file_path="b.txt")

    paths = []
    async for outcome in lane.upload_many(items(), concurrency=2):
        paths.append(outcome.result().file_path)
        came.set()
    assert paths == ["a.txt", "b.txt"]


async def test_what_the_iterable_raises_comes_last(lane: Client) -> None:
    """Its error is raised after the outcomes of the items before it."""

    def items() -> Iterator[UploadItem]:
        yield UploadItem(b"a", file_path="a.txt")
        raise fault

    fault = LookupError("no more")
    outcomes = lane.upload_many(items())
    assert (await anext(outcomes)).result().file_path == "a.txt"
    with pytest.raises(LookupError) as raised:
        await anext(outcomes)
    assert raised.value is fault


async def test_who_stops_early_leaves_nothing_behind(lane: Client, server: LaneServer, store: ObjectStore) -> None:
    """What is under way is cancelled and given up, what was not begun is not begun."""
    begun = 0

    def items() -> Iterator[UploadItem]:
        nonlocal begun
        for number in range(100):
            begun += 1
            yield UploadItem(b"a", file_path=f"{number}.txt")

    async with aclosing(lane.upload_many(items(), concurrency=3)) as outcomes:
        assert (await anext(outcomes)).is_stored
        store.stall = asyncio.Event()
    assert begun < 10
    for upload in server.uploads.values():
        assert upload.status in (UploadStatus.UPLOAD_STATUS_COMPLETED, UploadStatus.UPLOAD_STATUS_CANCELLED)


async def test_a_cancelled_caller_is_cancelled() -> None:
    """The caller is cancelled once what was under way has cleaned up."""
    cleaned: list[int] = []
    started = asyncio.Event()

    async def work(number: int) -> None:
        try:
            if number == 2:
                started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)

    async def consume() -> None:
        async with aclosing(attempted([1, 2], work, 2)) as attempts:
            async for _ in attempts:
                pytest.fail("nothing ends")

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(cleaned) == [1, 2]


async def test_work_that_cancels_itself_is_an_error_like_others() -> None:
    """Only the consumer's own cancelling ends everything."""

    async def work(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    attempts = {attempt.index: attempt async for attempt in attempted([0, 1, 2], work, 1)}
    assert (attempts[0].result, attempts[2].result) == (0, 2)
    assert isinstance(attempts[1].error, RuntimeError)


@pytest.mark.parametrize(
    ("items", "options", "names"),
    [
        ("a.txt", {}, ["upload_many"]),
        (b"a", {}, ["upload_many"]),
        (["a.txt"], {"file_path": "a"}, ["file_path", "UploadItem"]),
        (["a.txt"], {"request_id": "a"}, ["request_id", "UploadItem"]),
        (["a.txt"], {"titel": "a"}, ["titel"]),
    ],
)
async def test_options_that_cannot_be_are_a_mistake(
    lane: Client, items: Any, options: dict[str, Any], names: list[str]
) -> None:
    """They are raised before the first item, and not as the outcome of each one."""
    with raises(TypeError, names=names):
        await anext(lane.upload_many(items, **options))


async def test_at_least_one_is_under_way(lane: Client) -> None:
    """Zero uploads at a time would never end: that is a ValueError."""
    with raises(ValueError, limits=[1, 0], names=["concurrency"]):
        await anext(lane.upload_many(["a"], concurrency=0))
    with raises(TypeError, names=["titel"]):
        UploadItem("a.txt", **cast("Any", {"titel": "a"}))
    with raises(TypeError, names=["int"]):
        UploadItem(cast("Any", 1))


def test_the_options_are_those_of_upload() -> None:
    """One and the same list, so that a new option is there for many too."""
    parameters = inspect.signature(Client.upload).parameters
    assert list(parameters)[:2] == ["self", "origin"]
    assert set(list(parameters)[2:]) == set(UploadOptions.__annotations__)


async def test_a_folder_with_every_kind_of_bad_item(server: LaneServer, tmp_path: Path) -> None:
    """The command: all others are in, each bad one is one readable line, exit code 1."""
    folder = tmp_path / "holiday"
    (folder / "day").mkdir(parents=True)
    for name in ("a.txt", "z.txt", "day/b.txt", "empty.txt"):
        (folder / name).write_text("" if "empty" in name else name)
    odd_file(folder, b"caf\xe9.txt")
    odd_file(folder, b"day/\xff/c.txt")
    os.mkfifo(folder / "pipe")
    (folder / "gone.txt").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "up").symlink_to(folder, target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        result = await ran(server.target, "upload", folder, tmp_path / "missing", tmp_path / ("x" * 300))
    assert result.code == 1
    stored = sorted(asset.file_path for asset in server.assets.values())
    assert stored == ["holiday/a.txt", "holiday/day/b.txt", "holiday/empty.txt", "holiday/z.txt"]
    errors = [line for line in result.err.splitlines() if line.startswith("assetlane: ")]
    for name in ("caf\\xe9.txt", "day/\\xff/c.txt", "pipe", "gone.txt", "loop", "socket", "missing", "x" * 300):
        assert sum(f"{name}: " in line for line in errors) == 1, (name, errors)
    assert len(errors) == 8
    assert all(line.isprintable() for line in errors)
    assert "4 uploaded, 8 failed" in result.err


async def test_a_terminal_that_knows_few_letters_gets_them_escaped(
    server: LaneServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that standard output cannot show never ends the command."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (tmp_path / "grün 😀.txt").write_text("a")
    result = await ran(server.target, "upload", tmp_path / "grün 😀.txt")
    assert (result.code, result.err) == (0, "")
    assert "gr\\xfcn \\U0001f600.txt" in result.out


async def test_a_folder_that_cannot_be_read_is_one_of_the_bad_items(
    server: LaneServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has one line of its own, and the folders beside it are uploaded."""
    from assetlane.cli.selection import selected

    for name in ("a/1.txt", "b/2.txt", "c/3.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    scan = os.scandir

    def refusing(place: Any) -> Any:
        if str(place).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refusing)
    items = list(selected([tmp_path], "", hidden=False))
    assert [(item.path.name, type(item.error)) for item in items] == [
        ("1.txt", type(None)),
        ("b", PermissionError),
        ("3.txt", type(None)),
    ]
