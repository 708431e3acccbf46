"""Checks of who is let in: the keys of tokens, the policy, the certificates."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from assetlane_server.access.certificates import Certificates, read_certificates
from assetlane_server.access.keyring import ReadingFailed
from assetlane_server.access.policy import Service
from assetlane_server.access.ring_files import RingFiles
from assetlane_server.composition.security import certificate_files, opened_keyring, read_policy
from assetlane_server.config.settings import IN_MONGODB, Settings
from assetlane_server.doctor.finding import Finding, Verdict, checked, failed, ok, warning
from assetlane_server.model.errors import NotReady
from assetlane_server.model.rings import Ring, RingsUnreadable

_RENEW_WITHIN = timedelta(days=14)
_ANY_ADDRESS = ("0.0.0.0", "[::]")  # noqa: S104 - to be recognised, not to be listened on
_KEYS = "Look at ASSETLANE_JWT_KEY_FILE and ASSETLANE_JWT_JWKS; docs/authorization.md shows how to make a key."
_POLICY = "Look at ASSETLANE_POLICY_FILE; docs/authorization.md shows a policy."
RINGS = "Look at ASSETLANE_TOKEN_KEYS; assetlane-server keys list shows the keys."
_AUDIT = "Look at ASSETLANE_AUDIT_FILE and the rights of its folder."
_TLS = "Look at ASSETLANE_TLS_CERT_FILE, ASSETLANE_TLS_KEY_FILE and ASSETLANE_TLS_CLIENT_CA_FILE."


async def guard_findings(settings: Settings, now: Callable[[], datetime]) -> AsyncIterator[Finding]:
    """Yields what is found, in order."""
    yield await checked("identity", _identity(settings), _KEYS)
    if settings.has_token_keys:
        yield await checked("tokens for us", _claims(settings), _KEYS)
    if settings.has_identity:
        yield await checked("policy", asyncio.to_thread(_policy, settings), _POLICY)
        if settings.token_keys != IN_MONGODB:  # else they are looked at with the ledger
            yield await checked("scoped tokens", _rings(settings, now()), RINGS)
    if settings.audit_file is not None:
        yield await checked("audit log", asyncio.to_thread(_audit, settings.audit_file), _AUDIT)
    yield await checked("TLS", asyncio.to_thread(_tls, settings, now()), _TLS)


async def _identity(settings: Settings) -> Finding:
    name = "identity"
    async with opened_keyring(settings) as keyring:
        if keyring is None and settings.has_identity:
            return ok(name, "Callers are known by their certificates, and by scoped tokens.")
        if keyring is None:
            if settings.is_loopback:
                return ok(name, "Callers need no token: only this machine reaches the server.")
            detail = f"Anybody who reaches {settings.listen} may read, write and delete everything."
            return warning(name, detail, "Set ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS.")
        try:
            await keyring.load()
        except ReadingFailed as error:
            return failed(name, f"The keys of tokens cannot be used: {error}.", _KEYS)
        keys = await keyring.keys()
    kinds = ", ".join(sorted({key.algorithm for key in keys.keys}))
    detail = f"Tokens are verified with {len(keys.keys)} key{'s' * (len(keys.keys) != 1)} ({kinds})."
    if keys.unusable:
        return warning(
            name, f"{detail} Not used: {'; '.join(map(str, keys.unusable))}.", "Tokens signed with those are refused."
        )
    if kinds == "HS256" and (exposure := _open_to_others(settings.jwt_key_file or Path(settings.jwt_jwks or ""))):
        return warning(name, f"{detail} {exposure}", "Anybody who reads it can make tokens: `chmod 600`.")
    return ok(name, detail)


async def _claims(settings: Settings) -> Finding:
    name = "tokens for us"
    missing = [
        setting
        for setting, value in (
            ("ASSETLANE_JWT_ISSUER", settings.jwt_issuer),
            ("ASSETLANE_JWT_AUDIENCE", settings.jwt_audience),
        )
        if value is None
    ]
    if missing and settings.jwt_jwks is not None:
        detail = "A token that the issuer made for another service is accepted here too."
        return warning(name, detail, f"Set {' and '.join(missing)}.")
    named = "A token has to name its issuer and this server."
    return ok(name, "A token is accepted if its signature is right." if missing else named)


def _policy(settings: Settings) -> Finding:
    policy = read_policy(settings)
    whose = "The default" if settings.policy_file is None else str(settings.policy_file)
    detail = f"{whose} has {len(policy.read)} patterns to read and {len(policy.write)} to write"
    detail += f", and {len(policy.services)} service callers." if policy.services else "."
    if not (policy.read or policy.write):
        return warning("policy", f"{detail} Nobody may do anything.", _POLICY)
    return ok("policy", detail)


async def _rings(settings: Settings, now: datetime) -> Finding:
    """Looks at the rings of the service callers: one without a key cannot make tokens."""
    name = "scoped tokens"
    services = (await asyncio.to_thread(read_policy, settings)).services
    try:
        rings = await RingFiles(Path(settings.token_keys)).read_rings()
    except RingsUnreadable as error:
        return failed(name, str(error), RINGS)
    found = rings_finding(name, services, rings, now)
    if found.verdict is not Verdict.OK:
        return found
    if exposure := next((detail for one in rings if (detail := _open_to_others(_ring_file(settings, one)))), ""):
        return warning(name, exposure, "Anybody who reads it can make tokens: `chmod 600`.")
    return found


def rings_finding(name: str, services: Sequence[Service], rings: Mapping[str, Ring], now: datetime) -> Finding:
    """Returns what is wrong with the rings of these service callers, wherever they are kept."""
    if faults := [ring.fault for ring in rings.values() if ring.fault]:
        return failed(name, f"{'; '.join(faults)}.", f"Drop the ring and begin another. {RINGS}")
    if foreign := sorted(rings.keys() - {service.name for service in services}):
        return warning(name, f"Ring {foreign[0]} is of no service caller.", "Drop it, or correct the name.")
    keyless = [one.name for one in services if one.name not in rings or rings[one.name].signing_key(now) is None]
    if keyless:
        advice = f"Run assetlane-server keys add {keyless[0]}, if it has to make tokens."
        return warning(name, f"There is no key in use for {', '.join(keyless)}.", advice)
    return ok(name, f"Rings of keys that have a key in use: {len(rings)}.")


def _ring_file(settings: Settings, name: str) -> Path:
    return Path(settings.token_keys) / f"{name}.json"


def _audit(path: Path) -> Finding:
    name = "audit log"
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        return failed(name, f"{path} cannot be written.", _AUDIT)
    if path.exists() and (exposure := _open_to_others(path)):
        return warning(name, exposure, "It says who saw what: `chmod 600`.")
    return ok(name, f"Records go to {path}.")


def _tls(settings: Settings, now: datetime) -> Finding:
    name = "TLS"
    files = certificate_files(settings)
    if files is None:
        if settings.is_loopback:
            return ok(name, "Calls are not encrypted: only this machine reaches the server.")
        detail = f"Anybody on the way can read all calls to {settings.listen}, tokens and signed URLs too."
        return warning(name, detail, "Set ASSETLANE_TLS_CERT_FILE, unless a proxy on this machine does it.")
    try:
        found = read_certificates(files)
    except NotReady as error:
        return failed(name, str(error), _TLS)
    if found.expire_time <= now:
        return failed(
            name, f"The certificate ended on {found.expire_time:%Y-%m-%d}.", "Renew it: no restart is needed."
        )
    detail = f"The certificate is for {', '.join(found.names)} until {found.expire_time:%Y-%m-%d}."
    if fault := _wrong_name(settings, found):
        return failed(name, fault, "Get one whose subjectAltName has the name that clients use.")
    if found.expire_time - now < _RENEW_WITHIN:
        return warning(name, detail, "Renew it: no restart is needed.")
    if exposure := _open_to_others(files.key):
        return warning(name, f"{detail} {exposure}", "Anybody who reads it can pose as this server: `chmod 600`.")
    return ok(name, detail)


def _wrong_name(settings: Settings, found: Certificates) -> str:
    """Returns why clients would refuse the certificate, nothing if they would not, as far as that can be seen here."""
    host = settings.listen.rpartition(":")[0]
    if not found.names:
        return "The certificate names no host in its subjectAltName, and clients check nothing else."
    if host in _ANY_ADDRESS or settings.is_loopback or host.strip("[]") in found.names:
        return ""  # a proxy, or another name of this machine, is what clients call
    if any(not _is_address(name) for name in found.names):
        return ""
    return f"The certificate is for {', '.join(found.names)}, and the server listens on {host}."


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


def _open_to_others(path: Path) -> str:
    return f"Other users of this machine can read {path}." if path.stat().st_mode & 0o077 else ""
