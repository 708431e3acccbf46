"""What is open in one account, and how much may be: plain values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class QuotaLimit:
    """How much may be open at a time in one account."""

    max_uploads: int
    max_bytes: int | None = None  # promised sizes; None: no limit


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request takes of an account, until the upload that comes of it has ended."""

    key: str  # the same for every repeat of a request, hexadecimal
    size_bytes: int
    upload_ids: tuple[str, ...]  # of the uploads it may have become; one of them at most is stored
    time: datetime  # of its last repeat


@dataclass(frozen=True, slots=True)
class Balance:
    """How much is open of one owner, or in one partition: the sums of the claims."""

    subject: str
    open_uploads: int
    open_bytes: int
    sweep_time: datetime  # when somebody looks for claims that nobody gave back


@dataclass(frozen=True, slots=True)
class Account:
    """What exactly is open."""

    balance: Balance
    claims: tuple[Claim, ...]
