"""The `assetlane-server` command as a process of its own: what an operator reads, and how it ends."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import boto3
import pytest
from botocore.config import Config
from tests.commands import ran

from assetlane import Client
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.timeout(180)

COMMAND = (sys.executable, "-m", "assetlane_server")
LIMIT_S = 60
NOBODY = "127.0.0.1:1"


def environment(folder: Path, **settings: object) -> dict[str, str]:
    """Returns an environment with these settings, and with no credentials or settings of this machine."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ASSETLANE_", "AWS_"))}
    variables = {f"ASSETLANE_{name.upper()}": str(value) for name, value in settings.items()}
    return {**own, "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "PYTHONWARNINGS": "error", **variables}


def refused(folder: Path, command: str, **settings: object) -> str:
    """Runs a command that cannot work, and returns what it says: never a traceback, always status 1."""
    result = subprocess.run(
        [*COMMAND, command],
        env=environment(folder, **settings),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    _, name, message = result.stderr.partition("assetlane-server: ")  # gRPC may have its own word before
    assert name
    return message


def settings_of(stack: StackAddress, **changes: object) -> dict[str, object]:
    """Returns the settings of a server on these stores."""
    return {
        "listen": "127.0.0.1:0",
        "mongo_uri": stack.mongo_uri,
        "s3_endpoint": stack.s3_endpoint,
        "s3_region": stack.s3_region,
        "s3_bucket": stack.s3_bucket,
        "s3_access_key_id": stack.s3_access_key_id,
        "s3_secret_access_key": stack.s3_secret_access_key,
        **changes,
    }


@pytest.mark.parametrize("command", ["serve", "setup"])
def test_without_settings_every_missing_one_is_named(tmp_path: Path, command: str) -> None:
    """All at once, by the names that the operator sets."""
    message = refused(tmp_path, command)
    assert message.splitlines() == [
        "the settings are wrong:",
        "  ASSETLANE_MONGO_URI: is required",
        "  ASSETLANE_S3_BUCKET: is required",
        "To try it without any settings: assetlane-server local",
    ]


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    """A variable that nobody reads is a mistake, not a comment."""
    message = refused(tmp_path, "serve", mongo_uri="mongodb://127.0.0.1", s3_bucket="bucket", s3_bukket="bucket")
    assert message == "ASSETLANE_S3_BUKKET: there is no such setting\n"


def test_an_unreachable_mongodb_is_reported_with_its_address(tmp_path: Path, stack: StackAddress) -> None:
    """One line, soon, without the password."""
    uri = f"mongodb://ann:hunter2@{NOBODY}/"
    message = refused(tmp_path, "serve", **settings_of(stack, mongo_uri=uri, mongo_timeout_seconds=0.5))
    assert message.startswith("MongoDB cannot be used: ")
    assert NOBODY in message
    assert "hunter2" not in message
    assert len(message.splitlines()) == 1


def test_an_unreachable_object_store_is_reported(tmp_path: Path, stack: StackAddress) -> None:
    """One line, soon."""
    endpoint = f"http://{NOBODY}"
    message = refused(tmp_path, "setup", **settings_of(stack, s3_endpoint=endpoint, s3_timeout_seconds=0.5))
    assert message.startswith("the object store cannot be set up: ")
    assert "cannot be reached" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"s3_bucket": "nobody-made-this-one"}, "assetlane-server setup"),
        ({"s3_secret_access_key": "not-the-secret"}, "ASSETLANE_S3_SECRET_ACCESS_KEY"),
        ({"key_prefix": "nobody-opened-this/"}, "nobody-opened-this/public/"),
    ],
)
def test_a_fault_of_the_store_that_stays_ends_the_start(
    tmp_path: Path, stack: StackAddress, database_name: str, changes: dict[str, object], named: str
) -> None:
    """One line that says what to do; a server with a wrong bucket is not healthy."""
    message = refused(tmp_path, "serve", **settings_of(stack, mongo_database=database_name, **changes))
    line = message.splitlines()[-1]
    assert line.startswith("The object store cannot be used: ")
    assert named in line
    assert "not-the-secret" not in message


