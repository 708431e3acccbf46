"""A real store seen through a proxy that alters some of its answers: how a fault is planted in it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from tests.objects.servers import http_server
from yarl import URL

_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "expect", "keep-alive")


@dataclass(frozen=True)
class Answer:
    """What the store answered."""

    status: int
    headers: "CIMultiDict[str]"
    body: bytes

    def with_status(self, status: int) -> "Answer":
        """Returns it with another status."""
        return replace(self, status=status)

    def with_header(self, name: str, value: str) -> "Answer":
        """Returns it with one header set."""
        headers = CIMultiDict(self.headers)
        headers[name] = value
        return replace(self, headers=headers)


Alteration = Callable[[web.Request, Answer], Answer]


@asynccontextmanager
async def altered(endpoint: str, alter: Alteration) -> AsyncIterator[str]:
    """Forwards every request as it is, its Host too, so that signatures stay right; yields the address."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            url = URL(f"{endpoint}{request.raw_path}", encoded=True)
            headers = CIMultiDict(request.headers)
            for name in _HOP_BY_HOP:
                headers.popall(name, None)
            body = await request.read()
            async with session.request(
                request.method,
                url,
                headers=headers,
                data=body if body or request.method == "PUT" else None,
                skip_auto_headers=["content-type", "user-agent", "accept", "accept-encoding"],
                allow_redirects=False,
            ) as reply:
                answer = Answer(reply.status, CIMultiDict(reply.headers), await reply.read())
            length = answer.headers.get("content-length")
            for name in _HOP_BY_HOP:
                answer.headers.popall(name, None)
            if request.method == "HEAD" and length is not None:
                answer.headers["content-length"] = length
            answer = alter(request, answer)
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

        async with http_server(forward) as address:
            yield address


def overwriting(_request: web.Request, answer: Answer) -> Answer:
    """A store that answers every second writer that it has written."""
    return answer.with_status(200) if answer.status == 412 else answer
