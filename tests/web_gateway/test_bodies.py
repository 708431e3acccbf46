"""What messages look like: compressed in one piece or many, JSON that takes long to read, numbers that JSON lacks."""

import asyncio
import gzip
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetlane.v1.upload_service_pb2 import ListUploadsResponse, RequestUploadRequest
from assetlane_server.model.errors import MessageMalformed, MessageTooLarge
from assetlane_server.rpc.web.body import inflated
from assetlane_server.rpc.web.codecs import encode, message_in_json

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


def test_numbers_that_json_lacks_are_texts() -> None:
    """A caller of the gRPC port may have put them into `extra`: one such upload must not break a whole page."""
    page = ListUploadsResponse()
    page.uploads.add(upload_id="a").details.extra.update({"n": 1.5, "text": "NaN"})
    extra = page.uploads.add(upload_id="b").details.extra
    extra.update({"list": [0, {"deep": 2}], "none": None})
    extra.fields["nan"].number_value = math.nan
    extra.fields["list"].list_value.values[0].number_value = -math.inf
    extra.fields["list"].list_value.values[1].struct_value.fields["deep"].number_value = math.inf
    first, second = json.loads(encode(page, is_json=True))["uploads"]
    assert first["details"]["extra"] == {"n": 1.5, "text": "NaN"}
    assert second["details"]["extra"] == {"list": ["-Infinity", {"deep": "Infinity"}], "none": None, "nan": "NaN"}
    assert math.isnan(extra.fields["nan"].number_value)  # what is encoded is not changed
