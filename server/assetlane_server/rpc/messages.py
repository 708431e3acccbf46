"""Converts between messages of the contract and values of the model, both ways. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_DETAILS = Details()
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


# To messages. Most are filled in where they are: what is built first and then given to another message is copied.


def upload_message(upload: Upload) -> upload_pb2.Upload:
    """Returns an upload as callers see it."""
    message = upload_pb2.Upload()
    fill_in_upload(message, upload)
    return message


def fill_in_upload(message: upload_pb2.Upload, upload: Upload) -> None:
    """Makes an empty message an upload as callers see it."""
    message.upload_id = upload.upload_id
    message.request_id = upload.request_id
    message.uid = upload.uid
    message.session_id = upload.session_id
    message.partition = upload.partition
    message.asset_partition = upload.asset_partition
    message.file_path = upload.file_path
    message.expiration_hours = upload.expiration_hours
    _fill_in_details(message, upload.details)
    for variant in upload.variants:
        message.variants.add(
            name=variant.name,
            content_type=variant.content_type,
            size_bytes=variant.size_bytes,
            sha256=variant.sha256,
            width_px=variant.width_px,
            height_px=variant.height_px,
            promises_parts=variant.promises_parts,
        )
    _fill_in_time(message.create_time, upload.create_time)
    _fill_in_time(message.expire_time, upload.expire_time)
    _fill_in_notices(message, upload.notices)
    if upload.cut_plan is not None:
        message.cut_plan.CopyFrom(_cut_plan_message(upload.cut_plan))
    if upload.write_url_lifetime is not None:
        message.write_url_lifetime.FromTimedelta(upload.write_url_lifetime)
    message.status = _NUMBERS[upload.status]
    message.revision = upload.revision
    for change in upload.history:
        entry = message.history.add(
            revision=change.revision, status=_NUMBERS[change.status], reason=change.reason, acted_by=change.acted_by
        )
        _fill_in_time(entry.time, change.time)
    _fill_in_time(message.update_time, upload.history[-1].time)
    if upload.failure is not None:
        message.failure.reason = upload.failure.reason
        message.failure.message = upload.failure.message


def target_messages(targets: Iterable[WriteTarget]) -> list[upload_pb2.WriteTarget]:
    """Returns write targets as callers see them."""
    messages = []
    for target in targets:
        message = upload_pb2.WriteTarget()
        _fill_in_target(message, target)
        messages.append(message)
    return messages


def fill_in_targets(
    messages: "RepeatedCompositeFieldContainer[upload_pb2.WriteTarget]", targets: Iterable[WriteTarget]
) -> None:
    """Adds write targets as callers see them."""
    for target in targets:
        _fill_in_target(messages.add(), target)


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
        revision=asset.revision,
    )
    _fill_in_details(message, asset.details)
    _fill_in_time(message.create_time, asset.create_time)
    _fill_in_notices(message, asset.notices)
    if read_urls.expire_time is not None:
        _fill_in_time(message.refresh_time, asset.refresh_time)
        _fill_in_time(message.expire_time, read_urls.expire_time)
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


def _fill_in_target(message: upload_pb2.WriteTarget, target: WriteTarget) -> None:
    message.variant = target.variant
    if target.single_put is not None:
        _fill_in_request(message.single_put, target.single_put)
    else:
        message.multipart.part_size_bytes = target.part_size_bytes
        message.multipart.part_count = target.part_count


def _request_message(request: PresignedRequest) -> upload_pb2.PresignedRequest:
    message = upload_pb2.PresignedRequest()
    _fill_in_request(message, request)
    return message


def _fill_in_request(message: upload_pb2.PresignedRequest, request: PresignedRequest) -> None:
    message.method = request.method
    message.url = request.url
    headers = message.headers
    for name, value in request.headers.items():
        headers[name] = value
    _fill_in_time(message.expire_time, request.expire_time)


def _fill_in_notices(message: upload_pb2.Upload | asset_pb2.Asset, notices: Iterable[Notice]) -> None:
    for notice in notices:
        message.notices.add(reason=notice.reason, message=notice.message)


def _cut_plan_message(plan: CutPlan) -> upload_pb2.CutPlan:
    return upload_pb2.CutPlan(
        maker=upload_pb2.CUT_MAKER_SERVER,
        sizes=[upload_pb2.CutSize(name=size.name, max_edge_px=size.max_edge_px) for size in plan.sizes],
        format=upload_pb2.CutFormat.Value(f"CUT_FORMAT_{plan.format}"),
        quality=plan.quality,
        required=plan.required,
    )


def _fill_in_details(message: upload_pb2.Upload | asset_pb2.Asset, details: Details) -> None:
    if details == _NO_DETAILS:
        return
    filled = message.details
    filled.title = details.title
    filled.caption = details.caption
    filled.color = details.color
    if details.duration is not None:
        filled.duration.FromTimedelta(details.duration)
    if details.extra is not None:
        filled.extra.SetInParent()
        _fill_in_struct(filled.extra, details.extra)


def _fill_in_struct(message: Struct, extra: Mapping[str, Any]) -> None:
    fields = message.fields
    for name, value in extra.items():
        _fill_in_value(fields[name], value)


def _fill_in_value(message: Value, value: object) -> None:
    # Field by field: Struct.update would refuse the NaN that a caller may have sent.
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = value
        case dict():
            message.struct_value.SetInParent()
            _fill_in_struct(message.struct_value, value)
        case list():
            message.list_value.SetInParent()
            values = message.list_value.values
            for item in value:
                _fill_in_value(values.add(), item)
        case None:
            message.null_value = 0  # type: ignore[assignment]  # NullValue.NULL_VALUE
        case _:
            raise TypeError(f"extra holds a {type(value).__name__}")


def _timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    _fill_in_time(message, instant)
    return message


def _fill_in_time(message: Timestamp, instant: datetime) -> None:
    since = instant - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000
