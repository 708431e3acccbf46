"""The one table from refusals to gRPC statuses.

Every non-OK status carries one `google.rpc.ErrorInfo` (domain `assetlane`) and the details that fit, in the
trailing metadata `grpc-status-details-bin` as all gRPC languages read it.
"""

import logging
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from assetlane_server.model import errors
from assetlane_server.rpc import refusals

DOMAIN = "assetlane"
# Trailing metadata above 8 KiB may be refused by a peer, above 16 KiB it is: the caller would learn nothing at all.
# The message travels percent-encoded, at worst three bytes for one, the details in base64, four for three.
_MAX_MESSAGE_BYTES = 512
_MAX_DETAILS_BYTES = 4096
_MAX_LISTED = 8  # an upload has fewer variants
_MAX_TEXT_BYTES = 384  # one text of the details
_RETRY_AFTER = Duration(seconds=1)

_log = logging.getLogger(__name__)

_CODES: dict[type[errors.Refusal], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UploadNotFound: grpc.StatusCode.NOT_FOUND,
    errors.AssetNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PartitionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.PartitionReadOnly: grpc.StatusCode.PERMISSION_DENIED,
    errors.UidMismatch: grpc.StatusCode.PERMISSION_DENIED,
    errors.RpcNotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.ScopeTooWide: grpc.StatusCode.PERMISSION_DENIED,
    errors.NoSigningKey: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TokensNotNeeded: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TokenMissing: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenExpired: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenRevoked: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenNotYetValid: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenInvalid: grpc.StatusCode.UNAUTHENTICATED,
    errors.TokenTooLarge: grpc.StatusCode.UNAUTHENTICATED,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.VariantsMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WrongStatus: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RevisionAhead: grpc.StatusCode.OUT_OF_RANGE,
    errors.ResumeExpired: grpc.StatusCode.OUT_OF_RANGE,
    errors.TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyWatches: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyProbes: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyUploads: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyBytes: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CallRateExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyWatchesOfOne: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.MessageMalformed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MessageLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.LedgerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.LedgerBusy: grpc.StatusCode.UNAVAILABLE,
    errors.KeysUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.AuditUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    refusals.MethodUnknown: grpc.StatusCode.UNIMPLEMENTED,
    refusals.HttpMethodRefused: grpc.StatusCode.UNIMPLEMENTED,
    refusals.ContentTypeRefused: grpc.StatusCode.INVALID_ARGUMENT,
    refusals.EncodingRefused: grpc.StatusCode.UNIMPLEMENTED,
    refusals.NotOneMessage: grpc.StatusCode.UNIMPLEMENTED,
    refusals.EncodingMissing: grpc.StatusCode.INTERNAL,  # as gRPC's compression.md and Connect want it
    refusals.OriginRefused: grpc.StatusCode.PERMISSION_DENIED,
    refusals.HostRefused: grpc.StatusCode.PERMISSION_DENIED,
    refusals.HttpMalformed: grpc.StatusCode.INVALID_ARGUMENT,
    refusals.HeadTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    refusals.DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# What these say names hosts and ports: for the log, not for callers.
_FOR_CALLERS: dict[type[errors.Refusal], str] = {
    errors.StoreUnavailable: "The object store did not answer: repeat the call after a while.",
    errors.LedgerUnavailable: "The ledger did not answer: repeat the call after a while.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A non-OK status, ready for `context.abort`."""

    code: grpc.StatusCode
    reason: str
    message: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def answer_to(error: Exception, method: str, request_id: str) -> Answer:
    """Returns the status that an exception becomes. An unknown one is logged, once, and becomes INTERNAL."""
    if not isinstance(error, errors.Refusal):
        _log.error("%s failed, request %s", method, request_id, exc_info=error)
        return _answer(grpc.StatusCode.INTERNAL, "INTERNAL", f"Something is wrong in the server: request {request_id}.")
    message = _FOR_CALLERS.get(type(error), str(error))
    if type(error) in _FOR_CALLERS:
        _log.warning("%s: %s", method, error)
    code = next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
    return _answer(code, error.reason, message, *_details(error))


def _details(error: errors.Refusal) -> tuple[Message, ...]:
    match error:
        case errors.InvalidRequest():
            fields = [
                BadRequest.FieldViolation(field=_cut(v.field), description=_cut(v.limit)) for v in error.violations
            ]
            bad = BadRequest()
            for violation in fields:
                if bad.ByteSize() + violation.ByteSize() > _MAX_DETAILS_BYTES - 1024:
                    break  # the first ones are enough to begin with
                bad.field_violations.append(violation)
            return (bad,)
        case errors.VariantsMissing():
            missing = [
                PreconditionFailure.Violation(type="VARIANT", subject=_cut(name), description="not in the store yet")
                for name in error.names[:_MAX_LISTED]
            ]
            return (PreconditionFailure(violations=missing),)
        case errors.WrongStatus():
            wrong = PreconditionFailure.Violation(type="STATUS", subject=error.reason, description=_cut(str(error)))
            return (PreconditionFailure(violations=[wrong]),)
        case errors.QuotaExceeded():
            exceeded = QuotaFailure(
                violations=[QuotaFailure.Violation(subject=_cut(error.subject), description=_cut(error.limit))]
            )
            if error.retry_after is None:
                return (exceeded,)
            retry_delay = Duration()
            retry_delay.FromTimedelta(error.retry_after)
            return (exceeded, RetryInfo(retry_delay=retry_delay))
        case (
            errors.StoreUnavailable()
            | errors.LedgerUnavailable()
            | errors.KeysUnavailable()
            | errors.AuditUnavailable()
            | errors.ShuttingDown()
            | errors.TooManyCalls()
            | errors.TooManyWatches()
            | errors.TooManyProbes()
        ):
            return (RetryInfo(retry_delay=_RETRY_AFTER),)
    return ()


def _answer(code: grpc.StatusCode, reason: str, message: str, *details: Message) -> Answer:
    number: int = code.value[0]
    message = _cut(message, _MAX_MESSAGE_BYTES)
    status = Status(code=number, message=message)
    for detail in (ErrorInfo(reason=reason, domain=DOMAIN), *details):
        status.details.add().Pack(detail)
    return Answer(code, reason, message, (("grpc-status-details-bin", status.SerializeToString()),))


def _cut(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Returns the beginning of a text that quotes what a caller sent."""
    data = text.encode()
    return text if len(data) <= max_bytes else data[: max_bytes - 3].decode(errors="ignore") + "…"
