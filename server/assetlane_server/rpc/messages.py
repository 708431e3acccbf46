"""Converts between messages of the contract and values of the model, both ways. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from assetlane.v1 import access_service_pb2, asset_pb2, upload_pb2, upload_service_pb2
from assetlane_server.model.admission import UploadRequest
from assetlane_server.model.cut_plan import DEFAULT_QUALITY, STANDARD_SIZES, CutFormat, CutPlan, CutSize
from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.parts import PartPromise, StoredPart
from assetlane_server.model.presigned import PresignedRequest, ReadUrls, WriteTarget
from assetlane_server.model.progress import Progress
from assetlane_server.model.scoped_tokens import IssuedToken
from assetlane_server.model.upload import Asset, Details, Notice, Status, Upload, VariantPromise

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_SECONDS = 315_576_000_000

_NUMBERS = {status: upload_pb2.UploadStatus.Value(f"UPLOAD_STATUS_{status}") for status in Status}
_FORMATS = {upload_pb2.CutFormat.Value(f"CUT_FORMAT_{name}"): name for name in CutFormat} | {
    upload_pb2.CUT_FORMAT_UNSPECIFIED: CutFormat.AUTO
}
_STATUSES = {number: status for status, number in _NUMBERS.items()}


# From messages


def upload_request_of(message: upload_service_pb2.RequestUploadRequest, default_uid: str) -> UploadRequest:
    """Returns what a message asks for, nothing checked but what no value could hold."""
    return UploadRequest(
        request_id=message.request_id,
        uid=message.uid or default_uid,
        session_id=message.session_id,
        partition=message.partition,
        asset_partition=message.asset_partition,
        file_path=message.file_path,
        expiration_hours=message.expiration_hours if message.HasField("expiration_hours") else None,
        details=_details_of(message.details) if message.HasField("details") else Details(),
        extra_size_bytes=message.details.extra.ByteSize(),
        variants=tuple(
            VariantPromise(
                name=variant.name,
                content_type=variant.content_type,
                size_bytes=variant.size_bytes,
                sha256=variant.sha256,
                width_px=variant.width_px,
                height_px=variant.height_px,
                promises_parts=variant.promises_parts,
            )
            for variant in message.variants
        ),
        cut_plan=_cut_plan_of(message.cut_plan) if message.HasField("cut_plan") else None,
        notices=tuple(Notice(notice.reason, notice.message) for notice in message.notices),
        write_url_lifetime=optional_duration("write_url_lifetime", message, "write_url_lifetime"),
    )


def part_promises_of(messages: Iterable[upload_service_pb2.PartPromise]) -> tuple[PartPromise, ...]:
    """Returns the promises in a message, nothing checked."""
    return tuple(PartPromise(message.part_number, message.sha256) for message in messages)


def duration_of(field: str, message: Duration) -> timedelta:
    """Returns a duration. Raises InvalidRequest for one that is not (google/protobuf/duration.proto)."""
    seconds, nanos = message.seconds, message.nanos
    is_valid = abs(seconds) <= _MOST_SECONDS and abs(nanos) < 1_000_000_000 and seconds * nanos >= 0
    if not is_valid:
        limit = "is not a valid duration: at most 10,000 years, less than 1e9 nanos, both of the same sign"
        raise InvalidRequest([FieldViolation(field, limit)])
    return message.ToTimedelta()


def optional_duration(path: str, message: Message, field: str) -> timedelta | None:
    """Returns the duration of a field, None where it is absent. Raises as `duration_of` does, naming the path."""
    return duration_of(path, getattr(message, field)) if message.HasField(field) else None


def token_message(issued: IssuedToken) -> access_service_pb2.ScopedToken:
    """Returns a token as its maker sees it."""
    return access_service_pb2.ScopedToken(token=issued.token, expire_time=_timestamp(issued.expire_time))


def statuses_of(numbers: Iterable[upload_pb2.UploadStatus.ValueType]) -> tuple[Status, ...]:
    """Returns the statuses of a filter. Raises InvalidRequest for one that does not exist."""
    statuses = []
    for index, number in enumerate(numbers):
        if number not in _STATUSES:
            raise InvalidRequest([FieldViolation(f"statuses[{index}]", f"there is no status {number}")])
        statuses.append(_STATUSES[number])
    return tuple(statuses)


def _details_of(message: asset_pb2.AssetDetails) -> Details:
    return Details(
        title=message.title,
        caption=message.caption,
        color=message.color,
        duration=duration_of("details.duration", message.duration) if message.HasField("duration") else None,
        extra=_struct_of(message.extra) if message.HasField("extra") else None,
    )


def _cut_plan_of(message: upload_pb2.CutPlan) -> CutPlan | None:
    violations = []
    if message.maker not in upload_pb2.CutMaker.values():
        violations.append(FieldViolation("cut_plan.maker", f"there is no maker {message.maker}"))
    if message.format not in upload_pb2.CutFormat.values():
        violations.append(FieldViolation("cut_plan.format", f"there is no format {message.format}"))
    is_servers = message.maker == upload_pb2.CUT_MAKER_SERVER
    if not is_servers and (message.sizes or message.format or message.quality or message.required):
        violations.append(FieldViolation("cut_plan.maker", "must be CUT_MAKER_SERVER for the server to make cuts"))
    if violations:
        raise InvalidRequest(violations)
    if not is_servers:
        return None
    sizes = tuple(CutSize(size.name, size.max_edge_px) for size in message.sizes)
    return CutPlan(
        sizes or STANDARD_SIZES,
        _FORMATS[message.format],
        message.quality or DEFAULT_QUALITY,
        required=message.required,
    )


def _struct_of(message: Struct) -> dict[str, object]:
    return {name: _value_of(value) for name, value in message.fields.items()}


def _value_of(message: Value) -> object:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _struct_of(message.struct_value)
    if kind == "list_value":
        return [_value_of(item) for item in message.list_value.values]
    if kind in (None, "null_value"):
        return None
    return getattr(message, kind)


# To messages


def upload_message(upload: Upload) -> upload_pb2.Upload:
    """Returns an upload as callers see it."""
    message = upload_pb2.Upload(
        upload_id=upload.upload_id,
        request_id=upload.request_id,
        uid=upload.uid,
        session_id=upload.session_id,
        partition=upload.partition,
        asset_partition=upload.asset_partition,
        file_path=upload.file_path,
        expiration_hours=upload.expiration_hours,
        details=_details_message(upload.details),
        variants=[
            upload_pb2.VariantPromise(
                name=variant.name,
                content_type=variant.content_type,
                size_bytes=variant.size_bytes,
                sha256=variant.sha256,
                width_px=variant.width_px,
                height_px=variant.height_px,
                promises_parts=variant.promises_parts,
            )
            for variant in upload.variants
        ],
        status=_NUMBERS[upload.status],
        revision=upload.revision,
        history=[
            upload_pb2.StatusChange(
                revision=change.revision,
                status=_NUMBERS[change.status],
                time=_timestamp(change.time),
                reason=change.reason,
                acted_by=change.acted_by,
            )
            for change in upload.history
        ],
        create_time=_timestamp(upload.create_time),
        update_time=_timestamp(upload.history[-1].time),
        expire_time=_timestamp(upload.expire_time),
        notices=_notice_messages(upload.notices),
    )
    if upload.cut_plan is not None:
        message.cut_plan.CopyFrom(_cut_plan_message(upload.cut_plan))
    if upload.write_url_lifetime is not None:
        message.write_url_lifetime.FromTimedelta(upload.write_url_lifetime)
    if upload.failure is not None:
        message.failure.reason = upload.failure.reason
        message.failure.message = upload.failure.message
    return message


def target_messages(targets: Iterable[WriteTarget]) -> list[upload_pb2.WriteTarget]:
    """Returns write targets as callers see them."""
    return [
        upload_pb2.WriteTarget(variant=target.variant, single_put=_request_message(target.single_put))
        if target.single_put is not None
        else upload_pb2.WriteTarget(
            variant=target.variant,
            multipart=upload_pb2.MultipartTarget(part_size_bytes=target.part_size_bytes, part_count=target.part_count),
        )
        for target in targets
    ]


def signed_part_messages(
    promises: Iterable[PartPromise], requests: Iterable[PresignedRequest]
) -> list[upload_service_pb2.SignedPart]:
    """Returns the ways in of some parts."""
    return [
        upload_service_pb2.SignedPart(part_number=promise.part_number, request=_request_message(request))
        for promise, request in zip(promises, requests, strict=True)
    ]


def stored_part_messages(parts: Iterable[StoredPart]) -> list[upload_service_pb2.StoredPart]:
    """Returns parts as callers see them."""
    return [
        upload_service_pb2.StoredPart(
            part_number=part.part_number, size_bytes=part.size_bytes, etag=part.etag, sha256=part.sha256
        )
        for part in parts
    ]


def asset_message(asset: Asset, read_urls: ReadUrls) -> asset_pb2.Asset:
    """Returns an asset as callers see it."""
    message = asset_pb2.Asset(
        asset_id=asset.asset_id,
        uid=asset.uid,
        session_id=asset.session_id,
        partition=asset.partition,
        file_path=asset.file_path,
        expiration_hours=asset.expiration_hours,
        details=_details_message(asset.details),
        variants=[
            asset_pb2.AssetVariant(
                name=variant.name,
                content_type=variant.content_type,
                size_bytes=variant.size_bytes,
                sha256=variant.sha256,
                width_px=variant.width_px,
                height_px=variant.height_px,
                etag=variant.etag,
                version_id=variant.version_id,
                read_url=read_url,
                download_url=download_url,
                part_size_bytes=variant.part_size_bytes,
                parts_sha256=variant.parts_sha256,
            )
            for variant, read_url, download_url in zip(
                asset.variants, read_urls.urls, read_urls.download_urls, strict=True
            )
        ],
        create_time=_timestamp(asset.create_time),
        revision=asset.revision,
        notices=_notice_messages(asset.notices),
    )
    if read_urls.expire_time is not None:
        message.refresh_time.CopyFrom(_timestamp(asset.refresh_time))
        message.expire_time.CopyFrom(_timestamp(read_urls.expire_time))
    return message


def progress_message(progress: Progress) -> upload_service_pb2.ProgressEvent:
    """Returns progress as callers see it."""
    return upload_service_pb2.ProgressEvent(
        upload_id=progress.upload_id,
        stage=upload_service_pb2.ProgressStage.Value(f"PROGRESS_STAGE_{progress.stage}"),
        variants=[
            upload_service_pb2.VariantProgress(
                variant=name, sent_bytes=progress.sent_bytes[name], size_bytes=size_bytes
            )
            for name, size_bytes in progress.size_bytes.items()
        ],
        sent_bytes=sum(progress.sent_bytes.values()),
        size_bytes=sum(progress.size_bytes.values()),
        time=_timestamp(progress.time),
    )


def _notice_messages(notices: Iterable[Notice]) -> list[asset_pb2.Notice]:
    return [asset_pb2.Notice(reason=notice.reason, message=notice.message) for notice in notices]


def _request_message(request: PresignedRequest) -> upload_pb2.PresignedRequest:
    return upload_pb2.PresignedRequest(
        method=request.method,
        url=request.url,
        headers=request.headers,
        expire_time=_timestamp(request.expire_time),
    )


def _cut_plan_message(plan: CutPlan) -> upload_pb2.CutPlan:
    return upload_pb2.CutPlan(
        maker=upload_pb2.CUT_MAKER_SERVER,
        sizes=[upload_pb2.CutSize(name=size.name, max_edge_px=size.max_edge_px) for size in plan.sizes],
        format=upload_pb2.CutFormat.Value(f"CUT_FORMAT_{plan.format}"),
        quality=plan.quality,
        required=plan.required,
    )


def _details_message(details: Details) -> asset_pb2.AssetDetails | None:
    if details == Details():
        return None
    message = asset_pb2.AssetDetails(title=details.title, caption=details.caption, color=details.color)
    if details.duration is not None:
        message.duration.FromTimedelta(details.duration)
    if details.extra is not None:
        message.extra.CopyFrom(_struct_message(details.extra))
    return message


def _struct_message(extra: Mapping[str, Any]) -> Struct:
    return Struct(fields={name: _value_message(value) for name, value in extra.items()})


def _value_message(value: object) -> Value:
    # Field by field: Struct.update would refuse the NaN that a caller may have sent.
    match value:
        case None:
            return Value(null_value=0)  # type: ignore[arg-type]  # NullValue.NULL_VALUE
        case bool():
            return Value(bool_value=value)
        case int() | float():
            return Value(number_value=value)
        case str():
            return Value(string_value=value)
        case dict():
            return Value(struct_value=_struct_message(value))
        case list():
            message = Value()
            message.list_value.values.extend(_value_message(item) for item in value)
            return message
    raise TypeError(f"extra holds a {type(value).__name__}")


def _timestamp(instant: datetime) -> Timestamp:
    seconds, microseconds = divmod((instant - _EPOCH) // _MICROSECOND, 1_000_000)
    return Timestamp(seconds=seconds, nanos=microseconds * 1000)
