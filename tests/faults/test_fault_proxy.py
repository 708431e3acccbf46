"""The proxy does to a request what it says, and to no other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import OperationFailure, PyMongoError
from tests.faults.fault_proxy import Action, FaultProxy, fault_proxy
from tests.faults.messages import Message, MongoWire
from tests.faults.proxy import LOOPBACK
from tests.records.stores import drop, mongo
from yarl import URL

from assetlane_server.local import StackAddress

pytestmark = pytest.mark.faults


@pytest.fixture
async def proxy(stack: StackAddress, database_name: str) -> AsyncIterator[FaultProxy]:
    """A proxy before MongoDB."""
    port = URL(stack.mongo_uri).port
    assert port is not None
    async with fault_proxy(port, MongoWire()) as proxy:
        yield proxy
    await drop(stack.mongo_uri, database_name)


def only(name: str, action: Action) -> Any:
    """Does this to the requests of that name."""

    def decide(message: Message) -> Action:
        return action if message.name == name else Action.PASS

    return decide


@pytest.mark.parametrize(
    ("action", "is_answered", "count"),
    [
        (Action.PASS, True, 1),
        (Action.LOSE, False, 0),
        (Action.DELAY, False, 0),
        (Action.SWALLOW, False, 1),
        (Action.REFUSE, False, 0),
        (Action.DENY, False, 0),
        (Action.HANG, False, 1),
        (Action.STALL, False, 0),
    ],
)
async def test_a_deed_is_done_to_the_request_it_is_meant_for(
    stack: StackAddress, proxy: FaultProxy, database_name: str, action: Action, *, is_answered: bool, count: int
) -> None:
    """Whether the caller hears of it is one thing, whether it was carried out another."""
    proxy.decide = only("insert things", action)
    uri = f"mongodb://{LOOPBACK}:{proxy.port}/?directConnection=true&retryWrites=false"
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, timeoutMS=1000)
    try:
        await client[database_name]["things"].insert_one({"_id": 1})
        assert is_answered
    except PyMongoError:
        assert not is_answered
    assert await client[database_name]["other"].find_one({}) is None
    await asyncio.to_thread(client.close)
    async with mongo(stack.mongo_uri) as beside:
        assert await beside[database_name]["things"].count_documents({}) == count
        await proxy.deliver()
        assert await beside[database_name]["things"].count_documents({}) == (1 if action is Action.DELAY else count)


async def test_behind_a_closed_proxy_nothing_is_done(
    stack: StackAddress, proxy: FaultProxy, database_name: str
) -> None:
    """Denied at once: a dead server must not wait."""
    uri = f"mongodb://{LOOPBACK}:{proxy.port}/?directConnection=true"
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri, timeoutMS=5000)
    await client[database_name]["things"].insert_one({"_id": 1})
    proxy.shut()
    with pytest.raises(OperationFailure):
        await client[database_name]["things"].insert_one({"_id": 2})
    await asyncio.to_thread(client.close)
    async with mongo(stack.mongo_uri) as beside:
        assert await beside[database_name]["things"].count_documents({}) == 1
