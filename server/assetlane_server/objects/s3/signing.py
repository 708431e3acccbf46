"""Signs requests to the store with the credentials of the moment. Pure CPU."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from assetlane_server.model.errors import CredentialsExpired
from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.model.upload import whole_second
from assetlane_server.objects.s3.headers import check_signed_headers
from assetlane_server.objects.s3.sigv4 import Credentials, Presigner

_SECOND = timedelta(seconds=1)


class RequestSigner:
    """Presigns requests that live no longer than the credentials do."""

    def __init__(self, presigner: Presigner, credentials: Callable[[], Credentials]) -> None:
        self._presigner = presigner
        self._credentials = credentials

    def url(self, key: str) -> str:
        """Returns the key's URL without a signature."""
        return self._presigner.url(key)

    def life(self, signed_at: datetime, lifetime: timedelta) -> tuple[datetime, timedelta]:
        """Returns from when and for how long a URL lives: whole seconds, and no longer than the credentials.

        Raises CredentialsExpired when temporary credentials ended before `signed_at`.
        """
        start = whole_second(signed_at)
        if (end := self._credentials().expire_time) is not None:
            if end - start < _SECOND:
                raise CredentialsExpired
            lifetime = min(lifetime, end - start)
        return start, lifetime - lifetime % _SECOND

    def presign(
        self,
        method: str,
        key: str,
        signed_at: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str],
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> PresignedRequest:
        """Signs a request with exactly these headers and these parameters of S3's own in its query.

        Raises CredentialsExpired when temporary credentials ended before `signed_at`.
        """
        start, lifetime = self.life(signed_at, lifetime)
        return self.presign_life(method, key, start, lifetime, headers, query)

    def presign_life(
        self,
        method: str,
        key: str,
        start: datetime,
        lifetime: timedelta,
        headers: Mapping[str, str] = MappingProxyType({}),
        query: Mapping[str, str] = MappingProxyType({}),
    ) -> PresignedRequest:
        """Signs a request as `presign` does; `start` and `lifetime` are what `life` has returned."""
        if method == "PUT":
            check_signed_headers(headers)
        url = self._presigner.presign(method, key, self._credentials(), start, lifetime, headers, query)
        return PresignedRequest(method, url, headers, start + lifetime)
