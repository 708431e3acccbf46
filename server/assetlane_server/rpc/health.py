"""The standard health service: whether callers should be sent here.

The stock servicer leaves its watches open when the server stops, and a server waits its whole grace period
for an open stream; these end once NOT_SERVING has been sent.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer as HealthService

# Asked for by probes that restart what does not answer. An outage outside is no reason for that: what is restarted
# then finds the same outage, and loses the calls that it still serves.
LIVENESS = "livez"
READINESS = "readyz"

_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING)
_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
_SERVICE_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)


class HealthServicer(HealthService):
    """One answer for the server, all its services and `readyz`: NOT_SERVING until `say` changes it.

    `livez` is SERVING for as long as anything answers.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(("", LIVENESS, READINESS, *services))
        self.is_serving = False
        self._is_closed = False
        self._changed = asyncio.Event()

    def say(self, *, is_serving: bool) -> None:
        """Answers checks and watches with it; once closed it stays NOT_SERVING."""
        if not self._is_closed and is_serving != self.is_serving:
            self.is_serving = is_serving
            self._ring()

    def close(self) -> None:
        """Says NOT_SERVING for good and ends every watch."""
        self._is_closed = True
        self.is_serving = False
        self._ring()

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802
        """Answers once."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return self._answer(request.service)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:  # noqa: N802
        """Answers now and whenever the answer changes."""
        sent: HealthCheckResponse | None = None
        while True:
            changed = self._changed
            answer = self._answer(request.service)
            if answer is not sent:
                yield answer
                sent = answer
            if self._is_closed:
                return
            await changed.wait()

    def _answer(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        if service == LIVENESS:
            return _SERVING
        return _SERVING if self.is_serving else _NOT_SERVING

    def _ring(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
