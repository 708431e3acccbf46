"""What one presigned PUT costs: ours beside boto3, botocore's signer and minio-py.

Needs `requirements/bench.txt`. Calls no store.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from urllib.parse import quote

import boto3
import botocore.auth
import minio
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from assetlane_server.model.upload import VariantPromise
from assetlane_server.objects.s3.settings import S3Settings
from assetlane_server.objects.s3.sigv4 import Credentials, Presigner
from assetlane_server.objects.s3.store import S3ObjectStore
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer

ROUNDS = 15
URLS_PER_ROUND = 400
LIFETIME = timedelta(minutes=15)
SIZE_BYTES = 123_456
TYPE = "image/jpeg"
HEADERS = {"content-type": TYPE, "content-length": str(SIZE_BYTES), "if-none-match": "*"}
SIGNED = "host, content-type, content-length, if-none-match"
SETTINGS = S3Settings(
    bucket="bench",
    region="eu-west-1",
    endpoint="https://s3.eu-west-1.amazonaws.com",
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # noqa: S106 - AWS's published example
)


PRESIGNER, STORE = "our signer alone", "as the server does it"
MINIO, BOTOCORE, BOTO3 = "minio-py", "botocore", "boto3"
AT_MOST_15_US = Goal(Bound.AT_MOST, 15)
AT_MOST_AN_EIGHTH = Goal(Bound.AT_MOST, 1 / 8, Measure.RATIO)


async def measure() -> Finding:
    """Holds our signer against the others."""
    cpu_us = await cpu_us_per_url(ROUNDS, URLS_PER_ROUND)
    alone, served, boto = cpu_us[PRESIGNER], cpu_us[STORE], cpu_us[BOTO3]
    figures = [
        Figure(PRESIGNER, alone, "µs", goal=AT_MOST_15_US),
        Figure(PRESIGNER, alone, "µs", Peer(MINIO, cpu_us[MINIO])),
        Figure(PRESIGNER, alone, "µs", Peer(BOTOCORE, cpu_us[BOTOCORE])),
        Figure(PRESIGNER, alone, "µs", Peer(BOTO3, boto), AT_MOST_AN_EIGHTH),
        Figure(STORE, served, "µs", goal=AT_MOST_15_US),
        Figure(STORE, served, "µs", Peer(BOTO3, boto), AT_MOST_AN_EIGHTH),
    ]
    notes = (
        f"Process CPU per URL, median of {ROUNDS} interleaved rounds of {URLS_PER_ROUND} URLs.",
        f"Signed headers: {SIGNED}; minio-py can sign host alone.",
    )
    return Finding("One presigned PUT, four signed headers", tuple(figures), notes)


async def cpu_us_per_url(rounds: int, urls_per_round: int) -> dict[str, float]:
    """Returns what each way costs, in µs of process CPU per URL.

    Rounds are interleaved, so that a change of the machine's speed meets all ways alike.
    """
    keys = [f"app/private/user/u1/photos/01JZ{number:022}/original.jpg" for number in range(urls_per_round)]
    async with S3ObjectStore.open(SETTINGS) as store:
        ways = {
            PRESIGNER: with_presigner(),
            STORE: with_store(store),
            MINIO: with_minio(),
            BOTOCORE: with_botocore(),
            BOTO3: with_boto3(),
        }
        spent_s: dict[str, list[float]] = {name: [] for name in ways}
        for sign in ways.values():  # caches, imports, lazily built models
            sign(keys[0])
        for _ in range(rounds):
            for name, sign in ways.items():
                begun = time.process_time()
                for key in keys:
                    sign(key)
                spent_s[name].append((time.process_time() - begun) / urls_per_round)
    return {name: median(seconds) * 1e6 for name, seconds in spent_s.items()}


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
    parameters = {"ContentType": TYPE, "ContentLength": SIZE_BYTES, "IfNoneMatch": "*"}
    return lambda key: client.generate_presigned_url(
        "put_object",
        Params={"Bucket": SETTINGS.bucket, "Key": key, **parameters},
        ExpiresIn=int(LIFETIME.total_seconds()),
    )
