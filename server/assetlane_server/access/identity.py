"""Who calls: a JSON Web Token (RFC 7519) in `authorization: Bearer`, verified through PyJWT.

A refused caller receives one of four reasons and nothing about the keys; the exact cause goes to the log, as debug.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from typing_extensions import override

from assetlane_server.access.callers import ServiceAccess, UserAccess
from assetlane_server.access.keyring import Keyring
from assetlane_server.access.keys import ALGORITHMS, Key, KeySet
from assetlane_server.access.scoped import TOKEN_TYPE, ScopedTokens
from assetlane_server.access.watched import WatchedPolicy
from assetlane_server.model.admission import MAX_ID_BYTES
from assetlane_server.model.errors import (
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenNotYetValid,
    TokenRefused,
    TokenTooLarge,
)
from assetlane_server.ports.access import Access
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.uploads.access import UNRESTRICTED

MAX_TOKEN_BYTES = 16 * 1024
MAX_CANDIDATES = 8  # keys tried for one token: an issuer that turns its keys has two or three
_MAX_KEPT = 4096  # verified tokens, of some hundred bytes each
_MAX_HEADERS = 256
_MAX_HEADER_BYTES = 1024
_LAST_INSTANT = datetime(9000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = (_LAST_INSTANT - _EPOCH).total_seconds()

_log = logging.getLogger(__name__)


class Anonymous(Authenticator):
    """Everybody may do all. For a server that only this machine reaches."""

    @override
    async def access_of(self, authorization: str | None, certificate_names: Sequence[str] = ()) -> Access:
        """A token is not looked at."""
        return UNRESTRICTED


class TokenAuthenticator(Authenticator):
    """Who has no good token is refused. A verified token is remembered until it expires.

    Without a keyring callers are known by their certificates, and by scoped tokens: every other token is refused.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        policy: WatchedPolicy,
        *,
        scoped: ScopedTokens | None = None,
        issuer: str | None,
        audience: str | None,
        leeway: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._keyring = keyring
        self._policy = policy
        self._scoped = scoped
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._now = now
        self._verified: dict[tuple[bytes, tuple[str, ...]], Access] = {}
        self._generations = self._current_generations()
        self._headers: dict[str, Mapping[str, Any]] = {}  # by the part of a token that says them
        # The library's own checks of the times go by its own clock.
        self._tokens = jwt.PyJWT(
            {
                "require": ["exp", "sub", *(["iss"] if issuer else []), *(["aud"] if audience else [])],
                "verify_aud": audience is not None,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            }
        )

    @override
    async def access_of(self, authorization: str | None, certificate_names: Sequence[str] = ()) -> Access:
        names = tuple(certificate_names)
        if not authorization and names:
            service = self._policy.current().service_of("", {}, names)
            if service is not None:
                return ServiceAccess(service.name, service.identity, None, self._policy.current)
        token = _bearer(authorization)
        if self._generations != (now := self._current_generations()):
            self._generations = now
            self._verified.clear()
        # With the names: the same token may stand for a service caller over one connection, and not over another.
        key = (hashlib.sha256(token.encode()).digest(), names)
        access = self._verified.get(key)
        if access is None:
            access = await self._verify(token, names)
            if len(self._verified) >= _MAX_KEPT:
                del self._verified[next(iter(self._verified))]
            self._verified[key] = access
        if access.expire_time is not None and access.expire_time <= self._now():
            self._verified.pop(key, None)
            expired = TokenExpired()
            expired.caller_uid = access.uid or access.caller or ""
            raise expired
        return access

    def _current_generations(self) -> tuple[int, int, int]:
        rings = 0 if self._scoped is None else self._scoped.generation
        keys = 0 if self._keyring is None else self._keyring.generation
        return keys, self._policy.generation, rings

    async def _verify(self, token: str, names: tuple[str, ...]) -> Access:
        header = self._header(token)
        if self._scoped is not None and header.get("typ") == TOKEN_TYPE:
            if not self._scoped.knows(header):
                await self._scoped.look_for_newer_keys()  # another server may just have got its first key
            return self._scoped.access_of(token, header)
        claims = self._claims(token, await self._candidates(header))
        subject = _subject(claims)
        try:
            expire_time = self._expiry(claims)
        except TokenRefused as refusal:
            refusal.caller_uid = subject  # the signature is good: it is known who calls
            raise
        policy = self._policy.current()
        if service := policy.service_of(subject, claims, names):
            return ServiceAccess(service.name, service.identity, expire_time, self._policy.current)
        return UserAccess(subject, policy.named_claims(claims), expire_time, self._policy.current)

    def _header(self, token: str) -> Mapping[str, Any]:
        """Returns what a token says of its key. All tokens of one key begin alike: it is read once for all of them."""
        segment = token.partition(".")[0]
        header = self._headers.get(segment)
        if header is None:
            try:
                header = jwt.get_unverified_header(token)
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                raise _refused("it cannot be read", error) from error
            if len(self._headers) >= _MAX_HEADERS:
                self._headers.clear()  # anybody can make them up
            if len(segment) <= _MAX_HEADER_BYTES:
                self._headers[segment] = header
        return header

    async def _candidates(self, header: Mapping[str, Any]) -> tuple[Key, ...]:
        kid, algorithm = header.get("kid", ""), header.get("alg")
        if algorithm not in ALGORITHMS or not isinstance(kid, str):
            raise _refused(f"its algorithm is {algorithm!r}")
        if self._keyring is None:
            raise _refused("this server has no keys of an issuer")
        keys: KeySet = await self._keyring.keys()
        candidates = keys.candidates(kid, algorithm)
        # A key of that name for another algorithm: no newer set will make that good.
        if not candidates and all(key.kid != kid for key in keys.keys):
            candidates = (await self._keyring.keys_with_more()).candidates(kid, algorithm)
        if not candidates:
            raise _refused(f"there is no key {kid!r} for {algorithm}")
        return candidates[:MAX_CANDIDATES]

    def _claims(self, token: str, candidates: tuple[Key, ...]) -> Mapping[str, Any]:
        for key in candidates:
            try:
                claims: Mapping[str, Any] = self._tokens.decode(
                    token, key.material, algorithms=[key.algorithm], issuer=self._issuer, audience=self._audience
                )
            except jwt.InvalidSignatureError:
                continue
            except Exception as error:  # whatever the library makes of claims that anybody can write
                raise _refused("its claims are not as they should be", error) from error
            else:
                return claims
        raise _refused("its signature is wrong")

    def _expiry(self, claims: Mapping[str, Any]) -> datetime:
        expire_time = _instant(claims["exp"]) + self._leeway
        if "nbf" in claims and _instant(claims["nbf"]) - self._leeway > self._now():
            raise TokenNotYetValid
        return expire_time


