"""The indexes of every collection, created at start-up; creating one that is there does nothing."""

from pymongo import ASCENDING, DESCENDING, IndexModel

_UPLOAD_INDEXES = [
    IndexModel(
        [("uid", ASCENDING), ("request_id", ASCENDING)],
        name="request_id_unique_per_owner",
        unique=True,
        partialFilterExpression={"request_id": {"$exists": True}},
    ),
    # Not partial: SecantusDB scans the collection for a value rather than use an index that is.
    IndexModel([("session_id", ASCENDING), ("_id", ASCENDING)], name="by_session"),
    IndexModel([("uid", ASCENDING), ("_id", DESCENDING)], name="owner"),
    IndexModel([("sweep_time", ASCENDING)], name="sweep"),
]
_ASSET_INDEXES = [
    IndexModel([("partition", ASCENDING), ("_id", DESCENDING)], name="partition"),
    IndexModel([("partition", ASCENDING), ("update_time", ASCENDING)], name="partition_changes"),
    IndexModel([("sweep_time", ASCENDING)], name="sweep", partialFilterExpression={"sweep_time": {"$exists": True}}),
]
# Progress is worth nothing an hour later.
_PROGRESS_INDEXES = [IndexModel([("time", ASCENDING)], name="age", expireAfterSeconds=3600)]
_QUOTA_INDEXES = [IndexModel([("sweep_time", ASCENDING)], name="sweep")]
INDEXES = {
    "uploads": _UPLOAD_INDEXES,
    "assets": _ASSET_INDEXES,
    "progress": _PROGRESS_INDEXES,
    "quotas": _QUOTA_INDEXES,
}
