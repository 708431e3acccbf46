"""Tokens: good ones are taken, each kind of bad one is refused with its reason."""

import asyncio
import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.access.tokens import Issuer, confused, key_set, unsigned

from assetlane_server.access.identity import MAX_TOKEN_BYTES, TokenAuthenticator
from assetlane_server.access.keyring import Keyring
from assetlane_server.access.keys import KeySet, keys_of_file, keys_of_jwks
from assetlane_server.access.policy import DEFAULT_POLICY, policy_of
from assetlane_server.access.watched import WatchedPolicy
from assetlane_server.model.errors import (
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenNotYetValid,
    TokenRefused,
    TokenTooLarge,
)

PARSE = partial(keys_of_jwks, allows_secrets=True)


class Gatekeeper:
    """An authenticator with its keys in hand."""

    def __init__(self, content: bytes, parse: Any = PARSE, **options: Any) -> None:
        self.content = content
        self.time = 0.0
        self.ahead = timedelta(0)
        self.parsed = 0

        async def read() -> bytes:
            return self.content

        def counted(content: bytes) -> KeySet:
            self.parsed += 1
            keys: KeySet = parse(content)
            return keys

        self.keyring = Keyring(read, counted, interval=timedelta(hours=1), clock=lambda: self.time)
        given = {"issuer": None, "audience": None, "leeway": timedelta(0), **options}
        watched = WatchedPolicy(lambda: policy_of(DEFAULT_POLICY), interval=timedelta(hours=1))
        self.tokens = TokenAuthenticator(self.keyring, watched, now=lambda: datetime.now(UTC) + self.ahead, **given)

    async def uid(self, token: str) -> str | None:
        """Returns whose token it is."""
        return (await self.tokens.access_of(f"Bearer {token}")).uid


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_a_good_token_names_its_subject(algorithm: str) -> None:
    """With a key from a file, and by name from a set."""
    issuer = Issuer(algorithm)
    assert await Gatekeeper(issuer.file, keys_of_file).uid(issuer.token("ann")) == "ann"
    assert await Gatekeeper(key_set(Issuer("ES256", "other"), issuer)).uid(issuer.token("ann")) == "ann"


@pytest.mark.parametrize(
    ("authorization", "refusal"),
    [
        (None, TokenMissing),
        ("", TokenMissing),
        ("Bearer", TokenInvalid),
        ("Bearer ", TokenInvalid),
        ("Basic YW5uOnNlY3JldA==", TokenInvalid),
        ("Bearer nonsense", TokenInvalid),
        ("Bearer a.b.c", TokenInvalid),
        ("Bearer ..", TokenInvalid),
        ("Bearer é", TokenInvalid),
        ("Bearer " + "x" * 20_000, TokenTooLarge),
        (f"Bearer {'x' * MAX_TOKEN_BYTES}", TokenInvalid),
        (f"Bearer {'x' * (MAX_TOKEN_BYTES + 1)}", TokenTooLarge),
        ("Bearer " + "W1td." * 3, TokenInvalid),
    ],
)
async def test_what_is_no_token_is_refused(authorization: str | None, refusal: type[TokenRefused]) -> None:
    """Missing, or not one."""
    with pytest.raises(refusal):
        await Gatekeeper(Issuer().file, keys_of_file).tokens.access_of(authorization)


async def test_the_scheme_may_be_written_in_any_case() -> None:
    """RFC 9110, 11.1."""
    issuer = Issuer()
    assert (await Gatekeeper(issuer.file, keys_of_file).tokens.access_of(f"bearer {issuer.token()}")).uid == "ann"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("parse", ["file", "set"])
