"""Translates a gRPC status, with its details, into an `AssetlaneError`."""

import logging

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from assetlane import errors

logger = logging.getLogger(__name__)

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "assetlane"

_KINDS: dict[grpc.StatusCode, type[errors.CallFailed]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionFailed,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.CANCELLED: errors.Unavailable,  # by a server that went away: our own is CancelledError
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}


def error_from(error: grpc.aio.AioRpcError) -> errors.CallFailed:
    """Returns the `AssetlaneError` that says what the status of a failed call says."""
    details = _details(error)
    reason = next((info.reason for info in details.infos if info.domain == DOMAIN), "")
    message = error.details() or f"the server answered {error.code().name}"
    kind = _KINDS.get(error.code(), errors.ServerFailed)
    if kind is errors.InvalidArgument:
        fields = {fault.field: fault.description for bad in details.bad for fault in bad.field_violations}
        return errors.InvalidArgument(message, reason=reason, retry_after=details.retry_after, fields=fields)
    if kind is errors.PreconditionFailed and reason == "VARIANTS_MISSING":
        missing = [
            violation.subject
            for precondition in details.preconditions
            for violation in precondition.violations
            if violation.type == "VARIANT"
        ]
        return errors.VariantsMissing(message, retry_after=details.retry_after, variants=missing)
    if kind is errors.OutOfRange and reason == "RESUME_EXPIRED":
        kind = errors.ResumeExpired
    if kind is errors.Unauthenticated and reason == "TOKEN_EXPIRED":
        kind = errors.TokenExpired
    return kind(message, reason=reason or error.code().name, retry_after=details.retry_after)


def is_bare_exhaustion(failed: errors.CallFailed) -> bool:
    """Returns whether gRPC itself refused a call as RESOURCE_EXHAUSTED: it says neither why nor for how long."""
    return isinstance(failed, errors.ResourceExhausted) and failed.reason == grpc.StatusCode.RESOURCE_EXHAUSTED.name


def retry_after(error: grpc.aio.AioRpcError) -> float:
    """Returns how many seconds the server asks to wait before a repeat, 0 when it does not say."""
    return _details(error).retry_after or 0.0


class _Details:
    """The details of a status, by kind."""

    def __init__(self) -> None:
        self.infos: list[error_details_pb2.ErrorInfo] = []
        self.bad: list[error_details_pb2.BadRequest] = []
        self.preconditions: list[error_details_pb2.PreconditionFailure] = []
        self.retry_after: float | None = None


def _details(error: grpc.aio.AioRpcError) -> _Details:
    found = _Details()
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
            for packed in status.details:
                _add(found, packed)
        except DecodeError:
            logger.warning("the details of a %s status are not readable", error.code().name)
    return found


def _add(found: _Details, packed: Any) -> None:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    precondition = error_details_pb2.PreconditionFailure()
    retry = error_details_pb2.RetryInfo()
    if packed.Unpack(info):
        found.infos.append(info)
    elif packed.Unpack(bad):
        found.bad.append(bad)
    elif packed.Unpack(precondition):
        found.preconditions.append(precondition)
    elif packed.Unpack(retry):
        try:
            found.retry_after = max(0.0, retry.retry_delay.ToTimedelta().total_seconds())
        except (ValueError, OverflowError):
            logger.warning("a server asks for a wait of %d s, which is none", retry.retry_delay.seconds)
