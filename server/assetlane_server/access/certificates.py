"""The server's certificate and key, and the authorities of its clients: read, and checked against each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from assetlane_server.model.errors import NotReady


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where they lie; `client_ca` is None where clients need no certificate."""

    chain: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the files hold, all of it PEM; the key fits the certificate."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    begin_time: datetime  # of the server's own certificate
    expire_time: datetime
    client_ca_expire_time: datetime | None  # of the authority that lasts longest
    names: tuple[str, ...]  # hosts and addresses that it is for


def read_certificates(files: CertificateFiles) -> Certificates:
    """Reads and checks them. Raises NotReady naming the setting to look at. Blocks: a few small files."""
    chain_pem = _content("ASSETLANE_TLS_CERT_FILE", files.chain)
    key_pem = _content("ASSETLANE_TLS_KEY_FILE", files.key)
    ca_pem = None if files.client_ca is None else _content("ASSETLANE_TLS_CLIENT_CA_FILE", files.client_ca)
    own = _certificates("ASSETLANE_TLS_CERT_FILE", chain_pem)[0]
    authorities = [] if ca_pem is None else _certificates("ASSETLANE_TLS_CLIENT_CA_FILE", ca_pem)
    try:
        key = load_pem_private_key(key_pem, None)
    except Exception as error:  # whatever the parser makes of it, a password that it wants included
        fault = "this is not a private key in PEM without a password"
        raise NotReady.of_setting("ASSETLANE_TLS_KEY_FILE", "KEY_UNUSABLE", fault) from error
    if _public_bytes(key) != _public_bytes(own):
        fault = "this key does not belong to the certificate in ASSETLANE_TLS_CERT_FILE"
        raise NotReady.of_setting("ASSETLANE_TLS_KEY_FILE", "KEY_OF_ANOTHER_CERTIFICATE", fault)
    return Certificates(
        chain=chain_pem,
        key=key_pem,
        client_ca=ca_pem,
        begin_time=own.not_valid_before_utc,
        expire_time=own.not_valid_after_utc,
        client_ca_expire_time=max((one.not_valid_after_utc for one in authorities), default=None),
        names=tuple(_names(own)),
    )


def current_certificates(files: CertificateFiles, now: Callable[[], datetime]) -> Certificates:
    """Reads and checks them. Raises NotReady also when no client would accept them now, or no client is acceptable."""
    found, instant = read_certificates(files), now()
    if found.expire_time <= instant:
        fault = f"the certificate expired on {found.expire_time:%Y-%m-%d %H:%M} UTC: renew it"
        raise NotReady.of_setting("ASSETLANE_TLS_CERT_FILE", "CERTIFICATE_EXPIRED", fault)
    if found.begin_time > instant:
        fault = f"the certificate is not valid before {found.begin_time:%Y-%m-%d %H:%M} UTC: look at the clock"
        raise NotReady.of_setting("ASSETLANE_TLS_CERT_FILE", "CERTIFICATE_NOT_YET_VALID", fault)
    if found.client_ca_expire_time is not None and found.client_ca_expire_time <= instant:
        last = f"{found.client_ca_expire_time:%Y-%m-%d %H:%M} UTC"
        fault = f"every authority in it has expired, the last on {last}: no client could connect"
        raise NotReady.of_setting("ASSETLANE_TLS_CLIENT_CA_FILE", "AUTHORITIES_EXPIRED", fault)
    return found


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fault = f"{path} cannot be read: {error.strerror or type(error).__name__}"
        raise NotReady.of_setting(setting, "FILE_UNREADABLE", fault) from error


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise NotReady.of_setting(setting, "NO_CERTIFICATE", "there is no certificate in PEM in it") from error


def _public_bytes(holder: object) -> bytes:
    public_key = holder.public_key()  # type: ignore[attr-defined]  # certificates and keys of all kinds have it
    encoded: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield from names.get_values_for_type(x509.DNSName)
    yield from map(str, names.get_values_for_type(x509.IPAddress))
