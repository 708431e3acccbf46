"""What a bucket needs once: to exist, a policy, CORS and a clean-up rule. Imports no boto3.

Needs s3:ListBucket and s3:CreateBucket, and for each step the Get and Put right of what it sets:
s3:GetBucketPolicy, s3:PutBucketPolicy, s3:GetBucketCORS, s3:PutBucketCORS, s3:GetLifecycleConfiguration,
s3:PutLifecycleConfiguration; where Block Public Access is to be looked at or lifted, s3:GetBucketPublicAccessBlock
and s3:PutBucketPublicAccessBlock. What others configured in the same bucket stays, another Assetlane with another
prefix included: ours carries ids of its own, made from the prefix.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from assetlane_server.objects.s3.connection import S3Connection
from assetlane_server.objects.s3.headers import EXPOSED_HEADERS, READ_HEADERS, UPLOAD_HEADERS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef, LifecycleRuleOutputTypeDef

_PREFLIGHT_AGE_S = 3600
# What a store answers 400 with to a rule whose grammar is right and whose kind it does not know. MinIO:
# InvalidArgument; Swift, which takes `?lifecycle` for nothing: MalformedXML.
_UNKNOWN_RULE = frozenset({"MalformedXML", "InvalidArgument", "InvalidRequest", "NotImplemented"})
# The two switches of Block Public Access that stand against a public policy; the other two are about ACLs.
_AGAINST_POLICIES = ("BlockPublicPolicy", "RestrictPublicBuckets")
_LIFTING_TRIES = 5  # a lifted block takes Amazon some seconds to notice
_LIFTING_PAUSE_S = 1.0
_SETUP_CALLS = 12  # made one after the other
_RULES = ("CORS", "clean-up")


class Outcome(StrEnum):
    """What became of one step."""

    CREATED = "created"
    UNCHANGED = "already right"
    CHANGED = "changed"
    UNSUPPORTED = "not supported by this store"
    REFUSED = "refused"


class _NotSupportedError(Exception):
    """The store answers a question about a configuration with something else."""


class _PublicPolicyBlockedError(Exception):
    """Block Public Access stands against a public policy."""


@dataclass(frozen=True, slots=True)
class SetupStep:
    """One step and its result."""

    name: str
    outcome: Outcome
    detail: str = ""  # a sentence: what is there now, or why not


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """What the bucket shall be."""

    prefix: str = ""  # what all our keys start with, `/` at its end included
    public_read: bool = True  # everybody may read `<prefix>public/*`; False: a CDN with its own right does
    allow_public_policy: bool = False  # lift the bucket's Block Public Access where it forbids that
    browser_origins: tuple[str, ...] = ()  # such as `https://app.example`; none: CORS is left alone
    abort_multipart_after_days: int = 2

    @property
    def rule_id(self) -> str:
        """What marks our CORS and clean-up rules."""
        return f"assetlane {self.prefix}".rstrip()

    @property
    def statement_id(self) -> str:
        """What marks our policy statement: letters and digits only."""
        return f"AssetlanePublicRead{sha256(self.prefix.encode()).hexdigest()[:8]}"


async def set_up(connection: S3Connection, plan: BucketPlan) -> tuple[SetupStep, ...]:
    """Makes the bucket what the plan wants and returns each step's result. Safe to repeat.

    What the store refuses is a step's outcome; raises StoreUnavailable when it does not answer.
    """
    region = connection.settings.region
    return await connection.call(
        "set up the bucket",
        "the rights of bucket.py",
        lambda client, bucket: _set_up(client, bucket, region, plan),
        calls=_SETUP_CALLS,
    )


def _set_up(client: "S3Client", bucket: str, region: str, plan: BucketPlan) -> tuple[SetupStep, ...]:
    """Makes the bucket what the plan wants, step by step. Blocks.

    What the store refuses or does not know is an outcome; raises the client's own error for all else. Each
    step reads, merges and writes: another program that configures the bucket at the same instant may lose its change.
    """
    first = _step(client, "bucket", lambda: _make_bucket(client, bucket, region))
    if first.outcome not in (Outcome.CREATED, Outcome.UNCHANGED):
        return (first,)
    steps = [first]
    if plan.public_read:
        steps.append(_step(client, "public read", lambda: _allow_public_read(client, bucket, plan)))
    if plan.browser_origins:
        steps.append(_step(client, "CORS", lambda: _allow_browsers(client, bucket, plan)))
    steps.append(_step(client, "clean-up", lambda: _abort_multipart(client, bucket, plan)))
    return tuple(steps)


def _step(client: "S3Client", name: str, act: Callable[[], tuple[Outcome, str]]) -> SetupStep:
    try:
        outcome, detail = act()
    except _NotSupportedError as error:
        return SetupStep(name, Outcome.UNSUPPORTED, str(error))
    except _PublicPolicyBlockedError as error:
        return SetupStep(name, Outcome.REFUSED, str(error))
    except client.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error.response["Error"]["Code"]
        said = f"{code}: {error.response['Error'].get('Message') or 'no message'}"
        if status in (405, 501) or (status == 400 and code in _UNKNOWN_RULE and name in _RULES):
            return SetupStep(name, Outcome.UNSUPPORTED, said)
        if status == 403:
            right = f"The credentials need the right for {error.operation_name}."
            return SetupStep(name, Outcome.REFUSED, f"{said} {right}")
        if status in (301, 400, 409):
            return SetupStep(name, Outcome.REFUSED, said)
        raise
    return SetupStep(name, outcome, detail)


def _make_bucket(client: "S3Client", bucket: str, region: str) -> tuple[Outcome, str]:
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    else:
        return Outcome.UNCHANGED, f"{bucket} is there."
    try:
        if region == "us-east-1":  # S3 refuses its own default when it is named
            client.create_bucket(Bucket=bucket)
        else:
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]  # any store's region
    except client.exceptions.BucketAlreadyOwnedByYou:
        return Outcome.UNCHANGED, f"{bucket} is there."
    return Outcome.CREATED, f"{bucket} in {region}."


def _allow_public_read(client: "S3Client", bucket: str, plan: BucketPlan) -> tuple[Outcome, str]:
    wanted: dict[str, Any] = {
        "Sid": plan.statement_id,
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:{client.meta.partition}:s3:::{bucket}/{plan.prefix}public/*",
    }
    detail = f"Everybody may read {plan.prefix}public/*."
    is_lifted = _lift_public_access_block(client, bucket, plan)
    if is_lifted:
        detail += f" Block Public Access: {' and '.join(_AGAINST_POLICIES)} are off for {bucket} now."
    policy = _bucket_policy(client, bucket)
    statements = _listed(policy.get("Statement", []))
    ours = [statement for statement in statements if statement.get("Sid") == plan.statement_id]
    if len(ours) == 1 and _meaning(ours[0]) == _meaning(wanted):
        return Outcome.CHANGED if is_lifted else Outcome.UNCHANGED, detail
    others = [statement for statement in statements if statement.get("Sid") != plan.statement_id]
    text = json.dumps({**policy, "Statement": [*others, wanted]})
    for tries_left in reversed(range(_LIFTING_TRIES if is_lifted else 1)):
        try:
            client.put_bucket_policy(Bucket=bucket, Policy=text)
            break
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise
            if not tries_left:
                raise _policy_fault(error, bucket, plan) from error
            time.sleep(_LIFTING_PAUSE_S)
    return _written(ours), detail


def _bucket_policy(client: "S3Client", bucket: str) -> dict[str, Any]:
    try:
        text = client.get_bucket_policy(Bucket=bucket)["Policy"]
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
            raise
        return {"Version": "2012-10-17"}
    try:
        policy = json.loads(text)
    except ValueError as error:
        raise _NotSupportedError("The store answers a question about the policy with something else.") from error
    if not isinstance(policy, dict):
        raise _NotSupportedError("The store answers a question about the policy with something else.")
    return policy


def public_access_block(client: "S3Client", bucket: str) -> dict[str, bool] | None:
    """Returns the bucket's Block Public Access, switch by switch; None where there is none or nobody may ask."""
    try:
        found: Any = client.get_public_access_block(Bucket=bucket)
    except client.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in (400, 403, 404, 405, 501):
            return None
        raise
    switches: dict[str, bool] | None = found.get("PublicAccessBlockConfiguration")
    return switches


