"""What each command and each error looks like on a terminal of 80 and of 120 columns, beside kept pictures in text."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from tests.client.lane_server import Fault, LaneServer
from tests.client.wrong_servers import OTHERS, OURS, grpc_server, mail, talker, tls, web
from tests.commands import COMMAND, environment
from tests.terminal import WIDTHS, Terminal, keep

from assetlane import Asset, Client, UploadFailed
from assetlane.v1.asset_service_pb2 import AssetChange, AssetDeletedEvent, AssetEvent, SyncedEvent, WatchAssetsResponse

pytestmark = pytest.mark.timeout(180)

SCREENS = Path(__file__).parent / "screens"
SERVER = (sys.executable, "-m", "assetlane_server")
SECRET = "a secret of thirty-two bytes, no less"  # noqa: S105
NOW = "2026-11-26T19:34:02Z"


def cleaner(*targets: str) -> Callable[[str], str]:
    """Returns what replaces ports, instants and durations by others of the same width."""

    def clean(text: str) -> str:
        for number, target in enumerate(targets):
            stands_for = f"127.0.0.1:{50151 + number}"
            assert len(target) == len(stands_for), f"{target} is not as wide as {stands_for}"
            text = text.replace(target, stands_for)
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", NOW, text)
        text = re.sub(r"yes, in \d+ ms", "yes, in 3 ms", text)
        text = re.sub(r"in \d+\.\d s, [\d.]+ k?B/s", "in 0.5 s, 140.9 kB/s", text)
        return re.sub(r"\bX-Amz-Signature=[\w-]+", "X-Amz-Signature=…", text)

    return clean


async def seen(
    name: str,
    target: str,
    *arguments: str | Path,
    command: tuple[str, ...] = COMMAND,
    more: Mapping[str, str] | None = None,
    also: tuple[str, ...] = (),
    cwd: Path | None = None,
    code: int = 0,
) -> None:
    """Runs a command at both widths and compares what is seen, its exit code included."""
    wide_enough = {**environment(target), **(more or {})}
    own = {name: value for name, value in wide_enough.items() if value}
    clean = cleaner(target, *also)
    terminals = [
        await Terminal.started([*command, *map(str, arguments)], columns, own, cwd=cwd, clean=clean)
        for columns in WIDTHS
    ]
    for columns, terminal in zip(WIDTHS, terminals, strict=True):
        result = await terminal.ended()
        assert result.code == code, str(result)
        assert "Traceback" not in str(result)
        keep(SCREENS, name, columns, f"$ {shown(command, arguments)}\n{result}")


def shown(command: tuple[str, ...], arguments: tuple[str | Path, ...]) -> str:
    """Returns the command as a person types it."""
    name = "assetlane-server" if command == SERVER else "assetlane"
    return " ".join((name, *(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:50151", str(one)) for one in arguments)))


def set_times(assets: list[Asset], server: LaneServer) -> None:
    """Gives the assets ages and expiries that stay the same words for half a minute and more."""
    ages = [timedelta(seconds=30), timedelta(minutes=5, seconds=30), timedelta(hours=3, minutes=30), timedelta(days=40)]
    for number, asset in enumerate(assets):
        expires_in = timedelta(hours=23, minutes=30) * (1 - number % 3)
        server.set_age(asset.asset_id, ages[number % len(ages)] + timedelta(minutes=2), expires_in)


PATHS = (
    "notes.txt",
    "albums/2026/summer/beach at sunset.jpg",
    "写真/二〇二六年/海.jpg",
    "a/very/long/path/that/nobody/would/type/by/hand/but/a/phone/makes/every/day/IMG_20260801_201400.jpg",
)


@pytest.fixture
async def shelf(server: LaneServer, lane: Client) -> list[Asset]:
    """Four assets of ann's, one of them public, and their uploads."""
    assets = [
        await lane.upload(
            b"hello" * 10 ** (number * 2),
            file_path=path,
            partition="user/ann",
            expiration_hours=0 if number == 1 else None,
            title="Dusk" if number == 1 else "",
            content_type="text/plain",
        )
        for number, path in enumerate(PATHS)
    ]
    set_times(assets, server)
    return assets


