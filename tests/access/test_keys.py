"""Keys from files and key sets: what counts, what does not, and that the type decides the algorithm."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.access.tokens import Issuer, key_set
from tests.refusals import raises

from assetlane_server.access.keys import MIN_RSA_BITS, MIN_SECRET_BYTES, KeysUnusable, keys_of_file, keys_of_jwks


def pem(public_key: Any) -> bytes:
    """Returns a public key in PEM."""
    text: bytes = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_the_type_of_a_key_is_its_algorithm(algorithm: str) -> None:
    """From a file and from a set alike."""
    issuer = Issuer(algorithm)
    (of_file,) = keys_of_file(issuer.file).keys
    (of_set,) = keys_of_jwks(key_set(issuer), allows_secrets=True).keys
    assert (of_file.algorithm, of_set.algorithm) == (algorithm, algorithm)
    assert (of_file.kid, of_set.kid) == ("", "first")


def test_white_space_around_a_secret_does_not_count() -> None:
    """`echo` and editors end a file with a newline."""
    secret = Issuer("HS256").file
    assert keys_of_file(secret + b"\n") == keys_of_file(secret)


@pytest.mark.parametrize(
    ("content", "reason", "limits"),
    [
        (b"", "SECRET_TOO_SHORT", [0, MIN_SECRET_BYTES]),
        (b"short\n", "SECRET_TOO_SHORT", [5, MIN_SECRET_BYTES]),
        (b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n", "NOT_A_PUBLIC_KEY", []),
        (
            pem(rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505 - too short on purpose
            "KEY_TOO_SHORT",
            [1024, MIN_RSA_BITS],
        ),
        (pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "KEY_TYPE_UNKNOWN", []),
        (Issuer("ES256").key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "PRIVATE_KEY", []),
    ],
)
def test_a_file_without_a_usable_key_is_refused(content: bytes, reason: str, limits: list[int]) -> None:
    """With a reason, and without the content."""
    with raises(KeysUnusable, reason=reason, limits=limits) as refused:
        keys_of_file(content)
    assert "short" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alg": "RS256"}, "ALGORITHM_MISMATCH"),
        ({"use": "enc"}, "NOT_FOR_SIGNATURES"),
        ({"key_ops": ["sign"]}, "NOT_FOR_SIGNATURES"),
        ({"kty": "EC", "crv": "P-384"}, "TYPE_UNKNOWN"),
        ({"kty": "none"}, "TYPE_UNKNOWN"),
        ({"x": "AAAA"}, "MALFORMED"),
        ({"d": "AAAA"}, "PRIVATE_KEY"),
        ({"kid": 7}, "NAME_NOT_TEXT"),
    ],
)
def test_a_key_of_a_set_that_cannot_verify_is_reported_and_left_out(changes: dict[str, Any], reason: str) -> None:
    """The others of the set count all the same."""
    odd = {**Issuer("ES256", "odd").jwk, **changes}
    keys = keys_of_jwks(json.dumps({"keys": [odd, Issuer("EdDSA").jwk]}).encode(), allows_secrets=True)
    assert [key.algorithm for key in keys.keys] == ["EdDSA"]
    assert [one.reason for one in keys.unusable] == [reason]
    with raises(KeysUnusable, reason="NO_USABLE_KEY") as refused:
        keys_of_jwks(json.dumps({"keys": [odd]}).encode(), allows_secrets=True)
    assert [one.reason for one in refused.value.unusable] == [reason]


NULLS = dict.fromkeys(["use", "alg", "kid", "key_ops", "x5c", "x5t", "d", "k", "n", "e", "ext", "anything"])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "HS256"])
def test_a_member_that_is_null_counts_as_absent(algorithm: str) -> None:
    """Some issuers write all members of all kinds of keys."""
    issuer = Issuer(algorithm)
    nulls = {member: None for member in NULLS if member not in issuer.jwk or member in ("use", "alg", "key_ops")}
    keys = keys_of_jwks(json.dumps({"keys": [{**issuer.jwk, **nulls}]}).encode(), allows_secrets=True)
    assert [(key.kid, key.algorithm) for key in keys.keys] == [("first", algorithm)]
    nameless = {**issuer.jwk, **nulls, "kid": None}
    keys = keys_of_jwks(json.dumps({"keys": [nameless]}).encode(), allows_secrets=True)
    assert [key.kid for key in keys.keys] == [""]
    required = {**issuer.jwk, "kty": None}
    with raises(KeysUnusable, reason="NO_USABLE_KEY") as refused:
        keys_of_jwks(json.dumps({"keys": [required]}).encode(), allows_secrets=True)
    assert [one.reason for one in refused.value.unusable] == ["TYPE_UNKNOWN"]


def test_a_secret_counts_only_where_nobody_else_reads_it() -> None:
    """A set behind a URL is public, or may be."""
    with raises(KeysUnusable, reason="NO_USABLE_KEY") as refused:
        keys_of_jwks(key_set(Issuer("HS256")), allows_secrets=False)
    assert [one.reason for one in refused.value.unusable] == ["SECRET_EXPOSED"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": ["x"]}', b'{"keys": []}', b"\xff"])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    """A page that says 'log in first', for one."""
    with pytest.raises(KeysUnusable):
        keys_of_jwks(content, allows_secrets=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "k", "d", "kid", "alg", "use", "key_ops"])
WORDS = st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "sig", "verify", "", "A" * 400]) | JSON
ENTRIES = st.dictionaries(MEMBERS, WORDS, max_size=12) | JSON


@given(entries=st.lists(ENTRIES, max_size=4) | JSON)
def test_whatever_a_set_holds_it_has_keys_or_is_refused(entries: object) -> None:
    """A key set comes from outside, and a server must not end by it."""
    content = json.dumps({"keys": entries}).encode()
    try:
        keys = keys_of_jwks(content, allows_secrets=True)
    except KeysUnusable:
        return
    assert keys.keys
