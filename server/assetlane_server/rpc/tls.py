"""TLS on the port: a certificate that can be changed while streams are open.

grpc.aio takes grpcio's dynamic credentials. The core asks for the certificate before each handshake, from a thread
of its own: it is answered from memory, and what is open stays as it is. TLS 1.2 is the least that grpcio speaks.
"""

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import grpc

from assetlane_server.model.errors import NotReady

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
        self.ssl_context = _ssl_context(self._material)
        """For the handshakes of the web port, the newest one."""
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
            context = self.ssl_context if material == self._material else _ssl_context(material)
        except NotReady as error:
            # Once for each fault, not every ten seconds. Between two writes the files may not fit each other.
            if str(error) != self._last_fault:
                _log.warning(
                    "the new certificate is no good, the one before stays: %s",
                    error,
                    extra={"event_code": "CERTIFICATE_REFUSED"},
                )
            self._last_fault = str(error)
            return
        self._last_fault = ""
        if material != self._material:
            self._material, self._current, self.ssl_context = material, _configuration(material), context
            _log.info("new connections are given the new certificate")


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.client_ca)


def _ssl_context(material: Material) -> ssl.SSLContext:
    """Returns what Python's TLS takes, with the same terms as grpcio's. Raises NotReady."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # It reads files only: a private folder that is gone at once.
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder) / "chain.pem", Path(folder) / "key.pem"
        chain.write_bytes(material.chain)
        key.touch(mode=0o600)
        key.write_bytes(material.key)
        try:
            context.load_cert_chain(chain, key)
        except ssl.SSLError as error:
            fault = f"OpenSSL does not take it: {error.reason}"
            raise NotReady.of_setting("ASSETLANE_TLS_CERT_FILE", "CERTIFICATE_UNUSABLE", fault) from error
    if material.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=material.client_ca.decode())
    return context
