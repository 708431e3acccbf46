"""Puts together, from the settings, what finds out who calls and what keeps others from listening."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp

from assetlane_server.access.certificates import CertificateFiles, current_certificates
from assetlane_server.access.identity import Anonymous, TokenAuthenticator
from assetlane_server.access.keyring import Keyring, ReadingFailed, file_reading, url_reading
from assetlane_server.access.keys import keys_of_file, keys_of_jwks
from assetlane_server.access.policy import DEFAULT_POLICY, Policy, PolicyFault, check_rpcs, policy_of
from assetlane_server.access.quota_enforcer import QuotaEnforcer, RatedCallers
from assetlane_server.access.quotas import CallRate, Quotas, claim_lease, quota_of
from assetlane_server.access.ring_files import RingFiles
from assetlane_server.access.scoped import ScopedTokens
from assetlane_server.access.watched import WatchedPolicy, WatchedRings
from assetlane_server.config.settings import IN_MONGODB, Settings
from assetlane_server.model.errors import NotReady
from assetlane_server.ports.authenticator import Authenticator
from assetlane_server.ports.quota_records import QuotaRecords
from assetlane_server.ports.ring_store import RingStore
from assetlane_server.ports.scoped_token_signer import ScopedTokenSigner
from assetlane_server.ports.upload_records import UploadRecords
from assetlane_server.rpc.server import RPCS
from assetlane_server.rpc.tls import Tls

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """Who calls, and over what. What there is of both has to run for as long as the server serves."""

    authenticator: Authenticator
    keyring: Keyring | None
    tls: Tls | None
    policy: WatchedPolicy | None = None
    rings: WatchedRings | None = None
    signer: ScopedTokenSigner | None = None


@asynccontextmanager
async def security(settings: Settings, now: Callable[[], datetime], mongo_rings: RingStore) -> AsyncIterator[Security]:
    """Reads keys, policy and certificates. Raises NotReady naming the setting to look at."""
    async with opened_keyring(settings) as keyring:
        authenticator: Authenticator = Anonymous()
        policy, rings, scoped = None, None, None
        if settings.has_identity:
            interval = timedelta(seconds=settings.reload_seconds)
            policy = await asyncio.to_thread(WatchedPolicy, partial(read_policy, settings), interval=interval)
            rings = WatchedRings(ring_store(settings, mongo_rings), interval=interval)
            await rings.look()
            longest = timedelta(hours=settings.token_max_hours)
            scoped = ScopedTokens(rings, policy.current, max_lifetime=longest, now=now)
            authenticator = TokenAuthenticator(
                keyring,
                policy,
                scoped=scoped,
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                leeway=timedelta(seconds=settings.jwt_leeway_seconds),
                now=now,
            )
            # Also where the setting is absent: the policy may have a rate for a service caller.
            authenticator = RatedCallers(authenticator, CallRate(settings.quota_calls_per_second, time.monotonic))
            if keyring is not None:
                await _load(keyring, settings)
        elif not settings.is_loopback:
            _log.warning(
                "anybody who reaches %s may read, write and delete everything",
                settings.beyond_loopback,
                extra={"event_code": "OPEN_TO_ALL", "listen": settings.beyond_loopback},
            )
        files = certificate_files(settings)
        tls = None if files is None else await asyncio.to_thread(Tls, partial(current_certificates, files, now))
        if tls is None and settings.has_identity and not settings.is_loopback:
            _log.warning("tokens reach %s unencrypted: set ASSETLANE_TLS_CERT_FILE, or let a proxy do TLS",
                         settings.beyond_loopback)  # fmt: skip
        yield Security(authenticator, keyring, tls, policy, rings, scoped)


def ring_store(settings: Settings, mongo_rings: RingStore) -> RingStore:
    """Returns where the settings keep the rings of keys."""
    return mongo_rings if settings.token_keys == IN_MONGODB else RingFiles(Path(settings.token_keys))


@asynccontextmanager
async def opened_keyring(settings: Settings) -> AsyncIterator[Keyring | None]:
    """Opens the keys that the settings name, not read yet; None where no identity provider's tokens are verified."""
    async with AsyncExitStack() as resources:
        if settings.jwt_key_file is not None:
            read, parse = file_reading(settings.jwt_key_file), keys_of_file
        elif settings.jwt_jwks is not None:
            is_url = settings.has_jwks_url
            parse = partial(keys_of_jwks, allows_secrets=not is_url)
            if is_url:
                session = await resources.enter_async_context(aiohttp.ClientSession())
                read = url_reading(session, settings.jwt_jwks)
            else:
                read = file_reading(Path(settings.jwt_jwks))
        else:
            yield None
            return
        # A file is looked at often, an issuer is asked seldom.
        seconds = settings.jwt_refresh_seconds if settings.has_jwks_url else settings.reload_seconds
        yield Keyring(read, parse, interval=timedelta(seconds=seconds), clock=time.monotonic)


