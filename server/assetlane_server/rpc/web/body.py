"""Reads what a request carries, within limits: a body, an envelope of gRPC-Web and Connect, gzip.

Nothing is held that is larger than one request message may be, compressed or not.
"""

import base64
import binascii
import re
import zlib

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.client_exceptions import ClientPayloadError

from assetlane_server.model.errors import MessageMalformed, MessageTooLarge
from assetlane_server.rpc.refusals import EncodingMissing, EncodingRefused, NotOneMessage

PREFIX_BYTES = 5  # a byte of flags and four of length
COMPRESSED = 0x01
_AS_IT_IS = ("", "identity")
_STEP_BYTES = 16 * 1024
_TEXT_RUN = re.compile(rb"[A-Za-z0-9+/]+={0,2}")


async def body_of(request: web.BaseRequest, max_bytes: int) -> bytes:
    """Returns the whole body. Raises MessageTooLarge as soon as it is, and MessageMalformed when it breaks off."""
    if request.content_length is not None and request.content_length > max_bytes:
        raise MessageTooLarge(request.content_length, max_bytes)
    content: StreamReader = request.content
    data = bytearray()
    try:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.version >= HttpVersion11:
            # curl waits a second for it with a larger body. The token is checked, and the call has its place.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the response has not begun
        while chunk := await content.readany():
            data += chunk
            if len(data) > max_bytes:
                raise MessageTooLarge(len(data), max_bytes)
    except (ClientPayloadError, web.RequestPayloadError):
        raise MessageMalformed from None
    return bytes(data)


def envelope_in_text(text: bytes) -> bytes:
    """Returns the envelope in a body of gRPC-Web-text: base64, in one piece or several. Raises MessageMalformed."""
    runs = _TEXT_RUN.findall(text)
    if sum(map(len, runs)) != len(text):
        raise MessageMalformed
    try:
        return b"".join(base64.b64decode(run, validate=True) for run in runs)
    except binascii.Error:
        raise MessageMalformed from None


def message_in_envelope(body: bytes, max_bytes: int, encoding: str) -> bytes:
    """Returns the one message of an enveloped body.

    Raises MessageTooLarge, MessageMalformed for half a message, NotOneMessage, EncodingRefused, EncodingMissing.
    """
    check_encoding(encoding)
    if not body:
        raise NotOneMessage("no message")
    flags, size = body[0], int.from_bytes(body[1:PREFIX_BYTES])
    if len(body) < PREFIX_BYTES or flags & ~COMPRESSED:
        raise MessageMalformed
    if size > max_bytes:
        raise MessageTooLarge(size, max_bytes)
    data = body[PREFIX_BYTES : PREFIX_BYTES + size]
    if len(data) < size:
        raise MessageMalformed
    if len(body) > PREFIX_BYTES + size:
        raise NotOneMessage("more than one message")
    if not flags & COMPRESSED:
        return data
    if encoding.lower() in _AS_IT_IS:
        raise EncodingMissing
    return inflated(data, encoding, max_bytes)


def check_encoding(encoding: str) -> None:
    """Raises EncodingRefused for one that is not read."""
    if encoding.lower() not in (*_AS_IT_IS, "gzip"):
        raise EncodingRefused(encoding[:64])


def inflated(data: bytes, encoding: str, max_bytes: int) -> bytes:
    """Returns the message. Raises MessageTooLarge once more comes out than one may have, whatever goes in."""
    check_encoding(encoding)
    if encoding.lower() in _AS_IT_IS:
        return data
    out = bytearray()
    inflating = None
    position = 0
    # In steps: of a body of many members, of which gzip allows any number, zlib copies the rest after each.
    while position < len(data):
        inflating = inflating or zlib.decompressobj(wbits=31)
        step = data[position : position + _STEP_BYTES]
        try:
            out += inflating.decompress(step, max_bytes + 1 - len(out))
        except zlib.error:
            raise MessageMalformed from None
        if len(out) > max_bytes:
            raise MessageTooLarge(len(out), max_bytes)
        position += len(step) - len(inflating.unused_data)
        if inflating.eof:
            inflating = None
    if inflating is not None:
        raise MessageMalformed  # it breaks off
    return bytes(out)