async def test_a_token_cannot_choose_how_it_is_verified(algorithm: str, parse: str) -> None:
    """Not with `none`, and not with the public key as a secret, whatever it names."""
    issuer = Issuer(algorithm)
    keeper = Gatekeeper(issuer.file, keys_of_file) if parse == "file" else Gatekeeper(key_set(issuer))
    attempts = [unsigned(), confused(issuer.file), confused(issuer.file.strip()), confused(issuer.file, kid="first")]
    for token in attempts:
        with pytest.raises(TokenInvalid):
            await keeper.uid(token)
    for other in {"RS256", "ES256", "EdDSA", "HS256"} - {algorithm}:
        with pytest.raises(TokenInvalid):
            await keeper.uid(Issuer(other).token())


@pytest.mark.parametrize(
    ("claims", "refusal"),
    [
        ({"exp": None}, TokenInvalid),
        ({"sub": None}, TokenInvalid),
        ({"sub": ""}, TokenInvalid),
        ({"sub": "x" * 129}, TokenInvalid),
        ({"sub": "a\nb"}, TokenInvalid),
        ({"exp": 1}, TokenExpired),
        ({"exp": -(10**30)}, TokenExpired),
        ({"exp": "soon"}, TokenInvalid),
        ({"exp": True}, TokenInvalid),
        ({"exp": False}, TokenInvalid),
        ({"exp": float("nan")}, TokenInvalid),
        ({"exp": float("inf")}, TokenInvalid),
        ({"exp": float("-inf")}, TokenInvalid),
        ({"exp": -(10**400)}, TokenExpired),
        ({"exp": -1e308}, TokenExpired),
        ({"exp": "4000000000"}, TokenInvalid),
        ({"exp": [4_000_000_000]}, TokenInvalid),
        ({"exp": {"at": 4_000_000_000}}, TokenInvalid),
        ({"nbf": 4_000_000_000}, TokenNotYetValid),
        ({"nbf": 10**400}, TokenNotYetValid),
        ({"nbf": 1e308}, TokenNotYetValid),
        ({"nbf": "later"}, TokenInvalid),
        ({"nbf": float("nan")}, TokenInvalid),
        ({"nbf": float("inf")}, TokenInvalid),
        ({"nbf": True}, TokenInvalid),
        ({"nbf": [1]}, TokenInvalid),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(claims: dict[str, Any], refusal: type[TokenRefused]) -> None:
    """A token that never expires is none, and a subject has to be possible as a uid."""
    issuer = Issuer()
    with pytest.raises(refusal):
        await Gatekeeper(issuer.file, keys_of_file).uid(issuer.token(**{"sub": "ann", **claims}))


async def test_a_token_may_last_for_ever() -> None:
    """Beyond every calendar."""
    issuer = Issuer()
    old = {"exp": 10**400, "nbf": -(10**400), "iat": 10**400}
    for claims in ({"exp": 10**30}, {"exp": 10**400}, {"exp": 1e308}, old):
        assert await Gatekeeper(issuer.file, keys_of_file).uid(issuer.token(**claims)) == "ann"


@pytest.mark.parametrize(
    ("claims", "is_good"),
    [
        ({"iss": "us", "aud": "assets"}, True),
        ({"iss": "us", "aud": ["mail", "assets"]}, True),
        ({"iss": "them", "aud": "assets"}, False),
        ({"aud": "assets"}, False),
        ({"iss": "us", "aud": "mail"}, False),
        ({"iss": "us", "aud": []}, False),
        ({"iss": "us"}, False),
    ],
)
async def test_issuer_and_audience_have_to_be_ours_once_they_are_set(claims: dict[str, Any], is_good: bool) -> None:
    """A token for another service of the same issuer opens nothing here."""
    issuer = Issuer()
    keeper = Gatekeeper(issuer.file, keys_of_file, issuer="us", audience="assets")
    if is_good:
        assert await keeper.uid(issuer.token(**claims)) == "ann"
    else:
        with pytest.raises(TokenInvalid):
            await keeper.uid(issuer.token(**claims))


async def test_without_them_any_will_do() -> None:
    """They are the operator's to set."""
    issuer = Issuer()
    assert await Gatekeeper(issuer.file, keys_of_file).uid(issuer.token(iss="x", aud="y")) == "ann"


async def test_a_remembered_token_expires_all_the_same() -> None:
    """To the leeway, which is added once."""
    issuer = Issuer()
    keeper = Gatekeeper(issuer.file, keys_of_file, leeway=timedelta(seconds=30))
    token = issuer.token(lifetime_s=60)
    assert await keeper.uid(token) == "ann"
    keeper.ahead = timedelta(seconds=80)
    assert await keeper.uid(token) == "ann"
    keeper.ahead = timedelta(seconds=100)
    with pytest.raises(TokenExpired):
        await keeper.uid(token)


async def test_keys_are_turned_without_a_refused_token() -> None:
    """The new key is fetched when the first token names it; the old one counts until it leaves the set."""
    old, new = Issuer("ES256", "2025"), Issuer("RS256", "2026")
    keeper = Gatekeeper(key_set(old))
    early = old.token("ann")
    assert await keeper.uid(early) == "ann"
    keeper.content, keeper.time = key_set(old, new), 60
    assert [await keeper.uid(new.token("bob")), await keeper.uid(early)] == ["bob", "ann"]
    keeper.content = key_set(new)
    await keeper.keyring.load()
    with pytest.raises(TokenInvalid):
        await keeper.uid(early)  # remembered, but by a key that is gone
    assert await keeper.uid(new.token("bob")) == "bob"


async def test_a_token_of_a_foreign_key_with_a_known_name_costs_no_reading() -> None:
    """A caller with a made-up token learns nothing and causes nothing."""
    keeper = Gatekeeper(key_set(Issuer()))
    for _ in range(20):
        keeper.time += 60
        with pytest.raises(TokenInvalid):
            await keeper.uid(Issuer().token())
        with pytest.raises(TokenInvalid):
            await keeper.uid(Issuer("RS256").token())
    assert keeper.parsed == 1


async def test_a_token_without_a_key_name_meets_every_key_of_its_algorithm() -> None:
    """As some issuers send them."""
    first, second = Issuer("ES256", "a"), Issuer("ES256", "b")
    keeper = Gatekeeper(key_set(first, second))
    assert await keeper.uid(second.token(names_key=False)) == "ann"


async def test_what_a_refused_caller_reads_says_nothing_of_keys() -> None:
    """One sentence for all that is forged."""
    issuer = Issuer()
    keeper = Gatekeeper(issuer.file, keys_of_file, audience="assets")
    answers = set()
    for token in (unsigned(), confused(issuer.file), Issuer().token(), issuer.token(aud="mail"), "x.y.z"):
        with pytest.raises(TokenInvalid) as refused:
            await keeper.uid(token)
        assert refused.value.reason == "TOKEN_INVALID"
        answers.add(str(refused.value))
    assert len(answers) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c"]), JSON, max_size=4)
CLAIMS = st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "team"]), JSON, max_size=8)
SECRET = Issuer("HS256")


def taken(token: str) -> None:
    """Hands a token in; it may be refused, and nothing else."""

    async def hand_in() -> None:
        with suppress(TokenRefused):
            await Gatekeeper(SECRET.file, keys_of_file, issuer="us", audience="assets").uid(token)

    asyncio.run(hand_in())


@given(claims=CLAIMS)
def test_whatever_a_signed_token_claims_it_is_taken_or_refused(claims: dict[str, Any]) -> None:
    """An issuer's odd claims are nobody's INTERNAL."""
    payload = json.dumps({"sub": "ann", "exp": 4_000_000_000, "iss": "us", "aud": "assets", **claims}).encode()
    taken(jwt.api_jws.encode(payload, SECRET.key, "HS256"))


@given(header=HEADERS, payload=JSON, signature=st.binary(max_size=40))
def test_whatever_an_unsigned_token_is_it_is_refused(header: object, payload: object, signature: bytes) -> None:
    """Anybody may send it."""
    parts = [json.dumps({"alg": "HS256", **header} if isinstance(header, dict) else header).encode()]
    parts += [json.dumps(payload).encode(), signature]
    taken(".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts))
