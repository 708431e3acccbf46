"""What watchers read is found through an index: it is read again for each of them when a server restarts."""

import pytest
from tests.records.hubs import initialized
from tests.records.stores import mongo

from assetlane_server.local import StackAddress
from assetlane_server.records.mongo import MongoRecords


@pytest.mark.parametrize(
    "query",
    [
        {"_id": {"$in": ["a", "b"]}},
        {"session_id": {"$in": ["phone"]}},
        {"session_id": "phone"},
        {"uid": "7f3a"},
    ],
    ids=["uploads", "sessions", "list of a session", "list of an owner"],
)
async def test_no_read_scans_the_collection(
    stack: StackAddress, database_name: str, records: MongoRecords, query: dict[str, object]
) -> None:
    """The plan of every query that is asked often."""
    await records.insert_upload(initialized())
    async with mongo(stack.mongo_uri) as client:
        plan = await client[database_name]["uploads"].find(query).sort("_id", 1).explain()
    told = str(plan["queryPlanner"]["winningPlan"])
    assert "COLLSCAN" not in told, told
