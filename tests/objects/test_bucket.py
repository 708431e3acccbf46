"""What `assetlane-server setup` does to a bucket: once, twice, and beside what others configured."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from tests.objects.servers import http_server
from tests.objects.settings import SETTINGS, settings_of

from assetlane_server.local import StackAddress
from assetlane_server.objects.bucket import BucketPlan, Outcome, SetupStep
from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.uploads.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PLAN = BucketPlan(prefix="app/", browser_origins=("https://app.example",))
STEPS = ["bucket", "public read", "CORS", "clean-up"]


@pytest.fixture
def bucket(stack: StackAddress) -> Iterator[str]:
    """The name of a bucket that is not there yet, and not there afterwards."""
    name = f"assetlane-test-{secrets.token_hex(6)}"
    yield name
    client = client_of(stack)
    try:
        client.delete_bucket(Bucket=name)
    except client.exceptions.NoSuchBucket:
        return
    finally:
        client.close()


def client_of(stack: StackAddress) -> "S3Client":
    """What another tool would use."""
    return boto3.client(
        "s3",
        region_name=stack.s3_region,
        endpoint_url=stack.s3_endpoint,
        aws_access_key_id=stack.s3_access_key_id,
        aws_secret_access_key=stack.s3_secret_access_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@pytest.fixture
def others(stack: StackAddress) -> Iterator["S3Client"]:
    """Somebody else who works on the same bucket."""
    client = client_of(stack)
    yield client
    client.close()


@pytest.fixture
async def store(stack: StackAddress, bucket: str) -> AsyncIterator[S3ObjectStore]:
    """A store on a bucket that is not there yet."""
    async with S3ObjectStore.open(replace(settings_of(stack), bucket=bucket)) as store:
        yield store


def outcomes(steps: tuple[SetupStep, ...]) -> dict[str, Outcome]:
    """Each step's outcome."""
    return {step.name: step.outcome for step in steps}


async def test_a_new_bucket_is_created_with_all_it_needs(store: S3ObjectStore) -> None:
    """Every step has a sentence."""
    steps = await store.set_up(PLAN)

    assert outcomes(steps) == dict.fromkeys(STEPS, Outcome.CREATED)
    assert all(step.detail for step in steps)


async def test_a_second_set_up_changes_nothing(store: S3ObjectStore) -> None:
    """Safe to repeat."""
    await store.set_up(PLAN)

    assert outcomes(await store.set_up(PLAN)) == dict.fromkeys(STEPS, Outcome.UNCHANGED)


async def test_another_plan_changes_what_differs(store: S3ObjectStore, bucket: str, others: "S3Client") -> None:
    """Ours are replaced, not added to."""
    await store.set_up(PLAN)

    steps = await store.set_up(replace(PLAN, browser_origins=("https://new.example",), abort_multipart_after_days=7))

    assert outcomes(steps) == {
        "bucket": Outcome.UNCHANGED,
        "public read": Outcome.UNCHANGED,
        "CORS": Outcome.CHANGED,
        "clean-up": Outcome.CHANGED,
    }
    rules = others.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert [rule["AllowedOrigins"] for rule in rules] == [["https://new.example"]]


async def test_what_nobody_wants_is_no_step(store: S3ObjectStore) -> None:
    """No browsers, and a CDN that reads with a right of its own."""
    steps = await store.set_up(BucketPlan(prefix="app/", public_read=False))

    assert list(outcomes(steps)) == ["bucket", "clean-up"]


