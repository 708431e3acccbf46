"""Callers of a store that have nothing but URLs: over HTTP, or in memory where there is no HTTP."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

import aiohttp
from tests.memory.object_store import Answer, MemoryObjectStore
from yarl import URL

from assetlane_server.model.presigned import PresignedRequest
from assetlane_server.ports.object_store import ObjectStore

LIMIT = timedelta(seconds=20)


class Caller(Protocol):
    """Sends requests as they stand."""

    async def send(self, request: PresignedRequest, body: bytes = b"") -> Answer:
        """Returns the answer of the store."""
        ...


class HttpCaller:
    """A Caller over HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, request: PresignedRequest, body: bytes = b"") -> Answer:
        """See Caller."""
        async with self._session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=request.headers,
            data=io.BytesIO(body) if request.method == "PUT" or body else None,
            skip_auto_headers=["content-type"],
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, headers, await answer.read())


@asynccontextmanager
async def caller_of(store: ObjectStore) -> AsyncIterator[Caller]:
    """Opens a caller that reaches the store."""
    if isinstance(store, MemoryObjectStore):
        yield store
    else:
        timeout = aiohttp.ClientTimeout(total=LIMIT.total_seconds())
        # Bytes as they are stored, whatever encoding a header claims.
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            yield HttpCaller(session)
