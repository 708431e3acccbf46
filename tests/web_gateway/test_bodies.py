"""What a request carries: compressed in one piece or many, and JSON that takes long to read."""

import asyncio
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetlane.v1.upload_service_pb2 import RequestUploadRequest
from assetlane_server.model.errors import MessageMalformed, MessageTooLarge
from assetlane_server.rpc.web.body import inflated
from assetlane_server.rpc.web.codecs import message_in_json

MAX_BYTES = 2**20


@given(st.lists(st.binary(max_size=300), max_size=300), st.integers(0, 2**16))
def test_members_of_gzip_are_joined(members: list[bytes], padding: int) -> None:
    """Any number, empty ones among them, on any side of the steps in which they are read."""
    bodies = [bytes(padding), *members]
    data = b"".join(gzip.compress(body, 0) for body in bodies)
    assert inflated(data, "gzip", MAX_BYTES) == b"".join(bodies)
    with pytest.raises(MessageMalformed):
        inflated(data[:-1], "gzip", MAX_BYTES)
    with pytest.raises(MessageMalformed):
        inflated(data + b"\x1f", "GZIP", MAX_BYTES)


def test_many_members_are_too_large_together() -> None:
    """Each is small; the limit is that of all."""
    with pytest.raises(MessageTooLarge):
        inflated(gzip.compress(bytes(1000)) * 2000, "gzip", MAX_BYTES)


async def test_json_that_takes_long_stops_nobody() -> None:
    """A MiB of small objects: the event loop goes on while they are read."""
    reading = asyncio.create_task(
        message_in_json(RequestUploadRequest, b'{"variants":[' + b"{}," * 300_000 + b"{}]}", ignores_unknown=True)
    )
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    message = await reading
    assert isinstance(message, RequestUploadRequest)
    assert len(message.variants) == 300_001
    assert turns > 2  # one to begin it, one in which it would have been read
