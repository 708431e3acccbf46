"""Faults planted one at a time: doctor names each, and nothing else has FAILED."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from tests.access.tokens import Issuer
from tests.doctor.conftest import ORIGIN, Report, changed, examined, set_up
from tests.objects import altered as objects
from tests.objects.servers import answering_to, http_server, nothing_listening
from tests.records import altered as records
from tests.records.stores import mongo
from tests.servers import prepare_bucket

from assetlane_server.composition.app import object_store
from assetlane_server.config.settings import Settings
from assetlane_server.doctor.finding import Verdict
from assetlane_server.local import EmbeddedStack
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.rings import change_ring

HOUR = timedelta(hours=1)
# What radosgw 16.2.15 sent after `HEAD /`, its ids shortened.
RADOSGW_ANSWER = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-amz-request-id: tx1-default\r\n"
    b"Content-Type: application/xml\r\nDate: Thu, 26 Nov 2026 19:25:32 GMT\r\nConnection: Keep-Alive\r\n\r\n"
)


async def test_a_sound_set_up_passes_every_check_and_nothing_is_left(settings: Settings) -> None:
    """No warning either; the bucket is empty again, and the database holds our collections only."""
    report = await examined(settings)

    assert {finding.verdict for finding in report.findings} == {Verdict.OK}, report
    assert len(report.findings) >= 24
    async with object_store(settings) as store:
        assert (await store.list_keys("", "")).objects == ()
    async with mongo(settings.mongo_uri.get_secret_value()) as client:
        left = await client[settings.mongo_database].list_collection_names()
    assert set(left) <= {"uploads", "progress", "quotas", "meta"}


async def test_in_a_bucket_that_keeps_versions_nothing_is_left_either(settings: Settings) -> None:
    """No version and no mark of a deletion: the bucket could be deleted."""
    async with object_store(settings) as store:
        versions: Any = {"Status": "Enabled"}
        await store.connection.ask(
            lambda client, bucket: client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versions)
        )

        report = await examined(settings)

        left = await store.connection.ask(lambda client, bucket: client.list_object_versions(Bucket=bucket))
    assert {finding.verdict for finding in report.findings} == {Verdict.OK}, report
    assert "keeps versions" in report.text("store promises")
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")


SERVICE = """\
read = ["user/{uid}"]
write = []
[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["*"]
read = []
write = []
"""


async def test_rings_of_keys_in_mongodb_are_looked_at(settings: Settings, tmp_path: Path) -> None:
    """One that is missing is a warning, and so is one of nobody; one that is damaged has failed."""
    policy, key_file = tmp_path / "policy.toml", tmp_path / "key.pem"
    policy.write_text(SERVICE)
    key_file.write_bytes(Issuer().file)
    ours = changed(settings, jwt_key_file=key_file, policy_file=policy)

    report = await examined(ours)

    assert (report.failed, report.warned) == (set(), {"scoped tokens"})
    assert "keys add clinic" in report.text("scoped tokens")
    limit, now = timedelta(seconds=10), datetime.now(UTC)
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=limit) as records:
        await change_ring(records.rings, "clinic", lambda ring: ring.with_key("k1", b"s" * 32, now))
        report = await examined(ours)
        assert (report.failed, report.warned) == (set(), set())
        assert "1" in report.text("scoped tokens")
        await change_ring(records.rings, "nobody", lambda ring: ring.with_key("k1", b"s" * 32, now))
    assert "nobody" in (await examined(ours)).text("scoped tokens")
    async with mongo(uri) as client:
        await client[settings.mongo_database]["rings"].update_one({"_id": "nobody"}, {"$set": {"keys": "x"}})
    report = await examined(ours)
    assert report.failed == {"scoped tokens"}
    assert "nobody" in report.text("scoped tokens")


async def test_a_region_that_the_store_does_not_check_is_no_fault(settings: Settings) -> None:
    """It names one of its own and accepts ours: radosgw says `default`, ministack and versitygw what they have."""
    for name in ("eu-west-1", "default"):

        def elsewhere(request: web.Request, answer: objects.Answer, name: str = name) -> objects.Answer:
            is_bucket = request.method == "HEAD" and request.path == f"/{settings.s3_bucket}"
            return answer.with_header("x-amz-bucket-region", name) if is_bucket else answer

        report = await examined_through(settings, elsewhere)

        assert (report.failed, report.warned) == (set(), set())
        assert name in report.text("region")


async def test_a_region_that_only_urls_are_refused_for_is_named(settings: Settings) -> None:
    """As Amazon answers a URL that was signed for another region."""

    def elsewhere(request: web.Request, answer: objects.Answer) -> objects.Answer:
        if request.method == "HEAD" and request.path == f"/{settings.s3_bucket}":
            return answer.with_header("x-amz-bucket-region", "eu-west-1")
        if request.method == "PUT" and "X-Amz-Signature" in request.query:
            text = b"<Error><Code>AuthorizationQueryParametersError</Code></Error>"
            return replace(answer.with_status(400), body=text)
        return answer

    report = await examined_through(settings, elsewhere)

    assert {"region", "right to put"} <= report.failed
    assert "eu-west-1" in report.text("region")
    assert "ASSETLANE_S3_REGION" in report.text("region")


@pytest.mark.parametrize(
    "body", [b"0\r\n\r\n", b"15\r\n<ListAllMyBuckets/>\r\n\r\n0\r\n\r\n"], ids=["recorded", "longer"]
)
async def test_a_store_that_sends_a_body_after_head_is_examined_all_the_same(settings: Settings, body: bytes) -> None:
    """What radosgw 16.2 sent, byte for byte: the end of a chunked body comes after the answer to `HEAD /`."""
    assert settings.s3_endpoint is not None
    async with answering_to(settings.s3_endpoint, b"HEAD / ", RADOSGW_ANSWER + body) as address:
        report = await examined(changed(settings, s3_endpoint=address))

    assert {finding.verdict for finding in report.findings} == {Verdict.OK}, report


def taken_for_a_listing(name: str) -> objects.Alteration:
    """Swift's s3api does not know this question, and answers with a listing of the bucket."""

    def alter(request: web.Request, answer: objects.Answer) -> objects.Answer:
        if request.method == "GET" and name in request.query:
            return replace(answer.with_status(200), body=b"<ListBucketResult><Name>lane</Name></ListBucketResult>")
        return answer

    return alter


async def test_a_store_without_clean_up_rules_is_not_sent_to_set_up(settings: Settings) -> None:
    """`setup` says "not supported" there; `reconcile` does the same job."""

    def refusing(request: web.Request, answer: objects.Answer) -> objects.Answer:
        text = b"<Error><Code>NotImplemented</Code></Error>"
        return replace(answer.with_status(501), body=text) if "lifecycle" in request.query else answer

    for alter in (taken_for_a_listing("lifecycle"), refusing):
        report = await examined_through(settings, alter)

        assert (report.failed, report.warned) == (set(), {"clean-up rule"})
        assert "reconcile --delete-orphans" in report.text("clean-up rule")
        assert "setup" not in report.text("clean-up rule")


async def test_block_public_access_is_named_with_the_option_that_lifts_it(settings: Settings) -> None:
    """A fresh bucket of Amazon has it."""
    block = (
        b"<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>"
    )

    def blocked(request: web.Request, answer: objects.Answer) -> objects.Answer:
        if "publicAccessBlock" in request.query:
            return replace(answer.with_status(200), body=block)
        is_anybody = request.method == "GET" and "/public/" in request.path and not request.query
        return (
            replace(answer.with_status(403), body=b"<Error><Code>AccessDenied</Code></Error>") if is_anybody else answer
        )

    report = await examined_through(settings, blocked)

    assert report.failed == {"public prefix"}
    assert "--allow-public-policy" in report.text("public prefix")


async def test_a_store_without_policies_is_not_sent_to_set_up_for_its_public_prefix(settings: Settings) -> None:
    """Swift: the prefix is opened by the store's own means, or there are no public assets."""

    def without(request: web.Request, answer: objects.Answer) -> objects.Answer:
        if "policy" in request.query or "publicAccessBlock" in request.query:
            return replace(answer.with_status(501), body=b"<Error><Code>NotImplemented</Code></Error>")
        is_anybody = request.method == "GET" and "/public/" in request.path and not request.query
        return answer.with_status(400) if is_anybody else answer

    report = await examined_through(settings, without)
    private = await examined_through(changed(settings, public_assets=False), without)

    assert report.failed == {"public prefix"}
    assert "assetlane-server setup" not in report.text("public prefix")
    assert "ASSETLANE_PUBLIC_ASSETS=false" in report.text("public prefix")
    assert private.failed == set()


async def test_an_unknown_key_is_no_missing_bucket(settings: Settings) -> None:
    """Versitygw answers it with 404."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        text = "<Error><Code>XAdminUserNotFound</Code><Message>No user.</Message></Error>"
        return web.Response(status=404, text=text, content_type="application/xml")

    async with http_server(refuse) as address:
        report = await examined(changed(settings, s3_endpoint=address))

    assert "credentials" in report.failed
    assert "bucket" in report.of(Verdict.SKIPPED)


async def test_a_region_that_the_store_refuses_to_sign_is_named(settings: Settings) -> None:
    """A store that knows better, and says so with a refusal."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        text = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>Expecting eu-west-1</Message></Error>"
        headers = {"x-amz-bucket-region": "eu-west-1"} if request.method == "HEAD" else {}
        return web.Response(status=400, text=text, headers=headers, content_type="application/xml")

    async with http_server(refuse) as address:
        report = await examined(changed(settings, s3_endpoint=address))

    assert "region" in report.failed
    assert "eu-west-1" in report.text("region")


async def test_a_bucket_that_an_earlier_version_set_up_needs_set_up_again(settings: Settings) -> None:
    """Its CORS rule knows fewer headers than write targets have now; another `setup` fixes it."""
    async with object_store(settings) as store:
        headers = ["content-type", "if-none-match", "x-amz-checksum-sha256", "range"]
        rule = {"AllowedMethods": ["GET", "HEAD", "PUT"], "AllowedOrigins": [ORIGIN], "AllowedHeaders": headers}
        rules: Any = {"CORSRules": [{**rule, "ID": f"assetlane {settings.key_prefix}", "ExposeHeaders": ["ETag"]}]}
        await store.connection.ask(
            lambda client, bucket: client.put_bucket_cors(Bucket=bucket, CORSConfiguration=rules)
        )

    report = await examined(settings)

    assert report.failed == {"CORS"}
    assert "content-disposition" in report.text("CORS")
    assert "`assetlane-server setup` (again if an earlier version did)" in report.text("CORS")
    await prepare_bucket(settings, is_own=True)
    assert (await examined(settings)).failed == set()


async def test_a_store_that_replaces_types_is_a_warning(settings: Settings) -> None:
    """Uploads of such types end with CONTENT_TYPE_MISMATCH there."""

    def guessing(request: web.Request, answer: objects.Answer) -> objects.Answer:
        is_neutral = answer.headers.get("content-type") == "application/octet-stream" and request.method == "HEAD"
        return answer.with_header("content-type", "text/html") if is_neutral else answer

    async with objects.altered(settings.s3_endpoint or "", guessing) as address:
        report = await examined(changed(settings, s3_endpoint=address))

    assert report.failed == set()
    assert report.warned == {"types"}


async def test_missing_cors_is_named(settings: Settings) -> None:
    """The pages of somebody else may upload, ours may not."""
    async with object_store(settings) as store:
        rule = {"AllowedMethods": ["PUT"], "AllowedOrigins": ["https://theirs.example"], "AllowedHeaders": ["*"]}
        rules: Any = {"CORSRules": [rule]}
        await store.connection.ask(
            lambda client, bucket: client.put_bucket_cors(Bucket=bucket, CORSConfiguration=rules)
        )

    report = await examined(settings)

    assert report.failed == {"CORS"}
    assert ORIGIN in report.text("CORS")


async def test_cors_that_does_not_allow_our_headers_is_named(settings: Settings) -> None:
    """The commonest one: PUT is allowed, `if-none-match` is not."""
    async with object_store(settings) as store:
        rule = {"AllowedMethods": ["PUT"], "AllowedOrigins": [ORIGIN], "AllowedHeaders": ["content-type"]}
        rules: Any = {"CORSRules": [rule]}
        await store.connection.ask(
            lambda client, bucket: client.put_bucket_cors(Bucket=bucket, CORSConfiguration=rules)
        )

    report = await examined(settings)

    assert report.failed == {"CORS"}
    assert "if-none-match" in report.text("CORS")
    assert "cache-control" in report.text("CORS")
    assert "ETag" in report.text("public endpoint")


async def test_a_store_whose_clock_is_off_is_named(settings: Settings) -> None:
    """By an hour it fails."""

    def late(_request: web.Request, answer: objects.Answer) -> objects.Answer:
        date = parsedate_to_datetime(answer.headers["date"])
        return answer.with_header("date", format_datetime(date + HOUR, usegmt=True))

    report = await examined_through(settings, late)

    assert report.failed == {"store clock"}
    assert "3,600 s ahead of" in report.text("store clock").replace("3,599", "3,600")


async def test_a_mongodb_whose_clock_is_off_is_named(settings: Settings) -> None:
    """By half a minute it is a warning, by an hour a failure."""
    for ahead, names in ((-HOUR, ({"MongoDB clock"}, set())), (HOUR / 120, (set(), {"MongoDB clock"}))):

        def off(hello: records.Hello, ahead: timedelta = ahead) -> None:
            hello["localTime"] = datetime.now(UTC) + ahead

        async with records.altered(settings.mongo_uri.get_secret_value(), off) as uri:
            report = await examined(changed(settings, mongo_uri=SecretStr(uri)))

        assert (report.failed, report.warned) == names


async def test_a_standalone_mongodb_is_named(settings: Settings) -> None:
    """With the commands that make it a replica set."""

    def alone(hello: records.Hello) -> None:
        for name in ("setName", "setVersion", "hosts", "primary", "me"):
            hello.pop(name, None)

    async with records.altered(settings.mongo_uri.get_secret_value(), alone) as uri:
        report = await examined(changed(settings, mongo_uri=SecretStr(uri)))

    assert report.failed == {"MongoDB kind"}
    assert "rs.initiate()" in report.text("MongoDB kind")


async def test_a_mongodb_that_does_not_answer_hides_nothing_of_the_store(settings: Settings) -> None:
    """Its own other checks are skipped, not failed."""
    async with nothing_listening() as nowhere:
        uri = nowhere.replace("http://", "mongodb://")
        report = await examined(changed(settings, mongo_uri=SecretStr(uri), mongo_timeout_seconds=1))

    assert report.failed == {"MongoDB"}
    assert "change stream" in report.of(Verdict.SKIPPED)
    assert "public prefix" in report.of(Verdict.OK)


async def test_credentials_that_may_only_read_are_named_right_by_right(tmp_path: Path, database_name: str) -> None:
    """What can be distinguished is: reading and listing are granted."""
    stack = EmbeddedStack(tmp_path)
    try:
        await stack.start()
        await with_reader(stack, tmp_path)
        settings = await set_up(stack.address, database_name, "")
        report = await examined(
            changed(settings, s3_access_key_id=SecretStr("READER"), s3_secret_access_key=SecretStr("reads-only"))
        )
    finally:
        await stack.kill()

    assert report.failed == {"right to put", "right to delete", "right to abort multipart"}
    assert {"right to get", "right to head", "right to list", "CORS"} <= report.of(Verdict.OK)
    assert "s3:PutObject" in report.text("right to put")


async def test_a_missing_bucket_is_named(settings: Settings) -> None:
    """And the command that makes it."""
    report = await examined(changed(settings, s3_bucket="nobody-made-this-one"))

    assert report.failed == {"bucket"}
    assert "assetlane-server setup" in report.text("bucket")


async def test_a_wrong_secret_is_named_and_not_shown(settings: Settings) -> None:
    """With the store's own word."""
    report = await examined(changed(settings, s3_secret_access_key=SecretStr("not-the-secret")))

    assert report.failed == {"credentials"}
    assert "SignatureDoesNotMatch" in report.text("credentials")
    assert "not-the-secret" not in str(report)


async def test_an_unreachable_public_endpoint_is_named(settings: Settings) -> None:
    """The store itself is fine, as the server sees it."""
    async with nothing_listening() as nowhere:
        report = await examined(changed(settings, s3_public_endpoint=nowhere))

    assert report.failed == {"public endpoint"}
    assert nowhere in report.text("public endpoint")


async def test_a_public_endpoint_that_rewrites_the_host_is_named(settings: Settings) -> None:
    """The commonest fault of a reverse proxy: the signature no longer fits."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")

    async with http_server(refuse) as address:
        report = await examined(changed(settings, s3_public_endpoint=address))

    assert report.failed == {"public endpoint"}
    assert "Host" in report.text("public endpoint")


async def test_a_public_prefix_that_is_not_public_is_named(settings: Settings) -> None:
    """No policy, so public assets cannot be read."""
    async with object_store(settings) as store:
        await store.connection.ask(lambda client, bucket: client.delete_bucket_policy(Bucket=bucket))

    report = await examined(settings)

    assert report.failed == {"public prefix"}
    assert "assetlane-server setup" in report.text("public prefix")


async def test_a_private_prefix_that_everybody_can_read_is_named(settings: Settings) -> None:
    """A policy that is too wide."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{settings.s3_bucket}/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    async with object_store(settings) as store:
        await store.connection.ask(lambda client, bucket: client.put_bucket_policy(Bucket=bucket, Policy=policy))

    report = await examined(settings)

    assert report.failed == {"private prefix"}


async def test_a_missing_index_and_a_missing_clean_up_rule_are_warned_of(settings: Settings) -> None:
    """The server makes the one, `setup` the other."""
    async with mongo(settings.mongo_uri.get_secret_value()) as client:
        await client[settings.mongo_database]["uploads"].drop_index("due")
    async with object_store(settings) as store:
        await store.connection.ask(lambda client, bucket: client.delete_bucket_lifecycle(Bucket=bucket))

    report = await examined(settings)

    assert (report.failed, report.warned) == (set(), {"indexes", "clean-up rule"})
    assert "uploads.due" in report.text("indexes")
    assert "quotas.sweep" not in report.text("indexes")


async def test_a_clean_up_rule_that_is_too_short_for_the_settings_is_named(settings: Settings) -> None:
    """`setup` ran before the settings let uploads live longer, or somebody else has a rule for our prefix."""
    week = changed(settings, write_url_max_hours=168.0)

    report = await examined(week)

    assert (report.failed, report.warned) == (set(), {"clean-up rule"})
    assert "after 3 days: they may live for 7" in report.text("clean-up rule")
    assert "assetlane-server setup" in report.text("clean-up rule")
    await prepare_bucket(week, is_own=True)
    report = await examined(week)
    assert (report.failed, report.warned) == (set(), set())
    assert "after 9 days" in report.text("clean-up rule")
    rule: Any = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{settings.key_prefix}private/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    async with object_store(settings) as store:
        rules: Any = await store.connection.ask(
            lambda client, bucket: client.get_bucket_lifecycle_configuration(Bucket=bucket)
        )
        both: Any = {"Rules": [*rules["Rules"], rule]}
        await store.connection.ask(
            lambda client, bucket: client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=both)
        )
    assert (await examined(week)).warned == {"clean-up rule"}


