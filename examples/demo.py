"""`make demo`: one command, one asset. Starts everything, shows what happens, cleans up after itself."""

import argparse
import asyncio
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import yarl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assetlane import (
    Asset,
    AssetlaneError,
    Client,
    Progress,
    ProgressEvent,
    RequestUploadRequest,
    UploadStatus,
    VariantPromise,
)
from assetlane.contents import first
from assetlane.detection import SNIFFED_BYTES
from assetlane.formats import readable
from assetlane.media_types import declared_content_type
from assetlane.preview import is_video
from assetlane.v1.upload_pb2 import CutMaker, CutPlan
from assetlane.v1.upload_service_pb2 import ProgressStage
from examples.picture import photograph
from examples.video_extra import install_video_extra

CHUNK_BYTES = 256 * 1024
SMALL_BYTES = 16 * 1024 * 1024  # larger ones are sent once, and the later steps have a picture of our own
CUT_LIMIT_S = 120  # on a machine that is busy with other things
LIFE_S = 4  # of the read URL that is seen to die
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0

console = Console(highlight=False, soft_wrap=True)


class Issuer:
    """Makes tokens, as an identity provider does, with a key made on the spot."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, uid: str) -> str:
        """Returns a token that lives ten minutes."""
        return jwt.encode({"sub": uid, "exp": time.time() + 600}, self._key, "EdDSA")


@asynccontextmanager
async def local_server(data: Path, key_file: Path) -> AsyncIterator[str]:
    """Runs `assetlane-server local` as a process of its own; yields the target it serves on."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ASSETLANE_")}
    own["ASSETLANE_JWT_KEY_FILE"] = str(key_file)
    own["ASSETLANE_CUT_SECONDS"] = str(CUT_LIMIT_S)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assetlane_server", "local", "--dir", str(data), "--listen", "127.0.0.1:0",
        "--no-gallery", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=own,
    )  # fmt: skip
    assert server.stdout is not None  # noqa: S101 - asked for above
    assert server.stderr is not None  # noqa: S101
    log: list[bytes] = []

    async def keep(stream: asyncio.StreamReader) -> None:
        log.extend([line async for line in stream])

    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(keep(server.stderr))
        try:
            async with asyncio.timeout(START_LIMIT_S):
                greeting = (await server.stdout.readline()).decode()
            if "serves on" not in greeting:
                await keeping
                raise SystemExit("the server did not start:\n" + b"".join(log).decode(errors="replace"))
            yield greeting.split("serves on")[1].strip()
        finally:
            if server.returncode is None:
                server.terminate()
            await asyncio.wait_for(server.wait(), STOP_LIMIT_S)


class DemoFile:
    """A file that is shown going in: where it is, how it is called, what it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = path.stat().st_size
        with path.open("rb") as file:
            self.content_type = declared_content_type(path.name, file.read(SNIFFED_BYTES))

    @property
    def name(self) -> str:
        """Its name as a terminal can show it."""
        letters = os.fsencode(self.path.name).decode(errors="backslashreplace")
        return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in letters))

    @property
    def file_path(self) -> str:
        """Where it is filed."""
        return unicodedata.normalize("NFC", f"demo/{self.path.name}")

    @property
    def is_picture(self) -> bool:
        """Whether cuts can be made of it."""
        return readable(self.content_type) and self.size_bytes > 0

    @property
    def is_video(self) -> bool:
        """Whether a still can be made of it."""
        return is_video(self.content_type) and self.size_bytes > 0

    def __str__(self) -> str:
        return f"{self.name}, {self.content_type}, {self.size_bytes:,} bytes"


async def demonstrate(
    target: str, shown: DemoFile, picture: DemoFile, video: DemoFile | None, pan: Path, issuer: Issuer
) -> None:
    """Uploads the file that is shown, a picture with cuts by the server, and a video; reads every URL back.

    `picture` and `video` are the file itself where it is one; else a picture of our own, and a video made at `pan`.
    """
    async with Client(target, token=issuer.token("ann")) as client, aiohttp.ClientSession() as web:
        made = "its cuts" if shown.is_picture else "its preview" if shown.is_video else "nothing to cut"
        console.print(f"\n[bold]1. Uploading[/] {shown}, straight into the store, {made}")
        private = await client.upload(
            shown.path, file_path=shown.file_path, title="Demo", on_progress=StepPrinter().on_progress
        )
        await read_back(web, private, shown)

        console.print(f"\n[bold]2. The server makes the cuts[/]: {picture}")
        by_server = await cut_by_server(client, web, picture)
        await read_back(web, by_server, picture)

        if video is None:
            await asyncio.to_thread(make_video, pan)
            video = DemoFile(pan)
        console.print(f"\n[bold]3. A video with its preview[/]: {video}")
        filmed = private
        if video is not shown:
            filmed = await client.upload(video.path, file_path=video.file_path, on_progress=StepPrinter().on_progress)
            await read_back(web, filmed, video)
        await show_seeking(web, filmed, video)

        console.print("\n[bold]4. Who may read[/]")
        small = shown if shown.size_bytes <= SMALL_BYTES else picture
        await show_access(client, web, private, small.path)

        console.print("\n[bold]5. Who may ask[/]")
        await show_callers(target, private, issuer)

        console.print("\n[bold]6. A read URL expires, RefreshAsset makes a new one[/]")
        await show_expiry(client, web, small.path)
    console.print("\n[green]Everything arrived, was proved and was read back.[/]")


class StepPrinter:
    """Prints what happens to one upload, and when."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def on_progress(self, progress: Progress) -> None:
        """Prints a new status; bytes on their way are not worth a line here."""
        if not progress.variant:
            self.say(progress.status_name, _MEANINGS.get(progress.status_name, ""))

    def say(self, what: str, meaning: str) -> None:
        """Prints one line."""
        console.print(f"  {time.monotonic() - self._begun:6.2f} s  [bold]{what:<12}[/]", meaning)


