"""Who the command speaks for, as far as that can be seen without asking the server."""

import base64
import getpass
import json
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of itself, unverified: its subject, and when it expires (0: it does not say)."""

    subject: str = ""
    expires: float = 0.0

    @property
    def left_seconds(self) -> float:
        """How long it is still good, by this machine's clock; negative when it is too old."""
        return self.expires - time.time()


def claims_of(token: str) -> Claims:
    """Returns what the payload of a JWT says (RFC 7519), nothing for a token of another form."""
    parts = token.split(".")
    if len(parts) != 3:
        return Claims()
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        subject, expires = payload.get("sub", ""), payload.get("exp", 0)
        return Claims(subject if isinstance(subject, str) else "", float(expires))
    except (ValueError, TypeError, AttributeError):
        return Claims()


def login_name() -> str:
    """Returns the name of the user of this machine, empty where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # KeyError before Python 3.13
        return ""