async def test_what_others_configured_stays(store: S3ObjectStore, bucket: str, others: "S3Client") -> None:
    """Their statements, CORS rules and clean-up rules are still there, as they were."""
    statement = {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:DeleteObject",
        "Resource": f"arn:aws:s3:::{bucket}/kept/*",
    }
    cors = {"ID": "theirs", "AllowedMethods": ["GET"], "AllowedOrigins": ["https://theirs.example"]}
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 5}}
    others.create_bucket(Bucket=bucket)
    others.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    others.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [cors]})  # type: ignore[list-item]
    others.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})  # type: ignore[list-item]

    steps = await store.set_up(PLAN)

    assert outcomes(steps)["bucket"] == Outcome.UNCHANGED
    assert [step.outcome for step in steps[1:]] == [Outcome.CREATED] * 3
    statements = json.loads(others.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    rules: list[Any] = others.get_bucket_cors(Bucket=bucket)["CORSRules"]
    clean_up: list[Any] = others.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert statements[0] == statement
    assert {name: rules[0][name] for name in cors} == cors
    assert {name: clean_up[0][name] for name in rule} == rule
    assert [len(statements), len(rules), len(clean_up)] == [2, 2, 2]


async def test_two_deployments_share_a_bucket(store: S3ObjectStore, bucket: str, others: "S3Client") -> None:
    """With another prefix, another's set-up takes nothing from ours."""
    await store.set_up(PLAN)
    await store.set_up(replace(PLAN, prefix="other/"))

    assert outcomes(await store.set_up(PLAN)) == dict.fromkeys(STEPS, Outcome.UNCHANGED)
    statements = json.loads(others.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert [statement["Resource"].partition("/")[2] for statement in statements] == [
        "app/public/*",
        "other/public/*",
    ]


def answering(status: int, code: str) -> Callable[[web.Request], Any]:
    """A store whose bucket is there, and which answers all else with an error."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response()
        text = f"<Error><Code>{code}</Code><Message>Not here.</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    return answer


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (501, "NotImplemented", Outcome.UNSUPPORTED),
        (405, "MethodNotAllowed", Outcome.UNSUPPORTED),
        (403, "AccessDenied", Outcome.REFUSED),
        (400, "MalformedXML", Outcome.REFUSED),
    ],
)
async def test_what_the_store_does_not_do_is_told_step_by_step(status: int, code: str, outcome: Outcome) -> None:
    """One step's failure does not keep the others from being tried."""
    async with (
        http_server(answering(status, code)) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        steps = await store.set_up(PLAN)

    assert [step.outcome for step in steps] == [Outcome.UNCHANGED, outcome, outcome, outcome]
    assert all(code in step.detail for step in steps[1:])
    if status == 403:
        assert "GetBucketPolicy" in steps[1].detail


async def test_a_bucket_that_cannot_be_made_ends_the_set_up(stack: StackAddress, bucket: str) -> None:
    """Nothing can be configured on it."""
    settings = replace(settings_of(stack), bucket=bucket, secret_access_key="wrong")
    async with S3ObjectStore.open(settings) as store:
        steps = await store.set_up(PLAN)

    assert [step.outcome for step in steps] == [Outcome.REFUSED]


async def test_a_store_in_trouble_is_no_outcome() -> None:
    """Nobody can say then what is there: try again."""
    async with (
        http_server(answering(500, "InternalError")) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with pytest.raises(StoreUnavailable, match="InternalError"):
            await store.set_up(PLAN)


@pytest.mark.parametrize(
    "spelling",
    [
        {"Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"]},
        {"Principal": {"AWS": "*"}, "Resource": ["arn:aws:s3:::lane/app/public/*"]},
    ],
    ids=["MinIO", "lists"],
)
async def test_another_spelling_of_the_same_statement_is_already_right(spelling: dict[str, Any]) -> None:
    """Stores hand a policy back in their own words."""
    statement = {
        "Sid": PLAN.statement_id,
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::lane/app/public/*",
        **spelling,
    }
    written: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            written.append(request.query_string)
        if "policy" not in request.query:
            return web.Response(status=200 if request.method == "HEAD" else 501)
        return web.json_response({"Version": "2012-10-17", "Statement": statement})

    async with (
        http_server(answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        steps = await store.set_up(replace(PLAN, browser_origins=()))

    assert outcomes(steps)["public read"] == Outcome.UNCHANGED
    assert "policy" not in written