@pytest.mark.parametrize(
    "command",
    [
        *("", "upload", "ls", "show", "get", "open", "watch", "uploads", "cancel", "refresh", "rm", "token", "status"),
        "version",
    ],
)
async def test_help(server: LaneServer, command: str) -> None:
    """The help of `assetlane` and of each of its commands."""
    words = [command, "-h"] if command else ["--help"]
    await seen(f"help-{command or 'assetlane'}", server.target, *words)


@pytest.mark.parametrize(
    "command", ["", "local", "serve", "setup", "doctor", "reconcile", "migrate", "erase", "keys", "config", "version"]
)
async def test_help_of_the_server(server: LaneServer, command: str) -> None:
    """The help of `assetlane-server` and of each of its commands."""
    words = [command, "-h"] if command else ["--help"]
    await seen(f"help-server-{command or 'all'}", server.target, *words, command=SERVER)


@pytest.mark.parametrize("command", ["list", "add", "retire", "drop"])
async def test_help_of_keys(server: LaneServer, command: str) -> None:
    """The help of each command of `assetlane-server keys`."""
    await seen(f"help-server-keys-{command}", server.target, "keys", command, "-h", command=SERVER)


async def test_help_of_token(server: LaneServer) -> None:
    """The help of the only command of `assetlane token`."""
    await seen("help-token-create", server.target, "token", "create", "-h")


async def test_version(server: LaneServer) -> None:
    """Both commands print their version, as an option and as a command."""
    for words in ("--version", "version"):
        await seen(f"{words.strip('-')}-{len(words)}", server.target, words)
        await seen(f"server-{words.strip('-')}-{len(words)}", server.target, words, command=SERVER)


async def test_ls(server: LaneServer, shelf: list[Asset]) -> None:
    """`ls` of one's own partition, of a folder in it, with all columns, and of an empty partition."""
    await seen("ls", server.target, "ls")
    await seen("ls-folder", server.target, "ls", "albums")
    await seen("ls-partition-and-folder", server.target, "ls", "user/ann/albums/2026/")
    await seen("ls-long", server.target, "ls", "--long")
    await seen("ls-limit", server.target, "ls", "user/ann", "--limit", "1")
    await seen("ls-empty", server.target, "ls", "team/42")


async def test_uploads(server: LaneServer, lane: Client, shelf: list[Asset]) -> None:
    """`uploads` with those that became an asset, with one that failed, and of a session without any."""
    server.store.damages = True
    with pytest.raises(UploadFailed) as failed:
        await lane.upload(b"hello", file_path="broken.txt")
    server.set_age(failed.value.upload.upload_id, timedelta(minutes=5, seconds=30))
    await seen("uploads", server.target, "uploads")
    await seen("uploads-long", server.target, "uploads", "--long")
    await seen("uploads-wrong-status", server.target, "uploads", "--status", "done", code=2)
    server.clear()
    await seen("uploads-empty", server.target, "uploads")


async def test_show_get_open_and_refresh(server: LaneServer, shelf: list[Asset], tmp_path: Path) -> None:
    """Assets by id and by path, one that is not there, and one that is gone."""
    text, public, *_ = shelf
    store = server.store.url.removeprefix("http://")
    await seen("show", server.target, "show", text.asset_id, also=(store,))
    await seen("show-by-path", server.target, "show", PATHS[1], also=(store,))
    await seen("show-missing", server.target, "show", "albums/nothing.jpg", code=1)
    await seen("get-stdout", server.target, "get", text.asset_id, "-o", "-")
    await seen("get-there-already", server.target, "get", "notes.txt", "-o", "/nowhere/notes.txt", code=1)
    (tmp_path / "notes.txt").write_text("mine")
    await seen("get-name-taken", server.target, "get", "notes.txt", cwd=tmp_path, code=1)
    await seen("get-no-variant", server.target, "get", "notes.txt", "--variant", "small", cwd=tmp_path, code=1)
    await seen("open", server.target, "open", PATHS[1], also=(store,), more={"BROWSER": "true"})
    await seen("open-no-browser", server.target, "open", PATHS[1], also=(store,), more={"BROWSER": "false"}, code=1)
    await seen("refresh", server.target, "refresh", text.asset_id, public.asset_id)
    await seen("refresh-some-fail", server.target, "refresh", text.asset_id, "none", code=1)


