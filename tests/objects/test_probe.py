"""What the probe finds out about a store, and what a server makes of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from tests.log_events import logged
from tests.objects.altered import Alteration, Answer, altered, overwriting
from tests.objects.servers import http_server, never_answering, nothing_listening
from tests.objects.settings import SETTINGS, settings_of
from tests.refusals import numbers_in, raises

from assetlane_server.composition.app import utc_now
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import NotReady, StoreUnavailable
from assetlane_server.objects.bucket import BucketPlan, set_up
from assetlane_server.objects.probe import StoreTerms, check_store, clear_leftovers, probe_store
from assetlane_server.objects.s3.store import S3ObjectStore

# Without the question whether everybody can read the public prefix, which takes a policy.
PRIVATE = StoreTerms(public_assets=False, ask_for_races=False)
PUBLIC = StoreTerms(ask_for_races=False)
BODY = b"a probe of Assetlane"  # of the object that a copy is tried of


@asynccontextmanager
async def store_with(stack: StackAddress, alter: Alteration) -> AsyncIterator[S3ObjectStore]:
    """The run's store with a fault of its own."""
    async with (
        altered(stack.s3_endpoint, alter) as address,
        S3ObjectStore.open(replace(settings_of(stack), endpoint=address)) as store,
    ):
        yield store


async def keys_left(store: S3ObjectStore, prefix: str) -> list[str]:
    """What lies under a prefix."""
    return [found.key for found in (await store.list_keys(prefix, "")).objects]


async def test_a_store_that_keeps_every_promise_has_no_weakness(stack: StackAddress, key_prefix: str) -> None:
    """All true, but for versions, which its bucket does not keep; and nothing is left behind."""
    async with S3ObjectStore.open(settings_of(stack)) as store:
        capabilities = await probe_store(store, key_prefix, utc_now)

        assert capabilities.weaknesses() == ()
        untrue = [field.name for field in fields(capabilities) if not getattr(capabilities, field.name)]
        assert untrue == ["keeps_versions"]
        assert await keys_left(store, key_prefix) == []


async def test_the_probe_does_not_go_through_the_public_endpoint(stack: StackAddress, key_prefix: str) -> None:
    """Which the server itself may not reach."""
    async with (
        nothing_listening() as nowhere,
        S3ObjectStore.open(replace(settings_of(stack), public_endpoint=nowhere)) as store,
    ):
        assert (await probe_store(store, key_prefix, utc_now)).weaknesses() == ()


def forgetting_checksums(_request: web.Request, answer: Answer) -> Answer:
    """A store that reports no checksum."""
    answer.headers.popall("x-amz-checksum-sha256", None)
    return answer


async def test_the_start_finds_out_whether_checksums_are_reported(stack: StackAddress, key_prefix: str) -> None:
    """Completion counts on it; of a store that did not answer nothing is known, and nothing is missed."""
    async with S3ObjectStore.open(settings_of(stack)) as store:
        assert [store.reports_sha256] == [None]
        await check_store(store, key_prefix, PRIVATE, utc_now)
        assert [store.reports_sha256, store.seen_from_here().reports_sha256] == [True, True]
    async with store_with(stack, forgetting_checksums) as store:
        await check_store(store, key_prefix, PRIVATE, utc_now)
        assert [store.reports_sha256] == [False]
    async with nothing_listening() as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        await check_store(store, key_prefix, PRIVATE, utc_now)
        assert [store.reports_sha256] == [None]


def accepting(path_end: str) -> Alteration:
    """A store that accepts whatever is wrong with one of the probe's keys."""

    def alter(request: web.Request, answer: Answer) -> Answer:
        return answer.with_status(200) if request.path.endswith(path_end) and request.method == "PUT" else answer

    return alter


def forgetful(_request: web.Request, answer: Answer) -> Answer:
    """A store whose HEAD reports no checksum."""
    answer.headers.popall("x-amz-checksum-sha256", None)
    return answer


def racing(request: web.Request, answer: Answer) -> Answer:
    """Swift: looks whether something is there, then writes, and several writers saw nothing."""
    return answer.with_status(200) if answer.status == 412 and request.path.endswith("/race") else answer


def obeying_acl(request: web.Request, answer: Answer) -> Answer:
    """Ceph's radosgw: takes an `x-amz-acl: public-read` that nobody signed."""
    return answer.with_status(200) if request.path.endswith("/acl") else answer


