"""Uploads to test with."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from assetlane_server.model.admission import Terms, UploadRequest, admit
from assetlane_server.model.asset import asset_of
from assetlane_server.model.proof import StoredObject
from assetlane_server.model.upload import Details, Notice, Status, Upload, VariantPromise

NOW = datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)
QUARTER = timedelta(minutes=15)  # the life of a write URL
ID = "01k8m3v5e4x9q2w7r6t1y0p5sa"

PICTURE = UploadRequest(
    uid="7f3a",
    session_id="phone",
    request_id="r-1",
    file_path="albums/2026/beach.jpg",
    details=Details(
        title="Beach", color="#80a0c0", duration=timedelta(seconds=1.5), extra={"likes": 3.0, "tags": ["sea", None]}
    ),
    variants=(
        VariantPromise("original", "image/jpeg", 5_000_000, b"\x01" * 32, 4000, 3000),
        VariantPromise("small", "image/jpeg", 20_000, b"", 300, 225),
    ),
    notices=(Notice("IMAGE_TOO_LARGE", "There is no large cut."),),
)


def requested(request: UploadRequest = PICTURE, **changes: object) -> Upload:
    """Returns the PENDING upload of a request with some fields changed."""
    return admit(replace(request, **changes), Terms(), ID, NOW)  # type: ignore[arg-type]  # a test's fields


def completed(upload: Upload, now: datetime = NOW, **changes: object) -> Upload:
    """Returns the upload with both status changes that a successful completion makes, and its asset."""
    stored = [StoredObject(one.size_bytes, one.content_type, "etag", "v1", b"\x02" * 32) for one in upload.variants]
    asset = replace(asset_of(upload, stored, now), **changes)  # type: ignore[arg-type]  # a test's fields
    if upload.status is not Status.UPLOADED:
        upload = upload.uploaded(now)
    return upload.completed(now, asset)
