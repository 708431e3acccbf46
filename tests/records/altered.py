"""A real MongoDB seen through a proxy that alters what it says of itself: how a fault is planted in it."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import bson

_OP_REPLY = 1
_OP_MSG = 2013
_HEADER = struct.Struct("<iiii")

Hello = dict[str, Any]
Alteration = Callable[[Hello], None]


@asynccontextmanager
async def altered(uri: str, alter: Alteration) -> AsyncIterator[str]:
    """Passes every message on, and each answer to `hello` through `alter`; yields the URI."""
    address = urlsplit(uri)
    talks: set[asyncio.Task[None]] = set()
    ends: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        back, forth = await asyncio.open_connection(address.hostname, address.port)
        ends.update((forth, writer))
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_pass_on(reader, forth, lambda message: message))
            ways.create_task(_pass_on(back, writer, lambda message: _altered(message, alter)))

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield uri.replace(f"{address.hostname}:{address.port}", f"127.0.0.1:{port}")
        for end in ends:
            end.close()
        await asyncio.gather(*talks)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
) -> None:
    try:
        while True:
            head = await reader.readexactly(_HEADER.size)
            rest = await reader.readexactly(_HEADER.unpack(head)[0] - _HEADER.size)
            writer.write(change(head + rest))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _altered(message: bytes, alter: Alteration) -> bytes:
    """Only answers to `hello`: one document, behind what the two kinds of message begin with."""
    _, request_id, response_to, kind = _HEADER.unpack(message[: _HEADER.size])
    start = _HEADER.size + {_OP_REPLY: 20, _OP_MSG: 5}[kind]
    document = bson.decode(message[start:])
    if not {"ismaster", "isWritablePrimary"} & document.keys():
        return message
    alter(document)
    body = message[_HEADER.size : start] + bson.encode(document)
    return _HEADER.pack(_HEADER.size + len(body), request_id, response_to, kind) + body
