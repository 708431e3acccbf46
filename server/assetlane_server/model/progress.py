"""How far an upload is, as its caller reports it: newest only, never history. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from assetlane_server.model.errors import FieldViolation, InvalidRequest
from assetlane_server.model.upload import Upload


class Stage(StrEnum):
    """What is being done for an upload right now."""

    UPLOADING = "UPLOADING"
    VERIFYING = "VERIFYING"
    CUTTING = "CUTTING"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is."""

    upload_id: str
    session_id: str
    uid: str
    stage: Stage
    sent_bytes: Mapping[str, int]  # by variant name, all variants
    size_bytes: Mapping[str, int]  # by variant name, all variants
    time: datetime


def progress_of(upload: Upload, sent_bytes: Mapping[str, int], now: datetime) -> Progress:
    """Returns what a report means. Raises InvalidRequest for an unknown variant or an impossible count."""
    sizes = {variant.name: variant.size_bytes for variant in upload.variants}
    violations = []
    for name, count in sent_bytes.items():
        field = f"sent_bytes[{name!r}]"
        if name not in sizes:
            violations.append(FieldViolation(field, f"the upload has only {', '.join(sizes)}"))
        elif not 0 <= count <= sizes[name]:
            violations.append(FieldViolation(field, f"is {count:,}, it must be from 0 to {sizes[name]:,}"))
    if violations:
        raise InvalidRequest(violations)
    sent = {name: sent_bytes.get(name, 0) for name in sizes}
    return Progress(upload.upload_id, upload.session_id, upload.uid, Stage.UPLOADING, sent, sizes, now)


def stage_of(upload: Upload, stage: Stage, now: datetime) -> Progress:
    """Returns the progress of an upload whose bytes have all arrived."""
    sizes = {variant.name: variant.size_bytes for variant in upload.variants}
    return Progress(upload.upload_id, upload.session_id, upload.uid, stage, sizes, sizes, now)
