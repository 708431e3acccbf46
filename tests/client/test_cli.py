"""The `assetlane` command, as a process of its own."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import grpc
import pytest
from tests.client.lane_server import Fault, LaneServer
from tests.client.object_store import ObjectStore
from tests.commands import COMMAND, environment, finished, ran, started
from typer.testing import CliRunner

from assetlane import Client, UploadStatus
from assetlane.cli.commands import app
from assetlane.version import __version__

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def files(tmp_path: Path, jpeg: bytes) -> tuple[Path, Path]:
    """Gives a picture and a text."""
    picture, text = tmp_path / "beach.jpg", tmp_path / "notes.txt"
    picture.write_bytes(jpeg)
    text.write_text("hello")
    return picture, text


async def test_files_are_uploaded_as_json(server: LaneServer, files: tuple[Path, Path]) -> None:
    """Each asset is one JSON object on stdout; the summary is not among them."""
    options = ["--partition", "public", "--expiration-hours", "0", "--title", "Sea", "--extra", '{"a": [1]}']
    result = await ran(server.target, "upload", *files, *options, "--json")
    assert result.code == 0
    assert re.fullmatch(r"2 uploaded, 0 failed \(\d.* kB in \d.* s, \d.*/s\)\n", result.err)
    assets = {asset["file_path"]: asset for asset in map(json.loads, result.lines)}
    beach = assets["beach.jpg"]
    assert [variant["name"] for variant in beach["variants"]] == ["original", "small", "medium", "large"]
    assert (beach["uid"], beach["partition"], beach["expiration_hours"]) == ("ann", "public", 0)
    assert beach["details"]["title"] == "Sea"
    assert beach["details"]["extra"] == {"a": [1]}
    assert assets["notes.txt"]["variants"][0]["content_type"] == "text/plain"


async def test_files_are_uploaded_as_lines(server: LaneServer, files: tuple[Path, Path]) -> None:
    """In a pipe each asset is one plain line, without a bar or a colour."""
    result = await ran(server.target, "upload", files[0], "--cut", "icon=32", "--file-path", "a/b.jpg")
    assert result.code == 0
    assert result.err == ""
    asset_id, name, variants = result.lines[0].split("\t")
    assert asset_id in server.assets
    assert name.endswith("beach.jpg")
    assert [part.split()[0] for part in variants.split(", ")] == ["original", "icon"]
    assert server.assets[asset_id].file_path == "a/b.jpg"


async def test_bars_on_the_terminal_leave_the_result_in_the_pipe(server: LaneServer, files: tuple[Path, Path]) -> None:
    """With stderr on a terminal progress is drawn there, and stdout still holds only the result."""
    terminal, end = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "upload", str(files[1]), stdout=PIPE, stderr=end, env=environment(server.target)
        )
        result = await finished(process)
        drawn = os.read(terminal, 65536).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert (result.code, len(result.lines)) == (0, 1)
    assert result.lines[0].startswith(next(iter(server.assets)))
    assert "notes.txt" in drawn


@pytest.mark.parametrize("columns", [40, 64, 80])
async def test_bars_take_one_line_each_on_a_narrow_terminal(
    server: LaneServer, files: tuple[Path, Path], columns: int
) -> None:
    """Rate, time left and the bar itself go where there is no room for them; name, share and status stay."""
    terminal, end = pty.openpty()
    try:
        more = {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "upload", *map(str, files), stdout=PIPE, stderr=end, env=environment(server.target) | more
        )
        assert (await finished(process)).code == 0
        drawn = os.read(terminal, 1 << 20).decode()
    finally:
        os.close(end)
        os.close(terminal)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r") for line in drawn.split("\n")]
    assert any("notes.txt" in line for line in lines)
    assert all(len(piece) <= columns for line in lines for piece in line.split("\r"))
    # A column that is too narrow for its content goes on in a line that begins with the name's cells, empty.
    assert not any(line.startswith(" " * 21) for line in lines)


async def test_one_bad_file_does_not_stop_the_others(
    server: LaneServer, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """What cannot be uploaded is one readable line each and exit code 1; the rest is in."""
    broken = tmp_path / "broken.jpg"
    os.mkfifo(broken)
    result = await ran(server.target, "upload", *files, broken, tmp_path / "missing.txt", "--json", "--jobs", "2")
    assert result.code == 1
    assert len(result.lines) == 2
    errors = sorted(line for line in result.err.splitlines() if line.startswith("assetlane:"))
    assert len(errors) == 2
    assert "broken.jpg" in errors[0]
    assert "a pipe, a socket or a device" in errors[0]
    assert "missing.txt: No such file or directory" in errors[1]
    assert result.err.splitlines()[-1].startswith("2 uploaded, 2 failed (")


async def test_an_error_names_its_file_whatever_the_file_is_called(server: LaneServer, tmp_path: Path) -> None:
    """The words of a sentence, such as `pipe` and `a`, are names of files too."""
    names = ("pipe", "a", "1", "not.a.file", "device, not a")
    for name in names:
        os.mkfifo(tmp_path / name)
    result = await ran(server.target, "upload", *(str(tmp_path / name) for name in names), cwd=tmp_path)
    assert result.code == 1
    result = await ran(server.target, "upload", *names, cwd=tmp_path)
    lines = [line for line in result.err.splitlines() if line.startswith("assetlane:")]
    assert sorted(line.split(": ")[1] for line in lines) == sorted(names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload"],
        ["upload", "a", "b", "--file-path", "c"],
        ["upload", "a", "--extra", "{"],
        ["upload", "a", "--cut", "icon"],
        ["watch"],
        ["watch", "U1", "--session", "S1"],
        ["watch", "U1", "--partition", "public"],
        ["watch", "U1", "--resume-token", "t"],
        ["nonsense"],
        ["ls", "public", "--limit", "many"],
        ["--token", "t", "--token-file", "f", "ls", "public"],
        ["--client-cert-file", "c", "ls", "public"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """What cannot be meant is refused, on stderr, before anything is sent."""
    result = CliRunner().invoke(app, ["--target", "127.0.0.1:1", "--timeout", "0.1", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


async def test_an_error_is_one_line_with_its_reason(server: LaneServer) -> None:
    """A refused call is printed on stderr, with exit code 1."""
    result = await ran(server.target, "show", "A1", "--json")
    assert (result.code, result.out, result.err) == (1, "", "assetlane: There is no asset 'A1'. [ASSET_NOT_FOUND]\n")


async def test_a_server_that_is_not_there_is_reported(server: LaneServer) -> None:
    """Nobody listening is one line as well, after the time that was allowed."""
    result = await ran(server.target, "--target", "127.0.0.1:1", "--timeout", "0.2", "ls", "public")
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert result.err.endswith("[UNAVAILABLE]\n")


async def test_ctrl_c_gives_the_upload_up(server: LaneServer, store: ObjectStore, files: tuple[Path, Path]) -> None:
    """An interrupted upload is cancelled, and the command ends with 130."""
    store.stall = asyncio.Event()
    process = await started(server.target, "upload", files[1])
    async with asyncio.timeout(20):
        await store.reached.wait()
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    assert (result.code, result.out) == (130, "")
    interrupted, given_up, hint = result.err.splitlines()
    assert interrupted == "assetlane: interrupted"
    assert given_up == f"Cancelled: {files[1]}."
    assert "--resume" in hint
    assert [upload.status for upload in server.uploads.values()] == [UploadStatus.UPLOAD_STATUS_CANCELLED]


async def test_assets_are_listed_shown_refreshed_and_deleted(server: LaneServer, lane: Client) -> None:
    """The ledger's commands, as lines and as JSON."""
    assets = [
        await lane.upload(b"hello", file_path=f"{number}.txt", partition="public", title="Bad \x1b[31m title")
        for number in range(3)
    ]
    ids = [asset.asset_id for asset in assets]
    listed = await ran(server.target, "ls", "public")
    assert [line.split("\t")[0] for line in listed.lines] == ids[::-1]
    assert "\x1b" not in listed.out
    as_json = await ran(server.target, "ls", "public", "--json", "--limit", "2")
    assert [json.loads(line)["asset_id"] for line in as_json.lines] == ids[:0:-1]
    shown = await ran(server.target, "show", ids[0])
    assert assets[0].variants[0].read_url in shown.out
    assert assets[0].variants[0].download_url in shown.out
    assert json.loads((await ran(server.target, "show", ids[0], "--json")).out)["file_path"] == "0.txt"
    refreshed = await ran(server.target, "refresh", ids[0], "none")
    assert (refreshed.code, len(refreshed.lines)) == (1, 1)
    assert refreshed.err == "assetlane: There is no asset 'none'. [ASSET_NOT_FOUND]\n"
    removed = await ran(server.target, "rm", ids[0], "none")
    assert (removed.code, removed.out) == (1, f"deleted {ids[0]}\n")
    assert removed.err == "assetlane: There is no asset 'none'. [ASSET_NOT_FOUND]\n"
    late = await ran(server.target, "cancel", ids[1])
    assert (late.code, late.err.endswith("[UPLOAD_COMPLETED]\n")) == (1, True)


