"""Opaque tokens that only the servers of one ledger can make. Pure."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

_MAC_BYTES = 16


class TokenSigner:
    """Signs with HMAC-SHA256 (RFC 2104), cut to 128 bits. Anybody can read what a token says, nobody can change it."""

    def __init__(self, key: bytes) -> None:
        """`key` is what all servers of the ledger share."""
        self._key = key

    def token_of(self, content: bytes, purpose: Sequence[str]) -> str:
        """Returns a token with this content, good for this purpose only."""
        return _text_of(self._mac(content, purpose) + content)

    def content_of(self, token: str, purpose: Sequence[str]) -> bytes | None:
        """Returns what a token says, None for one that was not made by `token_of` for this purpose."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        is_ours = hmac.compare_digest(mac, self._mac(content, purpose)) and _text_of(raw) == token
        return content if is_ours else None

    def _mac(self, content: bytes, purpose: Sequence[str]) -> bytes:
        # In JSON no two purposes read alike.
        message = json.dumps(list(purpose)).encode() + b"\n" + content
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
