"""Scoped tokens: JSON Web Tokens that the server signs with the ring of keys of their maker, and verifies. Pure.

    header  {"alg": "HS256", "typ": "scoped+jwt", "kid": "<ring>/<key>"}
    claims  {"sub": uid, "act": {"sub": maker}, "exp": …, "iat": …, "jti": …,
             "upload": id}  or  {…, "read": [patterns], "write": [patterns]}

`act` is the acting party of RFC 8693, 4.1. The ring is the maker's own: its keys make tokens of no other maker.
"""

import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from typing_extensions import override

from assetlane_server.access.callers import CREATE_TOKEN, CurrentPolicy, ServiceAccess, TokenAccess
from assetlane_server.access.policy import Pattern, Service, pattern_of
from assetlane_server.access.watched import WatchedRings
from assetlane_server.model.errors import (
    FieldViolation,
    InvalidRequest,
    NoSigningKey,
    NotReady,
    RpcNotAllowed,
    ScopeTooWide,
    TokenInvalid,
    UidMismatch,
)
from assetlane_server.model.rings import RingKey
from assetlane_server.model.scoped_tokens import (
    DEFAULT_LIFETIME,
    MAX_PATTERNS,
    IssuedToken,
    PartitionScope,
    check_token_lifetime,
)
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.scoped_token_signer import ScopedTokenSigner

TOKEN_TYPE = "scoped+jwt"  # noqa: S105 - of the header
_ALGORITHM = "HS256"
_LAST_SECOND = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())

_log = logging.getLogger(__name__)
# The signature is the library's to verify; the claims are few, and all of them are looked at here, by our own clock.
_jws = jwt.PyJWS()


class ScopedTokens(ScopedTokenSigner):
    """Signs and verifies them, with the rings and the policy of that moment."""

    def __init__(
        self, rings: WatchedRings, policy: CurrentPolicy, *, max_lifetime: timedelta, now: Callable[[], datetime]
    ) -> None:
        self._watched = rings
        self._rings = rings.current
        self._policy = policy
        self._max_lifetime = max_lifetime
        self._now = now

    @property
    def generation(self) -> int:
        """Rises whenever the rings change: what older ones have verified counts no more."""
        return self._watched.generation

    @override
    def check(self, lifetime: timedelta | None, access: Access, *, field: str) -> None:
        service = _maker(access)
        if lifetime is not None:
            check_token_lifetime(field, lifetime, self._max_lifetime)
        # The same right as that of the RPC: a service that may not create tokens gets none with an upload either.
        access.check(CREATE_TOKEN)
        self._signing_key(service)

    @override
    def for_upload(self, upload: Upload, lifetime: timedelta | None, access: Access) -> IssuedToken:
        service = _maker(access)
        now = self._now()
        end = min(now + (self._max_lifetime if lifetime is None else lifetime), upload.expire_time)
        return self._signed(service, upload.uid, end, now, {"upload": upload.upload_id})

    @override
    def for_partitions(
        self, uid: str, scope: PartitionScope, lifetime: timedelta | None, access: Access
    ) -> IssuedToken:
        service = _maker(access)
        now = self._now()
        lists = {
            name: _asked_patterns(f"partitions.{name}", texts)
            for name, texts in (("read", scope.read), ("write", scope.write))
        }
        if not any(lists.values()):
            raise InvalidRequest([FieldViolation("partitions", "names no pattern to read or to write")])
        if lifetime is not None:
            check_token_lifetime("lifetime", lifetime, self._max_lifetime)
        end = now + (min(DEFAULT_LIFETIME, self._max_lifetime) if lifetime is None else lifetime)
        if not service.acts_for(uid):
            raise UidMismatch.of_service()
        given = {"read": service.read, "write": service.write}
        for name, patterns in lists.items():
            ours = [pattern.of_user(uid) for pattern in given[name]]
            for text, pattern in patterns:
                if not any(one.covers(pattern.of_user(uid)) for one in ours):
                    raise ScopeTooWide(f"partitions.{name}", text)
        claims = {name: [text for text, _ in patterns] for name, patterns in lists.items() if patterns}
        return self._signed(service, uid, end, now, claims)

    def _signed(
        self, service: Service, uid: str, end: datetime, now: datetime, claims: Mapping[str, Any]
    ) -> IssuedToken:
        key = self._signing_key(service)
        end = end.replace(microsecond=0)  # what the token can say
        token_id = secrets.token_hex(8)
        payload = {
            "sub": uid,
            "act": {"sub": service.name},
            "iat": int(now.timestamp()),
            "exp": int(end.timestamp()),
            "jti": token_id,
            **claims,
        }
        headers = {"typ": TOKEN_TYPE, "kid": f"{service.name}/{key.key_id}"}
        return IssuedToken(jwt.encode(payload, key.secret, _ALGORITHM, headers=headers), end, token_id, service.name)

    def _signing_key(self, service: Service) -> RingKey:
        ring = self._rings().get(service.name)
        key = None if ring is None else ring.signing_key(self._now())
        if key is None:
            raise NoSigningKey(service.name)
        return key

    def knows(self, header: Mapping[str, Any]) -> bool:
        """Returns whether a ring has the key that the header of a token names."""
        ring_name, _, key_id = str(header.get("kid", "")).partition("/")
        ring = self._rings().get(ring_name)
        return ring is not None and ring.key(key_id) is not None

    async def look_for_newer_keys(self) -> None:
        """Reads the rings again, unless that was done a moment ago: anybody can make up names of keys."""
        await self._watched.look_unless_recent()

    def access_of(self, token: str, header: Mapping[str, Any]) -> TokenAccess:
        """Returns what the holder of a token may do. Raises TokenInvalid, TokenRevoked."""
        ring_name, _, key_id = str(header.get("kid", "")).partition("/")
        ring = self._rings().get(ring_name)
        key = None if ring is None else ring.key(key_id)
        if key is None or header.get("alg") != _ALGORITHM:
            raise refused("no ring has its key")
        try:
            claims: Mapping[str, Any] = json.loads(_jws.decode(token, key.secret, algorithms=[_ALGORITHM]))
            actor, uid, exp, token_id = claims["act"]["sub"], claims["sub"], claims["exp"], claims.get("jti", "")
            upload_id = claims.get("upload", "")
            reads, writes = (_signed_patterns(claims.get(name, ()), uid) for name in ("read", "write"))
        except jwt.PyJWTError as error:
            raise refused("it was not signed with that key", error) from error
        except (TypeError, KeyError, ValueError, AttributeError, RecursionError, NotReady) as error:
            raise refused("its claims are not as they should be", error) from error
        is_whole = all(isinstance(one, str) for one in (actor, uid, upload_id, token_id))
        if not is_whole or actor != ring_name or type(exp) is not int or not 0 < exp < _LAST_SECOND:
            raise refused("its claims are not as they should be")
        if bool(upload_id) == bool(reads or writes):
            raise refused("it has no scope, or two")

        def is_good() -> bool:
            now_ring = self._rings().get(ring_name)
            return now_ring is not None and now_ring.key(key_id) == key

        access = TokenAccess(
            uid=uid,
            maker=actor,
            token_id=token_id,
            expire_time=datetime.fromtimestamp(exp, UTC),
            policy=self._policy,
            is_good=is_good,
            upload_id=upload_id,
            read=reads,
            write=writes,
        )
        access.service  # noqa: B018 - raises TokenRevoked when its maker may not act for the user
        return access


