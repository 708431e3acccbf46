"""The commands: each says what to do with a client and how to tell it."""

from contextlib import aclosing
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from assetlane.cli.output import Bars, complain, note, printable, say, say_json, say_table, sized, timed
from assetlane.cli.session import FAILED, Connection, Tls, run
from assetlane.cli.uploading import app as uploading
from assetlane.cli.watching import app as watching
from assetlane.client import DEFAULT_TARGET, Client
from assetlane.errors import AssetlaneError
from assetlane.media_types import guessed_ending
from assetlane.parcel import ORIGINAL
from assetlane.v1.asset_pb2 import Asset
from assetlane.version import __version__

app = typer.Typer(
    help="Bring files into object storage through Assetlane, and get them out again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(uploading)
app.add_typer(watching)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
AssetId = Annotated[str, typer.Argument(metavar="ASSET_ID", show_default=False)]
AssetIds = Annotated[list[str], typer.Argument(metavar="ASSET_ID...", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        say(f"assetlane {__version__}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    target: Annotated[str, typer.Option(envvar="ASSETLANE_TARGET", help="The server, HOST:PORT.")] = DEFAULT_TARGET,
    uid: Annotated[str, typer.Option(envvar="ASSETLANE_UID", help="Who you are.")] = "",
    token: Annotated[
        str, typer.Option(envvar="ASSETLANE_TOKEN", help="Your token. Better out of sight: --token-file.")
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="ASSETLANE_TOKEN_FILE", help="A file with your token, read again before each call."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", envvar="ASSETLANE_TLS", help="Connect with TLS.")] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="ASSETLANE_CA_FILE", help="Authorities to trust, in PEM; means --tls. Default: the usual."),
    ] = None,
    client_cert_file: Annotated[
        Path | None, typer.Option(envvar="ASSETLANE_CLIENT_CERT_FILE", help="Your certificate, in PEM; means --tls.")
    ] = None,
    client_key_file: Annotated[
        Path | None, typer.Option(envvar="ASSETLANE_CLIENT_KEY_FILE", help="Its private key, in PEM.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to keep trying a call while the server is unavailable.")
    ] = 10.0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Bring files into object storage through Assetlane, and get them out again."""
    if token and token_file:
        raise typer.BadParameter("tell one of --token and --token-file")
    if (client_cert_file is None) != (client_key_file is None):
        raise typer.BadParameter("--client-cert-file and --client-key-file go together")
    secure = tls or ca_file is not None or client_cert_file is not None
    context.obj = Connection(
        target=target,
        uid=uid,
        timeout=timeout,
        token=token,
        token_file=token_file,
        tls=Tls(ca_file, client_cert_file, client_key_file) if secure else None,
    )


@app.command()
def ls(
    context: typer.Context,
    partition: Annotated[str, typer.Argument(metavar="PARTITION", show_default=False)],
    limit: Annotated[int, typer.Option(min=0, help="At most so many, newest first; 0: all.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List the assets of a partition, newest first."""

    async def work(lane: Client) -> int:
        rows: list[tuple[str, ...]] = []
        async with aclosing(lane.list_assets(partition, page_size=min(limit, 1000))) as assets:
            count = 0
            async for asset in assets:
                count += 1
                if as_json:
                    say_json(asset)
                else:
                    rows.append(_row(asset))
                if count == limit:
                    break
        if rows:
            say_table(("ASSET", "CREATED", "SIZE", "TYPE", "PATH", "TITLE"), rows)
        return 0

    run(context, work)


def _row(asset: Asset) -> tuple[str, ...]:
    original = asset.variants[0]
    return (
        asset.asset_id,
        timed(asset.create_time),
        sized(original.size_bytes),
        original.content_type,
        asset.file_path,
        asset.details.title,
    )


@app.command()
def show(context: typer.Context, asset_id: AssetId, as_json: AsJson = False) -> None:
    """Show an asset with URLs that work: of each variant one that shows it and one that saves it."""

    async def work(lane: Client) -> int:
        asset = await lane.get_asset(asset_id)
        await lane.read_url(asset)  # renews all of them when they are about to expire
        if as_json:
            say_json(asset)
            return 0
        seconds = asset.details.duration.ToTimedelta().total_seconds()
        facts = {
            "asset": asset.asset_id,
            "path": asset.file_path,
            "partition": asset.partition,
            "uid": asset.uid,
            "title": asset.details.title,
            "caption": asset.details.caption,
            "color": asset.details.color,
            "duration": f"{seconds:.1f} s" if seconds else "",
            "created": timed(asset.create_time),
            "expires": timed(asset.expire_time) if asset.HasField("expire_time") else "never",
        }
        for name, fact in facts.items():
            if fact:
                say(f"{name + ':':<11}{fact}")
        for notice in asset.notices:
            say(f"notice:    {notice.message} [{notice.reason}]")
        for variant in asset.variants:
            size = f"  {variant.width_px} x {variant.height_px}" if variant.width_px else ""
            say(f"{variant.name + ':':<11}{sized(variant.size_bytes)}  {variant.content_type}{size}")
            say(f"{'':<11}{variant.read_url}")
            if variant.download_url:  # empty: the server is of an earlier version
                say(f"{'save:':<11}{variant.download_url}")
        return 0

    run(context, work)


@app.command()
def refresh(
    context: typer.Context,
    asset_ids: AssetIds,
    if_expires_within: Annotated[
        float | None, typer.Option(min=0, help="Leave URLs alone that live longer than so many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Renew the read URLs of assets."""

    async def work(lane: Client) -> int:
        within = None if if_expires_within is None else timedelta(seconds=if_expires_within)
        failed = False
        for result in await lane.refresh_assets(asset_ids, within):
            if result.WhichOneof("outcome") == "failure":
                failed = True
                note(f"assetlane: {result.asset_id}: {result.failure.message} [{result.failure.reason}]")
            elif as_json:
                say_json(result.asset)
            else:
                public = not result.asset.HasField("expire_time")
                say(f"{result.asset_id}\t{'never expires' if public else timed(result.asset.expire_time)}")
        return FAILED if failed else 0

    run(context, work)


@app.command()
def cancel(
    context: typer.Context,
    upload_id: Annotated[str, typer.Argument(metavar="UPLOAD_ID", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Give an upload up."""

    async def work(lane: Client) -> int:
        upload = await lane.cancel_upload(upload_id)
        if as_json:
            say_json(upload)
        else:
            say(f"cancelled {upload.upload_id}")
        return 0

    run(context, work)


@app.command()
def rm(context: typer.Context, asset_ids: AssetIds) -> None:
    """Delete assets and their objects for good."""

    async def work(lane: Client) -> int:
        failed = False
        for asset_id in asset_ids:
            try:
                await lane.delete_asset(asset_id)
            except AssetlaneError as error:
                failed = True
                complain(error, asset_id)
            else:
                say(f"deleted {asset_id}")
        return FAILED if failed else 0

    run(context, work)


@app.command()
def get(
    context: typer.Context,
    asset_id: AssetId,
    variant: Annotated[str, typer.Option(help="Which variant.")] = ORIGINAL,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: the asset's own name, here."),
    ] = None,
) -> None:
    """Download one variant of an asset."""

    async def work(lane: Client) -> int:
        asset = await lane.get_asset(asset_id)
        to = output or _free_name(asset, variant)
        size = next((stored.size_bytes for stored in asset.variants if stored.name == variant), None)
        with Bars(shown=True) as bars:
            await lane.download(asset, variant, to=to, on_received=bars.add(to.name, size).received)
        say(str(to))
        return 0

    run(context, work)


def _free_name(asset: Asset, variant: str) -> Path:
    """Returns a name in the working directory, never that of a file there: another person chose it."""
    name = PurePosixPath(printable(asset.file_path)).name or asset.asset_id
    if variant != ORIGINAL:
        kinds = [stored.content_type for stored in asset.variants if stored.name == variant]
        name = f"{PurePosixPath(name).stem}-{variant}{guessed_ending(kinds[0] if kinds else '')}"
    path = Path(name)
    if path.exists():
        raise FileExistsError(17, "there is a file of that name, choose one with -o", name)
    return path
