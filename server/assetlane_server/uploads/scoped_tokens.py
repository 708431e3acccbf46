"""Scoped tokens: what a service caller asks for, for one device, and the port of what signs them."""

from collections.abc import Callable
from datetime import datetime, timedelta

from assetlane_server.model.admission import required
from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import (
    InvalidRequest,
    RpcNotAllowed,
    TokensNotNeeded,
    UidMismatch,
    WrongStatus,
)
from assetlane_server.model.scoped_tokens import IssuedToken, PartitionScope, uid_faults
from assetlane_server.model.upload import Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.scoped_token_signer import ScopedTokenSigner
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.uploads.access import owned_upload


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
