"""Where Prometheus and health checks ask: plain HTTP, without secrets, for those who reach its address."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from assetlane_server.telemetry.metrics import CONTENT_TYPE, Metrics
from assetlane_server.uploads.errors import NotReady

_KEEPALIVE_S = 75.0
_STOP_LIMIT_S = 1.0


@asynccontextmanager
async def exposed(
    metrics: Metrics, listen: str, *, refresh: Callable[[], None], is_serving: Callable[[], bool]
) -> AsyncIterator[str]:
    """Answers `/metrics` and `/healthz` (200, or 503) until the block ends, and yields its address.

    `refresh` is called before every reading. Raises NotReady when the address cannot be had.
    """

    async def tell_metrics(request: web.Request) -> web.Response:
        refresh()
        # Off the event loop: a thousand lines take as long as ten calls.
        body = await asyncio.to_thread(metrics.exposition)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE})

    async def tell_health(request: web.Request) -> web.Response:
        return web.Response(text="SERVING\n") if is_serving() else web.Response(status=503, text="NOT_SERVING\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", tell_metrics), web.get("/healthz", tell_health)])
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=_STOP_LIMIT_S)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        site = web.TCPSite(runner, host.strip("[]"), int(port))
        try:
            await site.start()
        except OSError as error:
            raise NotReady(f"ASSETLANE_METRICS_LISTEN: cannot listen on {listen}: {error.strerror or error}") from error
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
