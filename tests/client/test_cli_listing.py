"""What is listed, found and fetched by the `assetlane` command, and what it stores: as programs read it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from tests.client.lane_server import LaneServer
from tests.commands import COMMAND, Result, environment, finished, ran

from assetlane import Asset, Client
from assetlane.cli import json_lines, tables, uploading
from assetlane.cli.finding import is_below, places
from assetlane.cli.identity import claims_of
from assetlane.cuts import STANDARD_OPTIONS
from assetlane.v1.asset_service_pb2 import AssetDeletedEvent, AssetEvent, SyncedEvent, WatchAssetsResponse
from assetlane.v1.upload_service_pb2 import ProgressEvent, StatusEvent

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def shelf(lane: Client) -> list[Asset]:
    """Three assets in ann's partition and one in public."""
    places = (("user/ann", "a/one.txt"), ("user/ann", "a/b/two.txt"), ("user/ann", "ab.txt"), ("public", "a/one.txt"))
    return [
        await lane.upload(path.encode(), file_path=path, partition=partition, expiration_hours=0)
        for partition, path in places
    ]


async def listed(server: LaneServer, *words: str) -> list[str]:
    """Returns the paths that `ls` prints."""
    result = await ran(server.target, "ls", *words)
    assert result.code == 0
    return [line.split("\t")[4] for line in result.lines]


async def test_without_an_argument_it_is_ones_own_partition(server: LaneServer, shelf: list[Asset]) -> None:
    """A folder lists what is below it, whether its partition is named or not."""
    assert await listed(server) == ["ab.txt", "a/b/two.txt", "a/one.txt"]
    assert await listed(server, "public") == ["a/one.txt"]
    assert await listed(server, "a") == ["a/b/two.txt", "a/one.txt"]
    assert await listed(server, "user/ann/a/b/") == ["a/b/two.txt"]
    assert await listed(server, "user/ann/ab.txt") == ["ab.txt"]
    assert await listed(server, "public/b") == []
    empty = await ran(server.target, "ls", "public/b")
    assert (empty.code, empty.err) == (0, "There is nothing in public/b.\n")


async def test_rows_in_a_pipe_hold_bytes(server: LaneServer, shelf: list[Asset]) -> None:
    """In a pipe sizes are numbers of bytes."""
    rows = [line.split("\t") for line in (await ran(server.target, "ls")).lines]
    assert [row[2] for row in rows] == ["6", "11", "9"]
    uploads = [line.split("\t") for line in (await ran(server.target, "uploads")).lines]
    assert [(row[0], row[2], row[3]) for row in uploads] == [
        (asset.asset_id, str(asset.variants[0].size_bytes), "COMPLETED") for asset in reversed(shelf)
    ]


async def test_an_asset_is_named_by_its_path_too(server: LaneServer, shelf: list[Asset], tmp_path: Path) -> None:
    """Commands take the path of an asset, in the caller's partition or in another; an id is tried first."""
    for name in (shelf[1].asset_id, "a/b/two.txt", "user/ann/a/b/two.txt"):
        shown = json.loads((await ran(server.target, "show", name, "--json")).out)
        assert shown["asset_id"] == shelf[1].asset_id
    public = json.loads((await ran(server.target, "show", "public/a/one.txt", "--json")).out)
    assert public["asset_id"] == shelf[3].asset_id
    got = await ran(server.target, "get", "ab.txt", "-o", "-", cwd=tmp_path)
    assert (got.code, got.out, got.err) == (0, "ab.txt", "")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_raw_bytes_go_through_a_pipe(server: LaneServer, lane: Client, tmp_path: Path) -> None:
    """`get -o -` writes the bytes of the asset, with nothing before or after them."""
    body = bytes(range(256)) * 5000
    asset = await lane.upload(body, file_path="bytes.bin")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "get", asset.asset_id, "-o", "-", stdout=PIPE, env=environment(server.target)
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out == body) == (0, True)