def obeying_copy_source(request: web.Request, answer: Answer) -> Answer:
    """MinIO and radosgw: take an `x-amz-copy-source` that nobody signed, and leave the body."""
    if not request.path.endswith("/copy"):
        return answer
    return replace(answer.with_status(200), body=BODY if request.method == "GET" else b"")


def ignoring_acl(request: web.Request, answer: Answer) -> Answer:
    """A store that takes it and does nothing with it: not readable, not copied."""
    is_asked = request.method == "PUT" and request.path.endswith(("/acl", "/copy"))
    return answer.with_status(200) if is_asked else answer


def replacing_by_parts(request: web.Request, answer: Answer) -> Answer:
    """radosgw: answers 200 to a CompleteMultipartUpload under if-none-match, and the object is another."""
    is_seen = request.method == "HEAD" and request.path.endswith("/multipart")
    return answer.with_header("content-length", "1") if is_seen else answer


def taking_small_parts(request: web.Request, answer: Answer) -> Answer:
    """Ministack."""
    if request.method == "POST" and request.path.endswith("/small") and answer.status == 400:
        return replace(answer.with_status(200), body=b"<CompleteMultipartUploadResult/>")
    return answer


def without(name: str) -> Alteration:
    """A store that loses a header."""

    def alter(_request: web.Request, answer: Answer) -> Answer:
        answer.headers.popall(name, None)
        return answer

    return alter


def guessing(request: web.Request, answer: Answer) -> Answer:
    """A store that replaces neutral types."""
    if request.method == "HEAD" and answer.headers.get("content-type") == "application/octet-stream":
        return answer.with_header("content-type", "text/html")
    return answer


def adding_a_charset(request: web.Request, answer: Answer) -> Answer:
    """A store that adds a parameter to every type."""
    is_object = request.method == "HEAD" and "content-type" in answer.headers
    return (
        answer.with_header("content-type", f"{answer.headers['content-type']};charset=utf-8") if is_object else answer
    )


def respelling(request: web.Request, answer: Answer) -> Answer:
    """A store that writes types in its own way, which changes nothing."""
    kind = answer.headers.get("content-type", "")
    return answer.with_header("content-type", kind.replace("; ", " ;").upper()) if request.method == "HEAD" else answer


async def test_a_type_in_other_letters_is_the_same_type(stack: StackAddress, key_prefix: str) -> None:
    """And the blanks before a parameter do not matter either."""
    async with store_with(stack, respelling) as store:
        assert (await probe_store(store, key_prefix, utc_now)).weaknesses() == ()


@pytest.mark.parametrize(
    ("alter", "name"),
    [
        (guessing, "types"),
        (adding_a_charset, "types"),
        (without("content-disposition"), "disposition"),
        (without("cache-control"), "caching"),
        (racing, "racing overwrites"),
        (obeying_acl, "unsigned ACLs"),
        (obeying_copy_source, "unsigned copies"),
        (accepting("/header"), "unsigned headers"),
        (replacing_by_parts, "multipart overwrites"),
        (taking_small_parts, "small parts"),
        (overwriting, "overwrites"),
        (accepting("/length"), "length"),
        (accepting("/type"), "type"),
        (accepting("/body"), "checksum"),
        (accepting("/expired"), "expiry"),
        (accepting("/signature"), "signatures"),
        (forgetful, "checksum reported"),
    ],
)
async def test_each_weakness_is_found_and_no_other(
    stack: StackAddress, key_prefix: str, alter: Alteration, name: str
) -> None:
    """By a real request each, on a key of its own."""
    async with store_with(stack, alter) as store:
        capabilities = await probe_store(store, key_prefix, utc_now)

        assert [weakness.name for weakness in capabilities.weaknesses()] == [name]
        assert await keys_left(store, key_prefix) == []


async def test_a_server_refuses_to_start_on_a_store_that_overwrites(stack: StackAddress, key_prefix: str) -> None:
    """The sentence names the setting that accepts it."""
    async with store_with(stack, overwriting) as store:
        setting = "ASSETLANE_ACCEPT_OVERWRITES"
        with raises(NotReady, reason="STORE_TOO_WEAK", setting=setting, names=[f"{setting}=true"]):
            await check_store(store, key_prefix, PRIVATE, utc_now)


