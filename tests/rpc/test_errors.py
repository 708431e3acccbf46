"""The one table from refusals to statuses."""

import grpc
import pytest
from google.rpc.status_pb2 import Status

from assetlane_server.model import errors
from assetlane_server.rpc.errors import answer_to
from assetlane_server.rpc.refusals import EncodingMissing

LONG = "ü/" * 100_000


def refusals(kind: type[errors.Refusal]) -> list[type[errors.Refusal]]:
    """Returns the kinds of refusals that are raised: the leaves of the tree."""
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in refusals(one)] if below else [kind]


@pytest.mark.parametrize("kind", refusals(errors.Refusal))
def test_every_refusal_has_a_row_and_a_reason(kind: type[errors.Refusal]) -> None:
    """One that is forgotten would be INTERNAL."""
    error = kind.__new__(kind)
    for name in ("violations", "names"):
        setattr(error, name, ())
    error.subject, error.limit, error.retry_after = "", "", None  # type: ignore[attr-defined]
    answer = answer_to(error, "/method", "request-1")
    if kind is not EncodingMissing:  # gRPC's and Connect's own word for it is INTERNAL
        assert answer.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize(
    "error",
    [
        errors.UploadNotFound(LONG),
        errors.WrongStatus(LONG, "EXPIRED", "completed"),
        errors.InvalidRequest([errors.FieldViolation(LONG, LONG)] * 1000),
        errors.TooManyUploads(LONG, LONG, None),
        errors.VariantsMissing([LONG] * 1000),
        errors.PartitionNotFound(LONG),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_status_quotes_is_cut_to_what_metadata_can_carry(error: errors.Refusal) -> None:
    """GRPC refuses more than 16 KiB, and then the caller learns nothing."""
    answer = answer_to(error, "/method", "request-1")
    ((_, details),) = answer.trailing_metadata
    assert 3 * len(answer.message.encode()) + len(details) * 4 / 3 < 7500
    assert Status.FromString(details).details[0].type_url.endswith("ErrorInfo")
