"""Keys from files and key sets: what counts, what does not, and that the type decides the algorithm."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.access.tokens import Issuer, key_set

from assetlane_server.access.keys import KeysUnusable, keys_of_file, keys_of_jwks


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
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"short\n", "5 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n", "not a public key"),
        (pem(rsa.generate_private_key(65537, 1024).public_key()), "1024 bits"),  # noqa: S505 - too short on purpose
        (pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "P-256"),
        (Issuer("ES256").key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private key"),
    ],
)
def test_a_file_without_a_usable_key_is_refused(content: bytes, message: str) -> None:
    """With a reason, and without the content."""
    with pytest.raises(KeysUnusable, match=message) as refused:
        keys_of_file(content)
    assert "short" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alg": "RS256"}, "another algorithm"),
        ({"use": "enc"}, "not for signatures"),
        ({"key_ops": ["sign"]}, "not for signatures"),
        ({"kty": "EC", "crv": "P-384"}, "type"),
        ({"kty": "none"}, "type"),
        ({"x": "AAAA"}, "malformed"),
        ({"d": "AAAA"}, "private key"),
        ({"kid": 7}, "no text"),
    ],
)
def test_a_key_of_a_set_that_cannot_verify_is_reported_and_left_out(changes: dict[str, Any], message: str) -> None:
    """The others of the set count all the same."""
    odd = {**Issuer("ES256", "odd").jwk, **changes}
    keys = keys_of_jwks(json.dumps({"keys": [odd, Issuer("EdDSA").jwk]}).encode(), allows_secrets=True)
    assert [key.algorithm for key in keys.keys] == ["EdDSA"]
    assert message in keys.unusable[0]
    with pytest.raises(KeysUnusable, match="no usable key"):
        keys_of_jwks(json.dumps({"keys": [odd]}).encode(), allows_secrets=True)


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
    with pytest.raises(KeysUnusable, match="type"):
        keys_of_jwks(json.dumps({"keys": [required]}).encode(), allows_secrets=True)


def test_a_secret_counts_only_where_nobody_else_reads_it() -> None:
    """A set behind a URL is public, or may be."""
    with pytest.raises(KeysUnusable, match="others can read"):
        keys_of_jwks(key_set(Issuer("HS256")), allows_secrets=False)


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
