"""What use cases refuse, and why. Every class has a stable `reason`: programs match on it, never on text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault
    """A call that cannot be carried out, described in the caller's own terms."""

    reason: str = "REFUSED"
    caller_uid: str = ""
    """Who called, where that was proved before the call was refused: for the log."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is missing, malformed or over its limit."""

    field: str  # a path as in the request: `variants[2].size_bytes`
    limit: str  # a sentence that says what would be right


class InvalidRequest(Refusal):
    """Fields of the request are missing, malformed or over their limits. Nothing was stored."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.limit}" for v in self.violations))


class UploadNotFound(Refusal):
    """There is no such upload, or the caller may not see it."""

    reason = "UPLOAD_NOT_FOUND"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"There is no upload {upload_id!r}.")


class AssetNotFound(Refusal):
    """There is no such asset, it was deleted, or the caller may not see it."""

    reason = "ASSET_NOT_FOUND"

    def __init__(self, asset_id: str) -> None:
        super().__init__(f"There is no asset {asset_id!r}.")


class PartitionNotFound(Refusal):
    """The caller may not see the partition, whether anything is in it or not."""

    reason = "PARTITION_NOT_FOUND"

    def __init__(self, partition: str) -> None:
        super().__init__(f"There is no partition {partition!r} for this caller.")


class PartitionReadOnly(Refusal):
    """The caller may see what is in the partition, and not change it."""

    reason = "PARTITION_READ_ONLY"

    def __init__(self, partition: str) -> None:
        super().__init__(f"This caller may read the partition {partition!r}, not write to it.")


class UidMismatch(Refusal):
    """The request names another owner than the caller has proved to be."""

    reason = "UID_MISMATCH"

    def __init__(self, message: str = "The uid is not the token's subject: leave it empty, or send that.") -> None:
        super().__init__(message)

    @classmethod
    def of_service(cls) -> "UidMismatch":
        """Returns the refusal of a service caller."""
        return cls("The uid is not one that this caller may act for.")


class RpcNotAllowed(Refusal):
    """The kind of the caller, or the policy, does not allow the RPC."""

    reason = "RPC_NOT_ALLOWED"

    def __init__(self, rpc: str, why: str) -> None:
        super().__init__(f"This caller may not call {rpc}: {why}.")


class ScopeTooWide(Refusal):
    """A token was asked for that would open more than its maker may do."""

    reason = "SCOPE_TOO_WIDE"

    def __init__(self, field: str, pattern: str) -> None:
        super().__init__(f"{field}: {pattern!r} goes beyond what this caller itself may do.")


class NoSigningKey(Refusal):
    """The service caller has no key to sign tokens with."""

    reason = "NO_SIGNING_KEY"

    def __init__(self, ring: str) -> None:
        super().__init__(f"There is no key in use in ring {ring}: run `assetlane-server keys add {ring}`.")


class TokensNotNeeded(Refusal):
    """The server asks no caller for a token, so that it makes none."""

    reason = "TOKENS_NOT_NEEDED"

    def __init__(self) -> None:
        super().__init__("This server asks no caller for a token: call without one.")


class AuditUnavailable(Refusal):
    """The call could not be written into the audit log, and goes unanswered therefore. Repeat it after a while."""

    reason = "AUDIT_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("The call could not be written into the audit log: repeat it after a while.")


class TokenRefused(Refusal):
    """The caller has no valid token. What exactly is wrong with a forged token is for the log."""


class TokenMissing(TokenRefused):
    """The call carries no token."""

    reason = "TOKEN_MISSING"

    def __init__(self) -> None:
        super().__init__("This server wants to know who calls: send `authorization: Bearer` and a token.")


class TokenExpired(TokenRefused):
    """The token was good and is too old: fetch another one and call again."""

    reason = "TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The token has expired: fetch another one and call again.")


class TokenRevoked(TokenRefused):
    """The token was good, and who made it, or holds it, may not act for its user any more."""

    reason = "TOKEN_REVOKED"

    def __init__(self) -> None:
        super().__init__("The token counts no more: what it stood for was taken away. Ask for another one.")


class TokenNotYetValid(TokenRefused):
    """The token is good from a later instant on."""

    reason = "TOKEN_NOT_YET_VALID"

    def __init__(self) -> None:
        super().__init__("The token is not valid yet: compare the clocks, or call later.")


class TokenInvalid(TokenRefused):
    """The token is not one that this server accepts: malformed, forged, of another issuer or for somebody else."""

    reason = "TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("The token is not one that this server accepts.")


class TokenTooLarge(TokenInvalid):
    """The token is longer than the server reads."""

    reason = "TOKEN_TOO_LARGE"

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        TokenRefused.__init__(self, f"The token has {size_bytes:,} bytes, it may have {max_bytes:,}: put less into it.")


class KeysUnavailable(Refusal):
    """The keys that tokens are verified with have never been read. Repeat the call after a while."""

    reason = "KEYS_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("Tokens cannot be verified right now: call again after a while.")


class RequestIdReused(Refusal):
    """The owner used this request id for a different request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The request id {request_id!r} was used for a different request: make a new one.")


class VariantsMissing(Refusal):
    """Variants are not in the store yet. Nothing changed: PUT them and complete again."""

    reason = "VARIANTS_MISSING"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"Not in the store yet: {', '.join(names)}. PUT them and complete the upload again.")


