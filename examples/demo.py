"""`make demo`: one command, one asset. Starts everything, shows what happens, cleans up after itself."""

import argparse
import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import yarl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
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
from assetlane.sources import guessed_content_type
from assetlane.v1.upload_pb2 import CutMaker, CutPlan
from assetlane.v1.upload_service_pb2 import ProgressStage
from examples.picture import photograph
from examples.video_extra import install_video_extra

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
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assetlane_server", "local", "--dir", str(data), "--listen", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=own,
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


async def demonstrate(target: str, picture: Path, video: Path, issuer: Issuer) -> None:
    """Uploads a picture twice, a video once, and reads every URL back."""
    async with Client(target, token=issuer.token("ann")) as lane, aiohttp.ClientSession() as web:
        size = f"{picture.stat().st_size:,} bytes, straight into the store"
        console.print(f"\n[bold]1. Uploading[/] {picture.name} with cuts of our own, {size}")
        private = await lane.upload(picture, file_path=f"demo/{picture.name}", title="Demo", on_progress=Telling().tell)
        await read_back(web, private, picture)

        console.print(f"\n[bold]2. Again, and the server makes the cuts[/]: {size}")
        by_server = await cut_by_server(lane, web, picture)
        await read_back(web, by_server, picture)

        await asyncio.to_thread(make_video, video)
        console.print(f"\n[bold]3. A video with its preview[/]: {video.name}, {video.stat().st_size:,} bytes")
        filmed = await lane.upload(video, file_path=f"demo/{video.name}", on_progress=Telling().tell)
        await read_back(web, filmed, video)
        await show_seeking(web, filmed, video)

        console.print("\n[bold]4. Who may read[/]")
        await show_access(lane, web, private, picture)

        console.print("\n[bold]5. Who may ask[/]")
        await show_callers(target, private, issuer)

        console.print("\n[bold]6. A read URL dies at its instant, RefreshAsset brings a living one[/]")
        await show_expiry(lane, web, picture)
    console.print("\n[green]Everything arrived, was proved and was read back.[/]")