async def test_an_asset_is_fetched_under_its_name_or_another(
    server: LaneServer, lane: Client, jpeg: bytes, tmp_path: Path
) -> None:
    """The file takes the asset's own name, never over one that is there, or the one that was asked for."""
    asset = await lane.upload(jpeg, file_path="albums/beach.jpg")
    first = await ran(server.target, "get", asset.asset_id, cwd=tmp_path)
    assert (first.code, first.out) == (0, "beach.jpg\n")
    assert (tmp_path / "beach.jpg").read_bytes() == jpeg
    second = await ran(server.target, "get", asset.asset_id, cwd=tmp_path)
    assert (second.code, second.out) == (1, "")
    assert "give another with -o" in second.err
    small = await ran(server.target, "get", asset.asset_id, "--variant", "small", cwd=tmp_path)
    assert small.out == "beach-small.jpg\n"
    named = await ran(server.target, "get", asset.asset_id, "-o", tmp_path / "x.jpg")
    assert (named.code, (tmp_path / "x.jpg").read_bytes() == jpeg) == (0, True)


async def test_a_full_disk_is_reported_with_the_name_of_the_file(
    server: LaneServer, lane: Client, tmp_path: Path
) -> None:
    """Nothing of the download stays; the limit on the size of files stands for the disk."""
    asset = await lane.upload(bytes(100_000), file_path="a.bin")
    shell = f"ulimit -f 8; exec {' '.join(COMMAND)} get {asset.asset_id} -o big.bin"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", shell, stdout=PIPE, stderr=PIPE, env=environment(server.target), cwd=tmp_path
    )
    result = await finished(process)
    assert (result.code, result.out, list(tmp_path.iterdir())) == (1, "", [])  # noqa: ASYNC240
    assert result.err.startswith("assetlane: big.bin: ")


