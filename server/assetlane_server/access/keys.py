"""The keys that tokens are verified with, from a PEM file, a secret or a JSON Web Key Set (RFC 7517). Pure.

A key is good for one algorithm, the one of its type: what a token says of itself never chooses. So a token that
was signed with a public key as if that were a secret, or not signed at all, meets no key.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: as long as the hash
MIN_RSA_BITS = 2048  # RFC 7518, 3.3

_KINDS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA", ("oct", None): "HS256"}


class KeysUnusable(ValueError):  # noqa: N818 - it says what happened
    """What was read holds no key to verify with; the message says why, and contains no key.

    Reasons: SECRET_TOO_SHORT, PRIVATE_KEY, NOT_A_PUBLIC_KEY, KEY_TOO_SHORT, KEY_TYPE_UNKNOWN, NOT_A_KEY_SET,
    NO_USABLE_KEY.
    """

    def __init__(self, reason: str, message: str, unusable: "Sequence[UnusableKey]" = ()) -> None:
        self.reason = reason
        self.unusable = tuple(unusable)  # of a set: why each of its keys is skipped
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the only algorithm that it is good for."""

    kid: str  # empty: it has no name, and may be meant by any token
    algorithm: str
    material: Any  # a public key of `cryptography`, or the bytes of a secret


@dataclass(frozen=True, slots=True)
class UnusableKey:
    """A key of a set that is skipped, and why.

    Reasons: NOT_AN_OBJECT, TYPE_UNKNOWN, ALGORITHM_MISMATCH, NOT_FOR_SIGNATURES, NAME_NOT_TEXT, SECRET_EXPOSED,
    PRIVATE_KEY, MALFORMED, SECRET_TOO_SHORT, and those of KeysUnusable.
    """

    reason: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that count, and why others do not."""

    keys: tuple[Key, ...]
    unusable: tuple[UnusableKey, ...] = ()

    def candidates(self, kid: str, algorithm: str) -> tuple[Key, ...]:
        """Returns the keys that a token may have been signed with; `kid` is empty if it does not say."""
        return tuple(key for key in self.keys if key.algorithm == algorithm and (not kid or key.kid in ("", kid)))


def keys_of_file(content: bytes) -> KeySet:
    """Returns the key of a file: a public key in PEM, else a secret. Raises KeysUnusable.

    White space around a secret does not count: an editor's or echo's last newline is nobody's intention.
    """
    if b"-----BEGIN" not in content:
        secret = content.strip()
        if len(secret) < MIN_SECRET_BYTES:
            fault = f"the secret has {len(secret)} bytes, it takes at least {MIN_SECRET_BYTES}"
            raise KeysUnusable("SECRET_TOO_SHORT", fault)
        return KeySet((Key("", "HS256", secret),))
    if b"PRIVATE KEY-----" in content:
        fault = "this is a private key: give the server the public one (openssl pkey -pubout)"
        raise KeysUnusable("PRIVATE_KEY", fault)
    try:
        material = load_pem_public_key(content)
    except Exception as error:  # whatever the parser makes of it
        raise KeysUnusable("NOT_A_PUBLIC_KEY", "this is not a public key in PEM") from error
    return KeySet((Key("", _algorithm_of(material), material),))


def keys_of_jwks(content: bytes, *, allows_secrets: bool) -> KeySet:
    """Returns the keys of a set; those that cannot verify a token are reported, not used. Raises KeysUnusable.

    Secrets count only where nobody else can read them: in a file, never behind a URL.
    """
    try:
        document = json.loads(content)
        entries: Iterable[Any] = document["keys"]
        found = [_usable(entry, allows_secrets) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise KeysUnusable("NOT_A_KEY_SET", "this is not a JSON Web Key Set") from error
    keys = tuple(one for one in found if isinstance(one, Key))
    unusable = tuple(one for one in found if isinstance(one, UnusableKey))
    if not keys:
        faults = ["there is no usable key in the set", *map(str, unusable)]
        raise KeysUnusable("NO_USABLE_KEY", "; ".join(faults), unusable)
    return KeySet(keys, unusable)


def _usable(entry: Any, allows_secrets: bool) -> Key | UnusableKey:
    """Returns the key, or why it is none: one that is odd must not spoil the others.

    A member that is null counts as absent: some issuers write those that they do not use.
    """
    if not isinstance(entry, dict):
        return UnusableKey("NOT_AN_OBJECT", "a key is no JSON object")
    entry = {member: value for member, value in entry.items() if value is not None}
    name = f"key {str(entry.get('kid', ''))[:64]!r}"
    try:
        if fault := next(_faults(entry, allows_secrets), None):
            reason, text = fault
            return UnusableKey(reason, f"{name} {text}")
        algorithm = _KINDS[_kind(entry)]
        material = jwt.PyJWK(entry, algorithm).key
        if algorithm != "HS256":
            _algorithm_of(material)
        elif len(material) < MIN_SECRET_BYTES:
            return UnusableKey("SECRET_TOO_SHORT", f"{name} is shorter than {MIN_SECRET_BYTES} bytes")
    except KeysUnusable as error:
        return UnusableKey(error.reason, f"{name}: {error}")
    except Exception:  # whatever the libraries make of it
        return UnusableKey("MALFORMED", f"{name} is malformed")
    return Key(entry.get("kid", ""), algorithm, material)


def _faults(entry: Mapping[str, Any], allows_secrets: bool) -> Iterator[tuple[str, str]]:
    algorithm = _KINDS.get(_kind(entry))
    if algorithm is None:
        yield "TYPE_UNKNOWN", "is of a type that is not used for RS256, ES256, EdDSA or HS256"
    elif entry.get("alg", algorithm) != algorithm:
        yield "ALGORITHM_MISMATCH", f"is for another algorithm than {algorithm}"
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        yield "NOT_FOR_SIGNATURES", "is not for signatures"
    if not isinstance(entry.get("kid", ""), str):
        yield "NAME_NOT_TEXT", "has a name that is no text"
    if entry.get("kty") == "oct" and not allows_secrets:
        yield "SECRET_EXPOSED", "is a secret that others can read"
    if entry.get("kty") != "oct" and "d" in entry:
        yield "PRIVATE_KEY", "is a private key"


def _kind(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    kty = entry.get("kty")
    return kty, entry.get("crv") if kty in ("EC", "OKP") else None


def _algorithm_of(material: object) -> str:
    match material:
        case RSAPublicKey():
            if material.key_size < MIN_RSA_BITS:
                fault = f"the RSA key has {material.key_size} bits, it takes at least {MIN_RSA_BITS}"
                raise KeysUnusable("KEY_TOO_SHORT", fault)
            return "RS256"
        case EllipticCurvePublicKey() if isinstance(material.curve, SECP256R1):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    raise KeysUnusable("KEY_TYPE_UNKNOWN", "a public key must be RSA, EC on P-256 or Ed25519")