async def test_watch(server: LaneServer, shelf: list[Asset]) -> None:
    """`watch` of an upload to its end, and of a partition until Ctrl-C."""
    await seen("watch-upload", server.target, "watch", shelf[0].asset_id)
    for asset in shelf:
        asset.revision = 1
    present = AssetEvent(change=AssetChange.ASSET_CHANGE_PRESENT, asset=shelf[1])
    added = AssetEvent(change=AssetChange.ASSET_CHANGE_ADDED, asset=shelf[3])
    events = [
        WatchAssetsResponse(asset=present),
        WatchAssetsResponse(synced=SyncedEvent(), resume_token="t1"),
        WatchAssetsResponse(asset=added, resume_token="t2"),
        WatchAssetsResponse(deleted=AssetDeletedEvent(asset_id=shelf[0].asset_id, revision=2), resume_token="t3"),
    ]
    server.asset_streams.extend([events, events])
    for columns in WIDTHS:
        words = [*COMMAND, "watch", "--partition", "user/ann"]
        terminal = await Terminal.started(words, columns, environment(server.target), clean=cleaner(server.target))
        await terminal.shows("DELETED")
        terminal.process.send_signal(signal.SIGINT)
        result = await terminal.ended()
        assert result.code == 130
        keep(SCREENS, "watch-partition", columns, f"$ assetlane watch --partition user/ann\n{result}")


async def test_status(server: LaneServer, tmp_path: Path) -> None:
    """`status` with a login name, with tokens, and where nobody listens."""
    await seen("status", server.target, "status")
    good, old, odd = (tmp_path / name for name in ("ann.token", "old.token", "odd.token"))
    good.write_text(jwt.encode({"sub": "ann", "exp": time.time() + 3630}, SECRET, "HS256"))
    old.write_text(jwt.encode({"sub": "ann", "exp": time.time() - 60}, SECRET, "HS256"))
    odd.write_text("two words")
    for name in ("ann", "old", "odd", "no"):
        file = f"{name}.token"
        code = 0 if name in ("ann", "old") else 1  # this server looks at no token
        await seen(
            f"status-{name}", server.target, "--uid", "", "--token-file", file, "status", cwd=tmp_path, code=code
        )
    await seen("status-no-server", "127.0.0.1:11111", "--timeout", "0.2", "status", code=1)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with authorities and a client's certificate."""
    (tmp_path / "ours.pem").write_bytes(OURS.pem)
    (tmp_path / "others.pem").write_bytes(OTHERS.pem)
    (tmp_path / "garbage.token").write_text("two words")
    (tmp_path / "empty.token").write_text("\n")
    (tmp_path / "good.token").write_text("a.b.c")
    (tmp_path / "large.token").write_text("x" * 20_000)
    return tmp_path


