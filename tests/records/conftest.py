"""Records on this run's MongoDB, in a database of the test's own."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.records.stores import drop

from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords


@pytest.fixture
async def records(stack: StackAddress, database_name: str) -> AsyncIterator[MongoRecords]:
    """An open ledger; dropped at the end."""
    async with MongoRecords.open(stack.mongo_uri, database_name, call_timeout=timedelta(seconds=10)) as opened:
        yield opened
    await drop(stack.mongo_uri, database_name)
