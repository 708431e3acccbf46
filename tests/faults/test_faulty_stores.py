"""Both stores fail now and then: no upload completes that should not, nearly all end within five retries."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import aiohttp
import grpc
import pytest
from tests.faults.callers import Caller, reason_of
from tests.faults.conftest import Report
from tests.faults.fault_proxy import Action, Decide
from tests.faults.inventory import taken
from tests.faults.messages import Message
from tests.faults.proxied_server import proxied_server
from tests.faults.scale import scaled
from tests.faults.settlement import settled
from tests.journeys.bucket import Bucket
from tests.records.stores import drop
from tests.servers import settings_for

from assetlane.v1.upload_pb2 import UPLOAD_STATUS_COMPLETED, UPLOAD_STATUS_FAILED
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

UPLOADS: Final = scaled(2000)
RETRIES: Final = 5
AT_ONCE: Final = 24
SHARE_THAT_ENDS: Final = 0.999
# In per mille of the requests.
MONGO_FAULTS: Final = {Action.REFUSE: 15, Action.STEP_DOWN: 5, Action.LOSE: 10, Action.SWALLOW: 10, Action.DELAY: 10}
S3_FAULTS: Final = {Action.REFUSE: 100, Action.HANG: 25, Action.STALL: 25}


def failing(dice: random.Random, faults: dict[Action, int]) -> Decide:
    """Does each fault to so many of a thousand requests."""
    actions = [Action.PASS, *faults]
    weights = [1000 - sum(faults.values()), *faults.values()]

    def decide(message: Message) -> Action:
        return dice.choices(actions, weights)[0]

    return decide


@pytest.mark.timeout(900)
async def test_uploads_end_though_both_stores_fail_now_and_then(
    stack: StackAddress, database_name: str, key_prefix: str, seed: int, report: Report
) -> None:
    """5 % of the requests to MongoDB, 10 % 5xx and 5 % time-outs of S3; some bytes wrong, some missing."""
    began = asyncio.get_running_loop().time()
    dice = random.Random(seed)
    settings = settings_for(stack, database_name, key_prefix)
    turn = asyncio.Semaphore(AT_ONCE)
    ends: Counter[str] = Counter()
    unfinished: list[str] = []
    false: list[str] = []
    bucket = Bucket(settings)
    quick = {"mongo_timeout_seconds": 5, "s3_timeout_seconds": 2}
    async with AsyncExitStack() as resources:
        resources.callback(bucket.close)
        web = await resources.enter_async_context(aiohttp.ClientSession())
        server = await resources.enter_async_context(proxied_server(stack, database_name, key_prefix, **quick))
        caller = Caller(lambda: server.stubs, web, RETRIES)
        server.mongo.decide, server.s3.decide = failing(dice, MONGO_FAULTS), failing(dice, S3_FAULTS)

        async def lead(number: int, kind: str) -> None:
            body = f"the bytes of {number}".encode()
            async with turn:
                try:
                    upload, target = await caller.request(f"r-{number}", body)
                    if kind != "missing":
                        await caller.put(target, body)
                    if kind == "wrong":
                        await bucket.replace(target.single_put.url, b"other bytes", "text/plain")
                    answer = await caller.complete(upload.upload_id)
                except grpc.aio.AioRpcError as error:
                    if kind == "missing" and reason_of(error) == "VARIANTS_MISSING":
                        ends[kind] += 1
                    else:
                        unfinished.append(f"{kind} {number}: {error.code()} {reason_of(error)} {error.details()}")
                    return
            ends[kind] += 1
            expected = {"right": UPLOAD_STATUS_COMPLETED, "wrong": UPLOAD_STATUS_FAILED}.get(kind)
            if answer.upload.status != expected:
                false.append(f"{kind} {number}: {answer.upload.status}")

        async with asyncio.TaskGroup() as tasks:
            for number in range(UPLOADS):
                kind = dice.choices(("right", "wrong", "missing"), (90, 5, 5))[0]
                tasks.create_task(lead(number, kind))
        seconds = asyncio.get_running_loop().time() - began
        actions = {
            name: ", ".join(f"{count} {action.name}" for action, count in proxy.actions.items())
            for name, proxy in (("MongoDB", server.mongo), ("S3", server.s3))
        }
        server.kill()
        await server.mongo.deliver()
    await settled(settings, timedelta(hours=25))
    await settled(settings, timedelta(hours=26))
    inventory = await taken(settings)
    report(
        f"{UPLOADS} uploads in {seconds:.0f} s: {dict(ends)}, {len(unfinished)} not within {RETRIES} retries,"
        f" {len(false)} false answers\nretries  {dict(sorted(caller.retries.items()))}\n"
        + "\n".join(f"{name}  {outcome}" for name, outcome in actions.items())
        + f"\n{inventory}"
    )
    assert not false
    assert len(unfinished) <= UPLOADS * (1 - SHARE_THAT_ENDS), unfinished[:5]
    assert not inventory.faults
    await drop(stack.mongo_uri, database_name)
