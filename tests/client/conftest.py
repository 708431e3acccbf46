"""A store and a server for the client to talk to, both real servers on loopback."""

import io
from collections.abc import AsyncIterator

import aiohttp
import pytest
from PIL import Image
from tests.client.lane_server import LaneServer
from tests.client.object_store import ObjectStore

from assetlane import transfer
from assetlane.client import Client


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    """Gives a running object store."""
    async with ObjectStore.started() as store:
        yield store


@pytest.fixture
async def server(store: ObjectStore) -> AsyncIterator[LaneServer]:
    """Gives a running Assetlane server in memory."""
    async with LaneServer.started(store) as server:
        yield server


@pytest.fixture
async def lane(server: LaneServer) -> AsyncIterator[Client]:
    """Gives a client of that server."""
    async with Client(server.target, uid="ann", call_timeout=60) as lane:
        yield lane


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Gives an HTTP session as the client opens it."""
    async with transfer.open_session() as session:
        yield session


@pytest.fixture
def jpeg() -> bytes:
    """Gives a JPEG of 1,000 by 800 pixels."""
    encoded = io.BytesIO()
    Image.new("RGB", (1000, 800), (200, 100, 50)).save(encoded, "JPEG")
    return encoded.getvalue()
