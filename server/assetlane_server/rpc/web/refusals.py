"""What the web gateway refuses before a call reaches its method."""

from assetlane_server.uploads.errors import InvalidRequest, MessageMalformed, Refusal


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


class SecondMessage(Refusal):
    """A call that takes one message was sent two."""

    reason = "SECOND_MESSAGE"

    def __init__(self) -> None:
        super().__init__("The request has more than one message: this method takes one.")


class FieldUnreadable(InvalidRequest):
    """The JSON of a request, or a query parameter, does not fit the message of the contract."""

    def __init__(self, what: str) -> None:
        self.violations = ()
        Refusal.__init__(self, f"The request is not the JSON of the message that this method takes: {what}")


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

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The request line and headers may have {max_bytes:,} bytes together.")


class DeadlinePassed(Refusal):
    """The call took longer than its caller gave it."""

    reason = "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("The call did not end within the time that its caller gave it: call again.")
