"""Where Prometheus and health checks ask: plain HTTP, without secrets, for those who reach its address."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from assetlane_server.model.errors import NotReady
from assetlane_server.telemetry.metrics import CONTENT_TYPE, Metrics

MAX_CONNECTIONS = 64
_MAX_HEADERS = 64
_KEEPALIVE_S = 75.0  # also the time in which a new connection has to send its first request
_STOP_LIMIT_S = 1.0


@asynccontextmanager
async def exposed(
    metrics: Metrics, listen: str, *, refresh: Callable[[], None], is_serving: Callable[[], bool]
) -> AsyncIterator[str]:
    """Answers `/metrics`, `/readyz` (200, or 503 while calls are better sent elsewhere; `/healthz` is the same) and
    `/livez` (200 as long as it answers) until the block ends, and yields its address.

    `refresh` is called before every reading. Raises NotReady when the address cannot be had.
    """
    expositions = _Expositions(metrics, refresh)

    async def get_metrics(request: web.Request) -> web.Response:
        return web.Response(body=await expositions.newest(), headers={"content-type": CONTENT_TYPE})

    async def get_readiness(request: web.Request) -> web.Response:
        return web.Response(text="SERVING\n") if is_serving() else web.Response(status=503, text="NOT_SERVING\n")

    async def get_liveness(request: web.Request) -> web.Response:
        return web.Response(text="ALIVE\n")

    app = web.Application(client_max_size=1024)
    app.add_routes(
        [
            web.get("/metrics", get_metrics),
            web.get("/livez", get_liveness),
            web.get("/readyz", get_readiness),
            web.get("/healthz", get_readiness),
        ]
    )
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=_STOP_LIMIT_S,
        max_headers=_MAX_HEADERS,
        lingering_time=0,
    )
    await runner.setup()
    connections = _Connections(runner, MAX_CONNECTIONS)
    try:
        host, _, port = listen.rpartition(":")
        try:
            server = await asyncio.get_running_loop().create_server(connections, host.strip("[]"), int(port))
        except OSError as error:
            fault = f"cannot listen on {listen}: {error.strerror or error}"
            raise NotReady.of_setting("ASSETLANE_METRICS_LISTEN", "CANNOT_LISTEN", fault) from error
        try:
            yield f"{host}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
    finally:
        await runner.cleanup()


class _Connections:
    """Makes the protocol of each new connection; closes the oldest one when there are too many.

    Not the newest: a client that opens connections and sends nothing would keep Prometheus out.
    """

    def __init__(self, runner: web.AppRunner, limit: int) -> None:
        self._runner = runner
        self._limit = limit

    def __call__(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - the runner was set up
        # In the order in which they came.
        excess = len(server.connections) + 1 - self._limit
        for connection in server.connections[: max(0, excess)]:
            if connection.transport is not None:
                connection.transport.abort()
        return server()


class _Expositions:
    """One reading at a time, which all who ask meanwhile share."""

    def __init__(self, metrics: Metrics, refresh: Callable[[], None]) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._reading: asyncio.Task[bytes] | None = None

    async def newest(self) -> bytes:
        """Returns the metrics as of now."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="metrics")
            self._reading.add_done_callback(self._forget)
        return await asyncio.shield(self._reading)

    async def _read(self) -> bytes:
        self._refresh()
        # Off the event loop: a thousand lines take as long as ten calls.
        return await asyncio.to_thread(self._metrics.exposition)

    def _forget(self, reading: "asyncio.Task[bytes]") -> None:
        self._reading = None
