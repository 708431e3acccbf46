"""What doctor says of keys, policy and certificates: each fault by its setting."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.access.certificates import Authority, Pair
from tests.access.tokens import Issuer, key_set

from assetlane_server.access.ring_files import RingFiles
from assetlane_server.config.settings import Settings, settings_from
from assetlane_server.doctor.finding import Finding, Verdict
from assetlane_server.doctor.guard import guard_findings
from assetlane_server.uploads.rings import change_ring

LEAST = {"mongo_uri": "mongodb://127.0.0.1", "s3_bucket": "bucket"}


async def findings(settings: Settings) -> dict[str, Finding]:
    """Returns what is found, by name."""
    return {found.name: found async for found in guard_findings(settings, lambda: datetime.now(UTC))}


def given(**changes: Any) -> Settings:
    """Returns settings with these."""
    return settings_from({}, **{**LEAST, **changes})


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    """Returns a file with this content."""
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


async def test_on_loopback_all_is_well_without_anything() -> None:
    """For development."""
    assert {name: found.verdict for name, found in (await findings(given())).items()} == {
        "identity": Verdict.OK,
        "TLS": Verdict.OK,
    }


async def test_a_server_open_to_everybody_is_warned_of() -> None:
    """Once for who comes in, once for who listens."""
    found = await findings(given(listen="0.0.0.0:50151", allow_anonymous=True))
    assert {one.verdict for one in found.values()} == {Verdict.WARNING}
    assert "ASSETLANE_JWT_KEY_FILE" in found["identity"].advice
    assert "ASSETLANE_TLS_CERT_FILE" in found["TLS"].advice


@pytest.mark.parametrize(
    ("content", "mode", "verdict", "detail"),
    [
        (Issuer("RS256").file, 0o644, Verdict.OK, "1 key (RS256)"),
        (Issuer("HS256").file, 0o600, Verdict.OK, "1 key (HS256)"),
        (Issuer("HS256").file, 0o644, Verdict.WARNING, "can read"),
        (b"short", 0o600, Verdict.FAILED, "5 bytes"),
        (None, 0o600, Verdict.FAILED, "No such file"),
    ],
)
async def test_the_key_file_is_read(
    tmp_path: Path, content: bytes | None, mode: int, verdict: Verdict, detail: str
) -> None:
    """As the server reads it; a secret is nobody else's."""
    path = key_file(tmp_path, content or b"", mode)
    if content is None:
        path.unlink()
    found = await findings(given(jwt_key_file=path))
    assert (found["identity"].verdict, detail in found["identity"].detail) == (verdict, True)
    assert found["policy"].verdict is Verdict.OK


async def test_a_key_set_is_read_and_its_odd_keys_are_reported(tmp_path: Path) -> None:
    """With what keeps tokens for other services out, which is missing here."""
    path = key_file(tmp_path, key_set(Issuer(), Issuer("HS256", "shared")).replace(b'"oct"', b'"odd"'))
    found = await findings(given(jwt_jwks=str(path)))
    assert found["identity"].verdict is Verdict.WARNING
    assert "'shared'" in found["identity"].detail
    assert found["tokens for us"].verdict is Verdict.WARNING
    assert "ASSETLANE_JWT_AUDIENCE" in found["tokens for us"].advice
    found = await findings(given(jwt_jwks=str(path), jwt_issuer="us", jwt_audience="assets"))
    assert found["tokens for us"].verdict is Verdict.OK


async def test_a_key_set_that_nobody_serves_has_failed() -> None:
    """A server would start, and refuse every call."""
    found = await findings(given(jwt_jwks="http://127.0.0.1:1/keys"))
    assert found["identity"].verdict is Verdict.FAILED
    assert "cannot be fetched" in found["identity"].detail


async def test_a_policy_that_is_none_has_failed(tmp_path: Path) -> None:
    """And one that lets nobody in is warned of."""
    policy = tmp_path / "policy.toml"
    key = key_file(tmp_path, Issuer().file)
    for text, verdict in (("read = 1", Verdict.FAILED), ("read = []\nwrite = []", Verdict.WARNING)):
        policy.write_text(text)
        assert (await findings(given(jwt_key_file=key, policy_file=policy)))["policy"].verdict is verdict


