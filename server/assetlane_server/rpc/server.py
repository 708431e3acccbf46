"""The gRPC server: options, services, health and reflection, and its way of stopping."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from assetlane.v1 import asset_service_pb2, upload_service_pb2
from assetlane.v1.asset_service_pb2_grpc import add_AssetServiceServicer_to_server
from assetlane.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.interceptor import RefusalInterceptor
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.uploads.errors import NotReady

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in ((upload_service_pb2, "UploadService"), (asset_service_pb2, "AssetService"))
)
_HEALTH_TIMEOUT_S = 1.0


class RpcServer:
    """A server that listens. `port` is the one in use, also when 0 was asked for."""

    def __init__(self, server: aio.Server, health: health_aio.HealthServicer, port: int) -> None:
        self._server = server
        self._health = health
        self.port = port

    async def say_not_serving(self) -> None:
        """Tells health checks to send no more callers here."""
        # The stock servicer writes to its watchers while it holds its lock: a stuck one must not stop us.
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                await self._health.enter_graceful_shutdown()
        except TimeoutError:
            return

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new call, gives those in flight that long, then ends them."""
        await self._server.stop(grace_seconds)


@asynccontextmanager
async def serving(
    uploads: UploadServicer, assets: AssetServicer, *, listen: str, max_message_bytes: int
) -> AsyncIterator[RpcServer]:
    """Serves until the block ends. Raises NotReady when the address cannot be had."""
    server = aio.server(
        interceptors=[RefusalInterceptor()],
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
            # Both ends notice a dead peer within a minute; a client may ping an idle watch every 10 s.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.max_ping_strikes", 3),
        ],
    )
    add_UploadServiceServicer_to_server(uploads, server)
    add_AssetServiceServicer_to_server(assets, server)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
        server,
    )
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise NotReady(f"cannot listen on {listen}: the port is in use or not allowed") from error
    await server.start()
    try:
        for name in ("", *_SERVICES):
            await health.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield RpcServer(server, health, port)
    finally:
        await server.stop(0)
