"""TLS on the web port: the certificate changes under open connections, and clients may have to show one."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from tests.access.certificates import Authority
from tests.web_gateway.conftest import web_server

from assetlane_server.access.certificates import CertificateFiles, read_certificates
from assetlane_server.rpc.tls import Tls

LIMIT_S = 60.0


async def shown(port: int, context: ssl.SSLContext) -> str:
    """Shakes hands and returns the common name that the server shows."""
    async with asyncio.timeout(LIMIT_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        spoken = writer.get_extra_info("ssl_object")
        certificate = x509.load_der_x509_certificate(spoken.getpeercert(binary_form=True))
        return certificate.subject.rfc4514_string().removeprefix("CN=")
    finally:
        writer.close()


async def test_a_new_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    """Open ones go on; of another kind of key too; what is no good changes nothing."""
    authority = Authority()
    files = CertificateFiles(*authority.signed("first").put(tmp_path))
    tls = Tls(lambda: read_certificates(files))
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    async with web_server(tls=tls) as served, aiohttp.ClientSession() as session:
        watch = await session.get(served.url + "/v1/uploads/quiet:watch", ssl=trusting)
        assert await watch.content.readline()
        assert await shown(served.port, trusting) == "first"
        authority.signed("second").put(tmp_path)
        await tls.look()
        assert await shown(served.port, trusting) == "second"
        files.key.write_text("no key")
        await tls.look()
        assert await shown(served.port, trusting) == "second"
        served.uploads.ending.set()
        async with asyncio.timeout(LIMIT_S):
            assert b"SHUTTING_DOWN" in await watch.content.readline()
        watch.close()
        old = ssl.create_default_context(cadata=authority.pem.decode())
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await shown(served.port, old) == "second"


async def test_clients_show_a_certificate_where_one_is_wanted(tmp_path: Path) -> None:
    """One of a stranger, or none, gets no connection."""
    authority, stranger = Authority(), Authority()
    chain, key = authority.signed("server").put(tmp_path)
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    tls = Tls(lambda: read_certificates(CertificateFiles(chain, key, tmp_path / "clients.pem")))
    async with web_server(tls=tls) as served, aiohttp.ClientSession() as session:
        for maker, is_served in ((authority, True), (stranger, False), (None, False)):
            context = ssl.create_default_context(cadata=authority.pem.decode())
            if maker is not None:
                folder = tmp_path / f"client-{maker is authority}"
                folder.mkdir()
                context.load_cert_chain(*maker.signed("client").put(folder))
            if is_served:
                async with session.get(served.url + "/v1/uploads/x", ssl=context) as response:
                    assert response.status == 200
            else:
                with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                    await session.get(served.url + "/v1/uploads/x", ssl=context)


async def test_a_handshake_that_does_not_come_closes_its_connection(tmp_path: Path) -> None:
    """As on the gRPC port."""
    tls = Tls(lambda: read_certificates(CertificateFiles(*Authority().signed("server").put(tmp_path))))
    async with web_server(tls=tls, handshake_seconds=0.3) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b""
        writer.close()
