"""What the page asks of its own back end: files, sign-in, a token for Assetlane, and what doctor says.

Everything else the page does with Assetlane and the store itself: no byte of a file passes here.
"""

import gzip
import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from aiohttp import web
from pymongo.errors import PyMongoError

from assetlane import AssetlaneError
from assetlane_server.gallery.accounts import SESSION_LIFE, AccountRefusedError, Accounts, canonical
from assetlane_server.gallery.tries import TryLimit

PAGE: Final = Path(__file__).parent / "page"
MAX_BODY_BYTES: Final = 4096
HOSTS: Final = ("127.0.0.1", "localhost", "::1")
# Wrong passwords, in 15 minutes. Of an address more: a family has one.
TRIES_WINDOW_S: Final = 900.0
TRIES_OF_A_NAME: Final = 5
TRIES_OF_AN_ADDRESS: Final = 50
SIGN_UPS_OF_AN_ADDRESS: Final = 50

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tokens(Protocol):
    """Makes tokens for the devices of users."""

    async def token_for(self, uid: str) -> tuple[str, float]:
        """Returns a token for this user's partitions, and when it ends in seconds since 1970. Raises AssetlaneError."""
        ...


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where things are, as the page reaches them."""

    port: int
    """The site's own."""
    api: str
    """The web gateway of Assetlane, such as `http://127.0.0.1:11151`."""
    target: str
    """Its gRPC port."""
    stores: tuple[str, ...]
    """The origins of the object store: of its signed URLs, and of public assets where they have another."""


