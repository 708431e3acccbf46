"""TLS on the port: a certificate that can be changed while streams are open.

grpc.aio takes grpcio's dynamic credentials. The core asks for the certificate before each handshake, from a thread
of its own: it is answered from memory, and what is open stays as it is. TLS 1.2 is the least that grpcio speaks.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import grpc

from assetlane_server.uploads.errors import NotReady

LOOK_INTERVAL = timedelta(seconds=10)

_log = logging.getLogger(__name__)


class Material(Protocol):
    """What a handshake takes, all of it PEM. Two are equal when nothing has changed."""

    @property
    def chain(self) -> bytes:
        """The server's certificate and those that lead to a root."""
        ...

    @property
    def key(self) -> bytes:
        """Its private key."""
        ...

    @property
    def client_ca(self) -> bytes | None:
        """The authorities that sign clients' certificates; None: clients need none."""
        ...


class Tls:
    """Credentials of a port that follow the files. Whether clients need a certificate is settled at the start."""

    def __init__(self, read: Callable[[], Material]) -> None:
        """Reads the first ones; `read` blocks, and raises NotReady saying what is wrong."""
        self._read = read
        self._material = read()
        self._current = _configuration(self._material)
        self._last_fault = ""
        self.credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            self._current,
            lambda: self._current,
            require_client_authentication=self._material.client_ca is not None,
        )

    async def run(self) -> None:
        """Looks at the files again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL.total_seconds())
            await self.look()

    async def look(self) -> None:
        """Takes what is in the files for the handshakes to come; what is no good changes nothing and is logged."""
        try:
            material = await asyncio.to_thread(self._read)
        except NotReady as error:
            # Once for each fault, not every ten seconds. Between two writes the files may not fit each other.
            if str(error) != self._last_fault:
                _log.warning("the new certificate is no good, the one before stays: %s", error)
            self._last_fault = str(error)
            return
        self._last_fault = ""
        if material != self._material:
            self._material, self._current = material, _configuration(material)
            _log.info("new connections are given the new certificate")


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.client_ca)