class Telling:
    """Prints what happens to one upload, and when."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def tell(self, progress: Progress) -> None:
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
    "CUTTING": "the server makes the cuts, in a process of its own",
    "COMPLETED": "in the ledger, read URLs signed",
}


def make_video(to: Path) -> None:
    """Writes the generated video; it is the first thing here that needs the extra `video`."""
    install_video_extra()
    from examples.film import film

    to.write_bytes(film())


async def cut_by_server(lane: Client, web: aiohttp.ClientSession, picture: Path) -> Asset:
    """Step by step, as a language without an image library does it, while a watch tells everything."""
    body = await asyncio.to_thread(picture.read_bytes)
    promise = VariantPromise(
        name="original",
        content_type=guessed_content_type(picture.name),
        size_bytes=len(body),
        sha256=hashlib.sha256(body).digest(),
    )
    telling = Telling()
    plan = CutPlan(maker=CutMaker.CUT_MAKER_SERVER)
    wish = RequestUploadRequest(file_path=f"demo/server/{picture.name}", variants=[promise], cut_plan=plan)
    reply = await lane.request_upload(wish)

    async def watch() -> None:
        told = ""
        async for event in lane.watch_upload(reply.upload.upload_id, progress=True):
            if isinstance(event, ProgressEvent):
                name = ProgressStage.Name(event.stage).removeprefix("PROGRESS_STAGE_")
            else:
                name = UploadStatus.Name(event.upload.status).removeprefix("UPLOAD_STATUS_")
            if name != told and name in _MEANINGS:
                telling.say(name, _MEANINGS[name])
            told = name

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        put = reply.write_targets[0].single_put
        url = yarl.URL(put.url, encoded=True)
        async with web.request(put.method, url, headers=dict(put.headers), data=body) as response:
            response.raise_for_status()
        return await lane.complete_upload(reply.upload.upload_id)


async def show_seeking(web: aiohttp.ClientSession, filmed: Asset, video: Path) -> None:
    """A player asks for the part that it wants to show."""
    size = video.stat().st_size
    part = {"Range": f"bytes={size // 2}-{size // 2 + 999}"}
    async with web.get(yarl.URL(filmed.variants[0].read_url, encoded=True), headers=part) as response:
        body = await response.read()
    expect(
        response.status,
        206,
        f"a player seeks: {len(body):,} bytes from the middle, {response.headers['Content-Range']}",
    )


async def read_back(web: aiohttp.ClientSession, asset: Asset, picture: Path) -> None:
    """Fetches every variant and compares it with what the ledger says."""
    table = Table("variant", "type", "size", "pixels", "read back", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for variant in asset.variants:
        status, body = await fetch(web, variant.read_url)
        same = hashlib.sha256(body).digest() == variant.sha256 and len(body) == variant.size_bytes
        if variant.name == "original":
            same = same and body == await asyncio.to_thread(picture.read_bytes)
        if status != 200 or not same:
            raise SystemExit(f"{variant.name} came back as {status}, {len(body)} bytes: not what was stored")
        pixels = f"{variant.width_px} x {variant.height_px}" if variant.width_px else ""
        table.add_row(variant.name, variant.content_type, f"{len(body):,}", pixels, "[green]same SHA-256[/]")
    console.print(table)
    length = (
        f", {asset.details.duration.ToTimedelta().total_seconds():g} s" if asset.details.HasField("duration") else ""
    )
    console.print(f"colour {asset.details.color}{length}, asset {asset.asset_id}")


async def show_access(lane: Client, web: aiohttp.ClientSession, private: Asset, picture: Path) -> None:
    """A private object needs its signature, a public one does not."""
    unsigned = private.variants[0].read_url.partition("?")[0]
    expect((await fetch(web, unsigned))[0], 403, "private, without its signature")
    public = await lane.upload(picture, partition="public", expiration_hours=0)
    expect((await fetch(web, public.variants[-1].read_url))[0], 200, "public, no signature, never expires")
    console.print(f"  {public.variants[-1].read_url}")


async def show_callers(target: str, private: Asset, issuer: Issuer) -> None:
    """Ann's asset is there for ann alone; without a token nothing is there for anybody."""
    for who, token in (("ann", issuer.token("ann")), ("bob", issuer.token("bob")), ("no token", None)):
        async with Client(target, token=token) as lane:
            try:
                answer = f"OK {(await lane.get_asset(private.asset_id)).partition}"
            except AssetlaneError as error:
                answer = error.reason
        console.print(f"  {who:<9} {answer}")
        if answer != {"ann": "OK user/ann", "bob": "ASSET_NOT_FOUND"}.get(who, "TOKEN_MISSING"):
            raise SystemExit("that should not have been")


async def show_expiry(lane: Client, web: aiohttp.ClientSession, picture: Path) -> None:
    """Two seconds of life, then 403, then a new life."""
    asset = await lane.upload(picture, cuts=False, expiration_hours=2 / 3600)
    url = asset.variants[0].read_url
    expect((await fetch(web, url))[0], 200, "a URL that lives 2 seconds, at once")
    async with asyncio.timeout(10):
        while (await fetch(web, url))[0] == 200:
            continue
    expect((await fetch(web, url))[0], 403, "the same URL, past its instant")
    refreshed = await lane.read_url(asset)
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


async def main(picture: Path | None) -> None:
    """Runs the demo on a picture of the caller's, or on a generated one."""
    folder = Path(tempfile.mkdtemp(prefix="assetlane-demo-"))
    try:
        if picture is None:
            picture = folder / "dusk.jpg"
            picture.write_bytes(photograph())
        video = folder / "pan.mp4"
        console.print("[bold]Starting[/] the embedded MongoDB and S3, and the server …")
        issuer = Issuer()
        key_file = folder / "issuer.pem"
        key_file.write_bytes(issuer.public_key)
        async with local_server(folder / "data", key_file) as target:
            console.print(f"serving on {target}, for callers with a token")
            await demonstrate(target, picture, video, issuer)
    finally:
        shutil.rmtree(folder)
    console.print("Stopped, data removed. To keep a server running:\nmake run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a picture of your own")
    arguments = parser.parse_args()
    if arguments.file is not None and not arguments.file.is_file():
        parser.error(f"{arguments.file} is not a file")
    asyncio.run(main(arguments.file))
