"""What one presigned PUT costs: ours beside boto3, botocore's signer and minio-py.

Needs `requirements/bench.txt`. Calls no store. `python bench/presigning.py` prints the table.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from urllib.parse import quote

import boto3
import botocore.auth
import minio
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.objects.settings import S3Settings
from assetlane_server.objects.sigv4 import Credentials, Presigner
from assetlane_server.uploads.upload import VariantPromise

ROUNDS = 15
URLS_PER_ROUND = 400
LIFETIME = timedelta(minutes=15)
SIZE_BYTES = 123_456
TYPE = "image/jpeg"
HEADERS = {"content-type": TYPE, "content-length": str(SIZE_BYTES), "if-none-match": "*"}
SIGNED = "host, content-type, content-length, if-none-match"
SETTINGS = S3Settings(
    bucket="lane",
    region="eu-west-1",
    endpoint="https://s3.eu-west-1.amazonaws.com",
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # noqa: S106 - AWS's published example
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one way to presign costs."""

    name: str
    cpu_us: float  # process CPU per URL, the median of the rounds
    count: int  # URLs signed in all
    signed_headers: str


def measure(rounds: int = ROUNDS, urls_per_round: int = URLS_PER_ROUND) -> list[Row]:
    """Signs in interleaved rounds, so that a change of the machine's speed meets all ways alike."""
    return asyncio.run(_measure(rounds, urls_per_round))


async def _measure(rounds: int, urls_per_round: int) -> list[Row]:
    keys = [f"app/private/user/u1/photos/01JZ{number:022}/original.jpg" for number in range(urls_per_round)]
    async with S3ObjectStore.open(SETTINGS) as store:
        ways = {
            "assetlane, sigv4.Presigner": (with_presigner(), SIGNED),
            "assetlane, S3ObjectStore.presign_put": (with_store(store), SIGNED),
            "minio-py, presigned_put_object": (with_minio(), "host: it can sign no other"),
            "botocore, S3SigV4QueryAuth": (with_botocore(), SIGNED),
            "boto3, generate_presigned_url": (with_boto3(), SIGNED),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for sign, _ in ways.values():  # caches, imports, lazily built models
            sign(keys[0])
        for _ in range(rounds):
            for name, (sign, _) in ways.items():
                begun = time.process_time()
                for key in keys:
                    sign(key)
                spent[name].append((time.process_time() - begun) / urls_per_round)
    return [Row(name, median(spent[name]) * 1e6, rounds * urls_per_round, signed) for name, (_, signed) in ways.items()]


def with_presigner() -> Callable[[str], str]:
    """The signer alone."""
    presigner = Presigner(SETTINGS.endpoint, SETTINGS.bucket, SETTINGS.region)
    credentials = Credentials(SETTINGS.access_key_id, SETTINGS.secret_access_key)
    return lambda key: presigner.presign("PUT", key, credentials, datetime.now(UTC), LIFETIME, HEADERS)


def with_store(store: S3ObjectStore) -> Callable[[str], str]:
    """What the server does for each variant."""
    return lambda key: (
        store.presign_put(VariantPromise("original", TYPE, SIZE_BYTES, key=key), datetime.now(UTC), LIFETIME).url
    )


def with_minio() -> Callable[[str], str]:
    """MinIO's client; a region keeps it from asking the store for one."""
    client = minio.Minio(
        SETTINGS.endpoint.removeprefix("https://"),
        access_key=SETTINGS.access_key_id,
        secret_key=SETTINGS.secret_access_key,
        region=SETTINGS.region,
    )
    return lambda key: client.presigned_put_object(SETTINGS.bucket, key, expires=LIFETIME)


def with_botocore() -> Callable[[str], str]:
    """The signer inside boto3, on a URL that is there already."""
    auth = botocore.auth.S3SigV4QueryAuth(
        ReadOnlyCredentials(SETTINGS.access_key_id, SETTINGS.secret_access_key, None),
        "s3",
        SETTINGS.region,
        expires=int(LIFETIME.total_seconds()),
    )

    def sign(key: str) -> str:
        url = f"{SETTINGS.endpoint}/{SETTINGS.bucket}/{quote(key)}"
        request = AWSRequest(method="PUT", url=url, headers=HEADERS)
        auth.add_auth(request)
        return str(request.url)

    return sign


def with_boto3() -> Callable[[str], str]:
    """What most services call, with SigV4 asked for: its default would sign less."""
    client = boto3.client(
        "s3",
        region_name=SETTINGS.region,
        endpoint_url=SETTINGS.endpoint,
        aws_access_key_id=SETTINGS.access_key_id,
        aws_secret_access_key=SETTINGS.secret_access_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    wish = {"ContentType": TYPE, "ContentLength": SIZE_BYTES, "IfNoneMatch": "*"}
    return lambda key: client.generate_presigned_url(
        "put_object",
        Params={"Bucket": SETTINGS.bucket, "Key": key, **wish},
        ExpiresIn=int(LIFETIME.total_seconds()),
    )


if __name__ == "__main__":
    print(f"{'one presigned PUT':<40}{'CPU µs':>8}{'URLs':>8}  signed headers")
    for row in measure():
        print(f"{row.name:<40}{row.cpu_us:>8.1f}{row.count:>8}  {row.signed_headers}")