_MEANINGS = {
    "PENDING": "accepted and durable",
    "INITIALIZED": "one signed PUT per variant",
    "UPLOADED": "the bytes are there; the server proves them",
    "CUTTING": "the server makes the cuts, in a separate process",
    "COMPLETED": "in the ledger, read URLs signed",
}


def make_video(to: Path) -> None:
    """Writes the generated video; it is the first thing here that needs the extra `video`."""
    install_video_extra()
    from examples.film import film

    to.write_bytes(film())


async def cut_by_server(client: Client, web: aiohttp.ClientSession, picture: DemoFile) -> Asset:
    """Step by step, as a language without an image library does it, while a watch shows everything."""
    body = await asyncio.to_thread(picture.path.read_bytes)
    promise = VariantPromise(
        name="original",
        content_type=picture.content_type,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).digest(),
    )
    steps = StepPrinter()
    plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
    request = RequestUploadRequest(file_path=f"server/{picture.file_path}", variants=[promise], cut_plan=plan)
    reply = await client.request_upload(request)

    async def watch() -> None:
        last = ""
        async for event in client.watch_upload(reply.upload.upload_id, progress=True):
            if isinstance(event, ProgressEvent):
                name = ProgressStage.Name(event.stage).removeprefix("PROGRESS_STAGE_")
            else:
                name = UploadStatus.Name(event.upload.status).removeprefix("UPLOAD_STATUS_")
            if name != last and name in _MEANINGS:
                steps.say(name, _MEANINGS[name])
            last = name

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        put = reply.write_targets[0].single_put
        url = yarl.URL(put.url, encoded=True)
        async with web.request(put.method, url, headers=dict(put.headers), data=body) as response:
            response.raise_for_status()
        return await client.complete_upload(reply.upload.upload_id)


async def show_seeking(web: aiohttp.ClientSession, filmed: Asset, video: DemoFile) -> None:
    """A player asks for the part that it wants to show."""
    size = video.size_bytes
    part = {"Range": f"bytes={size // 2}-{size // 2 + 999}"}
    async with web.get(yarl.URL(filmed.variants[0].read_url, encoded=True), headers=part) as response:
        body = await response.read()
    expect(
        response.status,
        206,
        f"a player seeks: {len(body):,} bytes from the middle, {response.headers['Content-Range']}",
    )


