"""Multipart uploads in S3: opened, signed part by part, listed, put together, dropped. Imports no boto3.

Needs s3:PutObject (which opens, signs and completes), s3:AbortMultipartUpload, s3:ListMultipartUploadParts and
s3:ListBucketMultipartUploads.

A multipart upload is opened with SHA-256 checksums only when the caller promises one for every part: AWS refuses a
part that has one when the upload was opened without, and one that has none when it was opened with. And only
when the store lists the checksums of parts: it wants them back when the object is assembled.
SeaweedFS (4.48) does not; it checks the signed ones all the same.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from assetlane_server.model.errors import StoreFault, StoreUnavailable
from assetlane_server.model.parts import OpenMultipart, OpenMultipartPage, PartPage, PartPromise, StoredPart, part_bytes
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.connection import S3Connection
from assetlane_server.objects.s3.headers import CHECKSUM_SHA256, CONTENT_LENGTH
from assetlane_server.objects.s3.signing import RequestSigner
from assetlane_server.ports.multipart_store import MultipartStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRIAL = b"does the store tell?"
_COMPLETE_CALLS = 12  # as long as so many others: a store may copy terabytes before it answers
_TRIAL_CALLS = 4
_LISTING_CALLS = 3
_OBJECT = b"there already"
_PRECONDITION = "PreconditionFailed"  # also within a 200, whose status was sent before the store knew
# What S3 says of parts that it will never put together.
_REFUSALS = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge"})
# What it says when no such multipart upload is open. NoSuchKey: radosgw of one that it has completed or never had,
# Swift when a completed one is aborted.
_NONE = frozenset({"NoSuchUpload", "NoSuchKey"})


@dataclass(frozen=True, slots=True)
class MultipartTrial:
    """What a store was seen to do when an object in parts is completed."""

    refuses_overwrites: bool  # under if-none-match
    refuses_small_parts: bool


class S3Multiparts(MultipartStore):
    """A MultipartStore in the store's bucket."""

    def __init__(self, connection: S3Connection, signer: RequestSigner) -> None:
        self._connection = connection
        self._signer = signer
        self._has_checksums: bool | None = None  # None: nobody has asked yet
        self._lists_folders: bool | None = None  # likewise

    async def learn(self, folder: str) -> bool:
        """Returns whether the store lists the SHA-256 of parts; the first time it finds out in that folder."""
        if self._has_checksums is None:
            self._has_checksums = await self._connection.call(
                "take an object in parts",
                "s3:PutObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts",
                lambda client, bucket: _has_checksums(client, bucket, f"{folder}trial", self._connection.encryption),
                calls=_TRIAL_CALLS,
            )
        return self._has_checksums

    async def learn_listing(self, folder: str) -> bool:
        """Returns whether the store lists open uploads by a prefix that is no key; the first time it finds out there.

        MinIO lists those of an exact key, or all.
        """
        if self._lists_folders is None:
            place = f"{folder}{secrets.token_hex(8)}/"
            self._lists_folders = await self._connection.call(
                "list multipart uploads",
                "s3:PutObject, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads",
                lambda client, bucket: _lists_folders(client, bucket, place),
                calls=_LISTING_CALLS,
            )
        return self._lists_folders

    @override
    async def open(self, promise: VariantPromise) -> str:
        options: Any = {
            "ContentType": promise.content_type,
            "ContentDisposition": promise.content_disposition,
            "CacheControl": promise.cache_control,
            **self._connection.encryption,
        }
        if promise.promises_parts and await self.learn(f"{promise.key.rpartition('/')[0]}/"):
            options["ChecksumAlgorithm"] = "SHA256"

        def call(client: "S3Client", bucket: str) -> str:
            return client.create_multipart_upload(Bucket=bucket, Key=promise.key, **options)["UploadId"]

        return await self._connection.call("open a multipart upload", "s3:PutObject", call)

    @override
    def presign_part(
        self,
        promise: VariantPromise,
        multipart_id: str,
        part: PartPromise,
        signed_at: datetime,
        lifetime: timedelta,
    ) -> PresignedRequest:
        """Raises StoreUnavailable when temporary credentials ended before `signed_at`."""
        headers = part_headers(promise, part)
        query = {"partNumber": str(part.part_number), "uploadId": multipart_id}
        return self._signer.presign("PUT", promise.key, signed_at, lifetime, headers, query)

    @override
    async def list_parts(self, key: str, multipart_id: str, *, after: int, limit: int) -> PartPage | None:

        def call(client: "S3Client", bucket: str) -> PartPage | None:
            try:
                answer = client.list_parts(
                    Bucket=bucket, Key=key, UploadId=multipart_id, PartNumberMarker=after, MaxParts=limit
                )
            except client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in _NONE:
                    return None
                raise
            found: list[Any] = answer.get("Parts", [])
            last = max((part["PartNumber"] for part in found), default=0)
            return PartPage(_newest(found), last if answer.get("IsTruncated") else 0)

        return await self._connection.call("list parts", "s3:ListMultipartUploadParts", call)

    @override
    async def complete(self, promise: VariantPromise, multipart_id: str, parts: Sequence[StoredPart]) -> str:
        """The condition is `if-none-match: *`, as of every PUT."""
        listed: Any = [
            {"PartNumber": part.part_number, "ETag": f'"{part.etag}"'}
            | ({"ChecksumSHA256": base64.b64encode(part.sha256).decode()} if part.sha256 else {})
            for part in parts
        ]

        def call(client: "S3Client", bucket: str) -> str:
            try:
                client.complete_multipart_upload(
                    Bucket=bucket,
                    Key=promise.key,
                    UploadId=multipart_id,
                    MultipartUpload={"Parts": listed},
                    IfNoneMatch="*",
                )
            except client.exceptions.ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _REFUSALS:
                    return code
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if code in _NONE or code == _PRECONDITION or status == 412:
                    return ""
                raise
            return ""

        return await self._connection.call("put an object together", "s3:PutObject", call, calls=_COMPLETE_CALLS)

    @override
    async def abort(self, key: str, multipart_id: str) -> None:

        def call(client: "S3Client", bucket: str) -> None:
            _abort(client, bucket, key, multipart_id)

        await self._connection.call("abort a multipart upload", "s3:AbortMultipartUpload", call)

    @override
    async def list_open(self, prefix: str, after: str) -> OpenMultipartPage:
        """Where the store does not list by a folder, all that is open in the bucket is read."""
        if self._lists_folders is False and prefix.endswith("/"):
            return await self._list_open("", prefix, after)
        page = await self._list_open(prefix, prefix, after)
        # No key of ours ends with "/": an empty answer about a key is one from every store.
        if page.open or after or not prefix.endswith("/") or await self.learn_listing(f"{prefix}probe/"):
            return page
        return await self._list_open("", prefix, after)

    async def _list_open(self, asked: str, wanted: str, after: str) -> OpenMultipartPage:
        def call(client: "S3Client", bucket: str) -> OpenMultipartPage:
            options: Any = {}
            if after:
                options["UploadIdMarker"], _, options["KeyMarker"] = after.partition(" ")
            answer = client.list_multipart_uploads(Bucket=bucket, Prefix=asked, **options)
            listed: list[Any] = answer.get("Uploads", [])
            found = tuple(
                OpenMultipart(one["Key"], one["UploadId"], one["Initiated"])
                for one in listed
                if one["Key"].startswith(wanted)
            )
            # SeaweedFS goes on from the id alone, and sends no key along.
            marks = f"{answer.get('NextUploadIdMarker', '')} {answer.get('NextKeyMarker', '')}"
            return OpenMultipartPage(found, marks if answer.get("IsTruncated") and listed else "")

        return await self._connection.call("list multipart uploads", "s3:ListBucketMultipartUploads", call)


