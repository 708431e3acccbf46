"""Runs the gallery beside `local`: a server that asks for tokens, the sample back end, and its page.

    browser ── page, sign-in, token ──▶ sample back end ── CreateToken, as a service caller ──▶ Assetlane
       │                                                                                          ▲
       ├── scoped token: uploads, watches ────────────────────────────────────────────────────────┘
       └── PUT, GET ──▶ object store

The server that `local` starts for you asks for no token. A page with sign-in would protect nothing there, so this
starts another one on the same ledger and bucket, as a second instance of a deployment: what comes in through one is
seen at once by those who watch at the other.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from aiohttp import web
from motor.motor_asyncio import AsyncIOMotorClient
from typing_extensions import override

from assetlane import Client
from assetlane_server.access.ring_files import RingFiles
from assetlane_server.composition.app import application, object_store, utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.doctor.examination import examine
from assetlane_server.gallery.accounts import Accounts
from assetlane_server.gallery.site import Addresses, Site, Tokens
from assetlane_server.local.directory import write_private
from assetlane_server.local.ports import LOOPBACK, bound, is_free
from assetlane_server.model.errors import NotReady
from assetlane_server.model.rings import SECRET_BYTES
from assetlane_server.uploads.rings import change_ring

SERVICE: Final = "gallery"
ISSUER: Final = "assetlane-gallery"
AUDIENCE: Final = "assetlane"
OWN_TOKEN_LIFE_S: Final = 600
DEVICE_TOKEN_LIFE: Final = timedelta(minutes=15)
# The page, the web gateway and the gRPC port: neighbours, the first free ones. Below what systems give to outgoing
# connections, and below the embedded stores' blocks.
FIRST_PORTS: Final = range(11_150, 11_990, 10)
_CLOSE_S: Final = 2.0

# What the back end may do, and so what its users' tokens can open: each user's own partition, and the wall of all.
POLICY: Final = f"""\
read = []
write = []

[[service]]
name = "{SERVICE}"
subject = "{SERVICE}"
users = ["*"]
read = ["user/{{uid}}", "public"]
write = ["user/{{uid}}", "public"]
"""


class GalleryFailedError(NotReady):
    """The gallery cannot be served; the message says why."""


class Gallery:
    """A gallery that is served at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.open_target = ""
        """The gRPC port that asks for no token, for the commands that the page shows. Empty: there is none."""


