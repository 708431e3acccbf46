"""The gRPC server: options, services, health and reflection, and its way of stopping."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from assetlane.v1 import access_service_pb2, asset_service_pb2, upload_service_pb2
from assetlane.v1.access_service_pb2_grpc import add_AccessServiceServicer_to_server
from assetlane.v1.asset_service_pb2_grpc import add_AssetServiceServicer_to_server
from assetlane.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from assetlane_server.model.errors import NotReady
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.rpc.access_servicer import AccessServicer
from assetlane_server.rpc.asset_servicer import AssetServicer
from assetlane_server.rpc.auditing import NO_AUDIT, Auditor
from assetlane_server.rpc.health import HealthServicer
from assetlane_server.rpc.interceptor import RefusalInterceptor
from assetlane_server.rpc.limits import Limits
from assetlane_server.rpc.observation import CallObserver
from assetlane_server.rpc.reading import CORE_LIMIT_FACTOR
from assetlane_server.rpc.tls import Tls
from assetlane_server.rpc.upload_servicer import UploadServicer
from assetlane_server.rpc.web.calls import Recorder
from assetlane_server.rpc.web.gateway import Gateway
from assetlane_server.rpc.web.rest import bindings_of
from assetlane_server.rpc.web.server import WebServer, WebTerms, gateway_limits, web_access, web_serving

# Four times the largest token that is read: so one that is too large is refused by us, with a reason.
MAX_METADATA_BYTES = 64 * 1024
_MAX_PENDING = 10_000_000
_MAX_PENDING_S = 3600

_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (upload_service_pb2, "UploadService"),
        (asset_service_pb2, "AssetService"),
        (access_service_pb2, "AccessService"),
    )
)


RPCS = frozenset(
    method.name
    for module in (upload_service_pb2, asset_service_pb2, access_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
"""The names of all RPCs of the contract, without their services."""


def server_options(
    *,
    max_message_bytes: int,
    keepalive_seconds: float,
    shares_port: bool,
    min_ping_seconds: float = 10,
    handshake_seconds: float = 20,
    max_connections: int = 20_000,
    max_streams_per_connection: int = 16_384,
) -> list[tuple[str, int]]:
    """Returns the options of the channel core.

    Each end pings a silent peer and drops one that does not answer: the defaults notice a dead one after hours.
    Clients may ping every `min_ping_seconds`, also between calls; one that pings faster gets ENHANCE_YOUR_CALM.
    What the core itself would refuse has no details for the caller: its own limits lie beyond ours.
    """
    keepalive_ms = round(keepalive_seconds * 1000)
    return [
        ("grpc.max_receive_message_length", max_message_bytes * CORE_LIMIT_FACTOR),
        # By default 1,000 and 3,000, above which calls of a burst are cancelled at random, without details. What
        # may wait here is bounded by connections and streams.
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
        # By default 30 s, after which what waits is cancelled, also without details.
        ("grpc.server_max_unrequested_time_in_server", _MAX_PENDING_S),
        # Both the same: between the soft and the hard limit the core refuses at random.
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.max_concurrent_streams", max_streams_per_connection),
        # By default two minutes, in which a connection that says nothing costs a descriptor and 20 KiB.
        ("grpc.server_handshake_timeout_ms", round(handshake_seconds * 1000)),
        # Else a second server on the same port would take half of the callers instead of being refused.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", keepalive_ms),
        # grpcio 1.85 waits this long for the answer, by default a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", keepalive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # no limit: else two, then one a minute
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(min_ping_seconds * 1000)),
        ("grpc.http2.max_ping_strikes", 3),
    ]


class RpcServer:
    """A server that listens. `port` is the one in use, also when 0 was asked for."""

    def __init__(self, server: aio.Server, health: HealthServicer, port: int) -> None:
        self._server = server
        self._health = health
        self._is_stopping = False
        self.port = port
        self.web: WebServer | None = None
        """The web port beside it."""

    def say_serving(self, *, is_serving: bool) -> None:
        """Sets what health checks answer; NOT_SERVING until then."""
        self._health.say(is_serving=is_serving)

    @property
    def is_serving(self) -> bool:
        """What health checks answer."""
        return self._health.is_serving

    def say_stopping(self) -> None:
        """Makes health checks answer NOT_SERVING for good, and ends their watches."""
        self._health.close()

    async def run(self) -> None:
        """Returns when the server was stopped. Raises when it ended by itself: a bug, and nobody would be served."""
        await self._server.wait_for_termination()
        if not self._is_stopping:
            raise RuntimeError("the gRPC server ended by itself")

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new call, gives those in flight that long, then ends them; on both ports."""
        self._is_stopping = True
        stops = [self._server.stop(grace_seconds)]
        if self.web is not None:
            stops.append(self.web.stop(grace_seconds))
        await asyncio.gather(*stops)


@asynccontextmanager
async def serving(
    uploads: UploadServicer,
    assets: AssetServicer,
    access: AccessServicer | None = None,
    *,
    listen: str,
    authenticator: Authenticator,
    credentials: grpc.ServerCredentials | None,
    is_reflecting: bool,
    limits: Limits,
    observer: CallObserver,
    auditor: Auditor = NO_AUDIT,
    options: Sequence[tuple[str, int]],
    web: WebTerms | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[RpcServer]:
    """Serves until the block ends, unencrypted without `credentials`. Raises NotReady if the address cannot be had.

    With `web` the same services are served there too, behind the same interceptor, with the certificates of `tls`.
    Health answers anybody: load balancers have no token. So does reflection, when it is on: the contract is public.
    """
    interceptor = RefusalInterceptor(authenticator, limits, observer, auditor)
    server = aio.server(interceptors=[interceptor], options=options)
    add_UploadServiceServicer_to_server(uploads, server)
    add_AssetServiceServicer_to_server(assets, server)
    if access is not None:
        add_AccessServiceServicer_to_server(access, server)
    health = HealthServicer(_SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if is_reflecting:
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*_SERVICES, health_name, reflection.SERVICE_NAME), server)
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise NotReady(f"cannot listen on {listen}: the port is in use or not allowed") from error
    await server.start()
    rpc_server = RpcServer(server, health, port)
    async with AsyncExitStack() as ports:
        ports.push_async_callback(rpc_server.stop, 0)
        if web is not None:
            recorder: Any = Recorder(interceptor.wrapped)
            add_UploadServiceServicer_to_server(uploads, recorder)
            add_AssetServiceServicer_to_server(assets, recorder)
            if access is not None:
                add_AccessServiceServicer_to_server(access, recorder)
            health_pb2_grpc.add_HealthServicer_to_server(health, recorder)
            served = _SERVICES if access is not None else _SERVICES[:2]
            bindings = [binding for service in served for binding in bindings_of(service)]
            gateway = Gateway(
                recorder.methods, bindings, web_access(web), gateway_limits(web), lambda: health.is_serving
            )
            rpc_server.web = await ports.enter_async_context(web_serving(gateway, web, tls))
        yield rpc_server
