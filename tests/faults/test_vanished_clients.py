"""Clients that vanish, in real time and with two servers: each upload ends by itself, and leaves nothing."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import grpc
import pytest
from tests.faults.callers import Caller
from tests.faults.conftest import Report
from tests.faults.inventory import taken
from tests.faults.scale import scaled
from tests.faults.server_process import environment_for, server_process
from tests.faults.settlement import settled
from tests.journeys.bucket import Bucket
from tests.journeys.conftest import Stubs
from tests.journeys.steps import put
from tests.records.stores import drop, mongo
from tests.servers import settings_for

from assetlane.v1.upload_pb2 import WriteTarget
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

VANISHED: Final = scaled(300)  # after their PUTs, and as many before
AT_ONCE: Final = 12
WRITE_URL_SECONDS: Final = 4
DEADLINE_S: Final = 8
END_LIMIT_S: Final = 60
BODY: Final = b"five!"
RETENTION: Final = timedelta(days=31)


class SlowPut:
    """A PUT that sends its last byte when it is asked to: the store checked its URL long before."""

    def __init__(self, target: WriteTarget) -> None:
        self._target = target.single_put

    async def begin(self) -> None:
        """Sends all but the last byte."""
        url = urlsplit(self._target.url)
        headers = {"host": url.netloc, **self._target.headers}
        lines = [f"PUT {url.path}?{url.query} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._reader, self._writer = await asyncio.open_connection(url.hostname, url.port)
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + BODY[:-1])
        await self._writer.drain()

    async def end(self) -> bytes:
        """Sends the last byte and returns the first line of the answer."""
        self._writer.write(BODY[-1:])
        line = await self._reader.readline()
        self._writer.transport.abort()
        return line


def waited_s(upload: Mapping[str, Any]) -> float:
    """Returns how long after its targets' end an upload ended."""
    ended: datetime = upload["history"][-1]["time"]
    expired: datetime = upload["targets_expire_time"]
    return (ended - expired).total_seconds()


@pytest.mark.timeout(300)
async def test_uploads_of_clients_that_vanished_end_by_themselves(
    stack: StackAddress, database_name: str, key_prefix: str, directory: Path, report: Report
) -> None:
    """After the PUTs: COMPLETED within a minute; before: EXPIRED; what came after a cancel or too slowly is gone."""
    settings = settings_for(stack, database_name, key_prefix)
    turn = asyncio.Semaphore(AT_ONCE)
    after: list[str] = []
    before: list[str] = []
    late: list[str] = []
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        web = await enter(aiohttp.ClientSession())
        database = (await enter(mongo(stack.mongo_uri)))[database_name]
        bucket = Bucket(settings)
        resources.callback(bucket.close)
        environment = environment_for(
            stack,
            database_name,
            settings={"key_prefix": key_prefix},
            write_url_seconds=WRITE_URL_SECONDS,
            upload_hours=DEADLINE_S / 3600,
            sweep_seconds=0.5,
        )
        callers = []
        for number in range(2):
            server = await enter(server_process(environment, directory / f"{number}.log"))
            channel = await enter(grpc.aio.insecure_channel(server.target))
            callers.append(Caller(partial(Stubs.on, channel), web, retries=3))

        async def vanish(number: int, kind: list[str]) -> None:
            async with turn:
                caller = callers[number % 2]
                upload, target = await caller.request(f"r-{number}", BODY)
                kind.append(upload.upload_id)
                if kind is late:
                    await caller.cancel(upload.upload_id)
                if kind is not before:
                    assert await put(web, target, BODY) == 200

        slow_upload, target = await callers[0].request("slow", BODY)
        slow = SlowPut(target)
        await slow.begin()
        async with asyncio.TaskGroup() as tasks:
            for number in range(VANISHED):
                tasks.create_task(vanish(3 * number, after))
                tasks.create_task(vanish(3 * number + 1, before))
                tasks.create_task(vanish(3 * number + 2, late))

        # COMPLETED, or ended otherwise and swept.
        restless = {"status": {"$ne": "COMPLETED"}, "is_swept": {"$ne": True}}
        async with asyncio.timeout(END_LIMIT_S + 30):
            while await database["uploads"].count_documents(restless):  # noqa: ASYNC110 - only the ledger shows it
                await asyncio.sleep(0.2)
        inventory = await taken(settings)

        answer = await slow.end()
        slow_keys = [key for key in await bucket.keys() if slow_upload.upload_id in key]
    longest_s = max(waited_s(inventory.uploads[one]) for one in after)
    statuses = {
        name: {inventory.uploads[one]["history"][-1]["status"] for one in kind}
        for name, kind in (("after", after), ("before", before), ("late", late))
    }
    await settled(settings, RETENTION)
    remains = await taken(settings)
    report(
        f"{len(after)} vanished after their PUTs: {statuses['after']}, at most {longest_s:.1f} s after their targets'"
        f" end\n{len(before)} vanished before: {statuses['before']}\n"
        f"{len(late)} PUTs after a cancel: {statuses['late']}\n{inventory}\n"
        f"a PUT that ended long after its URL: {answer.decode().strip()}, {len(slow_keys)} object;"
        f" {len(remains.orphans)} once its record went"
    )
    assert statuses == {"after": {"COMPLETED"}, "before": {"EXPIRED"}, "late": {"CANCELLED"}}
    assert longest_s < END_LIMIT_S
    assert not inventory.faults
    assert not remains.orphans
    await drop(stack.mongo_uri, database_name)
