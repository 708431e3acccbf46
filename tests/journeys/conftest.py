"""A real client against a real server on real stores."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import grpc
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from tests.servers import prepare_bucket, served, settings_for

from assetlane import Client
from assetlane.v1 import access_service_pb2_grpc, asset_service_pb2_grpc, upload_service_pb2_grpc
from assetlane_server.config.settings import Settings
from assetlane_server.local import StackAddress

if TYPE_CHECKING:
    from assetlane.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from assetlane.v1.asset_service_pb2_grpc import AssetServiceAsyncStub
    from assetlane.v1.upload_service_pb2_grpc import UploadServiceAsyncStub


class Stubs(NamedTuple):
    """All services, as any language calls them."""

    uploads: "UploadServiceAsyncStub"
    assets: "AssetServiceAsyncStub"
    access: "AccessServiceAsyncStub"

    @classmethod
    def on(cls, channel: grpc.aio.Channel) -> "Stubs":
        """Returns the stubs of a channel."""
        return cls(
            upload_service_pb2_grpc.UploadServiceStub(channel),
            asset_service_pb2_grpc.AssetServiceStub(channel),
            access_service_pb2_grpc.AccessServiceStub(channel),
        )


@pytest.fixture
async def settings(stack: StackAddress, database_name: str, key_prefix: str) -> AsyncIterator[Settings]:
    """The settings of this test's server; its database is dropped at the end."""
    settings = settings_for(stack, database_name, key_prefix)
    await prepare_bucket(settings)
    yield settings
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(stack.mongo_uri)
    await client.drop_database(database_name)
    client.close()


@pytest.fixture
async def target(settings: Settings) -> AsyncIterator[str]:
    """Where this test's server is called."""
    async with served(settings) as address:
        yield address


@pytest.fixture
async def stubs(target: str) -> AsyncIterator[Stubs]:
    """Bare stubs on the server."""
    async with grpc.aio.insecure_channel(target) as channel:
        yield Stubs.on(channel)


@pytest.fixture
async def client(target: str) -> AsyncIterator[Client]:
    """The thin client on the server."""
    async with Client(target, uid="7f3a") as client:
        yield client


@pytest.fixture(params=["grpc", "web"])
def over(request: pytest.FixtureRequest) -> str:
    """Which port is called: what holds on one has to hold on the other."""
    return str(request.param)


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """A browser's view: plain HTTP to the store."""
    async with aiohttp.ClientSession() as session:
        yield session