async def test_a_reader_that_hangs_up_is_no_error(server: LaneServer, lane: Client) -> None:
    """Piping into `head` is quiet."""
    asset = await lane.upload(b"hello", file_path="a.txt", partition="public")
    server.copy(asset.asset_id, 300)
    server.page_size = 20
    shell = f"{' '.join(COMMAND)} ls public --json | head -n 1"
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", shell, stdout=PIPE, stderr=PIPE, env=environment(server.target)
    )
    result = await finished(process)
    assert (len(result.lines), result.err) == (1, "")


async def test_the_version_is_reported(server: LaneServer) -> None:
    """`--version` prints the version."""
    assert (await ran(server.target, "--version")).out == f"assetlane {__version__}\n"


async def test_without_the_extra_it_says_what_to_install() -> None:
    """A plain installation names the extra instead of showing a traceback."""
    code = "import sys; sys.modules['typer'] = None; from assetlane.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=PIPE, stderr=PIPE, env=environment("")
    )
    result = await finished(process)
    assert result.code == 1
    assert "assetlane-0.2.0-py3-none-any.whl[cli]'" in result.err
    assert "Traceback" not in result.err


async def test_a_busy_server_is_waited_for(server: LaneServer, files: tuple[Path, Path]) -> None:
    """An upload goes through although the server is unavailable for a moment."""
    server.faults["RequestUpload"].append(Fault(grpc.StatusCode.UNAVAILABLE))
    assert (await ran(server.target, "upload", files[1])).code == 0


async def test_a_token_is_sent_from_either_place(server: LaneServer, tmp_path: Path) -> None:
    """As bearer metadata; a file is read, and its last newline is no part of it."""
    (tmp_path / "token").write_text("from.a.file\n")
    for options, token in ((("--token", "on.the.line"), "on.the.line"), (("--token-file", "token"), "from.a.file")):
        assert (await ran(server.target, *options, "ls", "public", cwd=tmp_path)).code == 0
        assert server.metadata[-1]["authorization"] == f"Bearer {token}"
    missing = await ran(server.target, "--token-file", "none", "ls", "public", cwd=tmp_path)
    fault = "The token file none cannot be read: No such file or directory. [TOKEN_UNREADABLE]"
    assert (missing.code, missing.err) == (1, f"assetlane: {fault}\n")
