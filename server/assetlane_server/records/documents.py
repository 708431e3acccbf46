"""The documents of both collections: what a record looks like in MongoDB, and back. Pure.

Empty values are left out. Instants are UTC, to the millisecond as BSON knows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from assetlane_server.uploads.asset import Asset, AssetVariant
from assetlane_server.uploads.cut_plan import CutFormat, CutPlan, CutSize
from assetlane_server.uploads.progress import Progress, Stage
from assetlane_server.uploads.upload import (
    Details,
    Failure,
    Notice,
    Status,
    StatusChange,
    Upload,
    VariantPromise,
)

Document = dict[str, Any]

_COMMON_FIELDS = ("name", "key", "content_type", "size_bytes", "sha256", "width_px", "height_px", "part_size_bytes")
_PROMISE_FIELDS = (*_COMMON_FIELDS, "promises_parts")
_VARIANT_FIELDS = (*_COMMON_FIELDS, "etag", "version_id", "parts_sha256")
PROGRESS_FIELDS = ("session_id", "uid", "stage", "variants", "time")


def upload_document(upload: Upload) -> Document:
    """Returns the whole document of an upload."""
    document: Document = {
        "_id": upload.upload_id,
        "uid": upload.uid,
        "partition": upload.partition,
        "asset_partition": upload.asset_partition,
        "file_path": upload.file_path,
        "expiration_hours": upload.expiration_hours,
        "variants": [_variant_document(variant, _PROMISE_FIELDS) for variant in upload.variants],
        "history": [change_document(change) for change in upload.history],
        "create_time": upload.create_time,
        "expire_time": upload.expire_time,
        "kept_for_s": upload.kept_for.total_seconds(),
        **upload_state(upload),
    }
    if upload.write_url_lifetime is not None:
        document["write_url_s"] = upload.write_url_lifetime.total_seconds()
    if upload.request_id:
        document["request_id"] = upload.request_id
    if upload.session_id:
        document["session_id"] = upload.session_id
    if details := _details_document(upload.details):
        document["details"] = details
    if upload.cut_plan is not None:
        document["cut_plan"] = _cut_plan_document(upload.cut_plan)
    if upload.notices:
        document["notices"] = _notice_documents(upload.notices)
    return document


def upload_state(upload: Upload) -> Document:
    """Returns the fields that a status change writes, but for the history's new entry.

    `route` tells the hub whom a change concerns: a change event of an update names only fields whose value
    the update changed, so what routes it has to change with every revision.
    """
    state: Document = {
        "status": upload.status.value,
        "revision": upload.revision,
        "route": {"revision": upload.revision, "session_id": upload.session_id, "uid": upload.uid},
        "sweep_time": upload.sweep_time,
    }
    if upload.targets_signed_at is not None:
        state["targets_signed_at"] = upload.targets_signed_at
        state["targets_expire_time"] = upload.targets_expire_time
    if upload.multipart_ids:
        state["multipart_ids"] = dict(upload.multipart_ids)
    if upload.failure is not None:
        state["failure"] = {"reason": upload.failure.reason, "message": upload.failure.message}
    return state


def change_document(change: StatusChange) -> Document:
    """Returns one entry of the history."""
    document: Document = {"revision": change.revision, "status": change.status.value, "time": change.time}
    if change.reason:
        document["reason"] = change.reason
    if change.acted_by:
        document["acted_by"] = change.acted_by
    return document


def upload_of(document: Mapping[str, Any]) -> Upload:
    """Returns the upload of a document."""
    failure = document.get("failure")
    return Upload(
        upload_id=document["_id"],
        request_id=document.get("request_id", ""),
        uid=document["uid"],
        session_id=document.get("session_id", ""),
        partition=document["partition"],
        asset_partition=document["asset_partition"],
        file_path=document["file_path"],
        expiration_hours=document["expiration_hours"],
        details=_details_of(document.get("details", {})),
        variants=tuple(VariantPromise(**{"size_bytes": 0, **variant}) for variant in document["variants"]),
        create_time=document["create_time"],
        expire_time=document["expire_time"],
        history=tuple(
            StatusChange(
                change["revision"],
                Status(change["status"]),
                change["time"],
                change.get("reason", ""),
                change.get("acted_by", ""),
            )
            for change in document["history"]
        ),
        cut_plan=_cut_plan_of(document["cut_plan"]) if "cut_plan" in document else None,
        notices=_notices_of(document.get("notices", ())),
        failure=Failure(failure["reason"], failure["message"]) if failure else None,
        targets_signed_at=document.get("targets_signed_at"),
        targets_expire_time=document.get("targets_expire_time"),
        write_url_lifetime=timedelta(seconds=document["write_url_s"]) if "write_url_s" in document else None,
        sweep_time=document.get("sweep_time"),
        is_swept=document.get("is_swept", False),
        kept_for=timedelta(seconds=document["kept_for_s"]),
        multipart_ids=document.get("multipart_ids", {}),
    )


def asset_document(asset: Asset) -> Document:
    """Returns the whole document of an asset."""
    document: Document = {
        "_id": asset.asset_id,
        "uid": asset.uid,
        "partition": asset.partition,
        "file_path": asset.file_path,
        "expiration_hours": asset.expiration_hours,
        "variants": [_variant_document(variant, _VARIANT_FIELDS) for variant in asset.variants],
        "create_time": asset.create_time,
        "write_expire_time": asset.write_expire_time,
        **asset_state(asset),
    }
    if asset.session_id:
        document["session_id"] = asset.session_id
    if details := _details_document(asset.details):
        document["details"] = details
    if asset.notices:
        document["notices"] = _notice_documents(asset.notices)
    return document


def asset_state(asset: Asset) -> Document:
    """Returns the fields that a refresh or the deletion writes. `route` is as in `upload_state`."""
    state: Document = {
        "revision": asset.revision,
        "refresh_time": asset.refresh_time,
        "update_time": asset.update_time,
        "route": {"revision": asset.revision, "partition": asset.partition},
    }
    if asset.delete_time is not None:
        state["delete_time"] = asset.delete_time
        state["sweep_time"] = asset.sweep_time
    return state


def asset_of(document: Mapping[str, Any]) -> Asset:
    """Returns the asset of a document."""
    return Asset(
        asset_id=document["_id"],
        uid=document["uid"],
        session_id=document.get("session_id", ""),
        partition=document["partition"],
        file_path=document["file_path"],
        expiration_hours=document["expiration_hours"],
        details=_details_of(document.get("details", {})),
        variants=tuple(_variant_of(variant) for variant in document["variants"]),
        create_time=document["create_time"],
        refresh_time=document["refresh_time"],
        update_time=document["update_time"],
        write_expire_time=document["write_expire_time"],
        revision=document["revision"],
        delete_time=document.get("delete_time"),
        sweep_time=document.get("sweep_time"),
        notices=_notices_of(document.get("notices", ())),
    )


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
    """Returns the progress of a document."""
    return Progress(
        upload_id=document["_id"],
        session_id=document["session_id"],
        uid=document["uid"],
        stage=Stage(document["stage"]),
        sent_bytes={variant["name"]: variant["sent_bytes"] for variant in document["variants"]},
        size_bytes={variant["name"]: variant["size_bytes"] for variant in document["variants"]},
        time=document["time"],
    )


def _variant_document(variant: VariantPromise | AssetVariant, fields: Sequence[str]) -> Document:
    return {name: value for name in fields if (value := getattr(variant, name))}


def _variant_of(document: Mapping[str, Any]) -> AssetVariant:
    return AssetVariant(
        name=document["name"],
        key=document["key"],
        content_type=document["content_type"],
        size_bytes=document.get("size_bytes", 0),
        sha256=document.get("sha256", b""),
        width_px=document.get("width_px", 0),
        height_px=document.get("height_px", 0),
        etag=document.get("etag", ""),
        version_id=document.get("version_id", ""),
        part_size_bytes=document.get("part_size_bytes", 0),
        parts_sha256=document.get("parts_sha256", b""),
    )


def _cut_plan_document(plan: CutPlan) -> Document:
    return {
        "sizes": [{"name": size.name, "max_edge_px": size.max_edge_px} for size in plan.sizes],
        "format": plan.format.value,
        "quality": plan.quality,
        "required": plan.required,
        "place": plan.place,
    }


def _cut_plan_of(document: Mapping[str, Any]) -> CutPlan:
    return CutPlan(
        sizes=tuple(CutSize(size["name"], size["max_edge_px"]) for size in document["sizes"]),
        format=CutFormat(document["format"]),
        quality=document["quality"],
        required=document.get("required", False),
        place=document["place"],
    )


def _notice_documents(notices: Iterable[Notice]) -> list[Document]:
    return [{"reason": notice.reason, "message": notice.message} for notice in notices]


def _notices_of(documents: Iterable[Mapping[str, Any]]) -> tuple[Notice, ...]:
    return tuple(Notice(document["reason"], document["message"]) for document in documents)


def _details_document(details: Details) -> Document:
    document = _without_empty({"title": details.title, "caption": details.caption, "color": details.color})
    if details.duration is not None:
        document["duration_us"] = details.duration // timedelta(microseconds=1)
    if details.extra is not None:
        document["extra"] = details.extra
    return document


def _details_of(document: Mapping[str, Any]) -> Details:
    duration_us = document.get("duration_us")
    return Details(
        title=document.get("title", ""),
        caption=document.get("caption", ""),
        color=document.get("color", ""),
        duration=None if duration_us is None else timedelta(microseconds=duration_us),
        extra=document.get("extra"),
    )


def _without_empty(document: Document) -> Document:
    return {name: value for name, value in document.items() if value}
