"""Deletes objects, and all versions of them, in batches that each stay within a call's limit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.objects.s3.connection import S3Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_DELETED_KEYS = 1000  # in one call
_DELETED_AT_ONCE = 100  # in one request: some stores take 50 ms for each object, and each request has a limit


async def delete_objects(connection: S3Connection, keys: Sequence[str]) -> None:
    """Deletes these keys. In a bucket that keeps versions the object is hidden and its versions stay.

    Goes in batches, each with a call's limit; what raises leaves the batches after it undone.
    """
    if len(keys) > MAX_DELETED_KEYS:
        raise ValueError(f"at most {MAX_DELETED_KEYS:,} keys are deleted at once, not {len(keys):,}")
    codes = await _delete(connection, [{"Key": key} for key in keys], "delete objects", "s3:DeleteObject")
    if codes:
        reasons = ", ".join(sorted(set(codes)))
        raise StoreUnavailable(f"The store did not delete {len(codes)} of {len(keys)} objects: {reasons}.")


async def purge_folder(connection: S3Connection, folder: str) -> None:
    """Deletes what lies in a folder with all its versions, at most 1,000. Needs the rights for versions."""
    if not folder.endswith("/"):
        raise ValueError(f"a folder ends with '/', unlike {folder!r}")

    def list_versions(client: "S3Client", bucket: str) -> list[dict[str, str]]:
        listed = client.list_object_versions(Bucket=bucket, Prefix=folder)
        found: list[Any] = [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]
        return [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]

    action, rights = "delete versions", "s3:ListBucketVersions and s3:DeleteObjectVersion"
    versions = await connection.call(action, rights, list_versions)
    if codes := await _delete(connection, versions, action, rights):
        raise StoreUnavailable(f"The store did not delete {len(codes)} versions: {', '.join(set(codes))}.")


async def _delete(connection: S3Connection, items: Sequence[Mapping[str, str]], action: str, rights: str) -> list[str]:
    """Deletes these keys or versions and returns the store's code for each that it did not delete."""
    codes: list[str] = []
    for start in range(0, len(items), _DELETED_AT_ONCE):
        batch = items[start : start + _DELETED_AT_ONCE]

        def delete(client: "S3Client", bucket: str, batch: Sequence[Mapping[str, str]] = batch) -> list[str]:
            if len(batch) == 1:
                client.delete_object(Bucket=bucket, **batch[0])  # type: ignore[arg-type]
                return []
            objects = {"Quiet": True, "Objects": batch}
            answer = client.delete_objects(Bucket=bucket, Delete=objects)  # type: ignore[arg-type]
            refused = [error.get("Code", "unknown") for error in answer.get("Errors", [])]
            return [code for code in refused if code != "NoSuchKey"]

        codes += await connection.call(action, rights, delete)
    return codes
