"""What `assetlane-server setup` does to a bucket: once, twice, and beside what others configured."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from tests.objects.servers import http_server
from tests.objects.settings import SETTINGS, settings_of
from tests.refusals import raises

from assetlane_server.local import StackAddress
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.objects.bucket import BucketPlan, Outcome, SetupStep, set_up
from assetlane_server.objects.s3.store import S3ObjectStore

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
    steps = await set_up(store.connection, PLAN)

    assert outcomes(steps) == dict.fromkeys(STEPS, Outcome.CREATED)
    assert all(step.detail for step in steps)


async def test_a_second_set_up_changes_nothing(store: S3ObjectStore) -> None:
    """Safe to repeat."""
    await set_up(store.connection, PLAN)

    assert outcomes(await set_up(store.connection, PLAN)) == dict.fromkeys(STEPS, Outcome.UNCHANGED)


async def test_another_plan_changes_what_differs(store: S3ObjectStore, bucket: str, others: "S3Client") -> None:
    """Ours are replaced, not added to."""
    await set_up(store.connection, PLAN)

    steps = await set_up(
        store.connection, replace(PLAN, browser_origins=("https://new.example",), abort_multipart_after_days=7)
    )

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
    steps = await set_up(store.connection, BucketPlan(prefix="app/", public_read=False))

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

    steps = await set_up(store.connection, PLAN)

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
    await set_up(store.connection, PLAN)
    await set_up(store.connection, replace(PLAN, prefix="other/"))

    assert outcomes(await set_up(store.connection, PLAN)) == dict.fromkeys(STEPS, Outcome.UNCHANGED)
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
    ],
)
async def test_what_the_store_does_not_do_is_reported_step_by_step(status: int, code: str, outcome: Outcome) -> None:
    """One step's failure does not keep the others from being tried."""
    async with (
        http_server(answering(status, code)) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        steps = await set_up(store.connection, PLAN)

    assert [step.outcome for step in steps] == [Outcome.UNCHANGED, outcome, outcome, outcome]
    assert all(code in step.detail for step in steps[1:])
    if status == 403:
        assert "GetBucketPolicy" in steps[1].detail


def recorded(answers: dict[tuple[str, str], tuple[int, str]], asked: list[str] | None = None) -> Any:
    """A store that answers by method and the first name of the query; 501 to all else."""

    async def answer(request: web.Request) -> web.StreamResponse:
        name = next(iter(request.query), "")
        if asked is not None:
            asked.append(f"{request.method} {name}")
        status, text = answers.get((request.method, name), (501, error("NotImplemented")))
        return web.Response(status=status, text=text, content_type="application/xml")

    return answer


def error(code: str, message: str = "<Message>Not here.</Message>") -> str:
    """An error as S3 writes it; radosgw writes no message."""
    return f"<Error><Code>{code}</Code>{message}</Error>"


LISTING = "<ListBucketResult><Name>lane</Name><KeyCount>0</KeyCount></ListBucketResult>"
THERE = {("HEAD", ""): (200, "")}


@pytest.mark.parametrize(
    ("answers", "outcomes_of"),
    [
        pytest.param(  # Swift 2.38 with s3api
            {("GET", "lifecycle"): (200, LISTING), ("PUT", "lifecycle"): (400, error("MalformedXML"))},
            {"public read": Outcome.UNSUPPORTED, "CORS": Outcome.UNSUPPORTED, "clean-up": Outcome.UNSUPPORTED},
            id="Swift",
        ),
        pytest.param(  # a store that takes every such question for a listing
            {("GET", name): (200, LISTING) for name in ("policy", "cors", "lifecycle")},
            {"public read": Outcome.UNSUPPORTED, "CORS": Outcome.UNSUPPORTED, "clean-up": Outcome.UNSUPPORTED},
            id="listings only",
        ),
        pytest.param(  # MinIO
            {
                ("GET", "policy"): (404, error("NoSuchBucketPolicy")),
                ("PUT", "policy"): (204, ""),
                ("GET", "cors"): (404, error("NoSuchCORSConfiguration")),
                ("GET", "lifecycle"): (404, error("NoSuchLifecycleConfiguration")),
                ("PUT", "lifecycle"): (400, error("InvalidArgument")),
            },
            {"public read": Outcome.CREATED, "CORS": Outcome.UNSUPPORTED, "clean-up": Outcome.UNSUPPORTED},
            id="MinIO",
        ),
        pytest.param(  # a policy that the store does not like is no missing function
            {
                ("GET", "policy"): (404, error("NoSuchBucketPolicy", "")),
                ("PUT", "policy"): (400, error("MalformedPolicy", "")),
            },
            {"public read": Outcome.REFUSED, "CORS": Outcome.UNSUPPORTED, "clean-up": Outcome.UNSUPPORTED},
            id="malformed policy",
        ),
    ],
)  # fmt: skip
async def test_set_up_survives_what_other_makers_answer(
    answers: dict[tuple[str, str], tuple[int, str]], outcomes_of: dict[str, Outcome]
) -> None:
    """Nothing is written over an answer that is none, and no step ends the others."""
    asked: list[str] = []
    async with (
        http_server(recorded(THERE | answers, asked)) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        steps = await set_up(store.connection, PLAN)

    assert outcomes(steps) == {"bucket": Outcome.UNCHANGED, **outcomes_of}
    assert all(step.detail for step in steps)
    for name in ("policy", "cors", "lifecycle"):
        if answers.get(("GET", name)) == (200, LISTING):
            assert f"PUT {name}" not in asked


class FreshAmazonBucket:
    """A bucket as Amazon makes it since 2023: Block Public Access on, and its word when a policy is refused."""

    def __init__(self, *, of_account: bool = False, notices_after: int = 0) -> None:
        self.switches = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), not of_account
        )
        self.of_account = of_account
        self.notices_after = notices_after  # so many tries, as Amazon takes some seconds
        self.policies: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        name = next(iter(request.query), "")
        body = (await request.read()).decode()
        if request.method == "HEAD":
            return web.Response()
        if name == "publicAccessBlock":
            if request.method == "PUT":
                self.switches = {switch: f"<{switch}>true" in body for switch in self.switches}
                return web.Response()
            switches = "".join(f"<{switch}>{str(on).lower()}</{switch}>" for switch, on in self.switches.items())
            return xml(f"<PublicAccessBlockConfiguration>{switches}</PublicAccessBlockConfiguration>")
        if name == "policy" and request.method == "GET":
            return xml(error("NoSuchBucketPolicy"), 404)
        if name == "policy":
            self.notices_after -= 1
            if self.of_account or self.switches["BlockPublicPolicy"] or self.notices_after >= 0:
                message = "public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access."
                return xml(error("AccessDenied", f"<Message>{message}</Message>"), 403)
            self.policies.append(body)
            return web.Response(status=204)
        return xml(error("NotImplemented"), 501)


