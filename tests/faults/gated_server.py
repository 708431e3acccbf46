"""A server in the test's own process whose every request to MongoDB and S3 passes a gate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from tests.faults.gate import Gate, gated
from tests.faults.messages import MongoWire, S3Wire
from tests.faults.proxy import LOOPBACK
from tests.journeys.conftest import Stubs
from tests.servers import served, settings_for

from assetlane_server.local import StackAddress


@dataclass(frozen=True, slots=True)
class GatedServer:
    """A server and its gates."""

    stubs: Stubs
    mongo: Gate
    s3: Gate

    def kill(self) -> None:
        """Nothing that it does reaches a store any more."""
        self.mongo.shut()
        self.s3.shut()


@asynccontextmanager
async def gated_server(
    stack: StackAddress, database_name: str, key_prefix: str, **changes: Any
) -> AsyncIterator[GatedServer]:
    """Serves behind gates; its callers PUT past them. At the end it is stopped without grace."""
    mongo, s3 = urlsplit(stack.mongo_uri), urlsplit(stack.s3_endpoint)
    if s3.scheme != "http" or mongo.hostname != LOOPBACK or mongo.port is None or s3.port is None:
        pytest.skip("the gates understand only plain connections to stores on loopback")
    async with gated(mongo.port, MongoWire()) as mongo_gate, gated(s3.port, S3Wire()) as s3_gate:
        behind = replace(
            stack,
            mongo_uri=mongo._replace(netloc=f"{LOOPBACK}:{mongo_gate.port}").geturl(),
            s3_endpoint=f"http://{LOOPBACK}:{s3_gate.port}",
        )
        quick = {"grace_seconds": 0, "sweep_seconds": 3600}
        settings = settings_for(
            behind, database_name, key_prefix, s3_public_endpoint=stack.s3_endpoint, **(quick | changes)
        )
        async with served(settings) as target, grpc.aio.insecure_channel(target) as channel:
            yield GatedServer(Stubs.on(channel), mongo_gate, s3_gate)
