"""Where one request to a store begins and ends, what it is called, and what a store says when it is ill."""

import asyncio
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

import bson

_HEADER: Final = struct.Struct("<iiii")  # length, request id, the request answered, opcode
_OP_MSG: Final = 2013
_NOT_OF_A_CALL: Final = frozenset(
    {"aggregate", "createIndexes", "endSessions", "getMore", "hello", "ismaster", "isMaster", "killCursors", "ping"}
)


class StoreError(StrEnum):
    """What a store answers instead of doing as it was asked."""

    UNREACHABLE = "passing error"
    STEPPED_DOWN = "not primary"
    FORBIDDEN = "not allowed"


_CODES: Final = {
    StoreError.UNREACHABLE: (6, "HostUnreachable"),
    StoreError.STEPPED_DOWN: (10107, "NotWritablePrimary"),
    StoreError.FORBIDDEN: (13, "Unauthorized"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """One request of a server to a store."""

    name: str
    """Such as `update uploads` or `HEAD original`: no ids, so that every run has the same names."""
    data: bytes
    is_of_a_call: bool = True
    """Else it is the driver's own, or the change stream's."""


class Language(Protocol):
    """How a store is spoken to: one request after the other on each connection, each with one reply."""

    async def read(self, reader: asyncio.StreamReader) -> Message:
        """Returns the next request. Raises IncompleteReadError when there is none."""
        ...

    def refusal(self, message: Message, store_error: StoreError) -> bytes:
        """Returns the reply of a store that does not do it."""
        ...


class MongoWire:
    """https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/."""

    async def read(self, reader: asyncio.StreamReader) -> Message:
        """See Language."""
        header = await reader.readexactly(_HEADER.size)
        size_bytes, _, _, opcode = _HEADER.unpack(header)
        body = await reader.readexactly(size_bytes - _HEADER.size)
        if opcode != _OP_MSG:
            return Message("hello", header + body, is_of_a_call=False)
        # Flags, the kind of the section, then the command: drivers send it first.
        (document_bytes,) = struct.unpack_from("<i", body, 5)
        command: dict[str, Any] = bson.decode(body[5 : 5 + document_bytes])
        verb, subject = next(iter(command.items()))
        name = f"{verb} {subject}" if isinstance(subject, str) else verb
        return Message(name, header + body, verb not in _NOT_OF_A_CALL)

    def refusal(self, message: Message, store_error: StoreError) -> bytes:
        """See Language."""
        _, request_id, _, _ = _HEADER.unpack_from(message.data)
        code, name = _CODES[store_error]
        error: dict[str, Any] = {"ok": 0.0, "code": code, "codeName": name, "errmsg": store_error.value}
        if store_error is not StoreError.FORBIDDEN and not message.name.startswith("find"):
            error["errorLabels"] = ["RetryableWriteError"]
        body = struct.pack("<iB", 0, 0) + bson.encode(error)
        return _HEADER.pack(_HEADER.size + len(body), 0, request_id, _OP_MSG) + body


class S3Wire:
    """HTTP/1.1 as boto3 speaks it: a length for every body, no pipelining. https://www.rfc-editor.org/rfc/rfc9112."""

    async def read(self, reader: asyncio.StreamReader) -> Message:
        """See Language."""
        head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = request.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        variant = url.path.rpartition("/")[2].partition(".")[0]
        is_batch = "delete" in dict(parse_qsl(url.query, keep_blank_values=True))
        return Message("DELETE several" if is_batch else f"{method} {variant}", head + body)

    def refusal(self, message: Message, store_error: StoreError) -> bytes:
        """See Language."""
        code, name = (403, "AccessDenied") if store_error is StoreError.FORBIDDEN else (503, "SlowDown")
        xml = f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>{store_error.value}</Message></Error>"
        body = b"" if message.name.startswith("HEAD") else xml.encode()
        head = f"HTTP/1.1 {code} {name}\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body
