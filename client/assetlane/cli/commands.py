"""The `assetlane` command: what it connects to, and the commands about single assets."""

from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from assetlane.cli.commanding import AsJson, Command, Commands, examples
from assetlane.cli.completion import complete_asset, complete_upload
from assetlane.cli.finding import all_found, found, may_be_id
from assetlane.cli.listing import app as listing
from assetlane.cli.output import Bars, complain, note, printable, say, say_json, sized, timed
from assetlane.cli.session import DEFAULT_TARGET, FAILED, Connection, Tls, connection_from, run
from assetlane.cli.status import app as status
from assetlane.cli.tokens import app as tokens
from assetlane.cli.uploading import app as uploading
from assetlane.cli.watching import app as watching
from assetlane.version import __version__

if TYPE_CHECKING:
    from assetlane.client import Client
    from assetlane.v1.asset_pb2 import Asset

ORIGINAL = "original"
STDOUT = Path("-")


class _Commands(Commands):
    order = (
        "upload", "ls", "show", "get", "open", "watch", "uploads", "cancel", "refresh", "rm", "token", "status",
        "version",
    )  # fmt: skip


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(uploading)
app.add_typer(watching)
app.add_typer(listing)
app.add_typer(status)
app.add_typer(tokens, name="token", short_help="Make tokens for devices.")

AssetName = Annotated[
    str, typer.Argument(metavar="ASSET", help="Its id or its path.", show_default=False, autocompletion=complete_asset)
]
AssetNames = Annotated[
    list[str],
    typer.Argument(
        metavar="ASSET...", help="Their ids or their paths.", show_default=False, autocompletion=complete_asset
    ),
]


def _version(asked: bool) -> None:
    if asked:
        say(f"assetlane {__version__}")
        raise typer.Exit


