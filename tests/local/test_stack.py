"""The embedded stack against its promises: real servers, real kills."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import psutil
import pymongo
import pytest
from botocore.config import Config
from pymongo.errors import OperationFailure
from tests.refusals import shows

from assetlane_server.local import (
    DirectoryInUseError,
    EmbeddedStack,
    NotRunningError,
    StackAddress,
    StoreFailedError,
    embedded_stack,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIMIT_S: Final = 15.0
SERVER_SOURCE: Final = Path(__file__).parents[2] / "server"

PARENT: Final = """
import asyncio, sys
from pathlib import Path
from assetlane_server.local import embedded_stack

async def main():
    async with embedded_stack(Path(sys.argv[1])) as stack:
        print(stack.mongo.pid, stack.s3.pid, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def mongo(address: StackAddress, **options: Any) -> "Iterator[pymongo.MongoClient[dict[str, Any]]]":
    """A client of the stack's MongoDB protocol."""
    with pymongo.MongoClient(address.mongo_uri, serverSelectionTimeoutMS=5000, **options) as client:
        yield client


def s3(address: StackAddress) -> "S3Client":
    """A client of the stack's S3 protocol that never tries again."""
    return boto3.client(
        "s3",
        endpoint_url=address.s3_endpoint,
        region_name=address.s3_region,
        aws_access_key_id=address.s3_access_key_id,
        aws_secret_access_key=address.s3_secret_access_key,
        config=Config(signature_version="s3v4", retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def read_object(address: StackAddress, key: str) -> bytes:
    """The bytes of one object."""
    with s3(address).get_object(Bucket=address.s3_bucket, Key=key)["Body"] as body:
        return body.read()


def write_both(address: StackAddress, name: str) -> None:
    """Puts one document and one object of this name."""
    with mongo(address) as client:
        client.kept.documents.insert_one({"_id": name})
    s3(address).put_object(Bucket=address.s3_bucket, Key=name, Body=name.encode())


def read_both(address: StackAddress, name: str) -> bool:
    """Says whether the document and the object of this name are there."""
    with mongo(address) as client:
        return client.kept.documents.find_one({"_id": name}) is not None and read_object(address, name) == name.encode()


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails after a limit."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.01)


def store_processes(directory: Path) -> list[psutil.Process]:
    """Every process, guard or store, that works in this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def port_of(address: StackAddress) -> int:
    """The port of the S3 protocol."""
    return int(address.s3_endpoint.rpartition(":")[2])


def grpc_sockets(s3_port: int) -> list[Path]:
    """What SeaweedFS puts into /tmp, of its own choice, for a stack on this port."""
    return list(Path("/tmp").glob(f"seaweedfs-s3-grpc-{s3_port + 10_000}.sock"))  # noqa: S108


@contextmanager
def parent_process(directory: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Another Python process that runs a stack in this directory until its standard input ends."""
    with subprocess.Popen(
        (sys.executable, "-c", PARENT, str(directory)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SERVER_SOURCE)},
    ) as parent:
        assert parent.stdout is not None
        assert len(parent.stdout.readline().split()) == 2
        yield parent


def test_the_stack_writes_and_reads_back_a_document(stack: StackAddress, database_name: str) -> None:
    """What goes in by the MongoDB protocol comes out again, with majority concerns."""
    with mongo(stack, w="majority", readConcernLevel="majority") as client:
        client[database_name].things.insert_one({"_id": 1, "name": "lane"})
        assert client[database_name].things.find_one({"_id": 1}) == {"_id": 1, "name": "lane"}


def test_a_change_stream_of_a_whole_database_reports_of_an_update(stack: StackAddress, database_name: str) -> None:
    """An update arrives with the fields that it changed, and its token resumes after it."""
    with mongo(stack) as client:
        things = client[database_name].things
        things.insert_one({"_id": 1, "revision": 1})
        with client[database_name].watch(max_await_time_ms=1000) as changes:
            things.update_one({"_id": 1, "revision": 1}, {"$set": {"revision": 2}})
            first = next(changes)
        assert first["updateDescription"]["updatedFields"] == {"revision": 2}
        things.update_one({"_id": 1, "revision": 2}, {"$set": {"revision": 3}})
        with client[database_name].watch(resume_after=first["_id"], max_await_time_ms=1000) as changes:
            assert next(changes)["updateDescription"]["updatedFields"] == {"revision": 3}


def test_a_failpoint_fails_the_command_it_names(stack: StackAddress, database_name: str) -> None:
    """With test commands on, an error can be ordered for the clients of one name."""
    name = f"failing-{database_name}"
    with mongo(stack, appname=name) as client:
        client.admin.command(
            {
                "configureFailPoint": "failCommand",
                "mode": {"times": 1},
                "data": {"failCommands": ["aggregate"], "errorCode": 286, "appName": name},
            }
        )
        with pytest.raises(OperationFailure) as caught:
            client[database_name].watch()
        assert caught.value.code == 286


def test_the_stack_writes_and_reads_back_an_object(stack: StackAddress, key_prefix: str) -> None:
    """What goes in by the S3 protocol comes out again."""
    s3(stack).put_object(Bucket=stack.s3_bucket, Key=key_prefix + "a.txt", Body=b"lane")
    assert read_object(stack, key_prefix + "a.txt") == b"lane"


def test_an_anonymous_read_is_refused(stack: StackAddress, key_prefix: str) -> None:
    """Who does not sign gets nothing."""
    s3(stack).put_object(Bucket=stack.s3_bucket, Key=key_prefix + "a.txt", Body=b"lane")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{stack.s3_endpoint}/{stack.s3_bucket}/{key_prefix}a.txt", timeout=5)  # noqa: S310
    with caught.value as refusal:
        assert refusal.code == 403


async def test_a_second_start_finds_the_data_and_the_address_again(tmp_path: Path) -> None:
    """Documents, objects, ports and credentials outlive the stack; nothing else does."""
    async with embedded_stack(tmp_path) as stack:
        first = stack.address
        await asyncio.to_thread(write_both, first, "kept")
    assert store_processes(tmp_path) == []
    assert grpc_sockets(port_of(first)) == []
    async with embedded_stack(tmp_path) as stack:
        assert stack.address == first
        assert await asyncio.to_thread(read_both, first, "kept")


async def test_a_start_on_other_ports_finds_the_data_again(tmp_path: Path) -> None:
    """When somebody took the ports meanwhile, the stack moves and keeps its data."""
    async with embedded_stack(tmp_path) as stack:
        first = stack.address
        await asyncio.to_thread(write_both, first, "kept")
    with socket.create_server(("127.0.0.1", port_of(first))):
        async with embedded_stack(tmp_path) as stack:
            assert stack.address.s3_endpoint != first.s3_endpoint
            assert await asyncio.to_thread(read_both, stack.address, "kept")


async def test_two_stacks_side_by_side_share_nothing(tmp_path: Path) -> None:
    """Started at the same moment they take other ports and credentials, and see other data."""
    left, right = EmbeddedStack(tmp_path / "left"), EmbeddedStack(tmp_path / "right")
    try:
        await asyncio.gather(left.start(), right.start())
        assert left.address.mongo_uri != right.address.mongo_uri
        assert left.address.s3_secret_access_key != right.address.s3_secret_access_key
        await asyncio.to_thread(write_both, left.address, "left")
        with mongo(right.address) as client:
            assert client.kept.documents.find_one({"_id": "left"}) is None
        with pytest.raises(s3(right.address).exceptions.NoSuchKey):
            await asyncio.to_thread(read_object, right.address, "left")
    finally:
        await asyncio.gather(left.kill(), right.kill())


async def test_a_directory_in_use_is_refused_by_name(tmp_path: Path) -> None:
    """The second stack reports which directory is taken, and the first does not notice."""
    running = EmbeddedStack(tmp_path)
    try:
        await running.start()
        with pytest.raises(DirectoryInUseError) as refused:
            await EmbeddedStack(tmp_path).start()
        assert refused.value.directory == tmp_path
        assert running.mongo.is_running
        assert running.s3.is_running
    finally:
        await running.kill()


async def test_nothing_listens_beyond_loopback_and_secrets_are_private(tmp_path: Path) -> None:
    """Every listening socket is on 127.0.0.1, every file with a secret is 0600."""
    stack = EmbeddedStack(tmp_path)
    try:
        await stack.start()
        for pid in (stack.mongo.pid, stack.s3.pid):
            connections = psutil.Process(pid).net_connections("inet")
            listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
            assert listening
            assert {address.ip for address in listening} == {"127.0.0.1"}
        for secret in ("stack.json", "s3/s3.json", "s3/security.toml"):
            assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600
        assert json.loads((tmp_path / "stack.json").read_text())["s3_secret_access_key"]
    finally:
        await stack.kill()


async def test_a_killed_store_comes_back_with_its_port_and_data(tmp_path: Path) -> None:
    """After kill -9 and restart of each store, clients find what they wrote where they wrote it."""
    stack = EmbeddedStack(tmp_path)
    try:
        await stack.start()
        await asyncio.to_thread(write_both, stack.address, "before")
        for store in (stack.mongo, stack.s3):
            pid = store.pid
            await store.kill()
            assert not psutil.pid_exists(pid)
            assert not store.is_running
            with pytest.raises(NotRunningError):
                _ = store.pid
            await store.restart()
            assert store.pid != pid
        assert await asyncio.to_thread(read_both, stack.address, "before")
        await asyncio.to_thread(write_both, stack.address, "after")
        assert await asyncio.to_thread(read_both, stack.address, "after")
    finally:
        await stack.kill()


async def test_a_store_lives_no_longer_than_a_guard_that_was_killed(tmp_path: Path) -> None:
    """Even when somebody kills the guards, stopping the stack leaves no store behind."""
    async with embedded_stack(tmp_path) as stack:
        port = port_of(stack.address)
        for guard in [psutil.Process(store.pid).parent() for store in (stack.mongo, stack.s3)]:
            assert guard is not None
            guard.kill()
    assert store_processes(tmp_path) == []
    assert grpc_sockets(port) == []


def test_a_killed_parent_takes_its_stores_along(tmp_path: Path) -> None:
    """After kill -9 of the parent, guards and stores are gone within seconds."""
    with parent_process(tmp_path) as parent:
        assert len(store_processes(tmp_path)) == 4
        parent.kill()
    wait_until(lambda: store_processes(tmp_path) == [])


async def test_a_start_right_after_a_killed_parent_waits_for_its_stores(tmp_path: Path) -> None:
    """The stores of a killed parent are still stopping: the next stack waits instead of failing."""
    with parent_process(tmp_path) as parent:
        parent.kill()
    stack = await EmbeddedStack(tmp_path).start()
    try:
        await asyncio.to_thread(write_both, stack.address, "next")
    finally:
        await stack.kill()


def test_a_parent_that_ends_by_itself_leaves_nothing(tmp_path: Path) -> None:
    """At the end of the block guards and stores are gone before the parent is."""
    with parent_process(tmp_path) as parent:
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait(LIMIT_S) == 0
    assert store_processes(tmp_path) == []


def test_an_interrupt_at_the_terminal_reaches_the_parent_alone(tmp_path: Path) -> None:
    """The stores are in sessions of their own, so Ctrl-C lets the parent drain before they stop."""
    with parent_process(tmp_path) as parent:
        sessions = {os.getsid(process.pid) for process in store_processes(tmp_path)}
        assert os.getsid(parent.pid) not in sessions
        assert len(sessions) == 2
        parent.send_signal(signal.SIGINT)
        assert parent.stdin is not None
        parent.stdin.close()
        parent.wait(LIMIT_S)
    wait_until(lambda: store_processes(tmp_path) == [])


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """Cancelling while the servers come up stops them and frees the directory."""
    start = asyncio.create_task(EmbeddedStack(tmp_path).start())
    await asyncio.to_thread(wait_until, lambda: len(store_processes(tmp_path)) == 4)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert store_processes(tmp_path) == []
    again = await EmbeddedStack(tmp_path).start()
    await again.kill()


async def test_a_store_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The error names the store and its log, and the other store is stopped too."""
    (tmp_path / "mongo").mkdir()
    (tmp_path / "mongo" / "data").write_text("not a directory")
    with pytest.raises(StoreFailedError) as failed:
        await EmbeddedStack(tmp_path).start()
    assert (failed.value.store, failed.value.log.name) == ("SecantusDB", "mongo.log")
    last_line = failed.value.log.read_text().splitlines()[-1]
    assert "Error" in last_line
    assert failed.value.log_end.splitlines()[-1] == last_line
    shows(str(failed.value), *failed.value.log_end.split())
    assert store_processes(tmp_path) == []


async def test_a_stack_that_does_not_run_has_no_address(tmp_path: Path) -> None:
    """Before the start and after the stop there is nothing to reach, and stopping is harmless."""
    stack = EmbeddedStack(tmp_path)
    with pytest.raises(NotRunningError):
        _ = stack.address
    await stack.stop()


def test_without_the_wheels_the_error_says_what_to_install(tmp_path: Path) -> None:
    """In an environment without the stores' wheels the start names the extra to install."""
    venv.create(tmp_path / "bare", symlinks=True)
    outcome = subprocess.run(
        (tmp_path / "bare" / "bin" / "python", "-c", PARENT, str(tmp_path / "data")),
        env={"PYTHONPATH": str(SERVER_SOURCE)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert outcome.returncode != 0
    assert "StoreMissingError" in outcome.stderr
    assert 'pip install "$(echo dist/assetlane-*.whl)[local]"' in outcome.stderr