@pytest.mark.parametrize(
    ("lifetime", "listen", "verdict", "detail"),
    [
        (timedelta(days=90), "127.0.0.1:50151", Verdict.OK, "localhost, 127.0.0.1"),
        (timedelta(days=5), "127.0.0.1:50151", Verdict.WARNING, "until"),
        (timedelta(days=-1), "127.0.0.1:50151", Verdict.FAILED, "ended on"),
    ],
)
async def test_a_certificate_is_looked_at(
    tmp_path: Path, lifetime: timedelta, listen: str, verdict: Verdict, detail: str
) -> None:
    """Its names, and how long it lasts."""
    chain, key = Authority().signed("one", lifetime=lifetime).put(tmp_path)
    key.chmod(0o600)
    found = (await findings(given(listen=listen, tls_cert_file=chain, tls_key_file=key)))["TLS"]
    assert (found.verdict, detail in found.detail) == (verdict, True)


async def test_a_certificate_whose_key_is_another_has_failed(tmp_path: Path) -> None:
    """And a key that others can read is warned of."""
    one, two = Authority().signed("one"), Authority().signed("two")
    chain, key = one.put(tmp_path)
    key.chmod(0o644)
    assert (await findings(given(tls_cert_file=chain, tls_key_file=key)))["TLS"].verdict is Verdict.WARNING
    Pair(one.chain, two.key).put(tmp_path)
    found = (await findings(given(tls_cert_file=chain, tls_key_file=key)))["TLS"]
    assert (found.verdict, "does not belong" in found.detail) == (Verdict.FAILED, True)


SERVICE = """\
read = ["user/{uid}"]
write = []
[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["*"]
read = []
write = []
"""


async def test_a_back_end_without_a_key_to_sign_tokens_is_warned_of(tmp_path: Path) -> None:
    """And a ring of nobody, one that is none, and one that others can read."""
    policy, rings = tmp_path / "policy.toml", tmp_path / "rings"
    policy.write_text(SERVICE)
    ours = given(jwt_key_file=key_file(tmp_path, Issuer().file), policy_file=policy, token_keys=str(rings))
    found = await findings(ours)
    assert "1 service callers" in found["policy"].detail
    assert (found["scoped tokens"].verdict, "keys add clinic" in found["scoped tokens"].advice) == (
        Verdict.WARNING,
        True,
    )
    now = datetime.now(UTC)
    await change_ring(RingFiles(rings), "clinic", lambda ring: ring.with_key("k1", b"s" * 32, now))
    assert (await findings(ours))["scoped tokens"].verdict is Verdict.OK
    (rings / "clinic.json").chmod(0o644)
    assert (await findings(ours))["scoped tokens"].verdict is Verdict.WARNING
    (rings / "clinic.json").chmod(0o600)
    await change_ring(RingFiles(rings), "nobody", lambda ring: ring.with_key("k1", b"s" * 32, now))
    assert "nobody" in (await findings(ours))["scoped tokens"].detail
    (rings / "nobody.json").write_text("x")
    assert (await findings(ours))["scoped tokens"].verdict is Verdict.FAILED


async def test_a_server_for_certificates_alone_is_not_open_to_everybody(tmp_path: Path) -> None:
    """It says so, and looks at its policy."""
    policy = tmp_path / "policy.toml"
    policy.write_text(SERVICE.replace('subject = "clinic-backend"', 'certificate = "clinic.example"'))
    authority = Authority()
    chain, key = authority.signed("one").put(tmp_path)
    key.chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    found = await findings(
        given(
            listen="0.0.0.0:50151",
            policy_file=policy,
            tls_cert_file=chain,
            tls_key_file=key,
            tls_client_ca_file=tmp_path / "ca.pem",
        )
    )
    assert {name: one.verdict for name, one in found.items()} == {
        "identity": Verdict.OK,
        "policy": Verdict.OK,
        "TLS": Verdict.OK,
    }
    assert "certificates" in found["identity"].detail
    policy.write_text(SERVICE)
    assert (
        "ASSETLANE_JWT_KEY_FILE"
        in (
            await findings(
                given(policy_file=policy, tls_cert_file=chain, tls_key_file=key, tls_client_ca_file=tmp_path / "ca.pem")
            )
        )["policy"].detail
    )


async def test_an_audit_log_that_cannot_be_written_has_failed(tmp_path: Path) -> None:
    """Before the server refuses to start for it; one that others can read is warned of."""
    path = tmp_path / "audit.jsonl"
    assert (await findings(given(audit_file=path)))["audit log"].verdict is Verdict.OK
    path.write_text("")
    path.chmod(0o644)
    assert (await findings(given(audit_file=path)))["audit log"].verdict is Verdict.WARNING
    assert (await findings(given(audit_file=tmp_path / "missing" / "x")))["audit log"].verdict is Verdict.FAILED