class ScopedTokenMaker(Tokens):
    """Asks Assetlane, as a back end does that is a service caller."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @override
    async def token_for(self, uid: str) -> tuple[str, float]:
        # Everybody who may write to `public` may delete there, too: they should know each other.
        partitions = (f"user/{uid}", "public")
        made = await self._client.create_token(uid=uid, read=partitions, write=partitions, lifetime=DEVICE_TOKEN_LIFE)
        return made.token, made.expire_time.ToDatetime(UTC).timestamp()


@asynccontextmanager
async def gallery(settings: Settings, directory: Path) -> AsyncIterator[Gallery]:
    """Serves the gallery until the block ends. `settings` are those of the server beside it.

    Raises GalleryFailedError, and what `application` raises.
    """
    home = directory / "gallery"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _claimed_ports(home, _ports_of(settings)) as first_port:
        async with _gallery_on(first_port, settings, home) as served:
            yield served


@asynccontextmanager
async def _gallery_on(first_port: int, settings: Settings, home: Path) -> AsyncIterator[Gallery]:
    page, api, target = (f"{LOOPBACK}:{first_port + offset}" for offset in range(3))
    key_file = _issuer_key(home)
    write_private(home / "policy.toml", POLICY)
    await _keep_ring(home / "rings")
    own = settings.model_copy(
        update={
            "listen": target,
            "web_listen": api,
            "web_origins": (f"http://{page}", f"http://localhost:{first_port}", f"http://[::1]:{first_port}"),
            "web_hosts": (),
            "jwt_key_file": key_file,
            "jwt_jwks": None,
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "policy_file": home / "policy.toml",
            "token_keys": str(home / "rings"),
            "allow_anonymous": False,
            "tls_cert_file": None,
            "tls_key_file": None,
            "tls_client_ca_file": None,
            "metrics_listen": None,
        }
    )
    addresses = Addresses(first_port, f"http://{api}", target, _stores_of(settings))
    secret = key_file.read_text()

    async def own_token() -> str:
        now = int(time.time())
        claims = {"sub": SERVICE, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + OWN_TOKEN_LIFE_S}
        return jwt.encode(claims, secret.strip(), "HS256")

    async def findings() -> AsyncIterator[Mapping[str, Any]]:
        # Its own port would be found in use: by this very server.
        looked_at = settings.model_copy(update={"listen": f"{LOOPBACK}:0", "web_listen": None, "metrics_listen": None})
        async for finding in examine(looked_at, object_store, utc_now):
            yield asdict(finding)

    mongo: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        settings.mongo_uri.get_secret_value(), tz_aware=True, timeoutMS=10_000, appname="assetlane-gallery"
    )
    try:
        async with application(own), Client(target, token=own_token) as client:
            served = Gallery(f"http://{page}")
            accounts = Accounts(mongo[f"{settings.mongo_database[:50]}_gallery"])

            def hints() -> Mapping[str, Any]:
                return {"openTarget": served.open_target, "publicAssets": settings.public_assets}

            site = Site(accounts, ScopedTokenMaker(client), addresses, findings, hints)
            async with _served(site, first_port):
                yield served
    finally:
        await asyncio.to_thread(mongo.close)


@asynccontextmanager
async def _served(site: Site, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(site.application(), access_log=None, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
    except OSError as error:
        await runner.cleanup()
        raise GalleryFailedError(f"the gallery cannot listen on {LOOPBACK}:{port}: {error.strerror}") from error
    try:
        yield
    finally:
        await runner.cleanup()


async def _keep_ring(folder: Path) -> None:
    """Makes the ring of keys that signs the devices' tokens, once: one key, in use at once."""
    rings = RingFiles(folder)
    if SERVICE in await rings.read_rings():
        return
    now = datetime.now(UTC)
    await change_ring(rings, SERVICE, lambda ring: ring.with_key("gallery", secrets.token_bytes(SECRET_BYTES), now))


def _issuer_key(home: Path) -> Path:
    """Returns the file with the secret that the back end's own tokens are signed with; makes it at the first start."""
    path = home / "issuer.key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(48) + "\n")
    return path


def _stores_of(settings: Settings) -> tuple[str, ...]:
    """Returns the origins that objects are read from and written to."""
    urls = (settings.s3_public_endpoint or settings.s3_endpoint, settings.public_base_url)
    parts = (urlsplit(url) for url in urls if url)
    return tuple(dict.fromkeys(f"{one.scheme}://{one.netloc}" for one in parts))


def _ports_of(settings: Settings) -> frozenset[int]:
    """Returns the ports that the server beside the gallery is about to take."""
    listens = (settings.listen, settings.web_listen, settings.metrics_listen)
    return frozenset(int(listen.rpartition(":")[2]) for listen in listens if listen)


@contextmanager
def _claimed_ports(home: Path, taken: frozenset[int]) -> Iterator[int]:
    """Yields the first of three free ports, the same as last time if it can be: a page that was left open goes on.

    No other gallery takes them until the block ends. Raises GalleryFailedError.
    """
    path = home / "ports.json"
    last = int(json.loads(path.read_text())["first_port"]) if path.exists() else 0
    for first in sorted(FIRST_PORTS, key=lambda port: port != last):
        wanted = range(first, first + 3)
        # Bound and never listened on: among galleries exactly one can hold it.
        claim = bound(first + 9)
        if claim is None:
            continue
        with claim:
            if taken.isdisjoint(wanted) and all(is_free(port) for port in wanted):
                if first != last:
                    write_private(path, json.dumps({"first_port": first}) + "\n")
                yield first
                return
    raise GalleryFailedError(f"no three free ports on {LOOPBACK} for the gallery: start without it (--no-gallery)")