async def test_a_store_that_obeys_unsigned_headers_is_named(settings: Settings) -> None:
    """A failure with the setting that accepts it, then a warning."""

    def obeying(request: web.Request, answer: objects.Answer) -> objects.Answer:
        return answer.with_status(200) if request.path.endswith("/acl") else answer

    refused = await examined_through(settings, obeying)
    accepted = await examined_through(changed(settings, accept_unsigned_headers=True), obeying)

    assert refused.failed == {"unsigned ACLs"}
    assert "ASSETLANE_ACCEPT_UNSIGNED_HEADERS=true" in refused.text("unsigned ACLs")
    assert (accepted.failed, accepted.warned) == (set(), {"unsigned ACLs"})


async def test_a_store_that_accepts_overwrites_is_named(settings: Settings) -> None:
    """A failure, until somebody accepts it."""
    refused = await examined_through(settings, objects.overwriting)
    accepted = await examined_through(changed(settings, accept_overwrites=True), objects.overwriting)

    assert refused.failed == {"overwrites"}
    assert "ASSETLANE_ACCEPT_OVERWRITES=true" in refused.text("overwrites")
    assert (accepted.failed, accepted.warned) == (set(), {"overwrites"})


async def examined_through(settings: Settings, alter: objects.Alteration) -> Report:
    """Runs doctor with a store that answers otherwise."""
    assert settings.s3_endpoint is not None
    async with objects.altered(settings.s3_endpoint, alter) as address:
        return await examined(changed(settings, s3_endpoint=address))


async def with_reader(stack: EmbeddedStack, directory: Path) -> None:
    """Gives the S3 server a second identity that may read and list."""
    file = directory / "s3" / "s3.json"
    configuration = json.loads(file.read_text())
    configuration["identities"].append(
        {
            "name": "reader",
            "credentials": [{"accessKey": "READER", "secretKey": "reads-only"}],
            "actions": ["Read", "List"],
        }
    )
    file.write_text(json.dumps(configuration))
    await stack.s3.restart()