async def test_connection_errors(server: LaneServer, files: Path) -> None:
    """Each is one sentence that says what to do."""
    nobody = "127.0.0.1:11111"
    await seen("error-no-server", nobody, "--timeout", "0.2", "ls", code=1)
    await seen("error-no-host", nobody, "--target", "nowhere.invalid:50151", "--timeout", "0.2", "ls", code=1)
    await seen("error-http", nobody, "--target", f"http://{nobody}", "ls", code=1)
    await seen("error-https", nobody, "--target", "https://files.example.com", "ls", code=1)
    await seen("error-no-port", nobody, "--target", "files.example.com", "ls", code=1)
    async with grpc_server() as plain, grpc_server(tls()) as secure:
        await seen("error-tls-against-plain", plain, "--tls", "ls", code=1)
        await seen("error-plain-against-tls", secure, "ls", code=1)
        await seen("error-unknown-authority", secure, "--ca-file", "others.pem", "ls", cwd=files, code=1)
        await seen("error-no-authority-file", secure, "--ca-file", "none.pem", "ls", cwd=files, code=1)
        await seen("error-not-assetlane", plain, "ls", code=1)
        await seen("error-no-certificate", secure, "--ca-file", "garbage.token", "ls", cwd=files, code=1)
    async with grpc_server(tls(OURS.signed("old", lifetime=-timedelta(hours=1)))) as secure:
        await seen("error-certificate-expired", secure, "--ca-file", "ours.pem", "ls", cwd=files, code=1)
    elsewhere = OURS.signed("elsewhere", names=("elsewhere.example",))
    async with grpc_server(tls(elsewhere)) as secure:
        await seen("error-other-name", secure, "--ca-file", "ours.pem", "ls", cwd=files, code=1)
    async with grpc_server(tls(client_ca=OURS.pem)) as secure:
        await seen("error-client-certificate", secure, "--ca-file", "ours.pem", "ls", cwd=files, code=1)
    for name, talk in (("web", web), ("mail", mail)):
        async with talker(talk) as target:
            await seen(f"error-{name}-server", target, "ls", code=1)