def refused(why: str, error: Exception | None = None) -> TokenInvalid:
    """Returns the refusal of a token; why exactly goes to the log, as debug."""
    _log.debug("a scoped token was refused: %s%s", why, f" ({type(error).__name__})" if error else "")
    return TokenInvalid()


def _maker(access: Access) -> Service:
    if not isinstance(access, ServiceAccess):
        raise RpcNotAllowed(CREATE_TOKEN, "only a service caller of the policy makes tokens")
    return access.service


def _asked_patterns(field: str, texts: Sequence[str]) -> list[tuple[str, Pattern]]:
    if len(texts) > MAX_PATTERNS:
        raise InvalidRequest([FieldViolation(field, f"there are {len(texts)}, the limit is {MAX_PATTERNS}")])
    found = []
    for index, text in enumerate(texts):
        try:
            pattern = pattern_of(text)
        except NotReady as fault:
            raise InvalidRequest([FieldViolation(f"{field}[{index}]", _limit(str(fault)))]) from fault
        if any(part.claim for part in pattern.parts):
            limit = "names a claim: a pattern of a token has names, `{uid}`, `*`, and `**` as its last part"
            raise InvalidRequest([FieldViolation(f"{field}[{index}]", limit)])
        found.append((text, pattern))
    return found


def _limit(fault: str) -> str:
    return fault.removeprefix("the policy's pattern ")


def _signed_patterns(texts: Sequence[str], uid: str) -> tuple[Pattern, ...]:
    return tuple(_pattern_of(text).of_user(uid) for text in texts)


# Of texts that we have signed: back ends ask for the same few, token after token.
_pattern_of = lru_cache(maxsize=1024)(pattern_of)
