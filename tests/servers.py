"""An Assetlane server in the test's own process, on the run's stores, with a database and a prefix of its own."""

import asyncio
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from assetlane_server.composition.app import Application, application, set_up_bucket
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.local import StackAddress
from assetlane_server.objects.bucket import Outcome

LIMIT_S = 60.0
ACCEPTING = ("accept_overwrites", "accept_unsigned_headers")
EVERY_TEST = "test-*/"  # what the prefixes of all tests look like to the bucket's policy


def free_port() -> int:
    """Returns a port that is free now, below those that outgoing connections take."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def settings_for(stack: StackAddress, database_name: str, key_prefix: str, **changes: Any) -> Settings:
    """Returns the settings of a server on these stores."""
    return settings_from(
        {},
        **{
            "listen": "127.0.0.1:0",
            "mongo_uri": stack.mongo_uri,
            "mongo_database": database_name,
            "s3_endpoint": stack.s3_endpoint,
            "s3_region": stack.s3_region,
            "s3_bucket": stack.s3_bucket,
            "s3_access_key_id": stack.s3_access_key_id,
            "s3_secret_access_key": stack.s3_secret_access_key,
            "key_prefix": key_prefix,
            "grace_seconds": 5,
            "store_probe": "quick",
            **accepted(),
            **changes,
        },
    )


def accepted() -> dict[str, str]:
    """Returns what the run's environment accepts of its store: not every maker's keeps all that ours does."""
    return {name: value for name in ACCEPTING if (value := os.environ.get(f"ASSETLANE_{name.upper()}")) is not None}


async def prepare_bucket(settings: Settings, *, is_own: bool = False) -> None:
    """Sets the bucket up for all tests in the same words: once is enough, and its policy does not grow with them.

    With `is_own`, for this test's prefix and origins. One test at a time: set-up reads the policy and writes it back.
    """
    is_own = is_own or not fnmatchcase(settings.key_prefix, EVERY_TEST)
    wanted = settings if is_own else settings.model_copy(update={"key_prefix": EVERY_TEST})
    lock = os.open(Path(tempfile.gettempdir(), f"assetlane-tests-{os.getuid()}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        steps = await set_up_bucket(wanted)
    finally:
        os.close(lock)  # unlocks it
    assert not [step for step in steps if step.outcome is Outcome.REFUSED], steps


@asynccontextmanager
async def served(settings: Settings, **how: Any) -> AsyncIterator[str]:
    """Serves, and yields the target to call; `how` are arguments of `application`.

    In a task of its own: a fixture's two halves run in different tasks, a task group wants to be in one.
    """
    async with running(settings, **how) as app:
        yield f"127.0.0.1:{app.port}"


@asynccontextmanager
async def served_twice(settings: Settings, **how: Any) -> AsyncIterator[tuple[str, str]]:
    """The same with a web gateway: yields the target to call, and the gateway's URL."""
    web = settings.model_copy(update={"web_listen": "127.0.0.1:0"})
    async with running(web, **how) as app:
        yield f"127.0.0.1:{app.port}", f"http://127.0.0.1:{app.web_port}"


@asynccontextmanager
async def running(settings: Settings, **how: Any) -> AsyncIterator[Application]:
    """Serves as long as the block lasts."""
    ready: asyncio.Future[Application] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def serve() -> None:
        async with application(settings, **how) as app:
            ready.set_result(app)
            await stop.wait()

    serving = asyncio.create_task(serve())
    serving.add_done_callback(lambda done: ready.cancel())
    try:
        yield await asyncio.wait_for(ready, LIMIT_S)
    except asyncio.CancelledError:
        serving.result()  # raises why it could not serve
        raise
    finally:
        stop.set()
        await asyncio.wait_for(serving, LIMIT_S)
