"""The keyring: newest keys that can be read, stale ones rather than none, and no asking without end."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.access.tokens import Issuer, key_set
from tests.log_events import logged
from tests.refusals import raises, shows

from assetlane_server.access.keyring import MAX_BYTES, Keyring, ReadingFailed, file_reading, url_reading
from assetlane_server.access.keys import keys_of_jwks
from assetlane_server.model.errors import KeysUnavailable

PARSE = partial(keys_of_jwks, allows_secrets=True)
HOUR = timedelta(hours=1)


class Source:
    """Where keys are read; counts how often."""

    def __init__(self, *issuers: Issuer) -> None:
        self.content: bytes | None = key_set(*issuers)
        self.readings = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.time = 0.0
        self.keyring = Keyring(self.read, PARSE, interval=HOUR, clock=lambda: self.time)

    async def read(self) -> bytes:
        """Reads, or fails while there is no content."""
        self.readings += 1
        await self.may_answer.wait()
        if self.content is None:
            raise ReadingFailed("NO_ANSWER", "it is away")
        return self.content


def kids(keys: object) -> list[str]:
    """Returns the names of keys."""
    return [key.kid for key in keys.keys]  # type: ignore[attr-defined]


async def test_keys_that_were_never_read_are_unavailable_until_they_are() -> None:
    """And asked for again, not more often than every ten seconds."""
    source = Source(Issuer())
    source.content = None
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await source.keyring.keys()
    assert source.readings == 1
    source.content, source.time = key_set(Issuer()), 10
    assert kids(await source.keyring.keys()) == ["first"]


@pytest.mark.parametrize("content", [None, b"log in first", b'{"keys": []}'])
async def test_stale_keys_are_kept_when_newer_ones_cannot_be_had(content: bytes | None) -> None:
    """An issuer that is away for a while locks nobody out."""
    source = Source(Issuer())
    await source.keyring.load()
    source.content, source.time = content, 60
    assert kids(await source.keyring.keys_with_more()) == ["first"]
    assert (source.readings, source.keyring.generation) == (2, 1)


async def test_a_thousand_unknown_names_cost_one_reading() -> None:
    """Together and one after the other; after the cooldown one more."""
    source = Source(Issuer())
    await source.keyring.load()
    source.time = 60
    await asyncio.gather(*(source.keyring.keys_with_more() for _ in range(1000)))
    await source.keyring.keys_with_more()
    assert source.readings == 2
    source.time = 71
    await source.keyring.keys_with_more()
    assert source.readings == 3


async def test_known_keys_are_there_while_newer_ones_are_being_read() -> None:
    """Who has a token of a known key never waits for the issuer."""
    source = Source(Issuer())
    await source.keyring.load()
    source.may_answer.clear()
    source.time = 60
    waiting = asyncio.create_task(source.keyring.keys_with_more())
    while source.readings < 2:  # noqa: ASYNC110 - one turn of the loop each
        await asyncio.sleep(0)
    assert kids(await source.keyring.keys()) == ["first"]
    source.content = key_set(Issuer(), Issuer(kid="second"))
    source.may_answer.set()
    assert kids(await waiting) == ["first", "second"]


async def test_the_same_keys_again_are_no_new_generation() -> None:
    """What older keys have verified stays good as long as they do."""
    first, second = Issuer(), Issuer(kid="second")
    source = Source(first)
    await source.keyring.load()
    await source.keyring.load()
    assert source.keyring.generation == 1
    source.content = key_set(first, second)
    await source.keyring.load()
    assert source.keyring.generation == 2


@asynccontextmanager
async def issuing(answer: web.StreamResponse) -> AsyncIterator[str]:
    """Serves one answer, and yields its URL."""
    app = web.Application()

    async def respond(request: web.Request) -> web.StreamResponse:
        return answer

    app.router.add_get("/keys", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    finally:
        await runner.cleanup()


async def test_a_set_is_fetched() -> None:
    """Over HTTP, as it stands."""
    content = key_set(Issuer())
    async with issuing(web.Response(body=content)) as url, aiohttp.ClientSession() as session:
        assert await url_reading(session, url)() == content


def bad_answers() -> Iterator[tuple[web.StreamResponse, str, int]]:
    """Answers that are not a key set's."""
    yield web.Response(status=503), "HTTP_STATUS", 503
    yield web.Response(status=302, headers={"location": "http://127.0.0.1:1/"}), "HTTP_STATUS", 302
    yield web.Response(body=b"x" * (MAX_BYTES + 1)), "TOO_LARGE", MAX_BYTES


@pytest.mark.parametrize("case", range(3))
async def test_a_bad_answer_is_reported(case: int) -> None:
    """Also a redirect: the place to trust is the one that was named; and one that never ends is not read to the end."""
    answer, reason, number = list(bad_answers())[case]
    async with issuing(answer) as url, aiohttp.ClientSession() as session:
        with raises(ReadingFailed, reason=reason, limits=[number]):
            await url_reading(session, url)()


async def test_nobody_answers() -> None:
    """A name of the kind of error, no trace."""
    async with aiohttp.ClientSession() as session:
        with raises(ReadingFailed, reason="FETCH_FAILED"):
            await url_reading(session, "http://127.0.0.1:1/keys")()


async def test_a_file_is_read(tmp_path: Path) -> None:
    """Off the loop; a missing one is reported."""
    path = tmp_path / "keys"
    with raises(ReadingFailed, reason="FILE_UNREADABLE", names=[str(path)]):
        await file_reading(path)()
    path.write_bytes(b"x")
    assert await file_reading(path)() == b"x"


async def test_keys_that_are_skipped_are_logged_once_and_again_when_they_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start, so that an operator learns why tokens will be refused; not at each of many readings."""
    source = Source()
    odd = [
        {**Issuer("RS256", "enc").jwk, "use": "enc"},
        {**Issuer("RS256", "ps").jwk, "alg": "PS256"},
        {"kty": "AKP", "kid": "newer", "alg": "ML-DSA-44"},
    ]
    source.content = json.dumps({"keys": [Issuer().jwk, *odd]}).encode()
    for _ in range(3):
        await source.keyring.load()
    skipped = logged(caplog, "KEY_SKIPPED")
    assert [(record.levelname, record.reason) for record in skipped] == [
        ("WARNING", "NOT_FOR_SIGNATURES"),
        ("WARNING", "ALGORITHM_MISMATCH"),
        ("WARNING", "TYPE_UNKNOWN"),
    ]
    for record, name in zip(skipped, ("'enc'", "'ps'", "'newer'"), strict=True):
        shows(record.getMessage(), name)
    assert logged(caplog, "KEYS_NOT_LOGGED") == []
    caplog.clear()
    source.content = json.dumps({"keys": [Issuer().jwk, *odd * 20]}).encode()
    await source.keyring.load()
    assert len(logged(caplog, "KEY_SKIPPED")) == 20
    assert [record.count for record in logged(caplog, "KEYS_NOT_LOGGED")] == [40]
