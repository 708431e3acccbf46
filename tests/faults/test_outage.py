"""MongoDB is away for a while: the server is not ready, and gives nobody a reason to kill it."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from tests.faults.conftest import Report
from tests.faults.server_process import environment_for, server_process
from tests.journeys.conftest import Stubs
from tests.journeys.steps import request_for

from assetlane_server.local import EmbeddedStack

pytestmark = pytest.mark.faults

LIMIT_S: Final = 90.0


@pytest.mark.timeout(300)
async def test_an_outage_of_mongodb_makes_a_server_unready_and_kills_nothing(
    own_stack: EmbeddedStack, directory: Path, report: Report
) -> None:
    """Liveness holds throughout, by HTTP and by gRPC; readiness goes and comes back, in the same process."""
    changes = {"metrics_listen": "127.0.0.1:0"}
    environment = environment_for(own_stack.address, "outage", settings=changes, mongo_timeout_seconds=2)
    async with (
        server_process(environment, directory / "server.log") as server,
        grpc.aio.insecure_channel(server.target) as channel,
        aiohttp.ClientSession() as web,
    ):
        (metrics,) = server.events("METRICS_SERVED")
        health: Any = HealthStub(channel)

        async def probed() -> dict[str, object]:
            """Returns what four probes answer."""
            answers: dict[str, object] = {}
            for name in ("livez", "readyz"):
                async with web.get(f"http://{metrics['listen']}/{name}") as response:
                    answers[f"/{name}"] = response.status
                answer = await health.Check(HealthCheckRequest(service=name), timeout=LIMIT_S)
                answers[name] = HealthCheckResponse.ServingStatus.Name(answer.status)
            return answers

        async def once(ready: bool) -> dict[str, object]:
            async with asyncio.timeout(LIMIT_S):
                while (answers := await probed())["/readyz"] != (200 if ready else 503):
                    assert (answers["/livez"], answers["livez"]) == (200, "SERVING")
                    await asyncio.sleep(0.1)
            return answers

        pid = server.pid
        await once(ready=True)
        os.kill(own_stack.mongo.pid, signal.SIGSTOP)
        try:
            away = await once(ready=False)
        finally:
            os.kill(own_stack.mongo.pid, signal.SIGCONT)
        back = await once(ready=True)
        await Stubs.on(channel).uploads.RequestUpload(request_for(), timeout=LIMIT_S)
        report(f"MongoDB away: {away}; back: {back}; the same process serves")
        assert away == {"/livez": 200, "livez": "SERVING", "/readyz": 503, "readyz": "NOT_SERVING"}
        assert server.pid == pid
