"""A connection that carries nothing any more, and never says so: both ends notice by themselves."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import pytest
from tests.faults.conftest import Report
from tests.faults.proxy import proxied
from tests.faults.server_process import environment_for, server_process
from tests.journeys.steps import request_for

from assetlane import Client
from assetlane_server.local import EmbeddedStack

pytestmark = pytest.mark.faults

SERVER_KEEPALIVE_S: Final = 10.0
CLIENT_LIMIT_S: Final = 50.0  # it pings after 30 s and waits 10 s for the answer


async def test_both_ends_notice_a_half_open_connection(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """The server lets go after twice its keepalive; a thin client's watch is elsewhere within 50 s and has missed
    nothing.
    """
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as resources, asyncio.timeout(CLIENT_LIMIT_S):
        enter = resources.enter_async_context
        environment = environment_for(own_stack.address, "half_open", keepalive_seconds=SERVER_KEEPALIVE_S)
        server = await enter(server_process(environment, directory / "server.log"))
        front = await enter(proxied(server.port))
        watcher = await enter(Client(front.target, uid="7f3a"))
        owner = await enter(Client(server.target, uid="7f3a"))
        upload_id = (await owner.request_upload(request_for())).upload.upload_id
        revisions = []
        async with aclosing(watcher.watch_upload(upload_id)) as events:
            async for event in events:
                revisions.append(event.upload.revision)
                if event.upload.revision == 2:
                    (connection,) = front.connections
                    connection.half_open()
                    began = clock()
                    await owner.cancel_upload(upload_id)
                    async with asyncio.timeout(2 * SERVER_KEEPALIVE_S + 5):
                        await connection.upstream_has_ended.wait()
                    report(f"a half-open connection is noticed by the server after {clock() - began:.0f} s")
        report(f"a half-open connection is noticed by the client after {clock() - began:.0f} s")
    assert revisions == [1, 2, 3]
