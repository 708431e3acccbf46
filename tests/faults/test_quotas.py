"""Quotas under races and sudden deaths: never one too many, never one too few, and back to nothing."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import pytest
from tests.faults.conftest import Report
from tests.faults.scale import scaled
from tests.faults.server_process import environment_for, server_process
from tests.faults.settlement import settled
from tests.journeys.conftest import Stubs
from tests.journeys.steps import BODY, RpcFailure, put, request_for
from tests.servers import settings_for

from assetlane.v1.upload_service_pb2 import (
    CancelUploadRequest,
    CompleteUploadRequest,
    RequestUploadResponse,
)
from assetlane_server.composition.app import utc_now
from assetlane_server.composition.security import quota_enforcer
from assetlane_server.local import EmbeddedStack
from assetlane_server.model.quotas import Account
from assetlane_server.model.upload import Status
from assetlane_server.records.mongo import MongoRecords

pytestmark = pytest.mark.faults

AT_ONCE: Final = 200
OWNER: Final = "uid:7f3a"
LIMIT_S: Final = 30.0
WEEK: Final = timedelta(days=7)


@pytest.mark.timeout(300)
async def test_of_200_at_once_through_two_servers_exactly_the_limit_is_accepted(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """Also after completions, cancellations, a kill in the middle of a burst, and expiry."""
    limit = max(8, scaled(50))
    environment = environment_for(own_stack.address, "quotas", quota_uid_uploads=limit)
    settings = settings_for(own_stack.address, "quotas", "").model_copy(update={"quota_uid_uploads": limit})
    lines: list[str] = []
    async with AsyncExitStack() as resources:
        enter = resources.enter_async_context
        servers = [await enter(server_process(environment, directory / f"server-{n}.log")) for n in range(2)]
        channels = [await enter(grpc.aio.insecure_channel(server.target)) for server in servers]
        stubs = [Stubs.on(channel).uploads for channel in channels]
        web = await enter(aiohttp.ClientSession())
        records = await enter(
            MongoRecords.open(own_stack.address.mongo_uri, "quotas", call_timeout=timedelta(seconds=10))
        )
        outcomes: Counter[str] = Counter()
        answered = asyncio.Event()

        async def request(number: int, accepted: list[RequestUploadResponse]) -> None:
            try:
                # Each third one is the repeat of another one that is under way on the other server.
                request_id = f"{len(lines)}-{number - number % 3 if number % 3 < 2 else number}"
                accepted.append(
                    await stubs[number % 2].RequestUpload(request_for(request_id=request_id), timeout=LIMIT_S)
                )
                outcomes["accepted"] += 1
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    outcomes["lost"] += 1
                else:
                    outcomes[RpcFailure(error).reason] += 1
            answered.set()

        async def burst() -> dict[str, RequestUploadResponse]:
            outcomes.clear()
            accepted: list[RequestUploadResponse] = []
            async with asyncio.TaskGroup() as tasks:
                for number in range(AT_ONCE):
                    tasks.create_task(request(number, accepted))
            return {reply.upload.upload_id: reply for reply in accepted}

        async def account() -> Account:
            found = await records.quotas.find_account(OWNER)
            assert found is not None
            assert found.balance.open_uploads == len(found.claims)
            assert found.balance.open_bytes == sum(claim.size_bytes for claim in found.claims)
            return found

        async def open_ids() -> list[str]:
            statuses = (Status.PENDING, Status.INITIALIZED, Status.UPLOADED)
            found = await records.list_uploads(uid="7f3a", session_id="", statuses=statuses, before_id="", limit=1000)
            return [upload.upload_id for upload in found]

        async def open_uploads() -> int:
            return len(await open_ids())

        async def cancel_all() -> None:
            for upload_id in await open_ids():
                await stubs[0].CancelUpload(CancelUploadRequest(upload_id=upload_id), timeout=LIMIT_S)

        replies = await burst()
        assert set(outcomes) == {"accepted", "TOO_MANY_UPLOADS"}
        assert len(replies) == await open_uploads() == (await account()).balance.open_uploads == limit
        lines.append(f"{AT_ONCE} requests at once, limit {limit}: {len(replies)} uploads accepted; {dict(outcomes)}")

        for number, reply in enumerate(replies.values()):
            if number % 2:
                await stubs[0].CancelUpload(CancelUploadRequest(upload_id=reply.upload.upload_id))
            else:
                assert await put(web, reply.write_targets[0], BODY) == 200
                await stubs[1].CompleteUpload(CompleteUploadRequest(upload_id=reply.upload.upload_id))
        left = (await account()).balance
        assert (left.open_uploads, left.open_bytes, await open_uploads()) == (0, 0, 0)
        lines.append(f"after {limit} completions and cancellations: {left.open_uploads} count")

        for _ in range(scaled(3)):
            answered.clear()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(burst())
                await answered.wait()
                await servers[1].kill()
            count, held = await open_uploads(), (await account()).balance.open_uploads
            assert count <= held <= limit
            lines.append(f"a server killed in the middle of a burst: {held} count, {count} are open; {dict(outcomes)}")
            await cancel_all()
            await servers[1].start()
            stubs[1] = Stubs.on(await enter(grpc.aio.insecure_channel(servers[1].target))).uploads
        # What no kill has cut off is still exact.
        await burst()
        assert await open_uploads() <= (await account()).balance.open_uploads == limit

    await settled(settings, WEEK)
    async with MongoRecords.open(own_stack.address.mongo_uri, "quotas", call_timeout=timedelta(seconds=10)) as records:
        healer = quota_enforcer(settings, records, records.quotas, lambda: utc_now() + 2 * WEEK)
        assert healer is not None
        while await healer.sweep():
            pass
        held_at_last = await records.quotas.find_account(OWNER)
    count_at_last = 0 if held_at_last is None else held_at_last.balance.open_uploads
    lines.append(f"when all have expired: {count_at_last} count")
    report("\n".join(["quotas", *lines]))
    assert count_at_last == 0
