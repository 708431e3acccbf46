"""Removes from a text what nobody may read in a log: the code that logs need not think of it."""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "***"
SECRET_NAMES: Final = frozenset({"authorization", "token", "secret", "password", "signature", "cookie"})
_SHORTEST = 8  # a secret of fewer characters would take ordinary words along

# Where a text ends that stands in a line of JSON, in a repr, or in a terminal's colours.
_END = r"\s\"'<>\\\x1b"
# Each with what is in every text that it can match, in lower case: looking for that costs next to nothing.
_PATTERNS: Final = (
    (
        ("private key-----",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL),
        HIDDEN,
    ),
    # A whole query: a presigned URL is one that somebody may use.
    (("://",), re.compile(rf"(\w+://[^{_END}?]*)\?[^{_END}]+"), rf"\1?{HIDDEN}"),
    (("://",), re.compile(rf"(\w+://)[^{_END}/@]+@"), rf"\1{HIDDEN}@"),
    # Parts of one, and of the header that does the same.
    (
        ("x-amz-", "signature", "credential"),
        re.compile(rf"(?i)\b(x-amz-[a-z0-9-]+|signature|credential)(=|%3D)[^&,{_END}]+"),
        rf"\1\2{HIDDEN}",
    ),
    (("bearer", "basic"), re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]+"), rf"\1 {HIDDEN}"),
    (("eyj",), re.compile(r"\beyJ[\w-]{6,}(?:\.[\w-]*){2,}"), HIDDEN),  # a token by itself
)


class Redaction:
    """Knows the secrets of this server, and how those of others look."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if len(secret) >= _SHORTEST
            for spelling in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1])
        }
        # The longest first: a URI before the password in it.
        self._own = sorted(spellings, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Returns the text without them."""
        for secret in self._own:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        lowered = text.lower()
        for signs, pattern, instead in _PATTERNS:
            if any(sign in lowered for sign in signs):
                text = pattern.sub(instead, text)
        return text
