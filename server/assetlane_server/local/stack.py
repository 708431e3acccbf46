"""The embedded stack as a whole: one directory, two stores, one address."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from assetlane_server.local.directory import (
    DirectoryLock,
    StackSettings,
    load_settings,
    remember_port,
    turn_log,
    write_private,
)
from assetlane_server.local.errors import LocalStackError, NotRunningError, StoreFailedError
from assetlane_server.local.mongo import mongo_launch, mongo_uri
from assetlane_server.local.ports import LOOPBACK, PortBlock, claim_block
from assetlane_server.local.process import GUARD_LIMIT_S, StoreProcess
from assetlane_server.local.s3 import BUCKET, REGION, s3_launch

DEFAULT_DIRECTORY: Final = Path(".assetlane")
PORT_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class StackAddress:
    """How to reach a stack, embedded or not."""

    mongo_uri: str
    s3_endpoint: str
    s3_region: str
    s3_access_key_id: str
    s3_secret_access_key: str
    s3_bucket: str = BUCKET


@dataclass(frozen=True, slots=True)
class RunningStores:
    """What exists between start and stop."""

    ports: PortBlock
    mongo: StoreProcess
    s3: StoreProcess


class EmbeddedStack:
    """A MongoDB protocol server and an S3 server on loopback, with all data in one directory.

    Both stop with this process, also when it is killed. Started again on the same directory, they have all
    data again, and the same ports if nobody took them.
    """

    def __init__(self, directory: Path = DEFAULT_DIRECTORY, *, test_commands: bool = False) -> None:
        self._directory = directory.absolute()
        self._test_commands = test_commands
        self._lock = DirectoryLock(self._directory)
        self._settings: StackSettings | None = None
        self._stores: RunningStores | None = None

    @property
    def mongo(self) -> StoreProcess:
        """The MongoDB protocol server. Raises LocalStackError when the stack does not run."""
        return self._running().mongo

    @property
    def s3(self) -> StoreProcess:
        """The S3 server. Raises LocalStackError when the stack does not run."""
        return self._running().s3

    @property
    def address(self) -> StackAddress:
        """How to reach both, the same until the stack stops. Raises LocalStackError when it does not run."""
        ports = self._running().ports
        if self._settings is None:
            raise LocalStackError("the embedded stack has no settings")
        return StackAddress(
            mongo_uri=mongo_uri(ports.mongo),
            s3_endpoint=f"http://{LOOPBACK}:{ports.s3}",
            s3_region=REGION,
            s3_access_key_id=self._settings.s3_access_key_id,
            s3_secret_access_key=self._settings.s3_secret_access_key,
        )

    async def start(self) -> Self:
        """Starts both servers and returns when both answer.

        Raises DirectoryInUseError when a live stack works in the directory, StoreMissingError without the
        wheels, StoreFailedError when a server ends or does not answer; nothing is left running then.
        """
        if self._stores is not None:
            raise LocalStackError(f"the stack in {self._directory} is running already")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._lock.acquire(limit_s=GUARD_LIMIT_S)
        try:
            self._settings = load_settings(self._directory)
            for log in ("mongo.log", "s3.log"):
                turn_log(self._directory / log)
            self._stores = await self._start_stores(self._settings)
            remember_port(self._directory, self._settings, self._stores.ports.first_port)
        except BaseException:
            await self.kill()
            raise
        return self

    async def stop(self) -> None:
        """Stops both servers, gently, and lets the directory go. Harmless when nothing runs."""
        await self._end(kill=False)

    async def kill(self) -> None:
        """Ends both servers at once and lets the directory go: for data that nobody needs any more."""
        await self._end(kill=True)

    async def _start_stores(self, settings: StackSettings) -> RunningStores:
        preferred = settings.first_port
        for attempt in range(1, PORT_ATTEMPTS + 1):
            ports = claim_block(preferred)
            try:
                stores = RunningStores(
                    ports,
                    StoreProcess(
                        mongo_launch(self._directory, ports.mongo, test_commands=self._test_commands),
                        lock_fd=self._lock.fd,
                    ),
                    StoreProcess(s3_launch(self._directory, ports, settings), lock_fd=self._lock.fd),
                )
                await start_both(stores)
            except StoreFailedError:
                ports.release()
                # Somebody else listens where our server wanted to: a lost race, so try elsewhere.
                if attempt == PORT_ATTEMPTS or ports.are_free():
                    raise
                preferred = None
            except BaseException:
                ports.release()
                raise
            else:
                return stores
        raise AssertionError("the last attempt returns or raises")

    async def _end(self, *, kill: bool) -> None:
        stores, self._stores = self._stores, None
        try:
            if stores is not None:
                ends = (s.kill() if kill else s.stop() for s in (stores.s3, stores.mongo))
                await asyncio.gather(*ends)
        finally:
            if stores is not None:
                stores.ports.release()
            self._lock.release()

    def _running(self) -> RunningStores:
        if self._stores is None:
            raise NotRunningError("the embedded stack is not running")
        return self._stores


async def start_both(stores: RunningStores) -> None:
    """Starts both servers side by side; when one fails the other is killed and the failure raised."""
    failures: list[BaseException] = []
    try:
        outcomes = await asyncio.gather(stores.mongo.start(), stores.s3.start(), return_exceptions=True)
        failures += filter(None, outcomes)
    finally:
        # One that is up already does not outlive a cancelled start either.
        if failures or sys.exception() is not None:
            await asyncio.gather(stores.mongo.kill(), stores.s3.kill())
    if failures:
        raise failures[0]


@asynccontextmanager
async def embedded_stack(
    directory: Path = DEFAULT_DIRECTORY, *, test_commands: bool = False
) -> AsyncIterator[EmbeddedStack]:
    """Runs a stack in this directory as long as the block lasts; its `address` says how to reach it."""
    stack = await EmbeddedStack(directory, test_commands=test_commands).start()
    try:
        yield stack
    finally:
        await stack.stop()


def keep_keys(directory: Path, address: StackAddress) -> Path:
    """Writes what the tools of AWS read from their environment, for this user's eyes, and returns where."""
    file = directory / "aws.env"
    variables = {
        "AWS_ACCESS_KEY_ID": address.s3_access_key_id,
        "AWS_SECRET_ACCESS_KEY": address.s3_secret_access_key,
        "AWS_ENDPOINT_URL_S3": address.s3_endpoint,
        "AWS_REGION": address.s3_region,
    }
    write_private(file, "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    return file
