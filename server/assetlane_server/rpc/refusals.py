"""What the edge refuses before a call reaches its method, beside what the use cases refuse."""

import re
from urllib.parse import unquote

from assetlane_server.model.errors import FieldViolation, InvalidRequest, MessageMalformed, Refusal

# How protobuf's JSON parser names the field that it cannot take.
_NAMED = re.compile(r"(?:Failed to parse |no field named \")([A-Za-z_][\w.\[\]]{0,127})")


class MethodUnknown(Refusal):
    """There is no such path."""

    reason = "METHOD_UNKNOWN"

    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path!r}: look at the paths in docs/web.md.")


class HttpMethodRefused(MethodUnknown):
    """The path exists, for other HTTP methods."""

    reason = "HTTP_METHOD_REFUSED"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        Refusal.__init__(self, f"{method} is not served at this path: use {' or '.join(allowed)}.")


class ContentTypeRefused(MessageMalformed):
    """The body is of a type that no protocol of the gateway has."""

    reason = "CONTENT_TYPE_REFUSED"

    def __init__(self, content_type: str, accepted: tuple[str, ...]) -> None:
        self.accepted = accepted
        sent = repr(content_type) if content_type else "no content-type"
        Refusal.__init__(self, f"The request has {sent}: send {' or '.join(accepted)}.")


class EncodingRefused(Refusal):
    """The body is compressed in a way that the gateway does not read."""

    reason = "ENCODING_REFUSED"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"The request is compressed with {encoding!r}: send it with gzip or identity.")


class NotOneMessage(Refusal):
    """A call that takes one message was sent none, or two."""

    reason = "NOT_ONE_MESSAGE"

    def __init__(self, count: str) -> None:
        super().__init__(f"The request has {count}: this method takes one.")


class EncodingMissing(Refusal):
    """A message says that it is compressed, and nothing says how."""

    reason = "ENCODING_MISSING"

    def __init__(self) -> None:
        super().__init__("The message is marked as compressed, but no header says how: send it with gzip or identity.")


class FieldUnreadable(InvalidRequest):
    """The JSON of a request does not fit the message of the contract."""

    def __init__(self, what: str) -> None:
        named = _NAMED.search(what)
        super().__init__([FieldViolation(named[1] if named else "request", what)])


class FieldRefused(InvalidRequest):
    """A field in the path or the query is not one of the message, or not readable."""

    def __init__(self, field: str, limit: str) -> None:
        super().__init__([FieldViolation(unquote(field, errors="replace")[:128], limit)])


class OriginRefused(Refusal):
    """A page of an origin that is not listed."""

    reason = "ORIGIN_REFUSED"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages of the origin {origin!r} may not call this server: it is not in ASSETLANE_WEB_ORIGINS."
        )


class HostRefused(Refusal):
    """The request was sent to a name that is not this server's: a page may have turned its own name to our address."""

    reason = "HOST_REFUSED"

    def __init__(self, host: str) -> None:
        super().__init__(f"This server is not {host!r}: call it by a name that is in ASSETLANE_WEB_HOSTS.")


class HeadTooLarge(Refusal):
    """The request line and headers are larger than they may be."""

    reason = "HEAD_TOO_LARGE"

    def __init__(self, max_bytes: int, max_line_bytes: int) -> None:
        super().__init__(
            f"The request line may have {max_line_bytes:,} bytes, and {max_bytes:,} together with the headers."
        )


class HttpMalformed(MessageMalformed):
    """What came is no request of HTTP/1.1."""

    reason = "HTTP_MALFORMED"

    def __init__(self, max_headers: int) -> None:
        Refusal.__init__(
            self, f"This is not a request of HTTP/1.1 (RFC 9112), or it has more than {max_headers} headers: send one."
        )


class DeadlinePassed(Refusal):
    """The call took longer than its caller gave it."""

    reason = "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("The call did not end within the time that its caller gave it: call again.")