def _newest(found: Sequence[Any]) -> tuple[StoredPart, ...]:
    """Returns every part once, by number.

    Some stores list a part once for each time it was sent, in no order, with its time to the second (SeaweedFS):
    the newest counts, and of two different ones of the same second neither, so that it is sent once more.
    """
    newest: dict[int, dict[str, Any]] = {}  # by number, then by ETag
    for part in found:
        others = newest.setdefault(part["PartNumber"], {})
        if any(other["LastModified"] > part["LastModified"] for other in others.values()):
            continue
        if any(other["LastModified"] < part["LastModified"] for other in others.values()):
            others.clear()
        others[part["ETag"]] = part
    return tuple(
        StoredPart(number, part["Size"], part["ETag"].strip('"'), _digest(part.get("ChecksumSHA256", "")))
        for number, parts in sorted(newest.items())
        if len(parts) == 1
        for part in parts.values()
    )


def part_headers(promise: VariantPromise, part: PartPromise) -> dict[str, str]:
    """Returns the headers that are signed with a PUT of a part."""
    headers = {CONTENT_LENGTH: str(part_bytes(promise, part.part_number))}
    if part.sha256:
        headers[CHECKSUM_SHA256] = base64.b64encode(part.sha256).decode()
    return headers


def _has_checksums(client: "S3Client", bucket: str, key: str, encryption: Any) -> bool:
    try:
        opened = client.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256", **encryption)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 501):
            return False  # it knows no checksums of parts at all
        raise
    multipart_id = opened["UploadId"]
    try:
        digest = base64.b64encode(hashlib.sha256(_TRIAL).digest()).decode()
        client.upload_part(
            Bucket=bucket, Key=key, UploadId=multipart_id, PartNumber=1, Body=_TRIAL, ChecksumSHA256=digest
        )
        parts = client.list_parts(Bucket=bucket, Key=key, UploadId=multipart_id).get("Parts", [])
        return [part.get("ChecksumSHA256") for part in parts] == [digest]
    finally:
        _abort(client, bucket, key, multipart_id)


def _abort(client: "S3Client", bucket: str, key: str, multipart_id: str) -> None:
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=multipart_id)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in _NONE:
            raise


def try_multipart(client: "S3Client", bucket: str, key: str, small_key: str) -> MultipartTrial:
    """Completes a part where an object is, under if-none-match, and two small parts where none is.

    Blocks. Leaves the objects behind that it stores.
    """
    client.put_object(Bucket=bucket, Key=key, Body=_OBJECT)
    # What is there afterwards says more than the status: radosgw answers 200 either way.
    _is_completed(client, bucket, key, 1)
    size_bytes = client.head_object(Bucket=bucket, Key=key)["ContentLength"]
    return MultipartTrial(
        refuses_overwrites=size_bytes == len(_OBJECT),
        refuses_small_parts=not _is_completed(client, bucket, small_key, 2),
    )


def _is_completed(client: "S3Client", bucket: str, key: str, parts: int) -> bool:
    """Whether the store puts so many parts of a few bytes together, under if-none-match."""
    multipart_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        listed: Any = []
        for number in range(1, parts + 1):
            sent = client.upload_part(Bucket=bucket, Key=key, UploadId=multipart_id, PartNumber=number, Body=_TRIAL)
            listed.append({"PartNumber": number, "ETag": sent["ETag"]})
        client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": listed}, IfNoneMatch="*"
        )
    except client.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in (400, 409, 412, 501) or error.response["Error"]["Code"] == _PRECONDITION:
            return False
        raise
    finally:
        _abort(client, bucket, key, multipart_id)
    return True


def _lists_folders(client: "S3Client", bucket: str, folder: str) -> bool:
    key = f"{folder}trial"
    multipart_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        listed = client.list_multipart_uploads(Bucket=bucket, Prefix=folder)
        return any(one.get("Key") == key for one in listed.get("Uploads", []))
    finally:
        _abort(client, bucket, key, multipart_id)


def _digest(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        malformed = "The store reports a SHA-256 that is malformed."
        raise StoreUnavailable(malformed, fault=StoreFault.CHECKSUM_MALFORMED) from error