def _bearer(authorization: str | None) -> str:
    """Returns the token of the metadata, which RFC 6750, 2.1 writes as the word Bearer, a space and the token."""
    if not authorization:
        raise TokenMissing
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token or not token.isascii():
        raise TokenInvalid
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenTooLarge(len(token), MAX_TOKEN_BYTES)
    return token


def _subject(claims: Mapping[str, Any]) -> str:
    """Returns the subject, if it can be a uid."""
    subject = claims["sub"]
    try:
        is_uid = bool(subject) and len(subject.encode()) <= MAX_ID_BYTES and subject.isprintable()
    except (AttributeError, UnicodeEncodeError):
        is_uid = False
    if not is_uid:
        raise _refused("its subject cannot be a uid")
    return str(subject)


def _instant(seconds: object) -> datetime:
    """Returns a NumericDate (RFC 7519, 2): 1970 for all before it, the year 9000 for all after it."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _refused("a time of it is no number")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise _refused("a time of it is not finite")
    # Compared as it stands: an int may be larger than any float.
    if seconds <= 0:
        return _EPOCH
    return _LAST_INSTANT if seconds >= _LAST_SECOND else _EPOCH + timedelta(seconds=seconds)


def _refused(why: str, error: Exception | None = None) -> TokenInvalid:
    _log.debug("a token was refused: %s%s", why, f" ({type(error).__name__})" if error else "")
    return TokenInvalid()
