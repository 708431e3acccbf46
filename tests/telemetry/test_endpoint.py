"""The metrics port: what it answers, and what it does not let strangers do."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import psutil
import pytest
from tests.conftest import Figures

from assetlane_server.telemetry.endpoint import MAX_CONNECTIONS, exposed
from assetlane_server.telemetry.metrics import Metrics

LIMIT_S = 30.0


class Endpoint(NamedTuple):
    """One that answers."""

    host: str
    port: int
    state: dict[str, bool]
    readings: list[None]

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{self.host}:{self.port}"


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Serves from its own task."""
    state, readings = {"serving": True}, list[None]()
    async with exposed(
        Metrics(), "127.0.0.1:0", refresh=lambda: readings.append(None), is_serving=lambda: state["serving"]
    ) as address:
        host, _, port = address.rpartition(":")
        yield Endpoint(host, int(port), state, readings)


async def status(url: str) -> int:
    """Returns the status of an answer."""
    limit = aiohttp.ClientTimeout(total=LIMIT_S)
    async with aiohttp.ClientSession(timeout=limit) as web, web.get(url) as response:
        await response.read()
        return response.status


async def test_an_outage_makes_a_server_unready_and_not_dead(endpoint: Endpoint) -> None:
    """A probe that restarts asks /livez, one that routes asks /readyz; /healthz is the same as the latter."""
    assert [await status(f"{endpoint.url}/{name}") for name in ("livez", "readyz", "healthz")] == [200, 200, 200]
    endpoint.state["serving"] = False
    assert [await status(f"{endpoint.url}/{name}") for name in ("livez", "readyz", "healthz")] == [200, 503, 503]


async def test_connections_that_say_nothing_keep_prometheus_out_of_nothing(
    endpoint: Endpoint, figures: Figures
) -> None:
    """Of 500 idle connections the oldest are closed; a reading is answered while the others are open."""
    before = psutil.Process().memory_info().rss
    idle = []
    for number in range(500):
        idle.append(await asyncio.open_connection(endpoint.host, endpoint.port))
        if number % 50 == 0:
            idle[-1][1].write(b"GET /metrics HTTP/1.1\r\nx-slow: ")  # and never the rest
    try:
        assert await status(f"{endpoint.url}/metrics") == 200
        open_now = [
            one
            for one in psutil.Process().net_connections("tcp")
            if one.status == psutil.CONN_ESTABLISHED and one.laddr[1] == endpoint.port
        ]
        grown = (psutil.Process().memory_info().rss - before) / 2**20
        figures(
            f"metrics port: {len(open_now)} of 500 silent connections are open, both ends have grown by {grown:.1f} MiB"
        )
        assert len(open_now) <= MAX_CONNECTIONS
    finally:
        for _, writer in idle:
            writer.close()


async def test_a_flood_of_headers_is_refused(endpoint: Endpoint) -> None:
    """Many, and long ones: 400 and the end of the connection."""
    for flood in (b"".join(b"h%d: 1\r\n" % number for number in range(10_000)), b"h: " + b"x" * 1_000_000 + b"\r\n"):
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + flood + b"\r\n")
            async with asyncio.timeout(LIMIT_S):
                answer = await reader.read()
            assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        except ConnectionError:
            pass  # it was closed before all was sent
        finally:
            writer.close()
    assert await status(f"{endpoint.url}/metrics") == 200


async def test_readings_at_the_same_time_are_one(endpoint: Endpoint) -> None:
    """Fifty askers cost as much as one."""
    assert await asyncio.gather(*(status(f"{endpoint.url}/metrics") for _ in range(50))) == [200] * 50
    assert len(endpoint.readings) < 50
