"""MongoDB as an operator has it in their hands."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import OperationFailure

_NO_SUCH_COMMAND = 59


@asynccontextmanager
async def mongo(uri: str) -> AsyncIterator["AsyncIOMotorClient[dict[str, Any]]"]:
    """A bare client."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(uri)
    try:
        yield client
    finally:
        client.close()


async def drop(uri: str, database_name: str) -> None:
    """Drops a test's database."""
    async with mongo(uri) as client:
        await client.drop_database(database_name)


@asynccontextmanager
async def failing(uri: str, app_name: str, commands: list[str], **how: Any) -> AsyncIterator[None]:
    """Makes commands of one client fail (`configureFailPoint`): `errorCode=` or `closeConnection=True`."""
    point = {
        "configureFailPoint": "failCommand",
        "mode": "alwaysOn",
        "data": {"failCommands": commands, "appName": app_name, **how},
    }
    async with mongo(uri) as client:
        try:
            await client.admin.command(point)
        except OperationFailure as error:
            if error.code != _NO_SUCH_COMMAND:
                raise
            pytest.skip("this MongoDB has no failpoints: mongod has them with --setParameter enableTestCommands=1")
        try:
            yield
        finally:
            await client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