@app.callback()
def connect(
    context: typer.Context,
    target: Annotated[
        str, typer.Option(envvar="ASSETLANE_TARGET", show_envvar=False, metavar="HOST:PORT", help="The server.")
    ] = DEFAULT_TARGET,
    uid: Annotated[
        str,
        typer.Option(
            envvar="ASSETLANE_UID",
            show_envvar=False,
            metavar="UID",
            help="Who you are. Default: as your token says; without one, your login name.",
        ),
    ] = "",
    act_for: Annotated[
        str,
        typer.Option(
            "--act-for",
            envvar="ASSETLANE_ACT_FOR",
            show_envvar=False,
            metavar="UID",
            help="The user that you act for, as a back end.",
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            envvar="ASSETLANE_TOKEN",
            show_envvar=False,
            metavar="TOKEN",
            help="Your token. Better out of sight: --token-file.",
        ),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ASSETLANE_TOKEN_FILE",
            show_envvar=False,
            metavar="FILE",
            help="A file with your token, read again before each call.",
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", envvar="ASSETLANE_TLS", show_envvar=False, help="Connect with TLS.")
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ASSETLANE_CA_FILE",
            show_envvar=False,
            metavar="FILE",
            help="Authorities to trust, in PEM; implies --tls. Default: gRPC's own.",
        ),
    ] = None,
    client_cert_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ASSETLANE_CLIENT_CERT_FILE",
            show_envvar=False,
            metavar="FILE",
            help="Your certificate, in PEM; implies --tls.",
        ),
    ] = None,
    client_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="ASSETLANE_CLIENT_KEY_FILE", show_envvar=False, metavar="FILE", help="Its private key, in PEM."
        ),
    ] = None,
    plaintext: Annotated[
        bool,
        typer.Option(
            "--plaintext",
            envvar="ASSETLANE_PLAINTEXT",
            show_envvar=False,
            help="Send the token unencrypted, also beyond this machine.",
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long to retry a call while the server is away.")
    ] = 10.0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Bring files into object storage through Assetlane, and get them out again.

    \b
    Examples:
      assetlane status                      is there a server, and who am I?
      assetlane upload photo.jpg --public   store it, print its URL
      assetlane ls                          what is in my partition
      assetlane get ASSET -o -              its bytes, to standard output

    Each option has a variable: --token-file is ASSETLANE_TOKEN_FILE.

    Completion for bash, zsh and fish: assetlane --install-completion
    """  # noqa: D301 - the backspace keeps the lines as they are
    if token and token_file:
        raise typer.BadParameter("give one of --token and --token-file")
    if act_for and uid not in ("", act_for):
        raise typer.BadParameter("--uid and --act-for name two users: give one of them")
    if (client_cert_file is None) != (client_key_file is None):
        raise typer.BadParameter("--client-cert-file and --client-key-file go together")
    secure = tls or ca_file is not None or client_cert_file is not None
    context.obj = connection_from(
        target=target,
        uid=act_for or uid,
        timeout=timeout,
        token=token,
        token_file=token_file,
        plaintext=plaintext,
        tls=Tls(ca_file, client_cert_file, client_key_file) if secure else None,
    )


@app.command(
    cls=Command,
    short_help="Show an asset with read URLs that work.",
    epilog=examples(
        "assetlane", "show ASSET", "show public/photo.jpg", "show ASSET --json | jq -r .variants[0].read_url"
    ),
)
def show(context: typer.Context, asset: AssetName, as_json: AsJson = False) -> None:
    """Show an asset with URLs that work: of each variant one that shows it and one that saves it."""
    own = context.ensure_object(Connection).own_partition()

    async def work(client: "Client") -> int:
        there = await found(client, asset, own)
        await client.read_url(there)  # renews all of them when they are about to expire
        if as_json:
            say_json(there)
        else:
            _show(there)
        return 0

    run(context, work)


def _show(asset: "Asset") -> None:
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
        "expires": timed(asset.expire_time) if asset.HasField("expire_time") else "never: PUBLIC",
    }
    for name, fact in facts.items():
        if fact:
            say(f"{name + ':':<11}{fact}")
    for variant in asset.variants:
        size = f"  {variant.width_px} x {variant.height_px}" if variant.width_px else ""
        say(f"{variant.name + ':':<11}{sized(variant.size_bytes)}  {variant.content_type}{size}")
        say(f"  {variant.read_url}")
        if variant.download_url:  # empty: the server is of an earlier version
            say("save under its name:")
            say(f"  {variant.download_url}")
    for notice in asset.notices:
        say(f"notice:    {notice.message} [{notice.reason}]")


@app.command(
    "open",
    cls=Command,
    short_help="Open an asset in the browser.",
    epilog=examples("assetlane", "open ASSET", "open public/photo.jpg --variant small"),
)
def open_(
    context: typer.Context,
    asset: AssetName,
    variant: Annotated[str, typer.Option(metavar="NAME", help="Which variant.")] = ORIGINAL,
) -> None:
    """Open a read URL of an asset in the browser, and print it."""
    own = context.ensure_object(Connection).own_partition()

    async def work(client: "Client") -> int:
        import webbrowser

        url = await client.read_url(await found(client, asset, own), variant)
        say(url)
        if webbrowser.open(url):
            return 0
        note("assetlane: no browser could be started: open the URL yourself")
        return FAILED

    run(context, work)


@app.command(
    cls=Command,
    short_help="Renew the read URLs of assets.",
    epilog=examples("assetlane", "refresh ASSET", "refresh ASSET ASSET --if-expires-within 3600"),
)
def refresh(
    context: typer.Context,
    assets: AssetNames,
    if_expires_within: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Keep URLs that live longer than this."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Renew the read URLs of assets, and print when they end."""
    own = context.ensure_object(Connection).own_partition()

    async def work(client: "Client") -> int:
        from assetlane.errors import AssetlaneError

        within = None if if_expires_within is None else timedelta(seconds=if_expires_within)
        failed, asset_ids = False, []
        for named in assets:
            try:
                asset_ids.append(named if may_be_id(named) else (await found(client, named, own)).asset_id)
            except AssetlaneError as error:
                failed = True
                complain(error, named)
        for result in await client.refresh_assets(asset_ids, within):
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


@app.command(cls=Command, short_help="Cancel an upload.", epilog=examples("assetlane", "cancel UPLOAD_ID"))
def cancel(
    context: typer.Context,
    upload_id: Annotated[str, typer.Argument(metavar="UPLOAD_ID", show_default=False, autocompletion=complete_upload)],
    as_json: AsJson = False,
) -> None:
    """Give an upload up: nothing of it can become an asset any more."""

    async def work(client: "Client") -> int:
        upload = await client.cancel_upload(upload_id)
        if as_json:
            say_json(upload)
        else:
            say(f"cancelled {upload.upload_id}")
        return 0

    run(context, work)


@app.command(
    cls=Command,
    short_help="Delete assets and their objects for good.",
    epilog=examples("assetlane", "rm ASSET", "ls public/old --json | jq -r .asset_id | xargs assetlane rm"),
)
def rm(context: typer.Context, assets: AssetNames) -> None:
    """Delete assets and their objects for good. What is gone already is no error, and is said to be.

    A path has to be of one asset alone: of several with the same path, name the ids.
    """
    own = context.ensure_object(Connection).own_partition()

    async def work(client: "Client") -> int:
        from assetlane.errors import AssetlaneError, NotFound

        failed = False
        for named in assets:
            try:
                asset_id = named
                if not may_be_id(named) and (matching := await all_found(client, named, own)):
                    if len(matching) > 1:
                        failed = True
                        note(f"assetlane: {len(matching)} assets have the path {named}, name one by its id:")
                        for asset in matching:
                            note(f"  {asset.asset_id}  {timed(asset.create_time)}")
                        continue
                    asset_id = matching[0].asset_id
                was_there = True
                try:
                    await client.get_asset(asset_id)
                except NotFound:
                    was_there = False  # deleted before, or never there: only the deletion knows
                await client.delete_asset(asset_id)
            except AssetlaneError as error:
                failed = True
                complain(error, named)
            else:
                path = "" if asset_id == named else f"  {named}"
                say(f"{'deleted' if was_there else 'already deleted:'} {asset_id}{path}")
        return FAILED if failed else 0

    run(context, work)


@app.command(
    cls=Command,
    short_help="Download a variant of an asset.",
    epilog=examples(
        "assetlane",
        "get ASSET",
        "get public/photo.jpg --variant small",
        "get ASSET -o - | sha256sum",
        "get ASSET -o copy.jpg",
    ),
)
def get(
    context: typer.Context,
    asset: AssetName,
    variant: Annotated[str, typer.Option(metavar="NAME", help="Which variant.")] = ORIGINAL,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to; - is standard output. Default: the asset's own name, here.",
        ),
    ] = None,
) -> None:
    """Download one variant of an asset, checked against its hash."""
    own = context.ensure_object(Connection).own_partition()

    async def work(client: "Client") -> int:
        import sys

        there = await found(client, asset, own)
        size = next((stored.size_bytes for stored in there.variants if stored.name == variant), None)
        if output == STDOUT:
            with Bars(shown=not sys.stdout.isatty()) as bars:
                received = bars.add(there.file_path, size).received
                await client.download_into(there, sys.stdout.buffer, variant, on_received=received)
                sys.stdout.buffer.flush()
            return 0
        to = output or _free_name(there, variant)
        with Bars(shown=True) as bars:
            await client.download(there, variant, to=to, on_received=bars.add(to.name, size).received)
        say(str(to))
        return 0

    run(context, work)


def _free_name(asset: "Asset", variant: str) -> Path:
    """Returns a name in the working directory, never that of a file there: another person chose it."""
    from assetlane.media_types import guessed_ending

    name = PurePosixPath(printable(asset.file_path)).name or asset.asset_id
    if variant != ORIGINAL:
        kinds = [stored.content_type for stored in asset.variants if stored.name == variant]
        name = f"{PurePosixPath(name).stem}-{variant}{guessed_ending(kinds[0] if kinds else '')}"
    path = Path(name)
    if path.exists():
        raise FileExistsError(17, "there is a file of this name already, give another with -o", name)
    return path


@app.command(cls=Command, short_help="Print the version.")
def version() -> None:
    """Print the version."""
    say(f"assetlane {__version__}")
