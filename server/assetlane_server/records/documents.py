"""The documents of the ledger: what an upload with its asset looks like in MongoDB, and back. No I/O.

One document is one upload. Its asset is the sub-document `asset`, which appears with COMPLETED. What is empty is left
out. Instants are UTC, to the millisecond as BSON knows them. Besides the fields of `Upload`:

- `schema` is the version of this form;
- `status` and `revision` repeat the newest entry of `history`, each of whose entries has an `id` of its own;
- `route` (of the upload) and `asset_route` say whom a change concerns: a change event of an update names only fields
  whose value the update changed, so they hold the revision too;
- `change_time` is MongoDB's own instant of the asset's newest change, `asset.change_ids` name the newest ones;
- `listed_in` is the asset's partition for as long as it is listed;
- `request_key` is the request id, or something unique where there is none;
- `marks` are explained in pages.py.

Decoding ignores fields that it does not know and entries of the history whose status it does not know: a newer version
may have written them, and no update of ours removes them. Whatever else cannot be read raises RecordUnreadable.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from assetlane_server.model.cut_plan import CutPlan
from assetlane_server.model.progress import Progress, Stage
from assetlane_server.model.upload import (
    WORK_LEASE,
    Asset,
    Details,
    LedgerTime,
    Status,
    StatusChange,
    Upload,
    VariantPromise,
)
from assetlane_server.records.pages import marks_of

Document = dict[str, Any]

SCHEMA: Final = 2
PROGRESS_FIELDS: Final = ("session_id", "uid", "stage", "variants", "time")

_STATUSES = frozenset(status.value for status in Status)
_MICROSECOND = timedelta(microseconds=1)
_KEPT_CHANGE_IDS = 16  # of an asset: as many changes may follow one before its writer looks whether it was made
_NEVER_BACK = ("targets_signed_at", "targets_expire_time")
NO_REQUEST_ID = "\0"  # no request id has a control character

T = TypeVar("T")


class RecordUnreadable(Exception):  # noqa: N818 - a fact about a record
    """A document does not say what this version needs to know."""


class NotEncodable(ValueError):  # noqa: N818 - a fact about a record
    """A document holds what BSON cannot, or is larger than MongoDB takes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One conditional update, and the id that its document has once it was made."""

    query: Document
    update: Document
    change_id: bytes


# Uploads and their assets


def upload_document(upload: Upload) -> Document:
    """Returns the whole document of an upload."""
    document: Document = {
        "_id": upload.upload_id,
        "schema": SCHEMA,
        "request_key": upload.request_id or f"{NO_REQUEST_ID}{upload.upload_id}",
        **_upload_fields(upload),
        "history": _history_entries(upload.history),
        **_state(upload),
    }
    marks = marks_of(upload.upload_id, listed_in=upload.asset_partition, uid=upload.uid, session_id=upload.session_id)
    if marks:
        document["marks"] = marks
    if upload.asset is not None:
        document |= _new_asset(upload, upload.asset)
    return document


def upload_advance(upload: Upload, after_revision: int) -> Change:
    """Returns the update that stores the status changes after that revision, and the asset with them."""
    entries = _history_entries([change for change in upload.history if change.revision > after_revision])
    assignments = _state(upload)
    update: Document = {"$set": assignments, "$push": {"history": {"$each": entries}}}
    # Targets that were renewed meanwhile live longer than this server knows, at the same revision.
    if targets := {name: assignments.pop(name) for name in _NEVER_BACK if name in assignments}:
        update["$max"] = targets
    if upload.asset is not None:
        assignments |= _new_asset(upload, upload.asset)
        update["$currentDate"] = {"change_time": {"$type": "timestamp"}}
    if upload.sweep_time is None:
        update["$unset"] = {"sweep_time": ""}
    return Change({"_id": upload.upload_id, "revision": after_revision}, update, entries[-1]["id"])


def asset_advance(asset: Asset) -> Change:
    """Returns the update that stores a refresh or the deletion of an asset."""
    change_id = _new_change_id()
    assignments: Document = {
        "asset.revision": asset.revision,
        "asset.refresh_time": asset.refresh_time,
        "asset_route": _asset_route(asset),
    }
    update: Document = {
        "$set": assignments,
        "$push": {"asset.change_ids": {"$each": [change_id], "$slice": -_KEPT_CHANGE_IDS}},
        "$currentDate": {"change_time": {"$type": "timestamp"}},
    }
    if asset.delete_time is not None:
        assignments["asset.delete_time"] = asset.delete_time
        assignments["sweep_time"] = asset.delete_time + WORK_LEASE
        update["$unset"] = dict.fromkeys(("listed_in", "details", "notices", "asset.details", "asset.notices"), "")
    return Change({"_id": asset.asset_id, "asset.revision": asset.revision - 1}, update, change_id)


def erasure_of_places(upload: Upload, sweep_time: datetime) -> Document:
    """Returns the update that stores `upload.without_places()`. Fields that we do not know stay in its variants."""
    assignments: Document = {
        "file_path": "",
        "variants.$[].key": "",
        "sweep_time": sweep_time,
        "is_swept": True,
    }
    if upload.asset is not None:
        assignments["asset.variants.$[].key"] = ""
    if upload.cut_plan is not None:
        assignments["cut_plan.place"] = ""
    return {"$set": assignments, "$unset": {"multipart_ids": ""}}


def erasure_of_words(upload: Upload) -> Document:
    """Returns the update that stores `upload.without_words()` and how long its record outlives it."""
    return {
        "$set": {"kept_for_s": upload.kept_for.total_seconds()},
        "$unset": dict.fromkeys(("details", "notices"), ""),
    }


def change_ids_of(document: Mapping[str, Any]) -> set[bytes]:
    """Returns the ids of all changes of a document that can still be recognised."""
    history = {entry.get("id") for entry in document.get("history", ())}
    return history | set(document.get("asset", {}).get("change_ids", ()))


CHANGE_IDS: Final[Document] = {"history.id": 1, "asset.change_ids": 1}
"""The projection that `change_ids_of` needs."""


def upload_of(document: Mapping[str, Any]) -> Upload:
    """Returns the upload of a document, with its asset. Raises RecordUnreadable."""
    # Whatever a document holds that we did not write must come out as this one exception.
    try:
        return _upload_of(document)
    except Exception as error:
        raise RecordUnreadable(f"{type(error).__name__}: {error}") from error


def _upload_of(document: Mapping[str, Any]) -> Upload:
    if document["status"] not in _STATUSES:
        raise RecordUnreadable(f"its status is {document['status']!r}")
    request_id = document["request_key"]
    upload = _structure_upload(
        {
            **document,
            "history": [entry for entry in document["history"] if entry["status"] in _STATUSES],
            "request_id": "" if request_id.startswith(NO_REQUEST_ID) else request_id,
            "asset": _asset_of(document) if "asset" in document else None,
        },
        Upload,
    )
    if upload.status != document["status"] or upload.revision != document["revision"]:
        raise RecordUnreadable(f"its history does not end with {document['status']}, {document['revision']}")
    return upload


def _asset_of(document: Mapping[str, Any]) -> Asset:
    return _structure_asset(
        {
            "details": document.get("details", {}),
            **document["asset"],
            "asset_id": document["_id"],
            "uid": document["uid"],
            "session_id": document.get("session_id", ""),
            "partition": document["asset_partition"],
            "file_path": document["file_path"],
            "expiration_hours": document["expiration_hours"],
            "change_time": document.get("change_time"),
        },
        Asset,
    )


def _state(upload: Upload) -> Document:
    """Returns the fields that a status change writes, but for the history's new entries."""
    state: Document = {
        "status": upload.status.value,
        "revision": upload.revision,
        "route": {"revision": upload.revision, "session_id": upload.session_id, "uid": upload.uid},
    }
    if upload.sweep_time is not None:
        state["sweep_time"] = upload.sweep_time
    if upload.targets_signed_at is not None:
        state["targets_signed_at"] = upload.targets_signed_at
    if upload.targets_expire_time is not None:
        state["targets_expire_time"] = upload.targets_expire_time
    if upload.multipart_ids:
        state["multipart_ids"] = dict(upload.multipart_ids)
    if upload.failure is not None:
        state["failure"] = {"reason": upload.failure.reason, "message": upload.failure.message}
    return state