async def piped(server: LaneServer, body: bytes, *words: str) -> Result:
    """Runs the command with standard input."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(server.target)
    )
    out, err = await asyncio.wait_for(process.communicate(body), 60)
    return Result(process.returncode or 0, out.decode(), err.decode())


@pytest.mark.parametrize("size", [0, 6, 9 * 1024 * 1024])
async def test_standard_input_is_uploaded(server: LaneServer, size: int) -> None:
    """`upload -` takes input of any size and files it under the given path."""
    result = await piped(server, b"x" * size, "upload", "-", "--file-path", "notes/hello.txt", "--public")
    assert (result.code, result.err) == (0, "")
    (asset,) = server.assets.values()
    assert (asset.file_path, asset.variants[0].size_bytes) == ("notes/hello.txt", size)
    assert (asset.expiration_hours, asset.HasField("expire_time")) == (0, False)


@pytest.mark.parametrize(
    "words",
    [
        ["upload", "-"],
        ["upload", "-", "b.txt"],
        ["upload", "-", "--file-path", "a", "--resume"],
        ["upload", "a.txt", "--public", "--expiration-hours", "2"],
        ["upload", "a.txt", "--url", "--json"],
        ["uploads", "--status", "done"],
    ],
)
async def test_what_cannot_be_meant_is_refused(server: LaneServer, words: list[str]) -> None:
    """Options that contradict each other are refused before anything is read or sent."""
    result = await piped(server, b"", *words)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err
    assert server.calls == []


async def test_the_url_is_what_is_asked_for(server: LaneServer, tmp_path: Path) -> None:
    """`upload --url` prints one read URL for each asset, and nothing else, on stdout."""
    (tmp_path / "a.txt").write_text("a")
    result = await ran(server.target, "upload", "a.txt", "none.txt", "--url", "--public", cwd=tmp_path)
    (asset,) = server.assets.values()
    assert (result.code, result.lines) == (1, [asset.variants[0].read_url])


async def test_what_is_gone_is_said_to_be(server: LaneServer, shelf: list[Asset]) -> None:
    """Deleting again succeeds at the server; only what never was there is an error."""
    gone = shelf[0].asset_id
    first = await ran(server.target, "rm", gone)
    assert (first.code, first.out) == (0, f"deleted {gone}\n")
    again = await ran(server.target, "rm", gone, shelf[1].asset_id)
    assert (again.code, again.lines) == (0, [f"already deleted: {gone}", f"deleted {shelf[1].asset_id}"])


async def test_a_path_is_deleted_where_it_is_of_one_asset_alone(
    server: LaneServer, lane: Client, shelf: list[Asset]
) -> None:
    """As `ls` shows it, or with its partition. Of several with that path none is touched: they are listed."""
    one, two, _, public = shelf
    removed = await ran(server.target, "rm", "a/one.txt", "public/a/one.txt", "nowhere.txt")
    assert (removed.code, removed.lines) == (
        1, [f"deleted {one.asset_id}  a/one.txt", f"deleted {public.asset_id}  public/a/one.txt"],
    )  # fmt: skip
    assert removed.err == "assetlane: There is no asset 'nowhere.txt'. [ASSET_NOT_FOUND]\n"
    twin = await lane.upload(b"two", file_path="a/b/two.txt", partition="user/ann")
    several = await ran(server.target, "rm", "a/b/two.txt")
    assert (several.code, several.out) == (1, "")
    assert {line.split()[0] for line in several.err.splitlines()[1:]} == {two.asset_id, twin.asset_id}
    assert {two.asset_id, twin.asset_id} <= server.assets.keys()


async def test_refresh_takes_paths_too(server: LaneServer, shelf: list[Asset]) -> None:
    """A path without an asset is an error, and the assets after it are refreshed."""
    result = await ran(server.target, "refresh", "nowhere.txt", "a/one.txt", shelf[1].asset_id)
    assert (result.code, [line.split("\t")[0] for line in result.lines]) == (
        1, [shelf[0].asset_id, shelf[1].asset_id],
    )  # fmt: skip
    assert result.err == "assetlane: There is no asset 'nowhere.txt'. [ASSET_NOT_FOUND]\n"


async def test_status_is_one_object(server: LaneServer) -> None:
    """`status --json` has what a script asks for, and its exit code says whether the server answers."""
    shown = json.loads((await ran(server.target, "status", "--json")).out)
    assert (shown["server"], shown["tls"], shown["partition"], shown["answers"]) == (
        server.target,
        "no",
        "user/ann",
        True,
    )
    nobody = await ran("127.0.0.1:11111", "--timeout", "0.2", "status", "--json")
    shown = json.loads(nobody.out)
    assert (nobody.code, shown["answers"], shown["reason"]) == (1, False, "UNAVAILABLE")


async def test_ids_and_partitions_are_completed(server: LaneServer, shelf: list[Asset]) -> None:
    """The shell asks the server for them, and soon gets nothing when there is none."""

    async def offered(line: str, target: str) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; sys.argv = ['assetlane']; from assetlane.cli import main; main()",
            stdout=PIPE, stderr=PIPE,
            env={**environment(target), "_ASSETLANE_COMPLETE": "complete_bash", "COMP_WORDS": line,
                 "COMP_CWORD": str(len(line.split(" ")) - 1)},
        )  # fmt: skip
        result = await finished(process)
        assert result.err == ""
        return result.lines

    ids = [asset.asset_id for asset in shelf]
    assert sorted(await offered("assetlane show ", server.target)) == sorted(ids)
    assert await offered(f"assetlane get {ids[2]}", server.target) == [ids[2]]
    assert sorted(await offered("assetlane cancel ", server.target)) == sorted(ids)
    assert sorted(await offered("assetlane ls ", server.target)) == ["public", "user/ann"]
    assert await offered("assetlane show ", "127.0.0.1:11111") in ([], [""])


def test_places_are_tried_from_the_likeliest_on() -> None:
    """A partition as it stands, then folders in shorter ones, then one's own."""
    assert places("team/42/a", "user/ann") == [
        ("team/42/a", ""), ("team/42", "a"), ("team", "42/a"), ("user/ann", "team/42/a"),
    ]  # fmt: skip
    assert places("public/", "") == [("public", "")]
    assert [is_below(path, "a") for path in ("a", "a/b", "ab", "b/a")] == [True, True, False, False]
    assert is_below("anything", "")


