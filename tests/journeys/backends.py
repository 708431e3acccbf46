"""A server whose policy names service callers, with their rings of keys, and everybody who calls it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from tests.access.tokens import Issuer
from tests.journeys.conftest import Stubs
from tests.journeys.guarded import POLICY, Person
from tests.servers import served

from assetlane.v1.access_service_pb2 import CreateTokenRequest
from assetlane_server.access.ring_files import RingFiles
from assetlane_server.composition.app import utc_now
from assetlane_server.config.settings import Settings
from assetlane_server.uploads.rings import change_ring

SERVICES = """
[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["ann", "patient-*"]
read = ["user/{uid}", "team/42", "clinic/**"]
write = ["user/{uid}", "team/42", "clinic/inbox"]

[[service]]
name = "other"
subject = "other-backend"
users = ["zoe"]
read = ["other/**"]
write = ["other/**"]

[[service]]
name = "gone"
subject = "gone-backend"
users = ["*"]
read = ["gone/**"]
write = []

[[service]]
name = "reader"
subject = "reader-backend"
users = ["*"]
read = ["**"]
write = ["**"]
rpcs = ["GetUpload", "ListUploads", "ListAssets"]
"""
SECRET = b"k" * 32


@dataclass
class Backends:
    """The server with its files, and callers on one channel."""

    settings: Settings
    target: str
    stubs: Stubs
    web: aiohttp.ClientSession
    issuer: Issuer
    folder: Path

    def person(self, token: str | None) -> Person:
        """Returns who calls with this token."""
        return Person(self.stubs, self.web, token)

    def user(self, uid: str, **claims: Any) -> Person:
        """Returns a user."""
        return self.person(self.issuer.token(uid, **claims))

    def backend(self, name: str = "clinic") -> Person:
        """Returns a service caller."""
        return self.person(self.issuer.token(f"{name}-backend"))

    async def device(self, request: CreateTokenRequest, maker: str = "clinic") -> Person:
        """Returns a device with the scoped token that a back end makes for it."""
        return self.person((await self.backend(maker).call("CreateToken", request)).token.token)

    @property
    def rings(self) -> RingFiles:
        """The rings of keys, as `assetlane-server keys` has them."""
        return RingFiles(Path(self.settings.token_keys))


def with_services(settings: Settings, folder: Path, issuer: Issuer, **changes: Any) -> Settings:
    """Returns the settings of a server that knows the service callers above."""
    key_file, policy_file = folder / "tokens.pem", folder / "policy.toml"
    key_file.write_bytes(issuer.file)
    policy_file.write_text(POLICY + SERVICES)
    guard = {
        "jwt_key_file": key_file,
        "policy_file": policy_file,
        "jwt_leeway_seconds": 0.0,
        "token_keys": str(folder / "rings"),
        "reload_seconds": 0.05,
    }
    return settings.model_copy(update={**guard, **changes})


async def add_rings(folder: Path, *names: str) -> None:
    """Gives each of these service callers its first key."""
    for name in names:
        now = utc_now() - timedelta(minutes=1)
        await change_ring(RingFiles(folder / "rings"), name, lambda ring, now=now: ring.with_key("k1", SECRET, now))  # type: ignore[misc]  # the default binds it


@asynccontextmanager
async def backends_server(
    settings: Settings,
    web: aiohttp.ClientSession,
    folder: Path,
    *,
    policy: str = POLICY + SERVICES,
    rings: Sequence[str] = ("clinic", "other", "gone", "reader"),
    **changes: Any,
) -> AsyncIterator[Backends]:
    """Serves, with a key in the rings of every service caller."""
    issuer = Issuer()
    await add_rings(folder, *rings)
    ours = with_services(settings, folder, issuer, **changes)
    (folder / "policy.toml").write_text(policy)
    async with served(ours) as target, grpc.aio.insecure_channel(target) as channel:
        yield Backends(ours, target, Stubs.on(channel), web, issuer, folder)
