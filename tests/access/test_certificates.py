"""Certificates from files: what fits is read, what does not is refused naming the setting."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.access.certificates import Authority
from tests.refusals import raises

from assetlane_server.access.certificates import CertificateFiles, current_certificates, read_certificates
from assetlane_server.model.errors import NotReady


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
    ("file", "content", "setting", "reason"),
    [
        ("server.pem", None, "ASSETLANE_TLS_CERT_FILE", "FILE_UNREADABLE"),
        ("server.pem", b"nonsense", "ASSETLANE_TLS_CERT_FILE", "NO_CERTIFICATE"),
        ("server.key", None, "ASSETLANE_TLS_KEY_FILE", "FILE_UNREADABLE"),
        ("server.key", b"nonsense", "ASSETLANE_TLS_KEY_FILE", "KEY_UNUSABLE"),
        ("server.key", Authority().signed("two").key, "ASSETLANE_TLS_KEY_FILE", "KEY_OF_ANOTHER_CERTIFICATE"),
        ("ca.pem", None, "ASSETLANE_TLS_CLIENT_CA_FILE", "FILE_UNREADABLE"),
        ("ca.pem", b"", "ASSETLANE_TLS_CLIENT_CA_FILE", "NO_CERTIFICATE"),
    ],
)
def test_what_does_not_fit_is_reported(
    tmp_path: Path, file: str, content: bytes | None, setting: str, reason: str
) -> None:
    """By the name of the setting to look at."""
    authority = Authority()
    chain, key = authority.signed("one").put(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with raises(NotReady, reason=reason, setting=setting, names=[] if content is not None else [file]):
        read_certificates(CertificateFiles(chain, key, ca))


@pytest.mark.parametrize(
    ("hours", "reason"),
    [
        (24 * 6, "CERTIFICATE_EXPIRED"),
        (24 * -32, "CERTIFICATE_NOT_YET_VALID"),
        (24 * 4, None),
    ],
)
def test_certificates_that_nobody_would_accept_now_are_refused(tmp_path: Path, hours: int, reason: str | None) -> None:
    """One that has expired, and one that is of the future: a server with it would be up and serve nobody."""
    chain, key = Authority().signed("one", lifetime=timedelta(days=5)).put(tmp_path)
    now = datetime.now(UTC) + timedelta(hours=hours)
    files = CertificateFiles(chain, key)
    if reason is None:
        assert current_certificates(files, lambda: now) == read_certificates(files)
    else:
        with raises(NotReady, reason=reason, setting="ASSETLANE_TLS_CERT_FILE"):
            current_certificates(files, lambda: now)


def test_authorities_count_as_expired_when_all_of_them_are(tmp_path: Path) -> None:
    """A bundle may hold old ones beside those in use."""
    authority = Authority()
    chain, key = authority.signed("one", lifetime=timedelta(days=90)).put(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem + Authority(lifetime=timedelta(days=80)).pem)
    files = CertificateFiles(chain, key, ca)
    assert current_certificates(files, lambda: datetime.now(UTC) + timedelta(days=60)).client_ca == ca.read_bytes()
    with raises(NotReady, reason="AUTHORITIES_EXPIRED", setting="ASSETLANE_TLS_CLIENT_CA_FILE"):
        current_certificates(files, lambda: datetime.now(UTC) + timedelta(days=85))