def read_policy(settings: Settings) -> Policy:
    """Reads the policy. Raises NotReady naming the setting. Blocks: one small file."""
    if settings.policy_file is None:
        return policy_of(DEFAULT_POLICY)
    try:
        policy = policy_of(settings.policy_file.read_text())
        check_rpcs(policy, RPCS)
    except OSError as error:
        fault = f"{settings.policy_file} cannot be read: {error.strerror or type(error).__name__}"
        raise NotReady.of_setting("ASSETLANE_POLICY_FILE", "FILE_UNREADABLE", fault) from error
    except UnicodeDecodeError as error:
        raise NotReady.of_setting("ASSETLANE_POLICY_FILE", "POLICY_MALFORMED", str(error)) from error
    except PolicyFault as error:
        raise NotReady.of_setting("ASSETLANE_POLICY_FILE", error.reason, str(error)) from error
    if settings.tls_client_ca_file is None and (named := [one for one in policy.services if one.certificate]):
        fault = f"service {named[0].name!r} is known by its certificate: set ASSETLANE_TLS_CLIENT_CA_FILE"
        raise NotReady.of_setting("ASSETLANE_POLICY_FILE", "SERVICE_NEEDS_CERTIFICATES", fault)
    if not settings.has_token_keys:
        if by_token := [one for one in policy.services if one.subject or one.claims]:
            fault = (
                f"service {by_token[0].name!r} is known by a token: set ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS"
            )
            raise NotReady.of_setting("ASSETLANE_POLICY_FILE", "SERVICE_NEEDS_TOKENS", fault)
        if not policy.services:
            fault = "it names no service, and without ASSETLANE_JWT_KEY_FILE or ASSETLANE_JWT_JWKS nobody else is known"
            raise NotReady.of_setting("ASSETLANE_POLICY_FILE", "POLICY_WITHOUT_SERVICES", fault)
    return policy


def certificate_files(settings: Settings) -> CertificateFiles | None:
    """Returns where the certificates lie, None for a server without TLS."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return CertificateFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def quota_enforcer(
    settings: Settings, uploads: UploadRecords, accounts: QuotaRecords, now: Callable[[], datetime]
) -> QuotaEnforcer | None:
    """Returns what keeps to the quotas of the settings, None where there are none."""
    quotas = Quotas(
        quota_of(settings.quota_uid_uploads, settings.quota_uid_bytes),
        quota_of(settings.quota_partition_uploads, settings.quota_partition_bytes),
    )
    if quotas.is_empty:
        return None
    lease = claim_lease(timedelta(seconds=settings.mongo_timeout_seconds))
    return QuotaEnforcer(uploads, accounts, quotas, lease=lease, now=now)


async def _load(keyring: Keyring, settings: Settings) -> None:
    try:
        await keyring.load()
    except ReadingFailed as error:
        if not settings.has_jwks_url:
            name = "ASSETLANE_JWT_JWKS" if settings.jwt_key_file is None else "ASSETLANE_JWT_KEY_FILE"
            raise NotReady.of_setting(name, error.reason, str(error)) from error
        # An issuer that is away for a while must not keep a restarted server away with it.
        _log.warning("ASSETLANE_JWT_JWKS: %s; calls answer KEYS_UNAVAILABLE until it can be read", error)
