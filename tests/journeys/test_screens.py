"""What the commands print beside a real server and its stores, on 80 and 120 columns, beside kept pictures in text."""

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from tests.commands import COMMAND, finished
from tests.faults.server_process import environment_for
from tests.journeys.backends import backends_server
from tests.servers import served
from tests.terminal import WIDTHS, Terminal, drawn, keep

from assetlane import Client
from assetlane_server.composition.app import object_store
from assetlane_server.config.settings import PREFIX, Settings
from assetlane_server.local import StackAddress
from assetlane_server.model.errors import StoreUnavailable
from assetlane_server.model.rings import SECRET_BYTES, Ring
from assetlane_server.records.mongo import MongoRecords
from assetlane_server.uploads.rings import change_ring

SCREENS = Path(__file__).parent / "screens"
SERVER = (sys.executable, "-m", "assetlane_server")
ID = "01jzq7v0x1m8e0n3w9k2c4d5f6"
BUCKET = "my-bucket-000000000000"  # as wide as those of the tests

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "ASSETLANE_S3_ENDPOINT" in os.environ, reason="the pictures show what the embedded stores answer"
    ),
]


def free_port() -> int:
    """Returns a port of five digits that nobody listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port >= 10_000:
            return port


def cleaner(replacements: Mapping[str, str]) -> Callable[[str], str]:
    """Returns what replaces that which differs from run to run, each by something as wide."""

    def clean(text: str) -> str:
        for ours, stands_for in replacements.items():
            assert len(ours) == len(stands_for), f"{ours} is not as wide as {stands_for}"
            text = text.replace(ours, stands_for)
        text = re.sub(r"\b01[0-9a-hjkmnp-tv-z]{24}\b", ID, text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-26T19:34:02Z", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "2026-11-26T19:34:02+00:00", text)
        text = re.sub(r"\d\d:\d\d:\d\d\.\d{3}Z", "19:34:02.250Z", text)
        text = re.sub(r"from \d\d:\d\d:\d\d UTC", "from 19:34:02 UTC", text)
        text = re.sub(r"\bk\d{8}-[0-9a-f]{6}\b", "k20261126-a1b2c3", text)
        text = re.sub(r"after \d+ ms", "after 12 ms", text)
        text = re.sub(r"yes, in \d+ ms", "yes, in 3 ms", text)
        text = re.sub(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "eyJhbGciOiJIUzI1NiJ9…", text)
        return re.sub(r"(X-Amz-(Credential|Date|Signature))=[^&\s]+", r"\1=…", text)

    return clean


class Screens:
    """Runs commands in a terminal of one width, and compares what is seen with what is kept."""

    def __init__(
        self, columns: int, environment: Mapping[str, str], replacements: Mapping[str, str], cwd: Path
    ) -> None:
        self.columns = columns
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.environment = {**inherited, **environment}
        self.replacements = dict(replacements)
        self.cwd = cwd

    async def seen(self, name: str, command: tuple[str, ...], *words: str, code: int = 0, until: str = "") -> None:
        """Runs a command to its end, or with `until` to Ctrl-C once it shows this."""
        shown = " ".join(("assetlane-server" if command == SERVER else "assetlane", *words))
        clean = cleaner(self.replacements)
        terminal = await Terminal.started([*command, *words], self.columns, self.environment, cwd=self.cwd, clean=clean)
        if until:
            await terminal.shows(until)
            terminal.process.send_signal(signal.SIGINT)
        result = await terminal.ended()
        assert result.code == code, str(result)
        assert "Traceback" not in str(result)
        keep(SCREENS, name, self.columns, clean(f"$ {shown}\n") + str(result))


@pytest.fixture(params=WIDTHS)
def columns(request: pytest.FixtureRequest) -> int:
    """Gives the width of the terminal: each test is made of steps that happen once in its stores."""
    return int(request.param)


def of_stack(stack: StackAddress) -> dict[str, str]:
    """Returns what stands for the addresses of the embedded stores."""
    found = re.findall(r"127\.0\.0\.1:\d+", f"{stack.mongo_uri} {stack.s3_endpoint}")
    return dict(zip(found, ("127.0.0.1:27017", "127.0.0.1:18333"), strict=True))


@pytest.fixture
async def screens(settings: Settings, stack: StackAddress, tmp_path: Path, columns: int) -> AsyncIterator[Screens]:
    """The server's command, with a database and a bucket of this test's own."""
    bucket, port = f"my-bucket-{secrets.token_hex(6)}", free_port()
    given = {"s3_bucket": bucket, "listen": f"127.0.0.1:{port}", "store_probe": "quick"}
    environment = environment_for(stack, settings.mongo_database, settings=given)
    replacements = {
        **of_stack(stack),
        bucket: BUCKET,
        f"127.0.0.1:{port}": "127.0.0.1:50151",
        settings.mongo_database: "assetlane_test_" + "0" * (len(settings.mongo_database) - 15),
    }
    yield Screens(columns, environment, replacements, tmp_path)
    async with object_store(settings.model_copy(update={"s3_bucket": bucket})) as store:
        with suppress(StoreUnavailable):  # it was never made
            await store.connection.ask(lambda client, name: client.delete_bucket(Bucket=name))


async def test_setup_doctor_serve_and_reconcile(screens: Screens) -> None:
    """As an operator runs them one after the other, on stores that hold nothing yet."""
    await screens.seen("migrate", SERVER, "migrate")
    await screens.seen("serve-no-bucket", SERVER, "serve", code=1)
    await screens.seen("doctor-no-bucket", SERVER, "doctor", code=1)
    await screens.seen("setup", SERVER, "setup")
    await screens.seen("setup-again", SERVER, "setup")
    await screens.seen("serve", SERVER, "serve", until="serving on")
    await screens.seen("doctor", SERVER, "doctor")
    await screens.seen("reconcile", SERVER, "reconcile")
    await screens.seen("erase", SERVER, "erase", "ann")
    screens.environment["ASSETLANE_MONGO_URI"] = "mongodb://127.0.0.1:11111/?serverSelectionTimeoutMS=200"
    await screens.seen("serve-no-mongodb", SERVER, "serve", code=1)
    await screens.seen("doctor-no-mongodb", SERVER, "doctor", code=1)


async def test_a_port_that_is_taken(screens: Screens, settings: Settings) -> None:
    """By another server, most often."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = Screens(
            screens.columns,
            {
                **screens.environment,
                "ASSETLANE_LISTEN": f"127.0.0.1:{port}",
                "ASSETLANE_S3_BUCKET": settings.s3_bucket,
                "ASSETLANE_KEY_PREFIX": settings.key_prefix,
            },
            {**screens.replacements, f"127.0.0.1:{port}": "127.0.0.1:50151"},
            screens.cwd,
        )
        await taken.seen("serve-port-taken", SERVER, "serve", code=1)


