"""Resume tokens of a partition's watch: from where on its events have to be sent again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from assetlane_server.model.errors import FieldViolation, InvalidRequest, ResumeExpired
from assetlane_server.model.tokens import TokenSigner
from assetlane_server.model.upload import LedgerTime

# As long as the longest read URL lives: what a watcher knows from before is of no use anyway.
TOKEN_LIFETIME: Final = timedelta(days=7)

_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Position:
    """What the holder of a token was sent: the changes until an instant, and how far the listing came."""

    sent_until: LedgerTime
    listed_to: str = ""  # the last asset of a listing that has not ended; empty: it has


def resume_token(signer: TokenSigner, partition: str, position: Position) -> str:
    """Returns an opaque token that goes on in the partition from there."""
    content = position.sent_until.to_bytes(_TIME_BYTES, "big") + position.listed_to.encode()
    return signer.token_of(content, _purpose(partition))


def position_of(signer: TokenSigner, token: str, partition: str) -> Position:
    """Returns what a token says. Raises InvalidRequest for one that was not made for this partition."""
    content = signer.content_of(token, _purpose(partition))
    if content is None:
        limit = "is not from a watch of this partition: send the newest one, or none to begin again"
        raise InvalidRequest([FieldViolation("resume_token", limit)])
    return Position(LedgerTime(int.from_bytes(content[:_TIME_BYTES], "big")), content[_TIME_BYTES:].decode())


def check_age(position: Position, now: LedgerTime) -> None:
    """Raises ResumeExpired for a position that is too old at that instant of the ledger's clock."""
    if (now - position.sent_until) >> 32 > TOKEN_LIFETIME.total_seconds():
        raise ResumeExpired(TOKEN_LIFETIME.days)


def _purpose(partition: str) -> Sequence[str]:
    return ("watch", partition)
