"""What use cases refuse, and why. Every class has a stable `reason`: programs match on it, never on text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of the program
    """A call that cannot be carried out, described in the caller's own terms."""

    reason: str = "REFUSED"
    caller_uid: str = ""
    """The caller, if it was proved before the call was refused: for the log."""


class Advice(StrEnum):
    """What an operator does about an error: the words that end its message, and a code for programs."""

    UPDATE_SERVER = "update the server"
    DROP_RING = "drop the ring and begin another"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that is missing, malformed or over its limit."""

    field: str  # a path as in the request: `variants[2].size_bytes`
    limit: str  # a sentence that says what would be right
    reason: str = "INVALID"  # UPPER_SNAKE and stable: REQUIRED, TOO_LONG, TOO_MANY, OUT_OF_RANGE, TWICE, MALFORMED …


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
    """The caller may read the partition but not write to it."""

    reason = "PARTITION_READ_ONLY"

    def __init__(self, partition: str) -> None:
        super().__init__(f"This caller may read the partition {partition!r} but not write to it.")


class UidMismatch(Refusal):
    """The request names another owner than the caller's token."""

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
    """The requested token would allow more than its maker may do."""

    reason = "SCOPE_TOO_WIDE"

    def __init__(self, field: str, pattern: str) -> None:
        super().__init__(f"{field}: {pattern!r} goes beyond what this caller may do.")


class NoSigningKey(Refusal):
    """The service caller has no key to sign tokens with."""

    reason = "NO_SIGNING_KEY"

    def __init__(self, ring: str) -> None:
        super().__init__(f"There is no key in use in ring {ring}: run `assetlane-server keys add {ring}`.")


class TokensNotNeeded(Refusal):
    """The server accepts calls without a token, and so makes none."""

    reason = "TOKENS_NOT_NEEDED"

    def __init__(self) -> None:
        super().__init__("This server needs no tokens: call without one.")


class AuditUnavailable(Refusal):
    """The call could not be written to the audit log and was not answered. Retry after a while."""

    reason = "AUDIT_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("The call could not be written to the audit log: retry after a while.")


class TokenRefused(Refusal):
    """The caller has no valid token. What exactly is wrong with a forged token is for the log."""


class TokenMissing(TokenRefused):
    """The call carries no token."""

    reason = "TOKEN_MISSING"

    def __init__(self) -> None:
        super().__init__("This server needs a token: send `authorization: Bearer` and the token.")


class TokenExpired(TokenRefused):
    """The token was valid and has expired: fetch another one and call again."""

    reason = "TOKEN_EXPIRED"

    def __init__(self) -> None:
        super().__init__("The token has expired: fetch another one and call again.")


class TokenRevoked(TokenRefused):
    """The token was valid, but its maker or its holder may not act for its user any more."""

    reason = "TOKEN_REVOKED"

    def __init__(self) -> None:
        super().__init__("The token was revoked: its maker may not act for this user any more. Ask for another one.")


class TokenNotYetValid(TokenRefused):
    """The token is valid from a later instant on."""

    reason = "TOKEN_NOT_YET_VALID"

    def __init__(self) -> None:
        super().__init__("The token is not valid yet: compare the clocks, or call later.")


class TokenInvalid(TokenRefused):
    """The token is not one that this server accepts: malformed, forged, from another issuer or for another audience."""

    reason = "TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("The token is not one that this server accepts.")


class TokenTooLarge(TokenInvalid):
    """The token is longer than the server reads."""

    reason = "TOKEN_TOO_LARGE"

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        TokenRefused.__init__(self, f"The token has {size_bytes:,} bytes, the limit is {max_bytes:,}.")


class KeysUnavailable(Refusal):
    """The keys that verify tokens have not been read yet. Retry after a while."""

    reason = "KEYS_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("Tokens cannot be verified right now: retry after a while.")


class RequestIdReused(Refusal):
    """The owner used this request id for a different request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"The request id {request_id!r} was used for a different request: use a new one.")


class VariantsMissing(Refusal):
    """Variants are not in the store yet. Nothing changed: PUT them and complete again."""

    reason = "VARIANTS_MISSING"

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(f"Not in the store yet: {', '.join(names)}. PUT them and complete the upload again.")


class WrongStatus(Refusal):
    """The upload's status does not allow the call. The reason is `UPLOAD_` and the status."""

    def __init__(self, upload_id: str, status: str, wanted: str) -> None:
        self.reason = f"UPLOAD_{status}"
        super().__init__(f"Upload {upload_id} is {status}: it cannot be {wanted}.")