def xml(text: str, status: int = 200) -> web.Response:
    """An answer."""
    return web.Response(status=status, text=text, content_type="application/xml")


async def set_up_on(amazon: FreshAmazonBucket, *, allow_public_policy: bool) -> SetupStep:
    """Returns the step that makes the prefix public."""
    limit = timedelta(seconds=20)
    async with (
        http_server(amazon.answer) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=limit)) as store,
    ):
        steps = await set_up(store.connection, replace(PLAN, allow_public_policy=allow_public_policy))
    return next(step for step in steps if step.name == "public read")


async def test_setup_says_how_to_open_a_fresh_bucket_of_amazon() -> None:
    """By an option of `setup`, a CDN, or no public assets; nothing is changed before."""
    amazon = FreshAmazonBucket()
    step = await set_up_on(amazon, allow_public_policy=False)

    assert step.outcome == Outcome.REFUSED
    for advice in (
        "Block Public Access",
        "--allow-public-policy",
        "ASSETLANE_PUBLIC_BASE_URL",
        "ASSETLANE_PUBLIC_ASSETS",
    ):
        assert advice in step.detail
    assert "credentials" not in step.detail
    assert all(amazon.switches.values())
    assert amazon.policies == []


async def test_block_public_access_is_lifted_as_far_as_the_policy_needs() -> None:
    """What it says of ACLs stays; Amazon takes a while to notice."""
    amazon = FreshAmazonBucket(notices_after=2)
    step = await set_up_on(amazon, allow_public_policy=True)

    assert step.outcome == Outcome.CREATED
    assert "Block Public Access" in step.detail
    assert amazon.switches == {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": False,
        "RestrictPublicBuckets": False,
    }
    assert len(amazon.policies) == 1


@pytest.mark.parametrize("allow_public_policy", [False, True])
async def test_a_block_of_the_whole_account_is_not_the_buckets(allow_public_policy: bool) -> None:
    """`setup` cannot lift it."""
    step = await set_up_on(FreshAmazonBucket(of_account=True), allow_public_policy=allow_public_policy)

    assert step.outcome == Outcome.REFUSED
    assert "Block Public Access" in step.detail
    assert ("account" in step.detail) is allow_public_policy


async def test_a_bucket_that_cannot_be_made_ends_the_set_up(stack: StackAddress, bucket: str) -> None:
    """Nothing can be configured on it."""
    settings = replace(settings_of(stack), bucket=bucket, secret_access_key="wrong")
    async with S3ObjectStore.open(settings) as store:
        steps = await set_up(store.connection, PLAN)

    assert [step.outcome for step in steps] == [Outcome.REFUSED]


async def test_a_store_in_trouble_is_no_outcome() -> None:
    """Nobody can say then what is there: try again."""
    async with (
        http_server(answering(500, "InternalError")) as address,
        S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store,
    ):
        with raises(StoreUnavailable, names=["InternalError"]):
            await set_up(store.connection, PLAN)


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
        steps = await set_up(store.connection, replace(PLAN, browser_origins=()))

    assert outcomes(steps)["public read"] == Outcome.UNCHANGED
    assert "policy" not in written