def blocks_policies(switches: dict[str, bool] | None) -> bool:
    """Returns whether these switches keep a bucket's policy from letting everybody read."""
    return any((switches or {}).get(name) for name in _AGAINST_POLICIES)


def _lift_public_access_block(client: "S3Client", bucket: str, plan: BucketPlan) -> bool:
    """Lifts what stands against a public policy, and nothing else; returns whether there was something to lift."""
    switches = public_access_block(client, bucket)
    if switches is None or not blocks_policies(switches):
        return False
    if not plan.allow_public_policy:
        on = " and ".join(name for name in _AGAINST_POLICIES if switches.get(name))
        raise _PublicPolicyBlockedError(
            f"Block Public Access of {bucket} forbids a public policy ({on})."
            f" {_advice(plan, 'Run `assetlane-server setup --allow-public-policy` to lift it for this bucket')}"
        )
    client.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={**switches, **dict.fromkeys(_AGAINST_POLICIES, False)},  # type: ignore[typeddict-item]
    )
    return True


def _policy_fault(error: Any, bucket: str, plan: BucketPlan) -> Exception:
    """Returns what a refused policy means: a block, seen or likely, or the missing right."""
    message = error.response["Error"].get("Message") or ""
    if "BlockPublicPolicy" not in message and "Block Public Access" not in message:
        return error  # type: ignore[no-any-return]  # a ClientError, whose class this file does not import
    if plan.allow_public_policy:
        return _PublicPolicyBlockedError(
            f"Block Public Access forbids a public policy of {bucket}, and it is not the bucket's own: lift it for"
            f" the account or organisation. {_advice(plan, '')}"
        )
    return _PublicPolicyBlockedError(
        f"Block Public Access forbids a public policy of {bucket}."
        f" {_advice(plan, 'Run `assetlane-server setup --allow-public-policy` to lift it for this bucket')}"
    )


