"""What the change stream says: the pipeline that it is opened with, and what an event of it means. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assetlane_server.model.errors import LedgerUnavailable
from assetlane_server.model.progress import Progress
from assetlane_server.records.documents import PROGRESS_FIELDS, Document, RecordUnreadable, progress_of

_WATCHED = {"$in": ["uploads", "progress"]}
# No stage holds a nested document as a projection: SecantusDB takes that for a constant.
PIPELINE: list[Document] = [
    {
        "$match": {
            "$or": [
                {"ns.coll": _WATCHED, "operationType": {"$in": ["insert", "update", "replace", "drop"]}},
                {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
            ]
        }
    },
    {
        "$project": {
            "operationType": 1,
            "ns.coll": 1,
            "documentKey": 1,
            "clusterTime": 1,
            **{f"fullDocument.{name}": 1 for name in ("_id", "route", "asset_route", *PROGRESS_FIELDS)},
            "updateDescription.updatedFields.route": 1,
            "updateDescription.updatedFields.asset_route": 1,
        }
    },
]


SessionKey = tuple[str, str]
"""A session id and an owner; an empty owner is everybody."""


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A change seen by the change stream: whom it concerns, not what it was."""

    upload_id: str
    session: SessionKey | None  # of a status change; None: the upload's status is as it was
    partition: str | None  # of an addition, refresh or deletion of the asset; None: the asset is as it was


Change = RecordChange | Progress


def change_of(event: Mapping[str, Any]) -> Change | None:
    """Returns whom an event concerns, None when it is none of ours.

    Raises LedgerUnavailable for an event that ends the stream, RecordUnreadable for one that is not as we write them.
    """
    if event["operationType"] in ("invalidate", "drop", "dropDatabase"):
        raise LedgerUnavailable("A collection of the ledger was dropped.")
    document = event.get("fullDocument") or event.get("updateDescription", {}).get("updatedFields", {})
    if event["ns"]["coll"] == "progress":
        return progress_of(document) if "stage" in document else None
    route, asset_route = document.get("route"), document.get("asset_route")
    if route is None and asset_route is None:
        return None  # such as renewed write targets
    try:
        return RecordChange(
            event["documentKey"]["_id"],
            None if route is None else (route["session_id"], route["uid"]),
            None if asset_route is None else asset_route["partition"],
        )
    except (KeyError, TypeError) as error:
        raise RecordUnreadable(f"it is routed by {route!r} and {asset_route!r}") from error