async def key_ids(screens: Screens) -> list[str]:
    """Returns the ids of all keys, oldest first."""
    listed = await finished(
        await asyncio.create_subprocess_exec(
            *SERVER, "keys", "list", stdout=PIPE, stderr=PIPE, env=screens.environment, cwd=screens.cwd
        )
    )
    return [line.split("\t")[1] for line in listed.lines]


async def test_keys(screens: Screens, settings: Settings) -> None:
    """A ring that is begun, rotated and dropped."""
    await screens.seen("keys-none", SERVER, "keys", "list")
    await screens.seen("keys-add", SERVER, "keys", "add", "clinic")
    (first,) = await key_ids(screens)
    await screens.seen("keys-retire-last", SERVER, "keys", "retire", "clinic", first, code=1)
    await screens.seen("keys-add-second", SERVER, "keys", "add", "clinic")
    await screens.seen("keys-list", SERVER, "keys", "list")  # the second is in use half a minute later
    _, second = await key_ids(screens)
    await screens.seen("keys-drop-key", SERVER, "keys", "drop", "clinic", second)
    await screens.seen("keys-drop", SERVER, "keys", "drop", "clinic")
    await screens.seen("keys-drop-again", SERVER, "keys", "drop", "clinic", code=1)
    await screens.seen("keys-bad-name", SERVER, "keys", "add", "My Clinic", code=2)
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=timedelta(seconds=30)) as records:
        for key, hours in (("k20261101-a1b2c3", 3), ("k20261102-a1b2c3", 2)):  # both in use by now
            begun, secret = datetime.now(UTC) - timedelta(hours=hours), secrets.token_bytes(SECRET_BYTES)
            await change_ring(records.rings, "studio", partial(Ring.with_key, key_id=key, secret=secret, now=begun))
    await screens.seen("keys-retire", SERVER, "keys", "retire", "studio", "k20261101-a1b2c3")


