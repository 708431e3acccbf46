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
from tests.objects.altered import Alteration, Answer, altered, overwriting
from tests.objects.servers import http_server, never_answering, nothing_listening
from tests.objects.settings import SETTINGS, settings_of

from assetlane_server.app import utc_now
from assetlane_server.local import StackAddress
from assetlane_server.objects.probe import check_store, clear_leftovers, probe_store
from assetlane_server.objects.s3 import S3ObjectStore
from assetlane_server.uploads.errors import NotReady, StoreUnavailable


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
        await check_store(store, key_prefix, False, utc_now)
        assert [store.reports_sha256, store.seen_from_here().reports_sha256] == [True, True]
    async with store_with(stack, forgetting_checksums) as store:
        await check_store(store, key_prefix, False, utc_now)
        assert [store.reports_sha256] == [False]
    async with nothing_listening() as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        await check_store(store, key_prefix, False, utc_now)
        assert [store.reports_sha256] == [None]


def accepting(path_end: str) -> Alteration:
    """A store that accepts whatever is wrong with one of the probe's keys."""

    def alter(request: web.Request, answer: Answer) -> Answer:
        return answer.with_status(200) if request.path.endswith(path_end) and request.method == "PUT" else answer

    return alter


def forgetful(_request: web.Request, answer: Answer) -> Answer:
    """A store whose HEAD tells no checksum."""
    answer.headers.popall("x-amz-checksum-sha256", None)
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
        (overwriting, "overwrites"),
        (accepting("/length"), "length"),
        (accepting("/type"), "type"),
        (accepting("/body"), "checksum"),
        (accepting("/expired"), "expiry"),
        (accepting("/signature"), "signatures"),
        (forgetful, "checksum told"),
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
        with pytest.raises(NotReady, match="ASSETLANE_ACCEPT_OVERWRITES=true"):
            await check_store(store, key_prefix, False, utc_now)


async def test_overwrites_that_were_accepted_are_a_warning(
    stack: StackAddress, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And so is every other weakness."""
    async with store_with(stack, overwriting) as store:
        with caplog.at_level(logging.WARNING):
            await check_store(store, key_prefix, True, utc_now)
    assert ["second PUT" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("silence", [nothing_listening, never_answering])
async def test_a_store_that_does_not_answer_keeps_no_server_from_starting(
    silence: Callable[[], AsyncIterator[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is warned of, after two seconds at most and the time to clean up."""
    async with (
        silence() as address,  # type: ignore[attr-defined]  # two context managers
        S3ObjectStore.open(replace(SETTINGS, endpoint=address, call_timeout=timedelta(seconds=1))) as store,
    ):
        async with asyncio.timeout(10):
            await check_store(store, "", False, utc_now)
    assert any("could not be probed" in message for message in caplog.messages)


async def test_a_store_that_refuses_what_is_right_is_told_with_its_own_word() -> None:
    """Nothing can be said of what it refuses then."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")

    async with http_server(refuse) as address, S3ObjectStore.open(replace(SETTINGS, endpoint=address)) as store:
        with pytest.raises(StoreUnavailable, match="403 AccessDenied"):
            await probe_store(store, "", utc_now)


def put(key: str, client: Any, bucket: str) -> None:
    """Stores an object, as a probe does."""
    client.put_object(Bucket=bucket, Key=key, Body=b"x")


async def test_what_a_killed_probe_left_is_cleared_once_it_is_old(stack: StackAddress, key_prefix: str) -> None:
    """A probe that runs meanwhile keeps its keys, and nothing beside the probes is touched."""
    keys = [f"{key_prefix}probe/dead/kept", f"{key_prefix}private/a"]
    async with S3ObjectStore.open(settings_of(stack)) as store:
        for key in keys:
            await store.ask(partial(put, key))
        await clear_leftovers(store, key_prefix, utc_now() - timedelta(hours=1))
        assert sorted(await keys_left(store, key_prefix)) == sorted(keys)
        await clear_leftovers(store, key_prefix, utc_now() + timedelta(minutes=1))
        assert await keys_left(store, key_prefix) == keys[1:]


async def test_in_a_bucket_that_keeps_versions_no_version_is_left(stack: StackAddress, key_prefix: str) -> None:
    """A deletion alone would only hide them."""
    bucket = f"versioned-{key_prefix.strip('/')}"
    async with S3ObjectStore.open(replace(settings_of(stack), bucket=bucket)) as store:
        await store.ask(lambda client, name: client.create_bucket(Bucket=name))
        try:
            await store.ask(
                lambda client, name: client.put_bucket_versioning(
                    Bucket=name, VersioningConfiguration={"Status": "Enabled"}
                )
            )
            capabilities = await probe_store(store, key_prefix, utc_now)
            left = await store.ask(lambda client, name: client.list_object_versions(Bucket=name))
        finally:
            await store.ask(lambda client, name: client.delete_bucket(Bucket=name))

    assert capabilities.keeps_versions
    assert capabilities.weaknesses() == ()
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
