"""How a gRPC status becomes an error."""

from collections.abc import Sequence

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from assetlane import errors
from assetlane.statuses import error_from, retry_after


def answered(
    code: grpc.StatusCode,
    message: str = "it does not work",
    details: Sequence[Message] = (),
    raw: bytes = b"",
) -> grpc.aio.AioRpcError:
    """Returns what grpcio raises for that status with those details."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", raw or status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)


def info(reason: str, domain: str = "assetlane") -> Message:
    """Returns the detail that every error of the contract carries."""
    message: Message = error_details_pb2.ErrorInfo(domain=domain, reason=reason)
    return message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.OUT_OF_RANGE, errors.OutOfRange),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.PreconditionFailed),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, errors.ServerFailed),
        (grpc.StatusCode.UNIMPLEMENTED, errors.ServerFailed),
    ],
)
def test_each_code_has_its_error_with_the_reason(code: grpc.StatusCode, kind: type[errors.AssetlaneError]) -> None:
    """The reason of the assetlane domain is what programs match on; others' are not ours."""
    error = error_from(answered(code, details=[info("NOT_OURS", "example.com"), info("SOME_REASON")]))
    assert type(error) is kind
    assert (error.reason, error.message, str(error)) == ("SOME_REASON",) + ("it does not work",) * 2


def test_bad_fields_are_named_with_their_fault() -> None:
    """BadRequest becomes a mapping from field to fault, and the text lists them."""
    message, field, fault = "the request is malformed", "variants[0].size_bytes", "must be at least 1"
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=fault)
    bad = error_details_pb2.BadRequest(field_violations=[violation])
    error = error_from(answered(grpc.StatusCode.INVALID_ARGUMENT, message, [info("INVALID_FIELD"), bad]))
    assert isinstance(error, errors.InvalidArgument)
    assert error.fields == {field: fault}
    assert str(error) == f"{message}; {field}: {fault}"


def test_missing_variants_are_named() -> None:
    """VARIANTS_MISSING becomes VariantsMissing with the names of its violations."""
    kinds = [("VARIANT", "original"), ("VARIANT", "small"), ("OTHER", "x")]
    failure = error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(type=kind, subject=subject) for kind, subject in kinds
        ]
    )
    error = error_from(answered(grpc.StatusCode.FAILED_PRECONDITION, details=[info("VARIANTS_MISSING"), failure]))
    assert isinstance(error, errors.VariantsMissing)
    assert error.variants == ("original", "small")


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    """RetryInfo becomes retry_after in seconds."""
    delay = Duration()
    delay.FromMilliseconds(1500)
    status = answered(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        details=[info("TOO_MANY_UPLOADS"), error_details_pb2.RetryInfo(retry_delay=delay)],
    )
    assert error_from(status).retry_after == retry_after(status) == 1.5


def test_a_status_without_readable_details_still_becomes_an_error() -> None:
    """A proxy's bare status, or damaged details, lose the reason but not the error."""
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details=None)
    assert isinstance(error_from(bare), errors.Unavailable)
    assert error_from(bare).reason == "UNAVAILABLE"
    damaged = error_from(answered(grpc.StatusCode.NOT_FOUND, raw=b"\xff\xff\xff"))
    assert (type(damaged), damaged.reason) == (errors.NotFound, "NOT_FOUND")


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (Duration(seconds=2, nanos=500_000_000), 2.5),
        (Duration(seconds=-5), 0.0),
        (Duration(seconds=2**63 - 1), None),
        (Duration(seconds=-(2**63)), None),
    ],
)
def test_a_wait_that_is_none_does_no_harm(delay: Duration, seconds: float | None) -> None:
    """A negative wait is 0, and one that is no duration is none."""
    error = answered(grpc.StatusCode.UNAVAILABLE, details=[error_details_pb2.RetryInfo(retry_delay=delay)])
    assert error_from(error).retry_after == seconds
    assert retry_after(error) == (seconds or 0.0)
