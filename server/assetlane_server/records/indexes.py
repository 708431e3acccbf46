"""The indexes of every collection, created at start-up; creating one that is there does nothing."""

from pymongo import ASCENDING, IndexModel

# A query is fast on SecantusDB if it names the first fields of one index and nothing else, and the index is not partial
# nor descending (a bound that another key begins with misses keys there).
_UPLOAD_INDEXES = [
    IndexModel([("uid", ASCENDING), ("request_key", ASCENDING)], name="request_key_unique_per_owner", unique=True),
    IndexModel([("uid", ASCENDING), ("status", ASCENDING), ("_id", ASCENDING)], name="by_owner"),
    IndexModel([("session_id", ASCENDING), ("status", ASCENDING), ("_id", ASCENDING)], name="by_session_and_status"),
    IndexModel([("status", ASCENDING), ("_id", ASCENDING)], name="by_status"),
    IndexModel([("listed_in", ASCENDING), ("_id", ASCENDING)], name="by_partition"),
    IndexModel(
        [("asset_partition", ASCENDING), ("change_time", ASCENDING), ("_id", ASCENDING)], name="changes_in_partition"
    ),
    IndexModel([("sweep_time", ASCENDING)], name="due", sparse=True),
    IndexModel([("marks", ASCENDING), ("_id", ASCENDING)], name="marks"),
]
# Progress is worth nothing an hour later.
_PROGRESS_INDEXES = [IndexModel([("time", ASCENDING)], name="age", expireAfterSeconds=3600)]
_QUOTA_INDEXES = [IndexModel([("sweep_time", ASCENDING)], name="sweep")]
INDEXES = {
    "uploads": _UPLOAD_INDEXES,
    "progress": _PROGRESS_INDEXES,
    "quotas": _QUOTA_INDEXES,
}