@pytest.mark.parametrize("command", ["serve", "setup"])
def test_missing_credentials_are_reported(tmp_path: Path, stack: StackAddress, command: str) -> None:
    """One line that says where they may come from."""
    settings = settings_of(stack)
    del settings["s3_access_key_id"], settings["s3_secret_access_key"]
    message = refused(tmp_path, command, **settings)
    assert message.startswith("No S3 credentials found: ")
    assert len(message.splitlines()) == 1


def test_a_port_in_use_is_reported(tmp_path: Path, stack: StackAddress, database_name: str) -> None:
    """One line with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        changes = {"listen": listen, "mongo_database": database_name, "public_assets": "false"}
        message = refused(tmp_path, "serve", **settings_of(stack, **changes))
    assert message.strip() == f"cannot listen on {listen}: the port is in use or not allowed"


@pytest.fixture
def new_bucket(stack: StackAddress) -> Iterator[str]:
    """A name for a bucket, which is deleted at the end."""
    name = f"assetlane-test-{secrets.token_hex(6)}"
    yield name
    client = boto3.client(
        "s3",
        endpoint_url=stack.s3_endpoint,
        region_name=stack.s3_region,
        aws_access_key_id=stack.s3_access_key_id,
        aws_secret_access_key=stack.s3_secret_access_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.delete_bucket(Bucket=name)
    client.close()


def test_set_up_twice_finds_everything_right(tmp_path: Path, stack: StackAddress, new_bucket: str) -> None:
    """The first run says what it did, the second that there was nothing to do."""

    def set_up() -> list[str]:
        result = subprocess.run(
            [*COMMAND, "setup"],
            env=environment(tmp_path, **settings_of(stack, s3_bucket=new_bucket)),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        return result.stdout.splitlines()

    first, second = set_up(), set_up()
    assert first[0].split()[:2] == ["bucket", "created:"]
    assert [line.split()[0] for line in first] == [line.split()[0] for line in second]
    assert all("already right" in line or "not supported" in line for line in second)


@contextmanager
def local(folder: Path, listen: str = "127.0.0.1:0", **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs `assetlane-server local`; yields the target that it greets with, and the process."""
    process = subprocess.Popen(
        [*COMMAND, "local", "--dir", str(folder / "data"), "--listen", listen],
        env=environment(folder, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        assert "serves on 127.0.0.1:" in greeting, process.communicate()
        yield greeting.split()[-1], process
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_S)


async def test_local_keeps_what_was_uploaded(tmp_path: Path) -> None:
    """Greets, serves, ends with 0 on SIGTERM; started again in the same place it still has everything."""
    with local(tmp_path, web_listen="127.0.0.1:0") as (target, server):
        assert server.stdout is not None
        web = server.stdout.readline().split()[:2]
        assert web[0] == "web"
        async with aiohttp.ClientSession() as session, session.get(f"{web[1]}/livez") as answer:
            assert await answer.text() == "ALIVE\n"
        async with Client(target, uid="ann") as client:
            asset = await client.upload(b"hello", file_path="a.txt", partition="public")
        assert "in use" in refused_second(tmp_path)
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=LIMIT_S)
        assert server.returncode == 0, log
        assert "Traceback" not in log
    with local(tmp_path) as (target, _):
        (row,) = (await ran(target, "ls", "public")).lines
        assert row.startswith(asset.asset_id)
        await ran(target, "get", asset.asset_id, "-o", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_bytes() == b"hello"


def refused_second(folder: Path) -> str:
    """Starts a second server on the same data, and returns what it says."""
    second = subprocess.run(
        [*COMMAND, "local", "--dir", str(folder / "data"), "--listen", "127.0.0.1:0"],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert second.returncode == 1
    assert "Traceback" not in second.stderr
    return second.stderr
