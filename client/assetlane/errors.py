"""Everything the client raises: one tree, each error with a stable `reason` to match on."""
# ruff: noqa: N818  the names are the users' words ("not found"), and the base class says Error

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assetlane.v1.upload_pb2 import Upload


class AssetlaneError(Exception):
    """Something that was asked of Assetlane did not happen.

    `reason` is UPPER_SNAKE and stable: programs match on it.
    `message` is a sentence for people and may change; it never holds a presigned URL.
    """

    reason: str
    message: str

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class ClientUnusable(RuntimeError):
    """The client cannot be used like this: a mistake of the program, not of the server.

    Reasons: CLIENT_NOT_OPEN (it is used outside `async with`), CLIENT_CLOSED, CLIENT_FORKED (it was opened before the
    process was forked), CLIENT_CALLED_BACK (a callback of the client calls it, and would wait for itself).
    """

    reason: str

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class CallFailed(AssetlaneError):
    """The server answered a call with an error, or could not be asked.

    `retry_after` is how many seconds the server asks to wait, None when it did not say.
    """

    retry_after: float | None

    def __init__(self, message: str, *, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after = retry_after


class NotFound(CallFailed):
    """There is no such upload or asset, or the caller may not see it."""


class AlreadyExists(CallFailed):
    """The `request_id` was used for a different request."""


class InvalidArgument(CallFailed):
    """The request is malformed; `fields` maps the path of each bad field to what is wrong with it."""

    fields: Mapping[str, str]

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.fields = MappingProxyType(dict(fields or {}))

    def __str__(self) -> str:
        """Returns the message with the fields, unless the message names them already."""
        faults = [f"{field}: {fault}" for field, fault in self.fields.items() if fault not in self.message]
        return "; ".join([self.message, *faults])


class OutOfRange(CallFailed):
    """A watch cannot go on from there: a revision lies in the future, or a resume token is too old."""


class ResumeExpired(OutOfRange):
    """A resume token is too old: discard what the earlier watch delivered, and watch again without a token."""


class PreconditionFailed(CallFailed):
    """The upload's status does not allow it."""


class VariantsMissing(PreconditionFailed):
    """Variants are not in the store yet; `variants` names them. PUT them and complete again."""

    variants: tuple[str, ...]

    def __init__(
        self,
        message: str,
        *,
        reason: str = "VARIANTS_MISSING",
        retry_after: float | None = None,
        variants: Sequence[str] = (),
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.variants = tuple(variants)


class Unauthenticated(CallFailed):
    """The server does not know who is calling."""


class PermissionDenied(CallFailed):
    """The server knows who is calling, and does not let them."""


class TokenExpired(Unauthenticated):
    """The token was good and is too old. A client whose `token` is a function fetches another one by itself."""


class ResourceExhausted(CallFailed):
    """A quota or limit is reached; try again after `retry_after` seconds."""


class Unavailable(CallFailed):
    """The server could not be reached, or asks to come back later, for longer than the call may take."""


class DeadlineExceeded(CallFailed):
    """The server did not answer in time. What was asked may have happened all the same."""


class ServerFailed(CallFailed):
    """The server failed in a way it did not foresee, or does not know the call."""


class UploadFailed(AssetlaneError):
    """What arrived is not what was promised; `upload` is the upload, `reason` that of its failure."""

    upload: Upload

    def __init__(self, upload: Upload) -> None:
        message = upload.failure.message or f"upload {upload.upload_id} failed"
        super().__init__(message, reason=upload.failure.reason)
        self.upload = upload


class MediaRefused(AssetlaneError):
    """No cuts or preview can be made of a file, and they were required. Without `require_cuts` it goes in without.

    The reasons are those of `Asset.notices` too: what its subclasses list, and CUTS_FAILED for what nobody foresaw.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)

    def __reduce__(self) -> tuple[type[MediaRefused], tuple[str, str]]:
        """Lets the error come back from another process: an exception is rebuilt from its message alone."""
        return type(self), (self.reason, self.message)


class CutsRefused(MediaRefused):
    """Cuts were required of a file that has none, such as a text. Reason: CUTS_NOT_POSSIBLE."""


class ImageRefused(MediaRefused):
    """A picture cannot be read, or is too large to read.

    Reasons: IMAGE_EMPTY, IMAGE_UNRECOGNIZED (no picture, or a format that is not read), IMAGE_MISLABELLED,
    IMAGE_BROKEN (truncated or damaged), IMAGE_TOO_LARGE (more pixels than allowed), IMAGE_EXTRA_MISSING
    (HEIC without the extra `heif`).
    """


class VideoRefused(MediaRefused):
    """No still can be made of a video.

    Reasons: VIDEO_EMPTY, VIDEO_UNRECOGNIZED (no video, or a container that is not read), VIDEO_NO_TRACK (sound
    alone), VIDEO_BROKEN (truncated, damaged, or no decoder for it), VIDEO_TOO_LARGE (more pixels than
    allowed), VIDEO_EXTRA_MISSING (the extra `video` is not installed).
    """


class TransferFailed(AssetlaneError):
    """Bytes did not get to the store, or from it."""


class StoreUnavailable(TransferFailed):
    """The store could not be reached, or failed, as often as was tried."""


class StoreRefused(TransferFailed):
    """The store refused a request.

    `status` is the HTTP status, `code` the store's own error code such as `AccessDenied` (may be empty).
    """

    status: int
    code: str

    def __init__(self, message: str, *, status: int, code: str, reason: str = "STORE_REFUSED") -> None:
        super().__init__(message, reason=reason)
        self.status = status
        self.code = code


class ObjectExists(StoreRefused):
    """Somebody else has put an object in this place already."""


class FileChanged(TransferFailed):
    """The file is not the one that was promised: its size changed while it was being sent."""


class ContentMismatch(TransferFailed):
    """What the store sent is not what the ledger says: another size or another SHA-256."""


class TargetUnknown(TransferFailed):
    """The server offers a way into the store that this client is too old to know."""