class Refused(Exception):  # noqa: N818 - an answer
    """A request that is answered with a reason."""

    def __init__(self, status: HTTPStatus, reason: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.more = more


class Site:
    """Answers the page."""

    def __init__(
        self,
        accounts: Accounts,
        tokens: Tokens,
        addresses: Addresses,
        doctor: Callable[[], AsyncIterator[Mapping[str, Any]]],
        hints: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._addresses = addresses
        self._doctor = doctor
        self._hints = hints
        self._is_examining = False
        self._files = {f"/{path.relative_to(PAGE).as_posix()}": _File.read(path) for path in _built()}
        self._csp = policy_of(addresses)
        self._cookie = f"assetlane_gallery_{addresses.port}"  # cookies know no ports
        self._of_name = TryLimit(TRIES_OF_A_NAME, TRIES_WINDOW_S)
        self._of_address = TryLimit(TRIES_OF_AN_ADDRESS, TRIES_WINDOW_S)
        self._sign_ups = TryLimit(SIGN_UPS_OF_AN_ADDRESS, TRIES_WINDOW_S)

    def application(self) -> web.Application:
        """Returns what aiohttp serves."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guarded])
        app.router.add_get("/api/session", self._session)
        app.router.add_post("/api/sign-up", self._sign_up)
        app.router.add_post("/api/sign-in", self._sign_in)
        app.router.add_post("/api/sign-out", self._sign_out)
        app.router.add_post("/api/token", self._token)
        app.router.add_post("/api/doctor", self._examine)
        app.router.add_get("/{path:.*}", self._file)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Checks who calls from where, turns refusals into answers, and adds the headers that every answer has."""
        try:
            self._check_host(request)
            if request.method not in ("GET", "HEAD"):
                self._check_origin(request)
            response = await handler(request)
        except Refused as refused:
            body = {"reason": refused.reason, "message": str(refused), **refused.more}
            response = web.json_response(body, status=refused.status)
            if "retryAfterSeconds" in refused.more:
                response.headers["retry-after"] = str(refused.more["retryAfterSeconds"])
        except web.HTTPException as answer:
            response = web.json_response({"reason": "NOT_SERVED", "message": answer.reason}, status=answer.status)
        except (PyMongoError, AssetlaneError) as error:
            _log.warning("the gallery could not answer %s: %s", request.path, type(error).__name__)
            body = {"reason": "UNAVAILABLE", "message": "A server behind this page did not answer. Try again."}
            response = web.json_response(body, status=HTTPStatus.SERVICE_UNAVAILABLE)
        if not response.prepared:
            self._add_headers(response)
        return response

    def _add_headers(self, response: web.StreamResponse) -> None:
        response.headers.update(
            {
                "content-security-policy": self._csp,
                "cross-origin-opener-policy": "same-origin",
                "cross-origin-resource-policy": "same-origin",
                "permissions-policy": "camera=(self), microphone=(), geolocation=()",
                "referrer-policy": "no-referrer",
                "x-content-type-options": "nosniff",
            }
        )
        response.headers.setdefault("cache-control", "no-store")

    def _check_host(self, request: web.Request) -> None:
        """A page whose own name was turned to this address (DNS rebinding) gets nothing."""
        if _host_of(request.host) not in HOSTS:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "HOST_REFUSED", "This server has another name.")

    def _check_origin(self, request: web.Request) -> None:
        """Only this site's own page may change anything: other ports of this machine are the same site to a cookie."""
        origin = request.headers.get("origin", "")
        if origin.lower() != f"http://{request.host.lower()}":
            raise Refused(HTTPStatus.FORBIDDEN, "ORIGIN_REFUSED", "Only the gallery's own page may ask this.")
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Refused(HTTPStatus.FORBIDDEN, "ORIGIN_REFUSED", "Only the gallery's own page may ask this.")
        # A form of another page cannot send it without asking first.
        if request.content_type != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", "Send application/json.")

    async def _file(self, request: web.Request) -> web.Response:
        path = "/index.html" if request.path == "/" else request.path
        file = self._files.get(path)
        if file is None:
            raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There is no such file.")
        is_lasting = path.startswith("/assets/")  # their names hold a hash of what is in them
        headers = {
            "cache-control": "public, max-age=31536000, immutable" if is_lasting else "no-cache",
            "content-type": file.content_type,
            "vary": "accept-encoding",
        }
        if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return web.Response(body=file.packed, headers={**headers, "content-encoding": "gzip"})
        return web.Response(body=file.content, headers=headers)

    async def _session(self, request: web.Request) -> web.Response:
        """Who is signed in, if anybody, and what the page has to know to begin."""
        uid = await self._signed_in(request)
        known = {"api": self._addresses.api, "grpc": self._addresses.target, **self._hints()}
        return web.json_response({"user": uid, **(known if uid else {})})

    async def _sign_up(self, request: web.Request) -> web.Response:
        name, password = await _credentials(request)
        _wait(self._sign_ups.take(request.remote or ""), "accounts were made here")
        try:
            uid = await self._accounts.sign_up(name, password)
        except AccountRefusedError as refused:
            self._sign_ups.give_back(request.remote or "")
            raise Refused(HTTPStatus.BAD_REQUEST, refused.reason, str(refused), field=refused.field) from refused
        return await self._welcome(request, uid)

    async def _sign_in(self, request: web.Request) -> web.Response:
        name, password = await _credentials(request)
        # Counted before the password is looked at: a hundred guesses at once are a hundred guesses.
        keys = ((self._of_name, canonical(name)), (self._of_address, request.remote or ""))
        for limit, key in keys:
            _wait(limit.take(key), "wrong passwords were sent")
        uid = await self._accounts.sign_in(name, password)
        if uid is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "SIGN_IN_REFUSED", "Name or password is wrong.", field="password")
        for limit, key in keys:
            limit.give_back(key)
        return await self._welcome(request, uid)

    async def _welcome(self, request: web.Request, uid: str) -> web.Response:
        """Opens a new session, whatever the browser brought along, and ends the one that it had."""
        if old := request.cookies.get(self._cookie):
            await self._accounts.close_session(old)
        secret = await self._accounts.open_session(uid)
        known = {"api": self._addresses.api, "grpc": self._addresses.target, **self._hints()}
        response = web.json_response({"user": uid, **known})
        age = int(SESSION_LIFE.total_seconds())
        # Not `secure`: loopback has no TLS. A site that is reached over a network has, and sets it.
        response.set_cookie(self._cookie, secret, max_age=age, httponly=True, samesite="Strict", path="/")
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        if old := request.cookies.get(self._cookie):
            await self._accounts.close_session(old)
        response = web.json_response({"user": None})
        response.del_cookie(self._cookie, path="/", httponly=True, samesite="Strict")
        return response

    async def _token(self, request: web.Request) -> web.Response:
        """A token with which this browser calls Assetlane itself, for a quarter of an hour."""
        token, end = await self._tokens.token_for(await self._user(request))
        return web.json_response({"token": token, "expireTime": end})

    async def _examine(self, request: web.Request) -> web.StreamResponse:
        """What doctor finds, one JSON object a line as it goes; one examination at a time."""
        await self._user(request)
        if self._is_examining:
            raise Refused(HTTPStatus.CONFLICT, "BUSY", "Doctor is at work for another page. Try again in a moment.")
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        self._add_headers(response)
        self._is_examining = True
        try:
            await response.prepare(request)
            async for finding in self._doctor():
                await response.write(json.dumps(finding).encode() + b"\n")
            await response.write_eof()
        finally:
            self._is_examining = False
        return response

    async def _user(self, request: web.Request) -> str:
        uid = await self._signed_in(request)
        if uid is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "NOT_SIGNED_IN", "Sign in first.")
        return uid

    async def _signed_in(self, request: web.Request) -> str | None:
        secret = request.cookies.get(self._cookie)
        return await self._accounts.user_of(secret) if secret else None


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the page, as it is and packed."""

    content: bytes
    content_type: str
    packed: bytes | None

    @classmethod
    def read(cls, path: Path) -> "_File":
        content = path.read_bytes()
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        is_text = kind.startswith(("text/", "image/svg", "application/"))
        return cls(content, kind, gzip.compress(content, mtime=0) if is_text else None)


_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}  # what the machine's own table says must not matter


def _built() -> list[Path]:
    return [path for path in sorted(PAGE.rglob("*")) if path.is_file()]


def policy_of(addresses: Addresses) -> str:
    """Returns the Content-Security-Policy: this site's own files, Assetlane, the store, and nothing else.

    `wasm-unsafe-eval` lets the page compile WebAssembly, with which it hashes files, and no script.
    """
    stores = " ".join(addresses.stores)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self'",
            "font-src 'self'",
            f"img-src 'self' blob: {stores}",
            f"media-src blob: {stores}",
            f"connect-src 'self' {addresses.api} {stores}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


async def _credentials(request: web.Request) -> tuple[str, str]:
    """Returns name and password of a request. Raises Refused."""
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "NOT_JSON", "The body is not JSON.") from error
    name, password = (body.get("name"), body.get("password")) if isinstance(body, dict) else (None, None)
    for field, value in (("name", name), ("password", password)):
        if not isinstance(value, str) or not _is_text(value):
            raise Refused(HTTPStatus.BAD_REQUEST, "INVALID_FIELD", f"`{field}` is required, as a text.", field=field)
    return str(name), str(password)


def _is_text(value: str) -> bool:
    """JSON can write halves of characters, which no UTF-8 holds."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _wait(seconds: float, what: str) -> None:
    if seconds > 0:
        rounded = int(seconds) + 1
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS,
            "TOO_MANY_TRIES",
            f"Too many {what}. Try again in {-(-rounded // 60)} min.",
            retryAfterSeconds=rounded,
        )
