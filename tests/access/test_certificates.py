"""Certificates from files: what fits is read, what does not is told with the setting."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.access.certificates import Authority

from assetlane_server.access.certificates import CertificateFiles, read_certificates
from assetlane_server.uploads.errors import NotReady


def test_what_fits_is_read(tmp_path: Path) -> None:
    """With its end and the names that it is for."""
    authority = Authority()
    chain, key = authority.signed("one", lifetime=timedelta(days=5)).put(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    found = read_certificates(CertificateFiles(chain, key, ca))
    assert (found.chain, found.key, found.client_ca) == (chain.read_bytes(), key.read_bytes(), authority.pem)
    assert timedelta(days=4) < found.expire_time - datetime.now(UTC) < timedelta(days=6)
    assert found.names == ("localhost", "127.0.0.1")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("server.pem", None, "ASSETLANE_TLS_CERT_FILE: .*No such file"),
        ("server.pem", b"nonsense", "ASSETLANE_TLS_CERT_FILE: there is no certificate"),
        ("server.key", None, "ASSETLANE_TLS_KEY_FILE: .*No such file"),
        ("server.key", b"nonsense", "ASSETLANE_TLS_KEY_FILE: this is not a private key"),
        ("server.key", Authority().signed("two").key, "does not belong to the certificate"),
        ("ca.pem", None, "ASSETLANE_TLS_CLIENT_CA_FILE: .*No such file"),
        ("ca.pem", b"", "ASSETLANE_TLS_CLIENT_CA_FILE: there is no certificate"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, file: str, content: bytes | None, told: str) -> None:
    """By the name of the setting to look at."""
    authority = Authority()
    chain, key = authority.signed("one").put(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(NotReady, match=told):
        read_certificates(CertificateFiles(chain, key, ca))
