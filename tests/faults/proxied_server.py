"""A server in the test's own process whose every request to MongoDB and S3 passes a proxy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from tests.faults.fault_proxy import FaultProxy, fault_proxy
from tests.faults.messages import MongoWire, S3Wire
from tests.faults.proxy import LOOPBACK
from tests.journeys.conftest import Stubs
from tests.servers import served, settings_for

from assetlane_server.local import StackAddress


@dataclass(frozen=True, slots=True)
class ProxiedServer:
    """A server and its proxies."""

    stubs: Stubs
    mongo: FaultProxy
    s3: FaultProxy

    def kill(self) -> None:
        """Nothing that it does reaches a store any more."""
        self.mongo.shut()
        self.s3.shut()


@asynccontextmanager
async def proxied_server(
    stack: StackAddress, database_name: str, key_prefix: str, **changes: Any
) -> AsyncIterator[ProxiedServer]:
    """Serves behind proxies; its callers PUT past them. At the end it is stopped without grace."""
    mongo, s3 = urlsplit(stack.mongo_uri), urlsplit(stack.s3_endpoint)
    if s3.scheme != "http" or mongo.hostname != LOOPBACK or mongo.port is None or s3.port is None:
        pytest.skip("the proxies understand only plain connections to stores on loopback")
    async with fault_proxy(mongo.port, MongoWire()) as mongo_proxy, fault_proxy(s3.port, S3Wire()) as s3_proxy:
        behind = replace(
            stack,
            mongo_uri=mongo._replace(netloc=f"{LOOPBACK}:{mongo_proxy.port}").geturl(),
            s3_endpoint=f"http://{LOOPBACK}:{s3_proxy.port}",
        )
        quick = {"grace_seconds": 0, "sweep_seconds": 3600}
        settings = settings_for(
            behind, database_name, key_prefix, s3_public_endpoint=stack.s3_endpoint, **(quick | changes)
        )
        async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
            yield ProxiedServer(Stubs.on(channel), mongo_proxy, s3_proxy)
