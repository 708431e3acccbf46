"""Reads request messages: what is no message, or too large a one, becomes a refusal with a reason.

grpcio answers what a deserializer raises with UNKNOWN, and what is over the limit of its core with a status of its
own that has no details; so the core's limit is twice ours, and the refusal travels to the handler as a value.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from assetlane_server.model.errors import MessageMalformed, MessageTooLarge, Refusal

CORE_LIMIT_FACTOR = 2


def reading(deserialize: Callable[[bytes], Any], max_bytes: int) -> Callable[[bytes], Any]:
    """Returns a deserializer that never raises: what it cannot return a message for, it returns a Refusal for."""

    def read(data: bytes) -> Any:
        if len(data) > max_bytes:
            return MessageTooLarge(len(data), max_bytes)
        try:
            return deserialize(data)
        except DecodeError:
            return MessageMalformed()

    return read


def check_read(request: Any) -> None:
    """Raises the refusal that a deserializer returned."""
    if isinstance(request, Refusal):
        raise request
