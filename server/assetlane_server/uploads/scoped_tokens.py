"""Scoped tokens: what a service caller asks for, for one device, and the port of what signs them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from assetlane_server.uploads.access import owned_upload
from assetlane_server.uploads.admission import required
from assetlane_server.uploads.errors import (
    FieldViolation,
    InvalidRequest,
    RpcNotAllowed,
    TokensNotNeeded,
    UidMismatch,
    WrongStatus,
)
from assetlane_server.uploads.ports import Access, CallerKind, UploadRecords
from assetlane_server.uploads.upload import Upload

MIN_LIFETIME = timedelta(minutes=1)
DEFAULT_LIFETIME = timedelta(hours=1)
MAX_PATTERNS = 32  # of each list


@dataclass(frozen=True, slots=True)
class PartitionScope:
    """Patterns of the partitions that a token's holder may read and write."""

    read: tuple[str, ...]
    write: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token for one device; `token_id` names it in the audit log, where the token itself must never be."""

    token: str
    expire_time: datetime
    token_id: str
    maker: str


class ScopedTokenSigner(Protocol):
    """Signs tokens with the ring of keys of the caller that asks for them."""

    def check(self, lifetime: timedelta | None, access: Access, *, field: str) -> None:
        """Raises what would refuse a token of this lifetime, which `field` of the request asks for: RpcNotAllowed,
        InvalidRequest, NoSigningKey.
        """
        ...

    def for_upload(self, upload: Upload, lifetime: timedelta | None, access: Access) -> IssuedToken:
        """Returns a token for one upload, until its deadline at most. Raises InvalidRequest, NoSigningKey."""
        ...

    def for_partitions(
        self, uid: str, scope: PartitionScope, lifetime: timedelta | None, access: Access
    ) -> IssuedToken:
        """Returns a token of a user for these partitions.

        Raises InvalidRequest, UidMismatch, ScopeTooWide, NoSigningKey.
        """
        ...


class AccessTokens:
    """One method per RPC of AccessService, and what RequestUpload asks. `signer` None: no caller needs a token."""

    def __init__(self, uploads: UploadRecords, signer: ScopedTokenSigner | None, now: Callable[[], datetime]) -> None:
        self._uploads = uploads
        self._signer = signer
        self._now = now

    async def create_token(
        self, uid: str, upload_id: str, scope: PartitionScope | None, lifetime: timedelta | None, access: Access
    ) -> IssuedToken:
        """Returns a token for one upload, or for a user's partitions: one of both is given.

        Raises InvalidRequest, UploadNotFound, WrongStatus, and as the signer does.
        """
        signer = self._checked("lifetime", lifetime, access)
        if scope is not None:
            if violations := list(uid_faults(uid)):
                raise InvalidRequest(violations)
            return signer.for_partitions(uid, scope, lifetime, access)
        upload = await owned_upload(self._uploads, required("upload_id", upload_id), access)
        if uid not in ("", upload.uid):
            raise UidMismatch.of_service()
        return self._for_upload(signer, upload, lifetime, access)

    def check(self, field: str, lifetime: timedelta | None, access: Access) -> None:
        """Raises what would refuse a token for an upload that is about to be requested, before anything is stored."""
        self._checked(field, lifetime, access)

    def for_upload(self, upload: Upload, lifetime: timedelta | None, access: Access) -> IssuedToken | None:
        """Returns the token for an upload that was just requested, None when a repeat finds it over."""
        if upload.status.is_final or upload.expire_time <= self._now():
            return None
        return self._for_upload(self._checked("lifetime", lifetime, access), upload, lifetime, access)

    def _for_upload(
        self, signer: ScopedTokenSigner, upload: Upload, lifetime: timedelta | None, access: Access
    ) -> IssuedToken:
        if upload.status.is_final or upload.expire_time <= self._now():
            raise WrongStatus(upload.upload_id, upload.status, "given a token")
        return signer.for_upload(upload, lifetime, access)

    def _checked(self, field: str, lifetime: timedelta | None, access: Access) -> ScopedTokenSigner:
        if self._signer is None or access.kind is CallerKind.ANONYMOUS:
            raise TokensNotNeeded
        if access.kind is not CallerKind.SERVICE:
            raise RpcNotAllowed("CreateToken", "only a service caller of the policy makes tokens")
        self._signer.check(lifetime, access, field=field)
        return self._signer


def check_token_lifetime(field: str, lifetime: timedelta, longest: timedelta) -> None:
    """Raises InvalidRequest for a lifetime that no token may have."""
    if not MIN_LIFETIME <= lifetime <= longest:
        limit = f"is {lifetime.total_seconds():g} s, it must be from 60 s to {longest.total_seconds():g} s"
        raise InvalidRequest([FieldViolation(field, limit)])


def uid_faults(uid: str) -> list[FieldViolation]:
    """Returns what is wrong with the uid that a service caller names."""
    if not uid:
        return [FieldViolation("uid", "is required: a service caller names the user that it acts for")]
    if len(uid.encode()) > 128 or not uid.isprintable():
        return [FieldViolation("uid", "must be at most 128 bytes, without control characters")]
    return []