def _new_asset(upload: Upload, asset: Asset) -> Document:
    fields = _asset_fields(asset)
    if asset.details == upload.details:
        fields.pop("details", None)  # they are the upload's
    document: Document = {"asset": fields, "asset_route": _asset_route(asset)}
    if not asset.is_deleted:
        document["listed_in"] = asset.partition
    return document


def _asset_route(asset: Asset) -> Document:
    return {"revision": asset.revision, "partition": asset.partition}


def _history_entries(changes: Sequence[StatusChange]) -> list[Document]:
    entries = []
    for change in changes:
        entry: Document = {
            "id": _new_change_id(),
            "revision": change.revision,
            "status": change.status.value,
            "time": change.time,
        }
        if change.reason:
            entry["reason"] = change.reason
        if change.acted_by:
            entry["acted_by"] = change.acted_by
        entries.append(entry)
    return entries


def _new_change_id() -> bytes:
    return secrets.token_bytes(9)


# Progress


def progress_document(progress: Progress) -> Document:
    """Returns the whole document of an upload's progress."""
    return {
        "_id": progress.upload_id,
        "session_id": progress.session_id,
        "uid": progress.uid,
        "stage": progress.stage.value,
        "variants": [
            {"name": name, "sent_bytes": progress.sent_bytes[name], "size_bytes": size_bytes}
            for name, size_bytes in progress.size_bytes.items()
        ],
        "time": progress.time,
    }


