"""Back ends and devices beside one another: neither learns of the other's users, by contents, by errors or by time."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pymongo.monitoring
import pytest
from google.protobuf.message import Message
from tests.conftest import Figures
from tests.journeys.backends import SERVICES, backends_server
from tests.journeys.guarded import POLICY
from tests.journeys.steps import request_for
from tests.journeys.test_authorisation import REQUESTS
from tests.journeys.test_isolation import User, kept_apart

from assetlane.v1 import asset_service_pb2 as assets
from assetlane.v1 import upload_service_pb2 as uploads
from assetlane.v1.access_service_pb2 import CreateTokenRequest, PartitionScope
from assetlane_server.config.settings import Settings

STEPS = 60
ANN, BOB = "ann-8417", "bob-5523"
APART = f"""
[[service]]
name = "surgery-4711"
subject = "surgery-4711-backend"
users = ["{ANN}"]
read = ["user/{{uid}}"]
write = ["user/{{uid}}"]

[[service]]
name = "lab-9902"
subject = "lab-9902-backend"
users = ["{BOB}"]
read = ["user/{{uid}}"]
write = ["user/{{uid}}"]
"""


@pytest.mark.timeout(240)
async def test_a_back_end_and_a_device_of_another_never_learn_of_one_another(
    settings: Settings,
    web: aiohttp.ClientSession,
    tmp_path: Path,
    figures: Figures,
    pytestconfig: pytest.Config,
) -> None:
    """Not a byte, id, count or name of a maker, in any reply, event, page or error; each sees all of its own."""
    seed = pytestconfig.getoption("--seed") or random.SystemRandom().randrange(10**9)
    policy = POLICY + SERVICES + APART
    async with backends_server(settings, web, tmp_path, policy=policy, rings=("surgery-4711", "lab-9902")) as there:
        scope = PartitionScope(read=[f"user/{BOB}"], write=[f"user/{BOB}"])
        device = await there.device(CreateTokenRequest(uid=BOB, partitions=scope), "lab-9902")
        ann = User(ANN, there.backend("surgery-4711"), said_uid=ANN)
        bob = User(BOB, device)
        ann.secrets.add("surgery-4711")
        bob.secrets.add("lab-9902")
        summary = await kept_apart(ann, bob, random.Random(seed), STEPS)
    figures(f"isolation of a back end and a device: seed {seed}, {summary}")


class Commands(pymongo.monitoring.CommandListener):
    """What the server asks MongoDB for while `is_counting`: the command and its collection, but for change streams."""

    def __init__(self) -> None:
        self.is_counting = False
        self.seen: list[tuple[str, str]] = []

    def started(self, event: pymongo.monitoring.CommandStartedEvent) -> None:
        """Counts it."""
        if self.is_counting and event.command_name not in ("getMore", "killCursors", "hello", "endSessions"):
            self.seen.append((event.command_name, str(event.command.get(event.command_name))))

    def succeeded(self, event: pymongo.monitoring.CommandSucceededEvent) -> None:
        """Is of no interest."""

    def failed(self, event: pymongo.monitoring.CommandFailedEvent) -> None:
        """Is of no interest."""


@pytest.fixture(scope="module")
def commands() -> Commands:
    """Sees the clients that are opened from now on: the driver takes listeners for good."""
    listener = Commands()
    pymongo.monitoring.register(listener)
    return listener


def of_partition(method: str) -> Callable[[str], Message]:
    """Returns what asks for a partition."""
    return {
        "ListAssets": lambda partition: assets.ListAssetsRequest(partition=partition),
        "WatchAssets": lambda partition: assets.WatchAssetsRequest(partition=partition),
        "RequestUpload": lambda partition: request_for(uid="ann", partition=partition),
    }[method]


async def test_what_a_caller_may_not_see_costs_the_same_reads_as_what_is_missing(
    settings: Settings, web: aiohttp.ClientSession, tmp_path: Path, figures: Figures, commands: Commands
) -> None:
    """For users, back ends and devices of both kinds, over every RPC that names an upload, an asset or a partition."""
    missing = "0" * 26
    compared, reads = Counter[str](), 0
    async with backends_server(settings, web, tmp_path, sweep_seconds=3600.0) as there:
        bob = there.user("bob")
        upload_id, asset_id = (await bob.upload()).upload.upload_id, (await bob.asset()).asset_id
        scope = PartitionScope(read=["user/ann"], write=["user/ann"])
        own = (await there.user("ann").upload()).upload.upload_id
        callers = {
            "user": there.user("ann"),
            "back end": there.backend(),
            "device": await there.device(CreateTokenRequest(uid="ann", partitions=scope)),
            "device for an upload": await there.device(CreateTokenRequest(upload_id=own)),
        }

        async def cost(name: str, method: str, request: Message) -> Any:
            commands.seen.clear()
            commands.is_counting = True
            failure = await callers[name].refusal(method, request)
            commands.is_counting = False
            return tuple(commands.seen), None if failure is None else failure.reason

        for name in callers:
            for method, made in REQUESTS.items():
                if "upload_id" in made("x").DESCRIPTOR.fields_by_name:
                    pair = upload_id, missing
                elif method in ("ListAssets", "WatchAssets", "RequestUpload"):
                    made, pair = of_partition(method), ("user/bob", "nowhere/at/all")
                elif method == "ListUploads":
                    made, pair = (lambda uid: uploads.ListUploadsRequest(uid=uid)), ("bob", "nobody-at-all")
                else:
                    pair = asset_id, missing
                forbidden, absent = [await cost(name, method, made(one)) for one in pair]
                assert forbidden == absent, (name, method)
                compared[name] += 1
                reads += len(forbidden[0])
    assert set(compared.values()) == {len(REQUESTS)}
    assert reads >= 30, "the commands are not seen"
    figures(f"forbidden and missing have the same reason: {compared.total()} pairs of calls, {reads} reads each")