LOCAL_PLACES = (
    ("serves on ", "127.0.0.1:50151"),
    ("MongoDB  mongodb://", "127.0.0.1:27017"),
    ("S3       http://", "127.0.0.1:18333"),
    ("gallery  http://", "127.0.0.1:50153"),
)


async def test_local(tmp_path: Path, columns: int) -> None:
    """The first thing that anybody sees."""
    port = free_port()
    words = ["local", "--dir", str(tmp_path / "data"), "--listen", f"127.0.0.1:{port}"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    terminal = await Terminal.started([*SERVER, *words], columns, inherited, cwd=tmp_path)
    await terminal.shows("hello.txt")
    terminal.process.send_signal(signal.SIGINT)
    result = await terminal.ended()
    assert result.code == 0, str(result)
    places = {
        found[1]: stands_for
        for before, stands_for in LOCAL_PLACES
        if (found := re.search(rf"{before}(127\.0\.0\.1:\d+)", terminal.text()))
    }
    # As it is in a clone, where both are shorter.
    text = terminal.text().replace(f"{tmp_path}/data", ".assetlane")
    text = text.replace(str(Path(sys.executable).with_name("assetlane")), ".venv/bin/assetlane")
    lines = drawn(cleaner(places)(text), columns)
    keep(SCREENS, "local", columns, "\n".join(("$ assetlane-server local", *lines, "[0]", "")))


async def test_the_client_beside_a_real_server(
    settings: Settings, stack: StackAddress, tmp_path: Path, columns: int
) -> None:
    """Its own words: an upload, a file, what is gone, what is too late."""
    (tmp_path / "notes.txt").write_text("hello\n")
    async with served(settings) as target, Client(target, uid="ann") as client:
        replacements = {**of_stack(stack), target: "127.0.0.1:50151"}
        mine = Screens(columns, {"ASSETLANE_TARGET": target, "ASSETLANE_UID": "ann"}, replacements, tmp_path)
        asset = await client.upload(b"hello", file_path="albums/notes.txt")
        await mine.seen("get-file", COMMAND, "get", asset.asset_id, "-o", "copy.txt")
        await mine.seen("get-missing", COMMAND, "get", ID, code=1)
        await mine.seen("cancel-too-late", COMMAND, "cancel", asset.asset_id, code=1)
        await mine.seen("rm", COMMAND, "rm", "albums/notes.txt")
        await mine.seen("rm-gone", COMMAND, "rm", asset.asset_id)
        await mine.seen("rm-never-there", COMMAND, "rm", ID, code=1)
        await mine.seen("token-not-needed", COMMAND, "token", "create", "--upload", asset.asset_id, code=1)


async def test_a_cancel_and_a_token(
    settings: Settings, stack: StackAddress, web: aiohttp.ClientSession, tmp_path: Path, columns: int
) -> None:
    """By a back end, for its user; by the user, who may not make one."""
    async with backends_server(settings, web, tmp_path) as there:
        for name, subject in (("backend", "clinic-backend"), ("ann", "ann")):
            (tmp_path / f"{name}.token").write_text(there.issuer.token(subject, lifetime_s=3.5 * 3600))
        replacements = {**of_stack(stack), there.target: "127.0.0.1:50151"}
        mine = Screens(columns, {"ASSETLANE_TARGET": there.target}, replacements, tmp_path)
        upload_id = (await there.user("ann").upload()).upload.upload_id
        backend = ("--token-file", "backend.token", "--act-for", "ann")
        await mine.seen("status-back-end", COMMAND, *backend, "status")
        await mine.seen("token-create", COMMAND, *backend, "token", "create", "--upload", upload_id)
        await mine.seen("token-too-wide", COMMAND, *backend, "token", "create", "--read", "user/bob", code=1)
        await mine.seen("token-no-scope", COMMAND, *backend, "token", "create", code=2)
        await mine.seen("token-no-user", COMMAND, *backend[:2], "token", "create", "--read", "user/ann", code=2)
        await mine.seen("token-of-a-user", COMMAND, "--token-file", "ann.token", "token", "create", "--upload",
                        upload_id, code=1)  # fmt: skip
        await mine.seen("cancel", COMMAND, *backend, "cancel", upload_id)
        await mine.seen("ls-for-nobody", COMMAND, *backend[:2], "ls", code=1)
