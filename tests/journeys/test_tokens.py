"""Tokens in the course of time: they expire under watches, and the keys behind them change."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web as http
from google.protobuf.message import Message
from tests.access.tokens import Issuer, key_set
from tests.conftest import Figures
from tests.journeys.guarded import guarded, guarded_server
from tests.journeys.lanes import RpcFailure, request_for
from tests.log_events import logged
from tests.refusals import raises, shows
from tests.servers import served

from assetlane import Client, TokenExpired, Unauthenticated
from assetlane.v1.asset_service_pb2 import WatchAssetsRequest
from assetlane.v1.upload_service_pb2 import ListUploadsRequest, WatchUploadRequest
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import NotReady

LIMIT_S = 20.0


async def read_to_end(watch: Any, seen: list[Any]) -> None:
    """Takes in what a watch sends."""
    async for event in watch:
        seen += [event]


@pytest.mark.parametrize("method", ["WatchUpload", "WatchAssets"])
async def test_a_watch_ends_when_its_token_does(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, method: str
) -> None:
    """In the middle of waiting, with UNAUTHENTICATED and the reason; what was sent before was sent."""
    issuer = Issuer()
    requests: dict[str, Message] = {
        "WatchUpload": WatchUploadRequest(session_id="phone"),
        "WatchAssets": WatchAssetsRequest(partition="user/ann"),
    }
    async with guarded_server(guarded(settings, tmp_path, issuer), web) as person_with:
        reply = await person_with(issuer.token()).asset(session_id="phone")
        ann = person_with(issuer.token(lifetime_s=2))
        stub: Any = ann.stubs.uploads if method == "WatchUpload" else ann.stubs.assets
        watch = getattr(stub, method)(requests[method], metadata=ann.metadata)
        seen: list[Any] = []
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_to_end(watch, seen), LIMIT_S)
        failure = RpcFailure(ended.value)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
        assert reply.asset_id in [
            event.status.upload.upload_id if method == "WatchUpload" else event.asset.asset.asset_id for event in seen
        ]


class TokenSource:
    """Hands out tokens that live a moment, and counts them."""

    def __init__(self, issuer: Issuer, lifetime_s: float = 1.5) -> None:
        self._issuer = issuer
        self._lifetime_s = lifetime_s
        self.fetched = 0

    async def token(self) -> str:
        """Returns a fresh token."""
        self.fetched += 1
        return self._issuer.token("ann", lifetime_s=self._lifetime_s)


async def test_the_client_watches_on_with_fresh_tokens(settings: Settings, tmp_path: Path, figures: Figures) -> None:
    """Through several expiries, without a gap and without a repeat, whether something happens meanwhile or not."""
    issuer = Issuer()
    watcher, worker = TokenSource(issuer), TokenSource(issuer)
    async with (
        served(guarded(settings, tmp_path, issuer)) as target,
        Client(target, token=watcher.token) as lane,
        Client(target, session_id="phone", token=worker.token) as other,
    ):
        received: dict[str, list[int]] = {}
        expected: dict[str, list[int]] = {}
        async with aclosing(lane.watch_session("phone")) as events:
            while watcher.fetched < 4:
                asked_before = watcher.fetched
                upload_id = (await other.request_upload(request_for(uid=""))).upload.upload_id
                await other.cancel_upload(upload_id)
                expected[upload_id] = [1, 2, 3]
                async with asyncio.timeout(LIMIT_S):
                    while received != expected:
                        event = await anext(events)
                        received.setdefault(event.upload.upload_id, []).append(event.upload.revision)
                reading = asyncio.create_task(anext(events))  # nothing comes: the token runs out under the wait
                async with asyncio.timeout(LIMIT_S):
                    while watcher.fetched == asked_before:  # noqa: ASYNC110 - the client's own doing
                        await asyncio.sleep(0.02)
                last = (await other.request_upload(request_for(uid=""))).upload.upload_id
                first = await asyncio.wait_for(reading, LIMIT_S)
                received[first.upload.upload_id] = [first.upload.revision]
                expected[last] = [1, 2]
    assert received.keys() == expected.keys()
    figures(f"token expiry: {watcher.fetched} tokens in one watch, {len(received)} uploads sent without gap or repeat")


async def test_a_token_that_cannot_be_renewed_ends_the_watch_with_its_error(settings: Settings, tmp_path: Path) -> None:
    """At once: a repeat would only meet it again."""
    issuer = Issuer()
    async with (
        served(guarded(settings, tmp_path, issuer)) as target,
        Client(target, token=issuer.token(lifetime_s=1.5)) as lane,
    ):
        with pytest.raises(TokenExpired) as ended:
            async with asyncio.timeout(LIMIT_S), aclosing(lane.watch_session("phone")) as events:
                await anext(events)
        assert ended.value.reason == "TOKEN_EXPIRED"


async def test_a_wallet_of_expired_tokens_is_given_up(settings: Settings, tmp_path: Path) -> None:
    """A call after two renewals, a watch after five."""
    issuer = Issuer()
    async with served(guarded(settings, tmp_path, issuer)) as target:
        for doing, most in (("call", 3), ("watch", 6)):
            tokens = TokenSource(issuer, lifetime_s=-1)
            async with Client(target, token=tokens.token) as lane:
                events: AsyncGenerator[Any, None] = (
                    lane.list_uploads() if doing == "call" else lane.watch_session("phone")
                )
                with pytest.raises(TokenExpired):
                    await asyncio.wait_for(anext(events), LIMIT_S)
                assert tokens.fetched == most


async def test_a_forged_token_is_an_error_with_its_reason(settings: Settings, tmp_path: Path) -> None:
    """Typed, and not repeated."""
    tokens = TokenSource(Issuer())
    async with (
        served(guarded(settings, tmp_path, Issuer())) as target,
        Client(target, token=tokens.token) as lane,
    ):
        with pytest.raises(Unauthenticated) as refused:
            await lane.get_asset("x")
        assert (refused.value.reason, tokens.fetched) == ("TOKEN_INVALID", 1)


class KeySite:
    """Serves a key set; `content` None: it is out of order."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Yields its URL."""
        app = http.Application()

        async def respond(request: http.Request) -> http.StreamResponse:
            return http.Response(status=503) if self.content is None else http.Response(body=self.content)

        app.router.add_get("/keys", respond)
        runner = http.AppRunner(app)
        await runner.setup()
        await http.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
        finally:
            await runner.cleanup()


