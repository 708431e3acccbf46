"""A ledger as version 0.1.0 left it.

`tests/data/ledger-0.1.0.json` was written by the last commit of that version (bench/versions.txt), on the embedded
stack: every status, deleted assets swept and not, multipart uploads, cuts by the server, quotas, what crashes leave.
"""

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from bson import json_util

Document = dict[str, Any]
Collections = Mapping[str, list[Document]]

_DUMP: Final = Path(__file__).parents[1] / "data" / "ledger-0.1.0.json"


def read() -> Collections:
    """Returns all that version 0.1.0 wrote, by collection."""
    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True, tzinfo=UTC)
    dump: Collections = json_util.loads(_DUMP.read_text(), json_options=options)
    return dump


async def restore(database: Any) -> None:
    """Fills an empty database with it, indexes included."""
    for name, documents in read().items():
        await database[name].insert_many(documents)
    await database["uploads"].create_index(
        [("uid", 1), ("request_id", 1)],
        name="request_id_unique_per_owner",
        unique=True,
        partialFilterExpression={"request_id": {"$exists": True}},
    )
    await database["uploads"].create_index([("session_id", 1), ("_id", 1)], name="by_session")
    await database["uploads"].create_index([("uid", 1), ("_id", -1)], name="owner")
    await database["uploads"].create_index([("sweep_time", 1)], name="sweep")
    await database["assets"].create_index([("partition", 1), ("_id", -1)], name="partition")
