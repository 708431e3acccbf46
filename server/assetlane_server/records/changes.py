"""What the change stream tells: the pipeline that it is opened with, and what an event of it means. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assetlane_server.records.documents import PROGRESS_FIELDS, Document, progress_of
from assetlane_server.uploads.errors import LedgerUnavailable
from assetlane_server.uploads.progress import Progress

_WATCHED = {"$in": ["uploads", "assets", "progress"]}
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
            **{f"fullDocument.{name}": 1 for name in ("_id", "route", *PROGRESS_FIELDS)},
            "updateDescription.updatedFields.route": 1,
        }
    },
]


SessionKey = tuple[str, str]
"""A session id and an owner; an empty owner is everybody."""


@dataclass(frozen=True, slots=True)
class UploadChange:
    """A status change seen by the change stream: whom it concerns, not what it was."""

    upload_id: str
    session_id: str
    uid: str


@dataclass(frozen=True, slots=True)
class AssetChange:
    """An addition, refresh or deletion seen by the change stream: whom it concerns, not what it was."""

    asset_id: str
    partition: str


Change = UploadChange | AssetChange | Progress


def change_of(event: Mapping[str, Any]) -> Change | None:
    """Returns whom an event concerns, None when it is none of ours.

    Raises LedgerUnavailable for an event that ends the stream.
    """
    if event["operationType"] in ("invalidate", "drop", "dropDatabase"):
        raise LedgerUnavailable("A collection of the ledger was dropped.")
    document = event.get("fullDocument") or event.get("updateDescription", {}).get("updatedFields", {})
    if event["ns"]["coll"] == "progress":
        return progress_of(document) if "stage" in document else None
    route = document.get("route")
    if route is None:
        return None  # not a status change, such as renewed write targets
    if event["ns"]["coll"] == "assets":
        return AssetChange(event["documentKey"]["_id"], route["partition"])
    return UploadChange(event["documentKey"]["_id"], route["session_id"], route["uid"])