def _advice(plan: BucketPlan, first: str) -> str:
    others = (
        f"et a CDN read {plan.prefix}public/* and name it in ASSETLANE_PUBLIC_BASE_URL,"
        " or set ASSETLANE_PUBLIC_ASSETS=false."
    )
    return f"{first}, l{others}" if first else f"Or l{others}"


def _allow_browsers(client: "S3Client", bucket: str, plan: BucketPlan) -> tuple[Outcome, str]:
    wanted: CORSRuleTypeDef = {
        "ID": plan.rule_id,
        "AllowedOrigins": sorted(set(plan.browser_origins)),
        "AllowedMethods": ["GET", "HEAD", "PUT"],
        "AllowedHeaders": [*UPLOAD_HEADERS, *READ_HEADERS],
        "ExposeHeaders": list(EXPOSED_HEADERS),
        "MaxAgeSeconds": _PREFLIGHT_AGE_S,
    }
    detail = f"Pages of {', '.join(wanted['AllowedOrigins'])} may upload and read."
    try:
        rules = _rules(client.get_bucket_cors(Bucket=bucket), "CORSRules", "CORS")
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchCORSConfiguration":
            raise
        rules = []
    ours = [rule for rule in rules if rule.get("ID") == plan.rule_id]
    if len(ours) == 1 and _meaning(ours[0]) == _meaning(wanted):
        return Outcome.UNCHANGED, detail
    others = [rule for rule in rules if rule.get("ID") != plan.rule_id]
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [*others, wanted]})
    return _written(ours), detail


def _abort_multipart(client: "S3Client", bucket: str, plan: BucketPlan) -> tuple[Outcome, str]:
    days = plan.abort_multipart_after_days
    wanted: LifecycleRuleOutputTypeDef = {
        "ID": plan.rule_id,
        "Status": "Enabled",
        "Filter": {"Prefix": plan.prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }
    where = f" under {plan.prefix}" if plan.prefix else ""
    detail = f"Unfinished multipart uploads{where} are dropped after {days} days."
    options: dict[str, Any] = {}
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        rules = []
    else:
        rules = _rules(found, "Rules", "lifecycle")
        # Belongs to the others' rules and falls back to its default when it is not sent along.
        if size := found.get("TransitionDefaultMinimumObjectSize"):
            options["TransitionDefaultMinimumObjectSize"] = size
    ours = [rule for rule in rules if rule.get("ID") == plan.rule_id]
    if len(ours) == 1 and _meaning(ours[0]) == _meaning(wanted):
        return Outcome.UNCHANGED, detail
    others = [rule for rule in rules if rule.get("ID") != plan.rule_id]
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [*others, wanted]}, **options
    )
    return _written(ours), detail


def _rules(answer: Any, name: str, kind: str) -> Any:
    """Returns the rules in an answer. Swift answers a question about the lifecycle with a listing of the bucket."""
    if name not in answer:
        raise _NotSupportedError(f"The store answers a question about the bucket's {kind} with something else.")
    return answer[name]


def _written(ours: list[Any]) -> Outcome:
    return Outcome.CHANGED if ours else Outcome.CREATED


def _meaning(rule: Any) -> Any:
    """Returns a form in which two spellings of a rule are equal: in any order, one value or a list of it."""
    if isinstance(rule, dict):
        if rule.keys() == {"AWS"}:  # how MinIO spells the principal "*"
            return _meaning(rule["AWS"])
        return {name: _meaning(value) for name, value in rule.items()}
    return sorted(str(value) for value in _listed(rule))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