class RevisionAhead(Refusal):
    """The caller names a revision that the upload has not reached."""

    reason = "REVISION_AHEAD"

    def __init__(self, asked: int, newest: int, field: str = "after_revision") -> None:
        super().__init__(f"{field} is {asked}, but the upload's newest revision is {newest}.")


class ResumeExpired(Refusal):
    """A resume token is too old: the watch has to begin again."""

    reason = "RESUME_EXPIRED"

    def __init__(self, days: int) -> None:
        super().__init__(f"The resume token is older than {days} days: watch again without one.")


class PictureRefused(Exception):  # noqa: N818 - an answer, not an error of the program
    """No cuts can be made of a picture; the call itself is right."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class CuttingTimedOut(PictureRefused):
    """The machine was too busy to cut a picture: try again, a few times."""

    def __init__(self, message: str) -> None:
        super().__init__("CUTTING_TIMED_OUT", message)


class StoreFault(StrEnum):
    """What went wrong between the server and the object store: finer than the reason that callers get."""

    FAILED = "FAILED"  # it answered with an error, or nothing more is known
    NO_ANSWER = "NO_ANSWER"  # not within the limit of a call
    UNREACHABLE = "UNREACHABLE"
    CERTIFICATE_NOT_ACCEPTED = "CERTIFICATE_NOT_ACCEPTED"
    REDIRECTED = "REDIRECTED"  # the bucket is elsewhere
    SIZE_MISSING = "SIZE_MISSING"  # from the answer about an object
    CHECKSUM_MALFORMED = "CHECKSUM_MALFORMED"


class StoreUnavailable(Refusal):
    """The object store did not answer, or not in time. Retry after a while.

    `fault` says what happened, `code` is the store's own error code or its HTTP status (empty: it gave none).
    """

    reason = "STORE_UNAVAILABLE"

    def __init__(self, message: str = "", *, fault: StoreFault = StoreFault.FAILED, code: str = "") -> None:
        super().__init__(message)
        self.fault = fault
        self.code = code


class CutDiffers(StoreUnavailable):
    """The store holds another object than the cut that it has just taken."""

    def __init__(self, difference: str) -> None:
        super().__init__(f"The store has another cut than it has taken: {difference}")


class CredentialsMissing(StoreUnavailable):
    """No S3 credentials are set, and boto3 finds no source of any."""

    def __init__(self) -> None:
        super().__init__(
            "No S3 credentials found: set an access key id and its secret, or give this process a role, "
            "a profile or AWS_* variables as boto3 knows them."
        )


class CredentialsSourceFailed(StoreUnavailable):
    """There is a source of S3 credentials, and it gives none."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"The source of S3 credentials gives none ({fault}).")


class CredentialsExpired(StoreUnavailable):
    """The server's S3 credentials have expired and are not renewed yet."""

    def __init__(self) -> None:
        super().__init__("The server's S3 credentials have expired and are not renewed yet.")


class StoreRefused(StoreUnavailable):
    """The object store answered, and will answer the same until an operator corrects a right or a setting."""


class LedgerUnavailable(Refusal):
    """MongoDB did not answer, or not in time. Retry after a while."""

    reason = "LEDGER_UNAVAILABLE"


class RecordNotReadable(LedgerUnavailable):
    """The record is there, and this version cannot read it: a newer one wrote it, or it is damaged."""

    advice = Advice.UPDATE_SERVER

    def __init__(self, record_id: str) -> None:
        self.record_id = record_id
        super().__init__(f"Record {record_id} cannot be read by this version: {self.advice}.")


class LedgerBusy(LedgerUnavailable):
    """The limit of writes that wait for MongoDB is reached; nothing was stored. Retry after a while."""

    def __init__(self) -> None:
        super().__init__("Too many writes wait for the ledger: retry after a while.")


# A call loses a round when another call changes the same record first. Records change rarely: more rounds than this
# mean that something is broken.
MAX_ROUNDS = 8


def too_many_rounds(record_id: str) -> LedgerUnavailable:
    """Returns the error for a caller that lost every round."""
    return LedgerUnavailable(f"{record_id} was changed {MAX_ROUNDS} times during this call: retry.")


