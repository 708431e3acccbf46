"""An issuer of tokens: good ones, and every kind of bad one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "HS256": lambda: b"a secret of at least 32 bytes, and more",
}


class Issuer:
    """Signs with one key. `kid` is its name in a key set."""

    def __init__(self, algorithm: str = "ES256", kid: str = "first") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key: Any = _MAKERS[algorithm]()

    def token(self, sub: str = "ann", *, lifetime_s: float = 600, names_key: bool = True, **claims: object) -> str:
        """Returns a good token, but for what the claims say; a claim of None is left out."""
        payload = {"sub": sub, "exp": time.time() + lifetime_s, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, self.key, self.algorithm, headers={"kid": self.kid} if names_key else None)

    @property
    def file(self) -> bytes:
        """What the server's key file holds."""
        if self.algorithm == "HS256":
            return bytes(self.key)
        pem: bytes = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem

    @property
    def jwk(self) -> dict[str, Any]:
        """The key as a JSON Web Key."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        key = self.key if self.algorithm == "HS256" else self.key.public_key()
        return {**algorithm.to_jwk(key, as_dict=True), "kid": self.kid, "use": "sig"}


def key_set(*issuers: Issuer) -> bytes:
    """Returns the key set of issuers."""
    return json.dumps({"keys": [issuer.jwk for issuer in issuers]}).encode()


def unsigned(sub: str = "ann") -> str:
    """Returns a token that says it needs no signature."""
    return jwt.encode({"sub": sub, "exp": time.time() + 600}, "", "none")


def confused(public_key: bytes, sub: str = "ann", kid: str | None = None) -> str:
    """Returns a token signed with a public key as if that were a secret (CVE-2015-9235)."""
    header: dict[str, str] = {"alg": "HS256", "typ": "JWT"}
    if kid is not None:
        header["kid"] = kid
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, {"sub": sub, "exp": time.time() + 600})
    ]
    signature = hmac.digest(public_key, b".".join(parts), hashlib.sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
