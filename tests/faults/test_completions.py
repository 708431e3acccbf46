"""Many completions of one upload at the same time, with cancels among them: one end, one answer."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import grpc
import pytest
from tests.faults.callers import Caller, reason_of
from tests.faults.conftest import Report
from tests.faults.inventory import taken
from tests.faults.proxy import proxied
from tests.faults.scale import scaled
from tests.journeys.conftest import Stubs
from tests.records.stores import drop
from tests.servers import served, settings_for

from assetlane.v1.upload_service_pb2 import GetUploadRequest
from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults

UPLOADS: Final = scaled(500)
COMPLETIONS: Final = 8
AT_ONCE: Final = 12  # uploads
EARLY: Final = 20  # uploads whose first completion comes before their bytes, fewer than the server has connections
LATE: Final = 3  # completions of each when they are there
BODY: Final = b"five!"
# What a completion may say that came after the cancel, or while it deleted.
CANCELLED_REASONS: Final = frozenset({"UPLOAD_CANCELLED", "VARIANTS_MISSING"})
COMPLETED_REASONS: Final = frozenset({"UPLOAD_COMPLETED", "UPLOAD_UPLOADED"})


async def answer_of(caller: Caller, upload_id: str, action: str) -> tuple[str, bytes | str]:
    """Calls and returns what was done and the answer, as bytes; or the reason of the refusal."""
    try:
        if action == "cancel":
            await caller.cancel(upload_id)
            answer = b""
        else:
            answer = (await caller.complete(upload_id)).SerializeToString(deterministic=True)
    except grpc.aio.AioRpcError as error:
        return action, reason_of(error)
    return action, answer


@pytest.mark.timeout(600)
async def test_of_many_completions_and_cancels_at_once_one_end_comes_out(
    stack: StackAddress, database_name: str, key_prefix: str, seed: int, report: Report
) -> None:
    """On two servers, in any order, repeated: one final status, the same answer to each."""
    dice = random.Random(seed)
    settings = settings_for(stack, database_name, key_prefix)
    turn = asyncio.Semaphore(AT_ONCE)
    ends: Counter[str] = Counter()
    faults: list[str] = []
    async with AsyncExitStack() as resources:
        web = await resources.enter_async_context(aiohttp.ClientSession())
        callers = []
        for _ in range(2):
            target = await resources.enter_async_context(served(settings))
            channel = await resources.enter_async_context(grpc.aio.insecure_channel(target))
            callers.append(Caller(partial(Stubs.on, channel), web, retries=5))  # a busy ledger says: repeat

        async def race(number: int, actions: list[str]) -> None:
            async with turn:
                upload, target = await callers[number % 2].request(f"r-{number}", BODY)
                await callers[0].put(target, BODY)
                calls = [answer_of(callers[i % 2], upload.upload_id, action) for i, action in enumerate(actions)]
                answers = await asyncio.gather(*calls)
            completions = {answer for action, answer in answers if action == "complete"}
            cancels = {answer for action, answer in answers if action == "cancel"}
            if any(isinstance(answer, bytes) for answer in completions):
                ends["completed"] += 1
                is_right = len(completions) == 1 and cancels <= COMPLETED_REASONS
            else:
                ends["cancelled"] += 1
                is_right = completions <= CANCELLED_REASONS and cancels == {b""}
            if not is_right:
                faults.append(f"{upload.upload_id}: {answers}")

        async with asyncio.TaskGroup() as tasks:
            for number in range(UPLOADS):
                actions = ["complete"] * COMPLETIONS + ["cancel"] * dice.choice((0, 1, 2))
                dice.shuffle(actions)
                tasks.create_task(race(number, actions))
    inventory = await taken(settings)
    report(f"{UPLOADS} uploads x {COMPLETIONS} completions: {dict(ends)}, {len(faults)} wrong\n{inventory}")
    assert not faults
    assert not inventory.faults
    await drop(stack.mongo_uri, database_name)


@pytest.mark.timeout(300)
async def test_a_completion_that_joins_one_begun_before_its_bytes_were_there_looks_again(
    stack: StackAddress, database_name: str, key_prefix: str, report: Report
) -> None:
    """The store has said no to the first one, and that is still on its way when the bytes come and others join."""
    port = urlsplit(stack.s3_endpoint).port
    assert port is not None
    outcomes: Counter[str] = Counter()
    async with AsyncExitStack() as resources:
        proxy = await resources.enter_async_context(proxied(port))
        settings = settings_for(
            stack,
            database_name,
            key_prefix,
            s3_endpoint=f"http://{proxy.target}",
            s3_public_endpoint=stack.s3_endpoint,
            s3_timeout_seconds=120,  # its answers are held for as long as the test needs
        )
        web = await resources.enter_async_context(aiohttp.ClientSession())
        target = await resources.enter_async_context(served(settings))
        channel = await resources.enter_async_context(grpc.aio.insecure_channel(target))
        caller = Caller(partial(Stubs.on, channel), web, retries=5)
        uploads = [await caller.request(f"r-{number}", BODY) for number in range(EARLY)]
        proxy.answers_pass.clear()
        resources.callback(proxy.answers_pass.set)
        async with asyncio.timeout(120):
            early = [asyncio.create_task(answer_of(caller, upload.upload_id, "complete")) for upload, _ in uploads]
            await proxy.holds_answers(EARLY)
            for _, write_target in uploads:
                await caller.put(write_target, BODY)
            late = [
                asyncio.create_task(answer_of(caller, upload.upload_id, "complete"))
                for upload, _ in uploads
                for _ in range(LATE)
            ]
            for upload, _ in uploads:  # calls that came after them are answered: so they have joined
                await Stubs.on(channel).uploads.GetUpload(GetUploadRequest(upload_id=upload.upload_id))
            proxy.answers_pass.set()
            for _, answer in await asyncio.gather(*early):
                outcomes[answer if isinstance(answer, str) else "COMPLETED"] += 1
            refused = [answer for _, answer in await asyncio.gather(*late) if isinstance(answer, str)]
    report(f"{EARLY} completions before the bytes: {dict(outcomes)}; {len(late)} that joined: {len(refused)} refused")
    assert outcomes == {"VARIANTS_MISSING": EARLY}
    assert not refused
    await drop(stack.mongo_uri, database_name)