async def test_overwrites_that_were_accepted_are_a_warning(
    stack: StackAddress, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And so is every other weakness."""
    async with store_with(stack, overwriting) as store:
        with caplog.at_level(logging.WARNING):
            await check_store(store, key_prefix, replace(PRIVATE, accept_overwrites=True), utc_now)
    assert [record.weakness for record in logged(caplog, "STORE_WEAKNESS")] == ["overwrites"]


async def test_a_header_that_is_taken_and_not_obeyed_is_no_weakness(stack: StackAddress, key_prefix: str) -> None:
    """What counts is who can read afterwards, and what."""
    async with store_with(stack, ignoring_acl) as store:
        capabilities = await probe_store(store, key_prefix, utc_now)

    assert capabilities.weaknesses() == ()


@pytest.mark.parametrize(
    ("alter", "setting"),
    [
        (racing, "ASSETLANE_ACCEPT_OVERWRITES=true"),
        (obeying_acl, "ASSETLANE_ACCEPT_UNSIGNED_HEADERS=true"),
        (obeying_copy_source, "ASSETLANE_ACCEPT_UNSIGNED_HEADERS=true"),
    ],
)
async def test_each_grave_weakness_needs_the_setting_that_accepts_it(
    stack: StackAddress, key_prefix: str, alter: Alteration, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that it names, and no other; then it is a warning."""
    accepting_one = {
        "ASSETLANE_ACCEPT_OVERWRITES=true": StoreTerms(public_assets=False, accept_overwrites=True),
        "ASSETLANE_ACCEPT_UNSIGNED_HEADERS=true": StoreTerms(public_assets=False, accept_unsigned_headers=True),
    }
    async with store_with(stack, alter) as store:
        for name, terms in accepting_one.items():
            caplog.clear()
            if name == setting:
                await check_store(store, key_prefix, terms, utc_now)
                assert [record.levelname for record in caplog.records if "probe" in record.name] == ["WARNING"]
            else:
                with raises(NotReady, reason="STORE_TOO_WEAK", setting=setting.partition("=")[0], names=[setting]):
                    await check_store(store, key_prefix, terms, utc_now)
        assert await keys_left(store, key_prefix) == []


async def test_a_bucket_whose_public_prefix_is_closed_starts_no_server(stack: StackAddress, key_prefix: str) -> None:
    """Until `setup` has run, or the operator wants no public assets; nothing is left of the question."""
    prefix = f"closed-{key_prefix}"  # the run's policy does not cover it
    async with S3ObjectStore.open(settings_of(stack)) as store:
        with raises(NotReady, reason="STORE_REFUSED", names=["ASSETLANE_PUBLIC_ASSETS=false", f"{prefix}public/"]):
            await check_store(store, prefix, PUBLIC, utc_now)
        await check_store(store, prefix, PRIVATE, utc_now)
        await set_up(store.connection, BucketPlan(prefix=prefix))
        await check_store(store, prefix, PUBLIC, utc_now)
        assert await keys_left(store, prefix) == []


@pytest.mark.parametrize(
    ("status", "body", "is_final"),
    [
        (403, "<Error><Code>AccessDenied</Code></Error>", True),
        (404, "<Error><Code>NoSuchKey</Code></Error>", True),
        (403, "<html>The firewall of a CDN knows no such visitor.</html>", False),
        (503, "", False),
        (301, "", False),
    ],
)
async def test_a_cdn_that_shows_nothing_stops_the_start_only_with_the_stores_own_word(
    stack: StackAddress, key_prefix: str, status: int, body: str, is_final: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All else may be meant for this server alone: that is warned of."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    terms = replace(PUBLIC, has_public_base_url=True)
    async with (
        http_server(answer) as cdn,
        S3ObjectStore.open(replace(settings_of(stack), public_base_url=cdn)) as store,
    ):
        if is_final:
            with raises(NotReady, reason="STORE_REFUSED", names=["ASSETLANE_PUBLIC_BASE_URL"]):
                await check_store(store, key_prefix, terms, utc_now)
        else:
            await check_store(store, key_prefix, terms, utc_now)
            (warning,) = logged(caplog, "STORE_NOT_PROBED")
            assert status in numbers_in(warning.getMessage())


def refusing(status: int, body: str) -> Callable[[web.Request], Any]:
    """A store that answers everything with one refusal."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type="application/xml")

    return answer


# As they came from versitygw 1.8, ministack 1.5.33, MinIO, Swift 2.38 and radosgw 16.2; Amazon's from its manual.
@pytest.mark.parametrize(
    ("status", "code", "names"),
    [
        (404, "NoSuchBucket", "ASSETLANE_S3_BUCKET"),
        (403, "AccessDenied", "s3:PutObject"),
        (403, "InvalidAccessKeyId", "ASSETLANE_S3_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "ASSETLANE_S3_SECRET_ACCESS_KEY"),
        (404, "XAdminUserNotFound", "ASSETLANE_S3_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", "NTP"),
        (400, "AuthorizationQueryParametersError", "ASSETLANE_S3_REGION"),
        (400, "AuthorizationHeaderMalformed", "ASSETLANE_S3_REGION"),
        (301, "PermanentRedirect", "ASSETLANE_S3_REGION"),
    ],
)
async def test_a_fault_that_stays_stops_the_start_with_one_sentence(status: int, code: str, names: str) -> None:
    """It names the store's word and what to correct."""
    answer = refusing(status, f"<Error><Code>{code}</Code></Error>")
    async with http_server(answer) as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        with raises(NotReady, reason="STORE_REFUSED", names=[names]) as refused:
            await check_store(store, "app/", PUBLIC, utc_now)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, "<Error><Code>SlowDown</Code></Error>"),
        (500, "<Error><Code>InternalError</Code></Error>"),
        (502, "<html>Bad Gateway</html>"),
        (404, "default backend - 404"),
        (429, "slow down"),
    ],
)
async def test_an_outage_keeps_no_server_from_starting(
    status: int, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does a proxy whose store is away, whatever status it answers with."""
    answer = refusing(status, body)
    async with http_server(answer) as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        await check_store(store, "app/", PUBLIC, utc_now)
    assert logged(caplog, "STORE_NOT_PROBED") != []


@pytest.mark.parametrize("silence", [nothing_listening, never_answering])
async def test_a_store_that_does_not_answer_keeps_no_server_from_starting(
    silence: Callable[[], AsyncIterator[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is warned of, after eight seconds at most and the time to clean up."""
    async with (
        silence() as address,  # type: ignore[attr-defined]  # two context managers
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=timedelta(seconds=1))) as store,
    ):
        async with asyncio.timeout(60):
            await check_store(store, "", PUBLIC, utc_now)
    assert logged(caplog, "STORE_NOT_PROBED") != []


