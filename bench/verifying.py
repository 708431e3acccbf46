"""What it costs to verify a scoped token, the first time and after, beside PyJWT alone. No server, no store."""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import jwt

from assetlane_server.access.identity import TokenAuthenticator
from assetlane_server.access.keyring import Keyring
from assetlane_server.access.keys import keys_of_file
from assetlane_server.access.policy import policy_of
from assetlane_server.access.scoped import ScopedTokens
from assetlane_server.access.watched import WatchedPolicy, WatchedRings
from assetlane_server.model.rings import Ring
from assetlane_server.model.scoped_tokens import PartitionScope
from bench.figures import Bound, Figure, Finding, Goal, Peer

TOKENS: Final = 2000  # fewer than the server remembers
ROUNDS: Final = 7
SECRET: Final = b"an issuer's secret of 32 bytes or more"
RING_SECRET: Final = b"a ring's secret of 32 bytes, or more"
HOUR: Final = timedelta(hours=1)
POLICY: Final = """\
read = ["user/{uid}"]
write = ["user/{uid}"]
[[service]]
name = "clinic"
subject = "clinic-backend"
users = ["*"]
read = ["user/{uid}", "clinic/**"]
write = ["user/{uid}"]
"""


class _Rings:
    """See RingStore: one ring, and how often it was read."""

    def __init__(self) -> None:
        self.reads = 0

    async def read_rings(self) -> Mapping[str, Ring]:
        """See RingStore."""
        self.reads += 1
        return {"clinic": Ring("clinic").with_key("k1", RING_SECRET, datetime(2020, 1, 1, tzinfo=UTC))}

    async def write_ring(self, ring: Ring) -> bool:
        """See RingStore: nothing changes here."""
        return False

    async def drop_ring(self, name: str) -> bool:
        """See RingStore: nothing changes here."""
        return False


async def measure() -> Finding:
    """Verifies fresh tokens, then the same ones again, and has PyJWT decode them, in turn."""
    store = _Rings()
    first, again, alone = [], [], []
    for _ in range(ROUNDS):
        authenticator, tokens = await _authenticator(store)
        reads = store.reads
        headers = [f"Bearer {token}" for token in tokens]

        async def verify(header: str, authenticator: TokenAuthenticator = authenticator) -> None:
            (await authenticator.access_of(header)).check("GetUpload")

        async def decode(token: str) -> None:
            jwt.decode(token, RING_SECRET, algorithms=["HS256"])

        first.append(await _cpu_us(headers, verify))
        again.append(await _cpu_us(headers, verify))
        alone.append(await _cpu_us(tokens, decode))
        if store.reads != reads:
            raise RuntimeError("verifying a token read the rings")
    peer = Peer("PyJWT alone", statistics.median(alone))
    return Finding(
        "A scoped token verified, beside PyJWT alone",
        (
            Figure("CPU the first time", statistics.median(first), "µs", peer, Goal(Bound.AT_MOST, 60)),
            Figure("CPU after that", statistics.median(again), "µs", peer, Goal(Bound.AT_MOST, 10)),
        ),
        (f"{TOKENS} tokens for partitions of one user each, {ROUNDS} rounds, medians; nothing is read to verify.",),
    )


async def _authenticator(store: _Rings) -> tuple[TokenAuthenticator, list[str]]:
    """Returns an authenticator that has verified nothing yet, and tokens that its ring has signed."""

    def now() -> datetime:
        return datetime.now(UTC)

    async def read() -> bytes:
        return SECRET

    policy, rings = WatchedPolicy(lambda: policy_of(POLICY), interval=HOUR), WatchedRings(store, interval=HOUR)
    await rings.look()
    scoped = ScopedTokens(rings, policy.current, max_lifetime=24 * HOUR, now=now)
    keyring = Keyring(read, keys_of_file, interval=HOUR, clock=time.monotonic)
    await keyring.load()
    authenticator = TokenAuthenticator(
        keyring, policy, scoped=scoped, issuer=None, audience=None, leeway=timedelta(0), now=now
    )
    claims = {"sub": "clinic-backend", "exp": time.time() + 3600}
    clinic = await authenticator.access_of(f"Bearer {jwt.encode(claims, SECRET, 'HS256')}")
    scope = PartitionScope(("user/{uid}", "clinic/reports/**"), ("user/{uid}",))
    tokens = [scoped.for_partitions(f"user-{number:06}", scope, None, clinic).token for number in range(TOKENS)]
    return authenticator, tokens


async def _cpu_us(items: list[str], work: Callable[[str], Awaitable[None]]) -> float:
    begun = time.process_time()
    for item in items:
        await work(item)
    return (time.process_time() - begun) / len(items) * 1e6
