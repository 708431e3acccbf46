"""The `assetlane` command as a process of its own, against the real server and stores."""

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from examples.picture import photograph
from tests.commands import Result, finished, ran, started
from tests.journeys.lanes import get

from assetlane import Client, RequestUploadRequest, VariantPromise

pytestmark = pytest.mark.timeout(120)

LIMIT_S = 60.0
LIFE = ["PENDING", "INITIALIZED", "UPLOADED", "COMPLETED"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a photograph and a text."""
    (tmp_path / "dusk.jpg").write_bytes(photograph(800, 600))
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


async def uploaded(target: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Uploads both files and returns their assets by name."""
    result = await ran(target, "upload", "dusk.jpg", "notes.txt", *options, "--json", cwd=folder)
    assert result.code == 0
    assert result.err.startswith("2 uploaded, 0 failed (")
    return sorted((json.loads(line) for line in result.lines), key=lambda asset: asset["file_path"])


async def test_a_file_travels_there_and_back(target: str, web: aiohttp.ClientSession, folder: Path) -> None:
    """upload, ls, show, get and rm, as plain lines: what a person sees in a pipe."""
    put = await ran(target, "upload", "dusk.jpg", "--partition", "team/42", "--title", "Dusk", cwd=folder)
    assert put.code == 0
    assert put.err == ""
    asset_id, name, variants = put.lines[0].split("\t")
    assert name == "dusk.jpg"
    assert [part.split()[0] for part in variants.split(", ")] == ["original", "small", "medium", "large"]

    (row,) = (await ran(target, "ls", "team/42")).lines
    assert (row.split("\t")[0], row.split("\t")[3:]) == (asset_id, ["image/jpeg", "dusk.jpg", "Dusk"])
    shown = await ran(target, "show", asset_id)
    urls = [line.strip() for line in shown.lines if "://" in line]
    assert await get(web, urls[0]) == (200, (folder / "dusk.jpg").read_bytes())
    assert "600 x 800" in shown.out

    fetched = await ran(target, "get", asset_id, "-o", folder / "back.jpg")
    assert fetched.code == 0
    assert (folder / "back.jpg").read_bytes() == (folder / "dusk.jpg").read_bytes()
    small = await ran(target, "get", asset_id, "--variant", "small", cwd=folder)
    assert small.out == "dusk-small.jpg\n"

    assert (await ran(target, "rm", asset_id)).out == f"deleted {asset_id}\n"
    assert (await ran(target, "ls", "team/42")).out == ""
    gone = await ran(target, "show", asset_id)
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.endswith("[ASSET_NOT_FOUND]\n")
    assert len(gone.err.splitlines()) == 1


async def test_every_result_is_there_as_json(target: str, folder: Path) -> None:
    """One object a line from upload, ls, show and refresh: the messages of the contract."""
    picture, text = await uploaded(target, folder, "--partition", "public", "--expiration-hours", "0")
    assert "expire_time" not in text
    listed = await ran(target, "ls", "public", "--json")
    assert {json.loads(line)["asset_id"] for line in listed.lines} == {picture["asset_id"], text["asset_id"]}
    assert json.loads((await ran(target, "show", text["asset_id"], "--json")).out) == text
    refreshed = await ran(target, "refresh", text["asset_id"], "missing", "--json")
    assert (refreshed.code, json.loads(refreshed.out)) == (1, text)
    assert refreshed.err.endswith("[ASSET_NOT_FOUND]\n")


async def test_an_upload_is_followed_to_its_end(target: str, folder: Path) -> None:
    """Watch prints four statuses and succeeds; as JSON each event carries the upload as of then."""
    _, text = await uploaded(target, folder)
    lines = await ran(target, "watch", text["asset_id"])
    assert lines.code == 0
    assert [line.split("  ")[1:] for line in lines.lines] == [[text["asset_id"], status] for status in LIFE]
    events = [json.loads(line) for line in (await ran(target, "watch", text["asset_id"], "--json")).lines]
    assert [event["upload"]["revision"] for event in events] == [1, 2, 3, 4]
    assert events[-1]["asset"]["asset_id"] == text["asset_id"]


async def test_an_upload_that_is_given_up_ends_its_watch(target: str, lane: Client) -> None:
    """Cancel succeeds once and again; the watch of such an upload ends with 1, a late cancel too."""
    promise = VariantPromise(name="original", content_type="text/plain", size_bytes=5)
    request = RequestUploadRequest(file_path="a.txt", variants=[promise])
    upload_id = (await lane.request_upload(request)).upload.upload_id
    for _ in range(2):
        assert (await ran(target, "cancel", upload_id)).out == f"cancelled {upload_id}\n"
    watched = await ran(target, "watch", upload_id)
    assert watched.code == 1
    assert watched.lines[-1].endswith("CANCELLED  CANCELLED_BY_OWNER")
    asset = await lane.upload(b"hello", file_path="a.txt")
    late = await ran(target, "cancel", asset.asset_id)
    assert (late.code, late.err.endswith("[UPLOAD_COMPLETED]\n")) == (1, True)


async def test_a_session_and_a_partition_are_watched_live(target: str, folder: Path) -> None:
    """Both go on until Ctrl-C, and show what another command does meanwhile."""
    session = await started(target, "watch", "--session", "phone")
    partition = await started(target, "watch", "--partition", "team/42")
    partition_json = await started(target, "watch", "--partition", "team/42", "--json")
    assert await line_of(partition) == "SYNCED"
    assert json.loads(await line_of(partition_json))["resume_token"]
    put = await ran(target, "upload", "notes.txt", "--session-id", "phone", "--asset-partition", "team/42", cwd=folder)
    asset_id = put.lines[0].split("\t")[0]
    printed: list[list[str]] = []
    while len(printed) < len(LIFE):
        words = (await line_of(session)).split("  ")[1:]
        if "UPLOADING" not in words and "VERIFYING" not in words:  # progress, if it took long enough
            printed.append(words)
    assert printed == [[asset_id, status] for status in LIFE]
    assert await line_of(partition) == f"ADDED  {asset_id}  5  text/plain  notes.txt"
    added = json.loads(await line_of(partition_json))
    assert (added["kind"], added["change"], added["asset"]["asset_id"]) == ("asset", "ASSET_CHANGE_ADDED", asset_id)

    resumed = await started(target, "watch", "--partition", "team/42", "--resume-token", added["resume_token"])
    await ran(target, "rm", asset_id)
    for watch in (partition, resumed):
        while (line := await line_of(watch)) != f"DELETED  {asset_id}":
            assert line.split()[0] in ("ADDED", "SYNCED")
    for watch in (session, partition, partition_json, resumed):
        watch.send_signal(signal.SIGINT)
        ended = await finished(watch)
        assert (ended.code, ended.err) == (130, "assetlane: interrupted\n")


async def line_of(process: asyncio.subprocess.Process) -> str:
    """Returns the next line that a command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        return (await process.stdout.readline()).decode().rstrip("\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "public"],
        ["upload", "notes.txt"],
        ["watch", "01k8", "--json"],
        ["watch", "--session", "phone"],
        ["watch", "--partition", "public"],
    ],
    ids=" ".join,
)
async def test_an_unreachable_server_is_one_readable_line(folder: Path, arguments: list[str]) -> None:
    """Exit code 1 after the time that was allowed, with the address, without a traceback."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{nobody.getsockname()[1]}"
        result = await ran(target, "--timeout", "0.3", *arguments, cwd=folder)
    assert (result.code, result.out) == (1, "")
    assert unreachable(result, target)


def unreachable(result: Result, target: str) -> bool:
    """Returns whether the one line says who did not answer."""
    (line,) = result.err.splitlines()
    return line.startswith("assetlane: ") and target in line and line.endswith("[UNAVAILABLE]")


async def test_a_folder_goes_on_where_an_earlier_run_stopped(target: str, folder: Path) -> None:
    """The second run finds what the first brought in, and sends only what is new."""
    first = await ran(target, "upload", folder, "--to", "2026", "--resume", "--partition", "team/42")
    assert first.err.startswith("2 uploaded, 0 failed (")
    (folder / "more.txt").write_text("more")
    second = await ran(target, "upload", folder, "--to", "2026", "--resume", "--partition", "team/42")
    assert second.err.startswith("1 uploaded, 2 in already, 0 failed (")
    assert set(first.lines) < set(second.lines)
    assert len((await ran(target, "ls", "team/42")).lines) == 3