async def read_back(web: aiohttp.ClientSession, asset: Asset, shown: DemoFile) -> None:
    """Fetches every variant and compares it with what the ledger says, the original with the file too.

    What arrived in parts has a hash of its parts alone: it is compared byte for byte with the file.
    """
    table = Table("variant", "type", "size", "pixels", "read back", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for variant in asset.variants:
        status, size_bytes, digest = await fetched(web, variant.read_url)
        same = size_bytes == variant.size_bytes and digest == (variant.sha256 or digest)
        if variant.name == "original":
            same = same and digest == await asyncio.to_thread(digest_of, shown.path)
        elif not variant.sha256:
            same = False
        if status != 200 or not same:
            raise SystemExit(f"{variant.name} came back as {status}, {size_bytes:,} bytes: not what was stored")
        pixels = f"{variant.width_px} x {variant.height_px}" if variant.width_px else ""
        compared = "same SHA-256" if variant.sha256 else "same bytes as the file, sent in parts"
        table.add_row(variant.name, variant.content_type, f"{size_bytes:,}", pixels, f"[green]{compared}[/]")
    console.print(table)
    for notice in asset.notices:
        console.print(f"  {escape(notice.message)} {escape(f'[{notice.reason}]')}")
    facts = [f"colour {asset.details.color}"] if asset.details.color else []
    if asset.details.HasField("duration"):
        facts.append(f"{asset.details.duration.ToTimedelta().total_seconds():g} s")
    console.print(", ".join([*facts, f"asset {asset.asset_id}"]))


def digest_of(path: Path) -> bytes:
    """Returns the SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


async def fetched(web: aiohttp.ClientSession, url: str) -> tuple[int, int, bytes]:
    """Returns the HTTP status, and the size and SHA-256 of a body of any size."""
    digest, size_bytes = hashlib.sha256(), 0
    async with web.get(yarl.URL(url, encoded=True)) as response:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        return response.status, size_bytes, digest.digest()


async def show_access(client: Client, web: aiohttp.ClientSession, private: Asset, picture: Path) -> None:
    """A private object needs its signature, a public one does not."""
    unsigned = private.variants[0].read_url.partition("?")[0]
    expect((await fetch(web, unsigned))[0], 403, "private, without its signature")
    public = await client.upload(picture, partition="public", expiration_hours=0)
    expect((await fetch(web, public.variants[-1].read_url))[0], 200, "public, no signature, never expires")
    console.print(f"  {public.variants[-1].read_url}")


async def show_callers(target: str, private: Asset, issuer: Issuer) -> None:
    """Ann's asset is there for ann alone; without a token nothing is there for anybody."""
    for who, token in (("ann", issuer.token("ann")), ("bob", issuer.token("bob")), ("no token", None)):
        async with Client(target, token=token) as client:
            try:
                answer = f"OK {(await client.get_asset(private.asset_id)).partition}"
            except AssetlaneError as error:
                answer = error.reason
        console.print(f"  {who:<9} {answer}")
        if answer != {"ann": "OK user/ann", "bob": "ASSET_NOT_FOUND"}.get(who, "TOKEN_MISSING"):
            raise SystemExit("that should not have been")


async def show_expiry(client: Client, web: aiohttp.ClientSession, picture: Path) -> None:
    """A few seconds of life, then 403, then a new life."""
    asset = await client.upload(picture, cuts=False, expiration_hours=LIFE_S / 3600)
    url = asset.variants[0].read_url
    expect((await fetch(web, url))[0], 200, f"a URL that lives {LIFE_S} seconds, at once")
    async with asyncio.timeout(LIFE_S + START_LIMIT_S):
        while (await fetch(web, url))[0] == 200:
            continue
    expect((await fetch(web, url))[0], 403, "the same URL, past its instant")
    refreshed = await client.read_url(asset)
    expect((await fetch(web, refreshed))[0], 200, "after RefreshAsset")


async def fetch(web: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    """Returns the HTTP status and the body, as a browser gets them."""
    async with web.get(yarl.URL(url, encoded=True)) as response:
        return response.status, await response.read()


def expect(status: int, wanted: int, what: str) -> None:
    """Prints a status, and ends the demo if it is not the wanted one."""
    console.print(f"  {status}  {what}")
    if status != wanted:
        raise SystemExit(f"that should have been {wanted}")


async def main(file: Path | None) -> None:
    """Runs the demo on a file of the caller's, or on a generated picture."""
    folder = Path(tempfile.mkdtemp(prefix="assetlane-demo-"))
    try:
        dusk, pan = folder / "dusk.jpg", folder / "pan.mp4"
        dusk.write_bytes(photograph())
        shown = DemoFile(file or dusk)
        picture = shown if shown.is_picture and shown.size_bytes <= SMALL_BYTES else DemoFile(dusk)
        video = shown if shown.is_video else None
        if video is not None:
            install_video_extra()
        console.print("[bold]Starting[/] the embedded MongoDB and S3, and the server …")
        issuer = Issuer()
        key_file = folder / "issuer.pem"
        key_file.write_bytes(issuer.public_key)
        async with local_server(folder / "data", key_file) as target:
            console.print(f"serving on {target}, for callers with a token")
            try:
                await demonstrate(target, shown, picture, video, pan, issuer)
            except (AssetlaneError, OSError, ExceptionGroup) as caught:
                error = first(caught) if isinstance(caught, ExceptionGroup) else caught
                if not isinstance(error, AssetlaneError | OSError):
                    raise
                reason = f" [{error.reason}]" if isinstance(error, AssetlaneError) else ""
                raise SystemExit(f"demo: {shown.path.name!a}: {error}{reason}") from error
    finally:
        shutil.rmtree(folder)
    console.print("Stopped, data removed. To keep a server running:\nmake run")


def fault_in(file: Path) -> str:
    """Returns why the demo cannot be given this file, empty when it can."""
    try:
        if file.is_dir():
            return "this is a folder: give one file, such as FILE=my.jpg"
        if not stat.S_ISREG(file.stat().st_mode):
            return "this is a pipe, a socket or a device, not a file"
        with file.open("rb"):
            return ""
    except OSError as error:
        return str(error.strerror)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a file of your own, of any type")
    arguments = parser.parse_args()
    if arguments.file is not None and (fault := fault_in(arguments.file)):
        sys.exit(f"demo: {os.fsencode(arguments.file).decode(errors='backslashreplace')}: {fault}")
    asyncio.run(main(arguments.file))
