"""The sample back end, asked by hand: who gets in, who stays out, and with what the page is served."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
import pytest_asyncio
from tests.gallery.conftest import PASSWORD, LocalServer, local_server

CSP: Final = "content-security-policy"

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


class Caller:
    """Asks the back end as a page of it does, unless asked otherwise."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Returns status and body."""
        given = {"origin": self.url, "content-type": "application/json", **headers}
        content = body if isinstance(body, str) else json.dumps({} if body is None else body)
        async with self.session.post(self.url + path, data=content, headers=given) as response:
            text = await response.text()
            return response.status, json.loads(text.splitlines()[0]) if text else {}

    async def user(self) -> str | None:
        """Returns who is signed in."""
        async with self.session.get(self.url + "/api/session") as response:
            user: str | None = (await response.json())["user"]
            return user

    @property
    def cookie(self) -> str:
        """The session's secret."""
        (value,) = [one.value for one in self.session.cookie_jar if one.key.startswith("assetlane_gallery")]
        return value


@pytest_asyncio.fixture(loop_scope="module")
async def caller(server: LocalServer) -> AsyncIterator[Caller]:
    """A browser without a session."""
    async with new_caller(server) as made:
        yield made


class new_caller:  # noqa: N801 - used as a function
    """Opens a browser without a session."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))  # of an address, not a name

    async def __aenter__(self) -> Caller:
        await self._session.__aenter__()
        return Caller(self._server.url, self._session)

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


async def test_a_session_begins_with_a_sign_up_and_ends_with_a_sign_out(caller: Caller, name: str) -> None:
    """Names are the same in capitals; a name is taken once; a cookie that was signed out opens nothing."""
    assert await caller.user() is None
    assert await caller.post("/api/sign-up", {"name": f" {name.upper()} ", "password": PASSWORD}) == (
        HTTPStatus.OK, {**(await caller_session(caller)), "user": name},
    )  # fmt: skip
    kept = caller.cookie
    status, answer = await caller.post("/api/sign-up", {"name": name, "password": "another one"})
    assert (status, answer["reason"], answer["field"]) == (HTTPStatus.BAD_REQUEST, "NAME_TAKEN", "name")
    assert (await caller.post("/api/sign-out"))[0] == HTTPStatus.OK
    assert await caller.user() is None
    status, answer = await caller.post("/api/token", cookie=f"{cookie_name(caller)}={kept}")
    assert (status, answer["reason"]) == (HTTPStatus.UNAUTHORIZED, "NOT_SIGNED_IN")
    status, answer = await caller.post("/api/sign-in", {"name": name, "password": PASSWORD})
    assert (status, answer["user"]) == (HTTPStatus.OK, name)
    assert caller.cookie != kept


def cookie_name(caller: Caller) -> str:
    """Returns the cookie of this gallery: one on another port has another."""
    return f"assetlane_gallery_{urlsplit(caller.url).port}"


async def caller_session(caller: Caller) -> dict[str, Any]:
    """Returns what the page gets at its start."""
    async with caller.session.get(caller.url + "/api/session") as response:
        state: dict[str, Any] = await response.json()
        return state


@pytest.mark.parametrize(
    ("name", "password", "reason", "field"),
    [
        ("", PASSWORD, "NAME_INVALID", "name"),
        ("a/b", PASSWORD, "NAME_INVALID", "name"),
        ("..", PASSWORD, "NAME_INVALID", "name"),
        ("a..b", PASSWORD, "NAME_INVALID", "name"),
        ("*", PASSWORD, "NAME_INVALID", "name"),
        ("{uid}", PASSWORD, "NAME_INVALID", "name"),
        ("a\u0000b", PASSWORD, "NAME_INVALID", "name"),
        ("x" * 65, PASSWORD, "NAME_INVALID", "name"),
        ("x" * 3000, PASSWORD, "NAME_INVALID", "name"),
        ("good", "short", "PASSWORD_TOO_SHORT", "password"),
        ("good", "x" * 201, "PASSWORD_TOO_LONG", "password"),
        ("good", "\ud800" * 10, "INVALID_FIELD", "password"),
        ("good", None, "INVALID_FIELD", "password"),
        (["good"], PASSWORD, "INVALID_FIELD", "name"),
    ],
)
async def test_a_bad_name_or_password_is_named(
    caller: Caller, name: object, password: object, reason: str, field: str
) -> None:
    """With the limit, and nobody is made."""
    status, answer = await caller.post("/api/sign-up", {"name": name, "password": password})
    assert (status, answer["reason"], answer["field"]) == (HTTPStatus.BAD_REQUEST, reason, field)
    assert await caller.user() is None


async def test_an_e_mail_address_is_a_name(caller: Caller) -> None:
    """Its partition is a partition."""
    address = f"Ann+{secrets.token_hex(3)}@Example.org"
    status, answer = await caller.post("/api/sign-up", {"name": address, "password": PASSWORD})
    assert (status, answer["user"]) == (HTTPStatus.OK, address.lower())
    assert (await caller.post("/api/token"))[0] == HTTPStatus.OK


@pytest.mark.parametrize("body", ["", "{", "[]", "[" * 4000, '"text"', '{"name": "a"'])
async def test_what_is_not_json_is_refused(caller: Caller, body: str) -> None:
    """Without an internal error."""
    assert (await caller.post("/api/sign-in", body or " "))[0] == HTTPStatus.BAD_REQUEST


async def test_a_large_body_is_refused(caller: Caller) -> None:
    """Before it is read."""
    status, _ = await caller.post("/api/sign-in", {"name": "a" * 100_000, "password": "b"})
    assert status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_guesses_are_limited_also_when_they_come_all_at_once(server: LocalServer, name: str) -> None:
    """The right password does not help while the name waits, written in whatever way."""
    async with new_caller(server) as owner, new_caller(server) as thief:
        await owner.post("/api/sign-up", {"name": name, "password": PASSWORD})
        guesses = [thief.post("/api/sign-in", {"name": name, "password": f"guess number {n}"}) for n in range(20)]
        outcomes = [status for status, _ in await asyncio.gather(*guesses)]
        assert sorted(set(outcomes)) == [HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS]
        assert outcomes.count(HTTPStatus.UNAUTHORIZED) == 5
        wide = "".join(chr(ord(char) + 0xFEE0) if char.isalnum() else char for char in name)
        for written in (name, name.upper(), f" {name}", wide):
            status, answer = await thief.post("/api/sign-in", {"name": written, "password": PASSWORD})
            assert (status, answer["reason"]) == (HTTPStatus.TOO_MANY_REQUESTS, "TOO_MANY_TRIES")
            assert 0 < answer["retryAfterSeconds"] <= 900
        # Who is signed in stays so.
        assert (await owner.post("/api/token"))[0] == HTTPStatus.OK


async def test_a_name_that_nobody_has_is_answered_like_a_wrong_password(caller: Caller, name: str) -> None:
    """So names cannot be found out here."""
    await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
    known = await caller.post("/api/sign-in", {"name": name, "password": "wrong password"})
    assert await caller.post("/api/sign-in", {"name": f"{name}-x", "password": "wrong password"}) == known


async def test_a_session_that_somebody_else_chose_is_not_taken_over(server: LocalServer, name: str) -> None:
    """Neither one that was made up, nor one that was open before: signing in makes a new one."""
    async with new_caller(server) as mallory, new_caller(server) as victim:
        await mallory.post("/api/sign-up", {"name": f"{name}-m", "password": PASSWORD})
        planted = mallory.cookie
        for secret in (planted, "made-up-by-mallory"):
            victim.session.cookie_jar.clear()
            _, answer = await victim.post(
                "/api/sign-up", {"name": f"{name}{secrets.token_hex(2)}", "password": PASSWORD},
                cookie=f"{cookie_name(victim)}={secret}",
            )  # fmt: skip
            assert answer["user"].startswith(name)
            assert victim.cookie != secret
        # The session that was planted has ended: it leads to nobody.
        assert await mallory.user() is None


async def test_another_origin_changes_nothing(caller: Caller, name: str) -> None:
    """Not even another port of the same host, to which cookies go as well; nor a page that sends no origin."""
    await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
    port = urlsplit(caller.url).port
    for origin in ("http://127.0.0.1:1", f"https://127.0.0.1:{port}", f"http://localhost:{port}", "null", "",
                   f"http://127.0.0.1:{port}.evil.example", "http://evil.example"):  # fmt: skip
        for path in ("/api/token", "/api/sign-out", "/api/sign-in", "/api/sign-up", "/api/doctor"):
            status, answer = await caller.post(path, {"name": name, "password": PASSWORD}, origin=origin)
            assert (status, answer["reason"]) == (HTTPStatus.FORBIDDEN, "ORIGIN_REFUSED")
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert (await caller.post("/api/sign-out", **{"content-type": kind}))[0] == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert (await caller.post("/api/token", **{"sec-fetch-site": "same-site"}))[0] == HTTPStatus.FORBIDDEN
    assert await caller.user() == name


async def test_a_name_turned_to_this_address_gets_nothing(caller: Caller) -> None:
    """DNS rebinding: the page itself is refused, too."""
    for path in ("/", "/api/session"):
        async with caller.session.get(caller.url + path, headers={"host": "evil.example"}) as response:
            assert response.status == HTTPStatus.MISDIRECTED_REQUEST
    async with caller.session.get(caller.url.replace("127.0.0.1", "localhost") + "/") as response:
        assert response.status == HTTPStatus.OK


async def test_the_cookie_is_kept_from_scripts_and_other_sites(caller: Caller, name: str) -> None:
    """HttpOnly, SameSite=Strict, no domain."""
    given = {"origin": caller.url, "content-type": "application/json"}
    body = json.dumps({"name": name, "password": PASSWORD})
    async with caller.session.post(f"{caller.url}/api/sign-up", data=body, headers=given) as response:
        cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "domain" not in cookie


async def test_every_answer_has_a_strict_policy(caller: Caller, server: LocalServer) -> None:
    """No inline script or style, no host but this server's and the store's, and no frame around it."""
    for path in ("/", "/api/session", "/no/such/file", "/../../etc/passwd", "/assets/../index.html"):
        async with caller.session.get(caller.url + path) as response:
            policy = dict(part.strip().split(" ", 1) for part in response.headers[CSP].split(";"))
            assert response.headers["x-content-type-options"] == "nosniff"
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["style-src"] == "'self'"
    host = urlsplit(caller.url).hostname
    sources = {word for words in policy.values() for word in words.split() if "://" in word}
    assert {urlsplit(source).hostname for source in sources} == {host}
    assert server.store in policy["connect-src"]


async def test_files_have_lasting_names_and_right_types(caller: Caller) -> None:
    """The page itself is asked for again each time; what it names is kept for good."""
    async with caller.session.get(caller.url + "/") as response:
        assert response.headers["cache-control"] == "no-cache"
        page = await response.text()
    assets = [part.split('"')[0] for part in page.split('="/')[1:] if part.startswith("assets/")]
    assert any(asset.endswith(".js") for asset in assets)
    for asset in assets:
        async with caller.session.get(f"{caller.url}/{asset}") as response:
            assert "immutable" in response.headers["cache-control"]
            kind = "text/javascript" if asset.endswith(".js") else "text/css"
            assert response.headers["content-type"].startswith(kind)


async def test_a_token_opens_the_partitions_of_its_user_and_nothing_else(caller: Caller, name: str) -> None:
    """It is a scoped token of the back end, short-lived, checked by the server itself."""
    _, signed_up = await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
    _, answer = await caller.post("/api/token")
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert (claims["sub"], claims["act"]) == (name, {"sub": "gallery"})
    assert 0 < claims["exp"] - claims["iat"] <= 900
    bearer = {"authorization": f"Bearer {answer['token']}"}

    async def asked(partition: str, headers: dict[str, str]) -> int:
        query = {"partition": partition}
        async with caller.session.get(f"{signed_up['api']}/v1/assets", params=query, headers=headers) as response:
            return response.status

    assert [await asked(partition, bearer) for partition in ("public", f"user/{name}")] == [HTTPStatus.OK] * 2
    assert await asked("user/somebody-else", bearer) == HTTPStatus.NOT_FOUND
    assert await asked("public", {}) == HTTPStatus.UNAUTHORIZED
    body = {"uid": name, "partitions": {"read": ["public"]}}
    async with caller.session.post(f"{signed_up['api']}/v1/tokens", json=body, headers=bearer) as response:
        assert response.status == HTTPStatus.FORBIDDEN


async def test_the_lights_of_doctor_are_for_those_who_are_signed_in(caller: Caller, name: str) -> None:
    """None of them is red on the embedded stack."""
    assert (await caller.post("/api/doctor"))[0] == HTTPStatus.UNAUTHORIZED
    await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
    given = {"origin": caller.url, "content-type": "application/json"}
    async with caller.session.post(f"{caller.url}/api/doctor", data="{}", headers=given) as response:
        findings = [json.loads(line) async for line in response.content]
    assert len(findings) > 20
    assert {finding["verdict"] for finding in findings} == {"ok"}


async def test_accounts_sessions_and_ports_outlive_a_restart(server: LocalServer, name: str) -> None:
    """A page that was left open finds everything where it was."""
    async with new_caller(server) as caller:
        await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
        url = server.url
        await server.stop()
        await server.start()
        assert server.url == url
        assert await caller.user() == name
        assert (await caller.post("/api/token"))[0] == HTTPStatus.OK


async def test_without_a_gallery_there_is_no_gallery(tmp_path: Path) -> None:
    """`--no-gallery`: no line, no files."""
    async with local_server(tmp_path, "--no-gallery") as server:
        assert server.url == ""
        assert len(server.greeting.splitlines()) == 7
        assert not (tmp_path / "data" / "gallery").exists()


async def test_where_callers_need_tokens_the_gallery_has_its_own(tmp_path: Path, name: str) -> None:
    """The keys of the server beside it do not matter to it, nor does a port that this one has; its stores do."""
    key_file = tmp_path / "key"
    key_file.write_text(secrets.token_urlsafe(40))
    settings = {"jwt_key_file": str(key_file), "public_base_url": "https://cdn.example/files", "public_assets": "false"}
    async with local_server(tmp_path, **settings) as server, new_caller(server) as caller:
        async with caller.session.get(server.url) as response:
            assert f"img-src 'self' blob: {server.store} https://cdn.example;" in response.headers[CSP]
        _, signed_up = await caller.post("/api/sign-up", {"name": name, "password": PASSWORD})
        assert (signed_up["openTarget"], signed_up["publicAssets"]) == ("", False)
        assert (await caller.post("/api/token"))[0] == HTTPStatus.OK
