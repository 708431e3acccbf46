"""Settings of stores that are there, and of one that is not."""

from datetime import timedelta

from assetlane_server.local import StackAddress
from assetlane_server.objects.s3.settings import S3Settings

SECRET = "do-not-show"  # noqa: S105 - made up
SETTINGS = S3Settings(
    bucket="lane",
    region="eu-west-1",
    endpoint="http://127.0.0.1:9",
    access_key_id="AKID",
    secret_access_key=SECRET,
    call_timeout=timedelta(seconds=30),
)


def settings_of(stack: StackAddress) -> S3Settings:
    """The settings of the tests' real store."""
    return S3Settings(
        bucket=stack.s3_bucket,
        region=stack.s3_region,
        endpoint=stack.s3_endpoint,
        access_key_id=stack.s3_access_key_id,
        secret_access_key=stack.s3_secret_access_key,
    )