def test_tables_fit_every_width() -> None:
    """No line is wider than the terminal, wide letters included; the end of a path is kept."""
    rows = [("U1", "5 B", "写真/二〇二六年/海.jpg"), ("U22", "1.2 MB", "a/" * 100 + "beach.jpg")]
    for width in range(30, 240):
        lines = tables.table(("ID", "SIZE", "PATH"), rows, width=width, optional="ID", numbers=("SIZE",))
        assert all(tables.cells(line) <= width for line in lines)
        assert lines[2].endswith("beach.jpg")
        assert len(lines) == 3
    assert tables.table(("ID", "SIZE", "PATH"), rows[:1], width=80, optional="ID")[1].startswith("U1  5 B   写真")


@pytest.mark.parametrize("text", ["", "a", "海" * 30, "é" * 30, "a" * 100, "\u0301" * 10])
def test_a_shortened_text_is_never_too_wide(text: str) -> None:
    """Texts of any letters, wide and combining ones too, fit the width that they were shortened to."""
    for width in range(3, 40):
        assert tables.cells(tables.shortened(text, width)) <= width


def test_json_has_numbers_hashes_and_kinds(shelf: list[Asset]) -> None:
    """Numbers of any width are numbers, hashes hex; every event says its kind."""
    asset = shelf[0]
    shown = json.loads(json_lines.as_line(asset))
    variant = shown["variants"][0]
    assert variant["size_bytes"] == 9
    assert variant["sha256"] == asset.variants[0].sha256.hex()
    assert len(variant["sha256"]) == 64
    assert "expire_time" not in shown
    asset.details.duration.FromMilliseconds(1500)
    asset.details.extra.update({"a": [1, {"b": None}]})
    asset.create_time.FromJsonString("2026-11-26T19:34:02Z")
    shown = json.loads(json_lines.as_line(asset))
    assert shown["details"]["duration"] == 1.5
    assert shown["details"]["extra"] == {"a": [1, {"b": None}]}
    assert shown["create_time"] == "2026-11-26T19:34:02Z"
    events = [
        StatusEvent(),
        ProgressEvent(upload_id="U1", sent_bytes=2**40),
        WatchAssetsResponse(asset=AssetEvent(asset=asset), resume_token="t"),
        WatchAssetsResponse(deleted=AssetDeletedEvent(asset_id="A1", revision=3), resume_token="t"),
        WatchAssetsResponse(synced=SyncedEvent(), resume_token="t"),
    ]
    lines = [json.loads(json_lines.event_line(event)) for event in events]
    assert [line["kind"] for line in lines] == ["status", "progress", "asset", "deleted", "synced"]
    assert lines[1]["sent_bytes"] == 2**40
    assert lines[2]["asset"]["asset_id"] == asset.asset_id
    assert (lines[3]["asset_id"], lines[3]["revision"], lines[3]["resume_token"]) == ("A1", 3, "t")


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c", "a.W10.c", "a.eyJzdWIiOjV9.c", "a.bnVsbA.c", "☃.☃.☃"])
def test_a_token_of_another_form_says_nothing(token: str) -> None:
    """No subject is read from a token that is no JWT: the server decides about it."""
    assert claims_of(token).subject == ""


def test_the_quality_in_the_help_is_the_one_that_is_used() -> None:
    """The library is not loaded for help, so the number stands there twice."""
    assert STANDARD_OPTIONS.quality == uploading.QUALITY
