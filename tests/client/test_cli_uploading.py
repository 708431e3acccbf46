"""`assetlane upload` of folders, and runs that go on where an earlier one stopped."""

import asyncio
import signal
from pathlib import Path
from typing import cast

import pytest
from tests.client.object_store import ObjectStore
from tests.client.server_under_test import ServerUnderTest
from tests.commands import finished, ran, started
from tests.refusals import raises

from assetlane import Asset, Client, PreconditionFailed, UploadStatus
from assetlane.cli import resuming
from assetlane.cli.selection import Item, selected

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Gives a folder with files in it, one of them in a folder of its own, some hidden."""
    root = tmp_path / "holiday"
    for name in ("b.txt", "a.txt", "day 1/c.txt", ".DS_Store", ".git/config"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def paths(server: ServerUnderTest) -> list[str]:
    """Returns the paths that the assets are filed under."""
    return sorted(asset.file_path for asset in server.assets.values())


def summary(err: str) -> str:
    """Returns the counts of the closing line."""
    return err.splitlines()[-1].partition(" (")[0]


async def test_a_folder_is_taken_with_all_that_is_in_it(server: ServerUnderTest, folder: Path) -> None:
    """Filed under its name; hidden files stay at home."""
    result = await ran(server.target, "upload", folder)
    assert result.code == 0
    assert paths(server) == ["holiday/a.txt", "holiday/b.txt", "holiday/day 1/c.txt"]
    assert summary(result.err) == "3 uploaded, 0 failed"


async def test_all_of_it_can_be_filed_elsewhere(server: ServerUnderTest, folder: Path, tmp_path: Path) -> None:
    """`--to` is put before every path, a file's too; `--hidden` takes the rest along."""
    (tmp_path / "x.txt").write_text("x")
    result = await ran(server.target, "upload", ".", "../x.txt", "--to", "/2026/", "--hidden", cwd=folder)
    assert result.code == 0
    assert paths(server) == [
        "2026/holiday/.DS_Store",
        "2026/holiday/.git/config",
        "2026/holiday/a.txt",
        "2026/holiday/b.txt",
        "2026/holiday/day 1/c.txt",
        "2026/x.txt",
    ]


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    """A link to the folder above would never end."""
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "z.txt").symlink_to(folder / "a.txt")
    assert [item.file_path for item in selected([folder], "", hidden=False)] == [
        "holiday/a.txt",
        "holiday/b.txt",
        "holiday/z.txt",
        "holiday/day 1/c.txt",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["EMPTY"], "there is no file in it"),
        (["FOLDER", "--file-path", "a"], "are for one file"),
        (["FOLDER", "--request-id", "a"], "are for one file"),
        (["FOLDER/a.txt", "--file-path", "a", "--to", "b"], "not both"),
        (["FOLDER/a.txt", "--request-id", "a", "--resume"], "its own request ids"),
    ],
)
async def test_what_does_not_fit_together_is_wrong_usage(
    server: ServerUnderTest, folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Exit code 2, and nothing is uploaded."""
    (tmp_path / "empty").mkdir()
    named = [part.replace("FOLDER", str(folder)).replace("EMPTY", str(tmp_path / "empty")) for part in arguments]
    result = await ran(server.target, "upload", *named)
    assert result.code == 2
    assert message in " ".join(result.err.split())
    assert not server.uploads


async def test_a_resumed_run_sends_only_what_is_missing(
    server: ServerUnderTest, store: ObjectStore, folder: Path
) -> None:
    """Broken off in the middle, the same command brings in the rest; a changed file is a new one."""
    store.stall = asyncio.Event()
    process = await started(server.target, "upload", folder, "--resume", "--jobs", "1")
    async with asyncio.timeout(20):
        await store.reached.wait()
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    assert (result.code, result.out) == (130, "")
    (begun,) = server.uploads.values()
    assert begun.status == UploadStatus.UPLOAD_STATUS_INITIALIZED
    store.stall = None

    result = await ran(server.target, "upload", folder, "--resume")
    assert (result.code, summary(result.err)) == (0, "3 uploaded, 0 failed")
    assert begun.upload_id in server.assets
    assert len(server.uploads) == 3

    (folder / "a.txt").write_text("changed")
    result = await ran(server.target, "upload", folder, "--resume")
    assert (result.code, summary(result.err)) == (0, "1 uploaded, 2 in already, 0 failed")
    assert len(server.uploads) == 4


async def test_what_expired_or_was_deleted_is_sent_again(
    server: ServerUnderTest, store: ObjectStore, folder: Path
) -> None:
    """An attempt that is over makes room for the next."""
    file = folder / "a.txt"
    first = (await ran(server.target, "upload", file, "--resume")).lines[0].split("\t")[0]
    await ran(server.target, "rm", first)
    store.stall = asyncio.Event()
    store.reached.clear()
    process = await started(server.target, "upload", file, "--resume")
    async with asyncio.timeout(20):
        await store.reached.wait()
    process.send_signal(signal.SIGINT)
    assert (await finished(process)).code == 130
    store.stall = None
    second = list(server.uploads)[-1]
    await server.expire(second)
    third = (await ran(server.target, "upload", file, "--resume")).lines[0].split("\t")[0]
    assert len({first, second, third}) == 3


async def test_a_file_without_room_for_another_attempt_says_what_to_do(
    tmp_path: Path,
) -> None:
    """Every attempt's asset has been deleted since: a sentence, not an assertion."""
    asked: list[str] = []

    class Deleted:
        async def upload(self, _path: Path, *, request_id: str, **_options: object) -> Asset:
            asked.append(request_id)
            return Asset()

    path = tmp_path / "a.txt"
    path.write_text("a")
    with raises(PreconditionFailed, reason="ATTEMPTS_EXHAUSTED", names=["--resume"]):
        await resuming.resumed(cast("Client", Deleted()), Item(path, "a.txt"), {}, None, attempts=3)
    assert len(set(asked)) == 3