async def test_keys_turn_under_a_server_that_goes_on(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """It starts while the issuer is away, takes its keys when they come, follows them, and keeps them when it goes."""
    first, second = Issuer("EdDSA", "2025"), Issuer("RS256", "2026")
    site = KeySite()
    request = ListUploadsRequest()
    async with site.served() as url:
        guard = guarded(settings, tmp_path, first, jwt_key_file=None, jwt_jwks=url, jwt_refresh_seconds=0.1)
        async with guarded_server(guard, web) as person_with:
            early, late = person_with(first.token()), person_with(second.token())

            async def until(person: Any, reason: str | None) -> None:
                async with asyncio.timeout(LIMIT_S):
                    while (found := await person.refusal("ListUploads", request)) is not None or reason:
                        if found is not None and found.reason == reason:
                            return
                        await asyncio.sleep(0.02)

            await until(early, "KEYS_UNAVAILABLE")
            site.content = key_set(first)
            await until(early, None)
            await until(late, "TOKEN_INVALID")
            site.content = key_set(first, second)
            await until(late, None)
            await until(early, None)
            site.content = key_set(second)
            await until(early, "TOKEN_INVALID")
            site.content = None
            for _ in range(20):
                assert await late.refusal("ListUploads", request) is None


@pytest.mark.parametrize(("content", "reason"), [(None, "FILE_UNREADABLE"), (b"too short", "SECRET_TOO_SHORT")])
async def test_a_server_without_its_key_file_does_not_start(
    settings: Settings, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """A file is the operator's own."""
    guard = guarded(settings, tmp_path, Issuer())
    assert guard.jwt_key_file is not None
    guard.jwt_key_file.unlink()
    if content is not None:
        guard.jwt_key_file.write_bytes(content)
    with raises(NotReady, reason=reason, setting="ASSETLANE_JWT_KEY_FILE") as refused:
        async with served(guard):
            pytest.fail("it serves")
    assert "too short" not in str(refused.value)


async def test_a_server_with_a_policy_that_is_none_does_not_start(settings: Settings, tmp_path: Path) -> None:
    """Naming setting and fault."""
    guard = guarded(settings, tmp_path, Issuer())
    assert guard.policy_file is not None
    guard.policy_file.write_text('read = ["{uid}"]\nwrite = []')
    with raises(NotReady, reason="FIRST_PART_OPEN", setting="ASSETLANE_POLICY_FILE"):
        async with served(guard):
            pytest.fail("it serves")


async def test_a_server_open_to_everybody_warns_of_it(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Served all the same: the operator said so."""
    wide = settings.model_copy(update={"listen": "0.0.0.0:0", "allow_anonymous": True})
    async with served(wide) as target, Client(target) as lane:
        assert [upload async for upload in lane.list_uploads()] == []
    (warning,) = logged(caplog, "OPEN_TO_ALL")
    assert (warning.levelname, warning.listen) == ("WARNING", "0.0.0.0:0")
    shows(warning.getMessage(), "0.0.0.0:0")
    caplog.clear()
    async with served(settings):
        assert logged(caplog, "OPEN_TO_ALL") == []