class WrongStatus(Refusal):
    """The upload's status does not allow the call. The reason is `UPLOAD_` and the status."""

    def __init__(self, upload_id: str, status: str, wish: str) -> None:
        self.reason = f"UPLOAD_{status}"
        super().__init__(f"Upload {upload_id} is {status}: it cannot be {wish}.")


class RevisionAhead(Refusal):
    """The caller says it saw a revision that the upload has not reached."""

    reason = "REVISION_AHEAD"

    def __init__(self, asked: int, newest: int, field: str = "after_revision") -> None:
        super().__init__(f"{field} is {asked}, but the upload's newest revision is {newest}.")


class ResumeExpired(Refusal):
    """A resume token is too old: the watch has to begin again."""

    reason = "RESUME_EXPIRED"

    def __init__(self, days: int) -> None:
        super().__init__(f"The resume token is older than {days} days: watch again without one.")


class PictureRefused(Exception):  # noqa: N818 - an answer, not a fault
    """No cuts can be made of a picture: it, not the call, is at fault."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class CuttingTimedOut(PictureRefused):
    """The machine had no time for a picture. Another time it may: try again, a few times."""

    def __init__(self, message: str) -> None:
        super().__init__("CUTTING_TIMED_OUT", message)


class StoreUnavailable(Refusal):
    """The object store did not answer, or not in time. Repeat the call after a while."""

    reason = "STORE_UNAVAILABLE"


class StoreRefused(StoreUnavailable):
    """The object store answered, and will answer the same until an operator corrects a right or a setting."""


class LedgerUnavailable(Refusal):
    """MongoDB did not answer, or not in time. Repeat the call after a while."""

    reason = "LEDGER_UNAVAILABLE"


class LedgerBusy(LedgerUnavailable):
    """As many writes wait for MongoDB as may wait; nothing was stored. Repeat the call after a while."""

    def __init__(self) -> None:
        super().__init__("The ledger has as many writes waiting as it takes: repeat the call after a while.")


# A race is lost to another call on the same record, and a record has few changes: more rounds than this mean
# that something is broken.
MAX_ROUNDS = 8


def too_many_rounds(record_id: str) -> LedgerUnavailable:
    """Returns the error for a caller that lost every round."""
    return LedgerUnavailable(f"{record_id} changed {MAX_ROUNDS} times meanwhile: call again.")


class TooManyCalls(Refusal):
    """This process has as many calls in flight as it takes. Repeat the call after a while."""

    reason = "TOO_MANY_CALLS"

    def __init__(self) -> None:
        super().__init__("This server has as many calls in flight as it takes: call again after a while.")


class TooManyWatches(Refusal):
    """This process has as many watches open as it takes. Watch again after a while."""

    reason = "TOO_MANY_WATCHES"

    def __init__(self) -> None:
        super().__init__("This server has as many watches open as it takes: watch again after a while.")


class TooManyProbes(Refusal):
    """This process, or this connection, has as many health checks or reflection streams open as it may."""

    reason = "TOO_MANY_PROBES"

    def __init__(self) -> None:
        super().__init__("Too many health checks or reflection streams are open: close some, or call again later.")


class QuotaExceeded(Refusal):
    """The caller has as much as one may have. `subject` says whose quota it is, such as `uid:7f3a`."""

    def __init__(self, subject: str, limit: str, retry_after: timedelta | None) -> None:
        self.subject = subject
        self.limit = limit  # a sentence
        self.retry_after = retry_after  # None: a repeat would be refused too
        super().__init__(f"{subject}: {limit}")


class TooManyUploads(QuotaExceeded):
    """So many uploads are open. Complete or cancel one, or repeat the call after a while."""

    reason = "TOO_MANY_UPLOADS"


class TooManyBytes(QuotaExceeded):
    """The uploads that are open promise so many bytes. Complete or cancel one, or repeat the call after a while."""

    reason = "TOO_MANY_BYTES"


class CallRateExceeded(QuotaExceeded):
    """The caller calls more often than one may. Repeat the call after the time that comes with it."""

    reason = "CALL_RATE_EXCEEDED"


class TooManyWatchesOfOne(QuotaExceeded):
    """The caller has as many watches open as one may. End one, or watch again after a while."""

    reason = "TOO_MANY_WATCHES_OF_ONE"


class MessageTooLarge(Refusal):
    """The request message is larger than one may be."""

    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"The request has {size_bytes:,} bytes, it may have {max_bytes:,}.")


class MessageMalformed(Refusal):
    """The request is not a message of the contract."""

    reason = "MESSAGE_MALFORMED"

    def __init__(self) -> None:
        super().__init__("The request cannot be read: it is not the message that this method takes.")


class MessageLate(Refusal):
    """The request message did not arrive in time after its call began."""

    reason = "MESSAGE_LATE"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request message did not arrive within {limit_s:g} s after the call began.")


class ShuttingDown(Refusal):
    """This server is about to stop. Connect again, to another one."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("This server is shutting down: connect again.")


class NotReady(Exception):  # noqa: N818 - the name says what the operator wants to know
    """Something outside is not as the server needs it; the message says how to fix it."""


class LedgerIsOld(NotReady):
    """The ledger has the form of an older version."""