class TooManyCalls(Refusal):
    """The limit of calls in flight of this process is reached. Retry after a while."""

    reason = "TOO_MANY_CALLS"

    def __init__(self) -> None:
        super().__init__("This server has too many calls in flight: retry after a while.")


class TooManyWatches(Refusal):
    """The limit of open watches of this process is reached. Watch again after a while."""

    reason = "TOO_MANY_WATCHES"

    def __init__(self) -> None:
        super().__init__("This server has too many watches open: watch again after a while.")


class TooManyProbes(Refusal):
    """Too many health checks or reflection streams are open in this process or on this connection."""

    reason = "TOO_MANY_PROBES"

    def __init__(self) -> None:
        super().__init__("Too many health checks or reflection streams are open: close some, or call again later.")


class QuotaExceeded(Refusal):
    """A quota is used up. `subject` says whose quota it is, such as `uid:7f3a`."""

    def __init__(self, subject: str, limit: str, retry_after: timedelta | None) -> None:
        self.subject = subject
        self.limit = limit  # a sentence
        self.retry_after = retry_after  # None: a retry would be refused too
        super().__init__(f"{subject}: {limit}")


class TooManyUploads(QuotaExceeded):
    """The quota of open uploads is used up. Complete or cancel one, or retry after a while."""

    reason = "TOO_MANY_UPLOADS"


class TooManyBytes(QuotaExceeded):
    """The quota of promised bytes is used up. Complete or cancel an upload, or retry after a while."""

    reason = "TOO_MANY_BYTES"


class CallRateExceeded(QuotaExceeded):
    """The caller calls too often. Retry after the time that comes with it."""

    reason = "CALL_RATE_EXCEEDED"


class TooManyWatchesOfOne(QuotaExceeded):
    """The caller has too many watches open. End one, or watch again after a while."""

    reason = "TOO_MANY_WATCHES_OF_ONE"


class MessageTooLarge(Refusal):
    """The request message is too large."""

    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"The request has {size_bytes:,} bytes, the limit is {max_bytes:,}.")


class MessageMalformed(Refusal):
    """The request is not a message of the contract."""

    reason = "MESSAGE_MALFORMED"

    def __init__(self) -> None:
        super().__init__("The request cannot be read: it is not the message of this method.")


class MessageLate(Refusal):
    """The request message did not arrive in time after its call began."""

    reason = "MESSAGE_LATE"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"The request message did not arrive within {limit_s:g} s after the call began.")


class ShuttingDown(Refusal):
    """This server is about to stop. Connect again, to another server."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("This server is shutting down: connect again.")


class NotReady(Exception):  # noqa: N818 - the name is what the operator needs to know
    """Something outside is not as the server needs it; the message says how to fix it.

    `reason` is UPPER_SNAKE and stable; `settings` are the names of the settings to look at, as an operator writes them.
    """

    def __init__(self, message: str, *, reason: str = "NOT_READY", settings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.settings = tuple(settings)

    @classmethod
    def of_setting(cls, setting: str, reason: str, fault: str) -> "NotReady":
        """Returns the error for one setting: the message is its name and what is wrong with it."""
        return cls(f"{setting}: {fault}", reason=reason, settings=(setting,))


@dataclass(frozen=True, slots=True)
class SettingFault:
    """What is wrong with one setting, or with several that do not go together."""

    reason: str  # UPPER_SNAKE and stable
    settings: tuple[str, ...]  # their names where they were set: a variable, or file and name
    message: str
    expected: str = ""  # for SETTING_MALFORMED, what it should be: WHOLE_NUMBER, NUMBER, BOOLEAN, TEXT, LIST, CHOICE …


class SettingsInvalid(NotReady):
    """Settings are unknown, missing, malformed or contradict each other. `faults` has each of them."""

    def __init__(self, faults: Sequence[SettingFault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.message))
        reason = self.faults[0].reason if len(self.faults) == 1 else "SETTINGS_INVALID"
        settings = [name for fault in self.faults for name in fault.settings]
        super().__init__("\n".join(fault.message for fault in self.faults), reason=reason, settings=settings)


class LedgerIsOld(NotReady):
    """The ledger has the form of an older version."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="LEDGER_IS_OLD")
