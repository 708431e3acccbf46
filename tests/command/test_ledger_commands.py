"""`assetlane-server migrate` and `erase` as an operator runs them: what they print, and how they end."""

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.command.test_cli import COMMAND, LIMIT_S, environment, local, refused, settings_of
from tests.records.old_ledger import restore
from tests.records.stores import drop, mongo
from tests.refusals import raises
from tests.servers import accepted, prepare_bucket, served, settings_for

from assetlane import AssetlaneError, Client
from assetlane_server.local import StackAddress
from assetlane_server.local.stack import embedded_stack

pytestmark = pytest.mark.timeout(300)

UNREADABLE = {"$unset": {"variants": ""}}


def run(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs `assetlane-server` to its end; never a traceback."""
    result = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
async def old_ledger(stack: StackAddress, database_name: str) -> AsyncIterator[Any]:
    """A database as version 0.1.0 left it."""
    async with mongo(stack.mongo_uri) as client:
        await restore(client[database_name])
        yield client[database_name]
    await drop(stack.mongo_uri, database_name)


async def test_an_old_ledger_is_refused_then_migrated_then_served(
    tmp_path: Path, stack: StackAddress, database_name: str, key_prefix: str, old_ledger: Any
) -> None:
    """The refusal names the command; the command reports, and once more finds nothing to do."""
    settings = settings_of(stack, mongo_database=database_name, key_prefix=key_prefix, **accepted())
    before = await old_ledger["uploads"].find({}).to_list(None)
    message = refused(tmp_path, "serve", **settings)
    assert "version 0.1.0" in message
    assert "assetlane-server migrate" in message
    assert await old_ledger["uploads"].find({}).to_list(None) == before
    result = run(tmp_path, "migrate", **settings)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "Wrote 19 uploads in the new form, and put 10 assets into them."
    again = run(tmp_path, "migrate", "--json", **settings)
    assert again.returncode == 0, again.stderr
    assert set(json.loads(again.stdout).values()) == {0}
    server = settings_for(stack, database_name, key_prefix)
    await prepare_bucket(server)
    async with served(server) as target, Client(target, uid="ann") as client:
        assert [asset async for asset in client.list_assets("user/ann")]


async def test_a_migration_that_left_records_ends_with_1(
    tmp_path: Path, stack: StackAddress, database_name: str, old_ledger: Any
) -> None:
    """It names them in its log and counts them; the others are in the new form."""
    broken = await old_ledger["uploads"].find_one({"status": "PENDING"})
    await old_ledger["uploads"].update_one({"_id": broken["_id"]}, UNREADABLE)
    result = run(tmp_path, "migrate", "--json", **settings_of(stack, mongo_database=database_name))
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert (report["uploads"], report["unreadable"]) == (18, 1)
    assert broken["_id"] in result.stderr


async def test_local_refuses_an_old_folder_until_it_is_migrated(tmp_path: Path) -> None:
    """The sentence has the command with the folder in it."""
    folder = tmp_path / "data"
    async with embedded_stack(folder) as stack, mongo(stack.address.mongo_uri) as client:
        await restore(client["assetlane"])
    result = run(tmp_path, "local", "--dir", str(folder), "--listen", "127.0.0.1:0")
    assert (result.returncode, result.stdout) == (1, "")
    assert f"assetlane-server migrate --dir {folder}" in result.stderr
    result = run(tmp_path, "migrate", "--dir", str(folder))
    assert result.returncode == 0, result.stderr
    assert "Wrote 19 uploads" in result.stdout
    with local(tmp_path) as (target, _):
        async with Client(target, uid="ann") as client:
            assert [asset async for asset in client.list_assets("user/ann")]


async def test_everything_of_an_owner_is_erased(
    tmp_path: Path, stack: StackAddress, database_name: str, key_prefix: str
) -> None:
    """Beside a server that serves: others keep theirs, and the report says what is left."""
    server = settings_for(stack, database_name, key_prefix)
    settings = settings_of(stack, mongo_database=database_name, key_prefix=key_prefix, **accepted())
    await prepare_bucket(server)
    async with (
        served(server) as target,
        Client(target, uid="ann") as ann,
        Client(target, uid="bob") as bob,
        mongo(stack.mongo_uri) as client,
    ):
        mine = await ann.upload(b"hers", file_path="a.txt", partition="room", title="a secret")
        others = await bob.upload(b"his", file_path="b.txt", partition="room")
        result = run(tmp_path, "erase", "ann", **settings)
        assert result.returncode == 0, result.stderr
        done, left = result.stdout.splitlines()
        assert done == "Erased what 'ann' had: 1 assets deleted, 0 open uploads ended, 0 records removed."
        assert left.startswith("1 records are left, the last until ")
        with raises(AssetlaneError, reason="ASSET_NOT_FOUND"):
            await bob.get_asset(mine.asset_id)
        assert [asset.asset_id async for asset in bob.list_assets("room")] == [others.asset_id]
        again = run(tmp_path, "erase", "ann", "--json", **settings)
        assert again.returncode == 0, again.stderr
        report = json.loads(again.stdout)
        assert report.pop("left_until").startswith("20")
        assert report == {
            "uid": "ann",
            "uploads_ended": 0,
            "assets_deleted": 0,
            "records_removed": 0,
            "records_left": 1,
            "records_unreadable": 0,
        }
        uploads = client[database_name]["uploads"]
        assert "a secret" not in str(await uploads.find({}).to_list(None))
        await uploads.update_one({"_id": mine.asset_id}, UNREADABLE)
        incomplete = run(tmp_path, "erase", "ann", **settings)
        assert incomplete.returncode == 1
        assert "1 records cannot be read by this version" in incomplete.stdout
        assert mine.asset_id in incomplete.stderr


@pytest.mark.parametrize(("uid", "fault"), [("", "is required"), ("a\nb", "control character")])
def test_a_name_that_no_owner_can_have_is_refused(
    tmp_path: Path, stack: StackAddress, database_name: str, uid: str, fault: str
) -> None:
    """Nothing is erased: least of all everybody's, where the name is empty."""
    result = run(tmp_path, "erase", uid, **settings_of(stack, mongo_database=database_name))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"nothing was erased: uid: {fault if uid == '' else 'has a ' + fault}" in result.stderr


def test_the_erasure_needs_a_name(tmp_path: Path) -> None:
    """A missing argument is a mistake of the command line."""
    assert run(tmp_path, "erase").returncode == 2