def progress_of(document: Mapping[str, Any]) -> Progress:
    """Returns the progress of a document. Raises RecordUnreadable."""
    try:
        return Progress(
            upload_id=document["_id"],
            session_id=document["session_id"],
            uid=document["uid"],
            stage=Stage(document["stage"]),
            sent_bytes={variant["name"]: variant["sent_bytes"] for variant in document["variants"]},
            size_bytes={variant["name"]: variant["size_bytes"] for variant in document["variants"]},
            time=document["time"],
        )
    except Exception as error:
        raise RecordUnreadable(f"{type(error).__name__}: {error}") from error


# Between fields and values


def _exactly(kind: type[T]) -> Any:
    def check(value: object, _: object) -> T:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
        return value

    return check


def _instant(value: Any, _: object) -> LedgerTime | None:
    return None if value is None else LedgerTime((value.time << 32) | value.inc)


def _as_it_is(value: Any, _: object = None) -> Any:
    return value


def _microseconds(value: timedelta | None) -> int | None:
    return None if value is None else value // _MICROSECOND


def _of_microseconds(value: int | None, _: object) -> timedelta | None:
    return None if value is None else value * _MICROSECOND


_LEFT_OUT: Final[Any] = override(omit=True)
# Written in other words, or with the state.
_NOT_FIELDS_OF_UPLOADS: Final = ("upload_id", "request_id", "history", "failure", "multipart_ids", "asset",
                                 "sweep_time", "targets_signed_at", "targets_expire_time")  # fmt: skip
# What an asset has in common with its upload.
_NOT_FIELDS_OF_ASSETS: Final = ("asset_id", "uid", "session_id", "partition", "file_path", "expiration_hours",
                                "change_time")  # fmt: skip

_converter = Converter(detailed_validation=False, omit_if_default=True)
for _kind in (str, bytes, datetime):
    _converter.register_structure_hook(_kind, _exactly(_kind))
# A hook for a class is one for its subclasses too, and our enumerations are strings.
_converter.register_structure_hook(StrEnum, lambda value, kind: kind(value))
_converter.register_structure_hook(
    Details,
    make_dict_structure_fn(
        Details,
        _converter,
        duration=override(rename="duration_us", struct_hook=_of_microseconds),
        extra=override(struct_hook=_as_it_is),
    ),
)
_converter.register_unstructure_hook(
    Details,
    make_dict_unstructure_fn(
        Details,
        _converter,
        _cattrs_omit_if_default=True,
        duration=override(rename="duration_us", unstruct_hook=_microseconds),
        extra=override(unstruct_hook=_as_it_is),
    ),
)
# How an object is served is worked out whenever something is signed.
_converter.register_unstructure_hook(
    VariantPromise,
    make_dict_unstructure_fn(
        VariantPromise,
        _converter,
        _cattrs_omit_if_default=True,
        content_disposition=_LEFT_OUT,
        cache_control=_LEFT_OUT,
    ),
)
# Its defaults are choices, which a later version may change: they are written.
_converter.register_unstructure_hook(
    CutPlan, make_dict_unstructure_fn(CutPlan, _converter, _cattrs_omit_if_default=False)
)
_structure_upload = make_dict_structure_fn(
    Upload,
    _converter,
    upload_id=override(rename="_id"),
    kept_for=override(rename="kept_for_s", struct_hook=lambda value, _: timedelta(seconds=value)),
    write_url_lifetime=override(
        rename="write_url_s", struct_hook=lambda value, _: None if value is None else timedelta(seconds=value)
    ),
    asset=override(struct_hook=_as_it_is),
)
_upload_fields = make_dict_unstructure_fn(
    Upload,
    _converter,
    _cattrs_omit_if_default=True,
    kept_for=override(rename="kept_for_s", omit_if_default=False, unstruct_hook=lambda value: value.total_seconds()),
    write_url_lifetime=override(
        rename="write_url_s", unstruct_hook=lambda value: None if value is None else value.total_seconds()
    ),
    expiration_hours=override(omit_if_default=False),
    **dict.fromkeys(_NOT_FIELDS_OF_UPLOADS, _LEFT_OUT),
)
_structure_asset = make_dict_structure_fn(Asset, _converter, change_time=override(struct_hook=_instant))
_asset_fields = make_dict_unstructure_fn(
    Asset,
    _converter,
    _cattrs_omit_if_default=True,
    revision=override(omit_if_default=False),
    **dict.fromkeys(_NOT_FIELDS_OF_ASSETS, _LEFT_OUT),
)