async def test_token_errors(server: LaneServer, files: Path) -> None:
    """Missing, refused, expired, garbage, empty, not there, in the clear, given twice."""
    faults = {
        "missing": Fault(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", "This server wants to know who calls."),
        "refused": Fault(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "The token is not one that it accepts."),
        "expired": Fault(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", "The token has expired."),
    }
    for name, fault in faults.items():
        server.faults["ListAssets"].extend([fault] * 12)
        await seen(f"error-token-{name}", server.target, "ls", "public", code=1)
        server.faults["ListAssets"].clear()
    await seen("error-token-no-own", server.target, "--uid", "", "--token-file", "no.token", "ls", cwd=files, code=1)
    for name in ("garbage", "empty", "no", "large"):
        words = ("--token-file", f"{name}.token", "ls", "public")
        await seen(f"error-token-{name}", server.target, *words, cwd=files, code=1)
    far = "127.0.0.1:11111"
    far_words = ("--target", "files.example.com:50151", "--token-file", "good.token", "ls", "public")
    await seen("error-token-in-the-clear", far, *far_words, cwd=files, code=1)
    await seen("error-token-twice", far, "--token", "t", "--token-file", "good.token", "ls", cwd=files, code=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files to upload."""
    (tmp_path / "holiday").mkdir()
    for name, size in (("beach at sunset.txt", 500), ("dunes.txt", 70_000), ("notes about the long way home.txt", 5)):
        (tmp_path / "holiday" / name).write_bytes(b"x" * size)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


async def test_upload(server: LaneServer, folder: Path) -> None:
    """`upload` of one file, of a public one, of a folder, of what fails, and with the URLs only."""
    also = (server.store.url.removeprefix("http://"),)
    words = ["upload", "holiday/dunes.txt"]
    options = {
        "one": words,
        "public": [*words, "--public", "--partition", "public"],
        "url": ["upload", "holiday", "-j", "1", "--url"],
        "folder": ["upload", "holiday", "-j", "1", "--to", "albums/2026"],
        "some-fail": ["upload", "holiday/dunes.txt", "none.txt", "-j", "1"],
        "stdin-unnamed": ["upload", "-"],
        "no-file": ["upload", "none.txt"],
        "json-and-url": ["upload", "holiday", "--json", "--url"],
    }
    codes = {"some-fail": 1, "stdin-unnamed": 2, "no-file": 1, "json-and-url": 2}
    for name, arguments in options.items():
        for columns in WIDTHS:  # one after the other: the ids count up
            server.clear()
            terminal = await Terminal.started(
                [*COMMAND, *arguments],
                columns,
                environment(server.target),
                cwd=folder,
                clean=cleaner(server.target, *also),
            )
            result = await terminal.ended()
            assert result.code == codes.get(name, 0), str(result)
            keep(SCREENS, f"upload-{name}", columns, f"$ {shown(COMMAND, tuple(arguments))}\n{result}")


@pytest.mark.parametrize("resume", [False, True])
async def test_upload_until_ctrl_c(server: LaneServer, folder: Path, resume: bool) -> None:
    """A bar for each file and one for all while it goes on; then what was given up, and how to go on."""
    name = "upload-resumed-later" if resume else "upload-given-up"
    words = ["upload", "holiday", "-j", "2", *(["--resume"] if resume else [])]
    for columns in WIDTHS:
        server.store.stall = asyncio.Event()
        terminal = await Terminal.started(
            [*COMMAND, *words], columns, environment(server.target), cwd=folder, clean=cleaner(server.target)
        )
        await terminal.shows("INITIALIZED(.|\n)*INITIALIZED")
        keep(SCREENS, f"{name}-under-way", columns, f"$ {shown(COMMAND, tuple(words))}\n" + still(terminal.screen()))
        terminal.process.send_signal(signal.SIGINT)
        result = await terminal.ended()
        assert result.code == 130
        keep(SCREENS, name, columns, f"$ {shown(COMMAND, tuple(words))}\n{result}")
        server.store.stall.set()


def still(screen: tuple[str, ...]) -> str:
    """Returns the bars without what time does to them: how much is sent, and how fast."""
    lines = [re.sub(r"[╸━╺-]{10,}", "━━━━━━━━━━", line) for line in screen if line.strip()]
    return "\n".join(re.sub(r"(━+ ).*?(INITIALIZED|$)", r"\1… \2", line).rstrip() for line in lines) + "\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-command", ["nonsense"]),
        ("no-option", ["ls", "--nonsense"]),
        ("no-argument", ["show"]),
        ("no-number", ["ls", "--limit", "many"]),
        ("negative-number", ["ls", "--limit", "-1"]),
        ("two-watches", ["watch", "U1", "--partition", "public"]),
        ("half-a-certificate", ["--client-cert-file", "c.pem", "ls"]),
    ],
)
async def test_wrong_usage(server: LaneServer, name: str, words: list[str]) -> None:
    """Each mistake on the command line says what is wrong and where to look."""
    await seen(f"usage-{name}", server.target, *words, code=2)


SETTINGS = {
    "ASSETLANE_MONGO_URI": "mongodb://127.0.0.1:11111/?serverSelectionTimeoutMS=100",
    "ASSETLANE_S3_BUCKET": "lanes",
}
NO_SETTINGS = {"ASSETLANE_TARGET": "", "ASSETLANE_UID": ""}


@pytest.mark.parametrize(
    ("name", "words", "settings"),
    [
        ("none", ["serve"], {}),
        ("misspelt", ["serve"], {**SETTINGS, "ASSETLANE_S3_BUKKET": "lanes"}),
        ("not-numbers", ["serve"], {**SETTINGS, "ASSETLANE_WORKERS": "many", "ASSETLANE_GRACE_SECONDS": "-1"}),
        ("open-to-all", ["serve"], {**SETTINGS, "ASSETLANE_LISTEN": "0.0.0.0:50151"}),
        ("no-secret-file", ["serve"], {"ASSETLANE_MONGO_URI_FILE": "/nowhere/uri", "ASSETLANE_S3_BUCKET": "lanes"}),
        ("no-settings-file", ["--settings", "/nowhere/assetlane.toml", "serve"], SETTINGS),
    ],
)
async def test_wrong_settings(server: LaneServer, name: str, words: list[str], settings: dict[str, str]) -> None:
    """All wrong settings are listed at once by their names, in our words."""
    await seen(f"settings-{name}", server.target, *words, command=SERVER, more={**NO_SETTINGS, **settings}, code=1)


async def test_settings_are_printed(server: LaneServer) -> None:
    """`assetlane-server config` prints the settings that a server would have here."""
    await seen("server-config", server.target, "config", command=SERVER, more={**NO_SETTINGS, **SETTINGS})
