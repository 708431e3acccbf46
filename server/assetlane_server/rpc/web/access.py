"""Which pages may call, and by which names the server is called. Pure: no request, no response."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from assetlane_server.rpc.refusals import HostRefused, OriginRefused

# What pages send beside the headers that they always may, and what they may read of a response.
REQUEST_HEADERS = ", ".join(  # noqa: FLY002 - a list that people read
    ("authorization", "content-type", "accept", "x-grpc-web", "x-user-agent", "grpc-timeout", "grpc-encoding",
     "grpc-accept-encoding", "connect-protocol-version", "connect-timeout-ms", "connect-content-encoding",
     "connect-accept-encoding", "content-encoding", "x-request-id", "traceparent", "tracestate", "last-event-id")
)  # fmt: skip
RESPONSE_HEADERS = ", ".join(  # noqa: FLY002
    ("grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding", "connect-content-encoding",
     "content-encoding", "retry-after", "x-request-id", "trailer-x-request-id")
)  # fmt: skip
_PREFLIGHT_SECONDS = 7200  # the longest that Chromium keeps one


class WebAccess:
    """The listed origins and hosts."""

    def __init__(self, *, origins: Iterable[str], hosts: Iterable[str]) -> None:
        self._origins = {origin.lower(): origin for origin in origins}
        self._hosts = frozenset(host.lower() for host in hosts)

    def check_host(self, header: str | None) -> None:
        """Raises HostRefused unless the Host header names this server. The port may be any: of a proxy, a tunnel."""
        if header is None or _host_of(header) not in self._hosts:
            raise HostRefused((header or "")[:128])

    def headers_for(self, origin: str | None, host: str | None) -> dict[str, str]:
        """Returns the headers of every response to a page of this origin. Raises OriginRefused if it is not listed.

        The value is the listed one, never what was sent. A page that this host served itself needs none.
        """
        if origin is None:
            return {}
        listed = self._origins.get(origin.lower())
        if listed is not None:
            return {
                "access-control-allow-origin": listed,
                "access-control-expose-headers": RESPONSE_HEADERS,
                "vary": "origin",
            }
        if host is not None and "://" in origin and origin.partition("://")[2].lower() == host.lower():
            return {}
        raise OriginRefused(origin[:128])

    @property
    def preflight_headers(self) -> dict[str, str]:
        """The answer to a browser's preflight."""
        return {
            "access-control-allow-methods": "GET, POST, DELETE",
            "access-control-allow-headers": REQUEST_HEADERS,
            "access-control-max-age": str(_PREFLIGHT_SECONDS),
        }


def _host_of(header: str) -> str | None:
    """Returns the name in a Host header without its port and brackets; None if it is none."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises when it is no number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname
