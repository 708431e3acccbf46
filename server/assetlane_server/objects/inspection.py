"""Single questions to a bucket, for the doctor: each answered with the store's own word. Imports no boto3.

Each needs the right that it asks about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assetlane_server.objects.bucket import blocks_policies, public_access_block
from assetlane_server.objects.s3.connection import S3Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NO_SUCH_UPLOAD = "none"


@dataclass(frozen=True, slots=True)
class BucketAnswer:
    """What the store answered to one question."""

    status: int
    code: str = ""  # S3's word for a refusal; empty after a success, and for a HEAD
    region: str = ""  # what it says the bucket's region is; empty: it does not

    @property
    def is_success(self) -> bool:
        """Whether it did what it was asked."""
        return 200 <= self.status < 300

    @property
    def detail(self) -> str:
        """The status with S3's own word for it."""
        return f"{self.status} {self.code}".rstrip()


@dataclass(frozen=True, slots=True)
class AbortRules:
    """What the bucket's rules do to unfinished multipart uploads under our prefix."""

    covers: bool  # whether one of them drops all of these
    days: int | None  # after which the first of them are dropped; None: never


class Inspection:
    """Asks one question per method; each raises StoreUnavailable when there is no answer."""

    def __init__(self, connection: S3Connection) -> None:
        self._connection = connection

    async def list_keys(self, prefix: str) -> BucketAnswer:
        """Lists at most one key: says more than any other question, since its refusals carry a code."""
        return await self._ask(lambda client, bucket: client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1))

    async def look_at_bucket(self) -> BucketAnswer:
        """Asks whether the bucket is there and where."""
        word = await self._ask(lambda client, bucket: client.head_bucket(Bucket=bucket))
        if word.region:
            return word
        located: list[str] = []

        def locate(client: "S3Client", bucket: str) -> Any:
            answer: Any = client.get_bucket_location(Bucket=bucket)
            located.append(answer.get("LocationConstraint") or "")
            return answer

        await self._ask(locate)
        # An empty one is us-east-1 for Amazon, which reported it above; other stores leave it empty for any.
        region = {"EU": "eu-west-1"}.get(located[0], located[0]) if located else ""
        return BucketAnswer(word.status, word.code, region)

    async def look_at(self, key: str) -> BucketAnswer:
        """Asks for an object's head."""
        return await self._ask(lambda client, bucket: client.head_object(Bucket=bucket, Key=key))

    async def delete(self, key: str) -> BucketAnswer:
        """Deletes an object, which need not be there."""
        return await self._ask(lambda client, bucket: client.delete_object(Bucket=bucket, Key=key))

    async def abort(self, key: str) -> BucketAnswer:
        """Aborts a multipart upload that is not there: 404 says that it would have been allowed."""
        return await self._ask(
            lambda client, bucket: client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=_NO_SUCH_UPLOAD)
        )

    async def list_parts(self, key: str) -> BucketAnswer:
        """Lists the parts of a multipart upload that is not there: 404 says that it would have been allowed."""
        return await self._ask(
            lambda client, bucket: client.list_parts(Bucket=bucket, Key=key, UploadId=_NO_SUCH_UPLOAD)
        )

    async def list_multiparts(self, prefix: str) -> BucketAnswer:
        """Lists at most one open multipart upload."""
        return await self._ask(
            lambda client, bucket: client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, MaxUploads=1)
        )

    async def blocks_public_policies(self) -> bool:
        """Returns whether the bucket's Block Public Access stands against a public policy, as far as one may ask."""
        return await self._connection.ask(lambda client, bucket: blocks_policies(public_access_block(client, bucket)))

    async def has_policies(self) -> bool:
        """Returns whether the store answers a question about the bucket's policy as one that has such."""
        word = await self._ask(lambda client, bucket: client.get_bucket_policy(Bucket=bucket))
        return word.status not in (405, 501)

    async def abort_rules(self, prefix: str) -> tuple[BucketAnswer, AbortRules]:
        """Returns what the rules of the bucket do to unfinished multipart uploads under the prefix.

        A store without lifecycles may answer with a listing of the bucket, as Swift does: status 501 then.
        """
        rules: list[Any] = []
        is_answer: list[bool] = []

        def read(client: "S3Client", bucket: str) -> Any:
            answer = client.get_bucket_lifecycle_configuration(Bucket=bucket)
            rules.extend(answer.get("Rules", []))
            is_answer.append("Rules" in answer)
            return answer

        word = await self._ask(read)
        if word.is_success and is_answer != [True]:
            word = BucketAnswer(501, "NotImplemented")
        aborting = [rule for rule in rules if _aborts(rule)]
        days = [
            int(rule["AbortIncompleteMultipartUpload"].get("DaysAfterInitiation", 0))
            for rule in aborting
            if _prefix_of(rule).startswith(prefix) or prefix.startswith(_prefix_of(rule))
        ]
        covers = any(prefix.startswith(_prefix_of(rule)) and not _is_bound_further(rule) for rule in aborting)
        return word, AbortRules(covers, min(days, default=None))

    async def _ask(self, call: Callable[["S3Client", str], Any]) -> BucketAnswer:
        def question(client: "S3Client", bucket: str) -> BucketAnswer:
            try:
                answer = call(client, bucket)
            except client.exceptions.ClientError as error:
                answer = error.response
            metadata = answer["ResponseMetadata"]
            status = metadata["HTTPStatusCode"]
            code = answer.get("Error", {}).get("Code", "")
            region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
            return BucketAnswer(status, "" if code == str(status) else code, region)

        return await self._connection.ask(question)


def _aborts(rule: Any) -> bool:
    return rule.get("Status") == "Enabled" and "AbortIncompleteMultipartUpload" in rule


def _prefix_of(rule: Any) -> str:
    return str(rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")))


def _is_bound_further(rule: Any) -> bool:
    """Returns whether the rule is for tags or sizes as well: our objects have none of these."""
    return bool(rule.get("Filter", {}).keys() - {"Prefix"})