async def test_a_store_that_refuses_what_is_right_is_reported_with_its_own_word() -> None:
    """Nothing can be said of what it refuses then."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    async with http_server(refuse) as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        with raises(StoreUnavailable, limits=[403], names=["AccessDenied"]):
            await probe_store(store, "", utc_now)


def put(key: str, client: Any, bucket: str) -> None:
    """Stores an object, as a probe does."""
    client.put_object(Bucket=bucket, Key=key, Body=b"x")


async def test_what_a_killed_probe_left_is_cleared_once_it_is_old(stack: StackAddress, key_prefix: str) -> None:
    """A probe that runs meanwhile keeps its keys, and nothing beside the probes is touched."""
    keys = [f"{key_prefix}probe/dead/kept", f"{key_prefix}private/a"]
    async with S3ObjectStore.open(settings_of(stack)) as store:
        for key in keys:
            await store.connection.ask(partial(put, key))
        await clear_leftovers(store, key_prefix, utc_now() - timedelta(hours=1))
        assert sorted(await keys_left(store, key_prefix)) == sorted(keys)
        await clear_leftovers(store, key_prefix, utc_now() + timedelta(minutes=1))
        assert await keys_left(store, key_prefix) == keys[1:]


async def test_in_a_bucket_that_keeps_versions_no_version_is_left(stack: StackAddress, key_prefix: str) -> None:
    """A deletion alone would only hide them."""
    bucket = f"versioned-{key_prefix.strip('/')}"
    async with S3ObjectStore.open(replace(settings_of(stack), bucket=bucket)) as store:
        await store.connection.ask(lambda client, name: client.create_bucket(Bucket=name))
        try:
            await store.connection.ask(
                lambda client, name: client.put_bucket_versioning(
                    Bucket=name, VersioningConfiguration={"Status": "Enabled"}
                )
            )
            capabilities = await probe_store(store, key_prefix, utc_now)
            left = await store.connection.ask(lambda client, name: client.list_object_versions(Bucket=name))
        finally:
            await store.connection.ask(lambda client, name: client.delete_bucket(Bucket=name))

    assert capabilities.keeps_versions
    assert capabilities.weaknesses() == ()
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
