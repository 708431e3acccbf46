"""The `assetlane-server` command: serve, local, setup, doctor, reconcile, migrate, erase, keys, config."""

import logging
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Coroutine
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from assetlane.cli.commanding import Command, Commands, error_lines, examples
from assetlane.version import __version__
from assetlane_server.command.keys import keys
from assetlane_server.config.sources import SETTINGS_FILE
from assetlane_server.local.errors import LocalStackError
from assetlane_server.model.errors import LedgerIsOld, NotReady

# What a command needs it imports itself: help, version and a mistyped option should not wait for a second.
if TYPE_CHECKING:
    from assetlane_server.config.settings import Settings
    from assetlane_server.local.stack import StackAddress
    from assetlane_server.objects.bucket import SetupStep
    from assetlane_server.process.supervisor import WorkerPipes

T = TypeVar("T")
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]

# What a worker may take beyond its grace period to close its connections.
_STOP_MARGIN_S = 15.0

_log = logging.getLogger(__name__)


class _Commands(Commands):
    order = ("local", "serve", "setup", "doctor", "reconcile", "migrate", "erase", "keys", "config", "version")


cli = typer.Typer(
    cls=_Commands,
    name="assetlane-server",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


cli.add_typer(keys, name="keys", short_help="Look after the keys of scoped tokens.")


def main() -> None:
    """Runs the command; what is not ready ends it with status 1 and a sentence, not a traceback."""
    try:
        cli(prog_name="assetlane-server")
    except (NotReady, LocalStackError) as error:
        _fail(str(error))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"assetlane-server {__version__}")
        raise typer.Exit


@cli.callback()
def begin(
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help="Settings in TOML; the environment wins over them."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run the Assetlane server, set up its stores and look after them.

    Settings come from ASSETLANE_* variables, or from a file; `config` prints them, docs/configuration.md explains them.

    \b
    Examples:
      assetlane-server local                   try it, with embedded stores
      assetlane-server doctor                  check the whole set-up
      assetlane-server serve --workers 4
      assetlane-server --settings /etc/assetlane.toml serve

    Completion for bash, zsh and fish: assetlane-server --install-completion
    """  # noqa: D301 - the backspace keeps the lines as they are
    if settings_file is not None:
        os.environ[SETTINGS_FILE] = str(settings_file)


@cli.command(
    cls=Command,
    short_help="Serve until SIGTERM or Ctrl-C.",
    epilog=examples("assetlane-server", "serve", "serve --workers 4", "--settings /etc/assetlane.toml serve"),
)
def serve(
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that share the port; wins over the setting.")
    ] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from
    from assetlane_server.process.serving import serve as serve_until_signal

    settings = settings_from() if workers is None else settings_from(workers=workers)
    log_as_set(sys.stderr, settings)
    if settings.workers == 1:
        _run(serve_until_signal(settings))
    else:
        raise typer.Exit(_supervise(settings))


@cli.command(
    cls=Command,
    short_help="Prepare the bucket: policy, CORS, lifecycle.",
    epilog=examples("assetlane-server", "setup"),
)
def setup(
    allow_public_policy: Annotated[
        bool,
        typer.Option("--allow-public-policy", help="Lift the bucket's Block Public Access as far as it needs."),
    ] = False,
) -> None:
    """Create the bucket if need be, and set its policy, CORS and lifecycle. Safe to repeat."""
    from assetlane_server.composition.app import set_up_bucket
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from
    from assetlane_server.objects.bucket import Outcome

    settings = settings_from()
    log_as_set(sys.stderr, settings)
    steps = _run(set_up_bucket(settings, allow_public_policy=allow_public_policy))
    for step in steps:
        _print_text(_described(step), indent=13)
    if any(step.outcome is Outcome.REFUSED for step in steps):
        raise typer.Exit(1)


@cli.command(
    cls=Command,
    short_help="Check the whole set-up with real requests.",
    epilog=examples("assetlane-server", "doctor", "doctor --json | jq 'select(.verdict == \"FAILED\")'"),
)
def doctor(as_json: _Json = False) -> None:
    """Check the whole set-up and say how to fix it; exit 1 if anything FAILED. Leaves nothing behind."""
    from assetlane_server.command.operations import examination
    from assetlane_server.command.reports import report_findings

    if not _run(report_findings(examination(os.environ), as_json, _print, columns=_columns())):
        raise typer.Exit(1)


@cli.command(
    cls=Command,
    short_help="Compare ledger and bucket, both ways.",
    epilog=examples("assetlane-server", "reconcile", "reconcile --delete-orphans --older-than 72"),
)
def reconcile(
    delete: Annotated[bool, typer.Option("--delete-orphans", help="Delete orphans, after the report.")] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="HOURS", help="Hours since an orphan was stored; 48 if not given.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Compare ledger and bucket both ways; exit 1 if they differ. Changes nothing unless asked to."""
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from

    settings = settings_from()
    log_as_set(sys.stderr, settings)
    age = None if older_than is None else timedelta(hours=older_than)
    if not _run(_reconcile(settings, delete, age, as_json)):
        raise typer.Exit(1)


@cli.command(
    cls=Command,
    short_help="Migrate a ledger of version 0.1.0.",
    epilog=examples("assetlane-server", "migrate", "migrate --dir .assetlane"),
)
def migrate(
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="Start the embedded MongoDB of `local` for it.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Turn the ledger of version 0.1.0 into this version's form. Stop all servers and back it up first.

    Safe to interrupt and to repeat. Exit 1 if records were left because they cannot be read.
    """
    if not _run(_migrate(directory, as_json)):
        raise typer.Exit(1)


@cli.command(
    cls=Command,
    short_help="Erase everything of one owner.",
    epilog=examples("assetlane-server", "erase ann", "erase ann --json"),
)
def erase(
    uid: Annotated[str, typer.Argument(metavar="UID", help="The owner of uploads and assets.", show_default=False)],
    as_json: _Json = False,
) -> None:
    """Erase everything of one owner: open uploads are ended, assets and all their objects deleted.

    Safe to repeat, and while servers run. The report says what is left and until when. Exit 1 if records were left
    because they cannot be read.
    """
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from

    settings = settings_from()
    log_as_set(sys.stderr, settings)
    if not _run(_erase(settings, uid, as_json)):
        raise typer.Exit(1)


@cli.command(
    cls=Command,
    short_help="Print the settings, and where each comes from.",
    epilog=examples("assetlane-server", "config", "config --json"),
)
def config(as_json: _Json = False) -> None:
    """Print the settings that a server would have here, and where each comes from; secrets are masked."""
    from assetlane_server.command.effective import effective
    from assetlane_server.config.settings import settings_from

    for setting in effective(settings_from()):
        typer.echo(setting.json() if as_json else setting.line())


@cli.command(
    cls=Command,
    short_help="Try it: serve with an embedded MongoDB and S3.",
    epilog=examples(
        "assetlane-server", "local", "local --dir /tmp/assetlane --listen 127.0.0.1:0", "local --no-gallery"
    ),
)
def local(
    directory: Annotated[
        Path, typer.Option("--dir", metavar="FOLDER", help="Where the embedded stores keep their data.")
    ] = Path(".assetlane"),
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address and port to serve on; port 0 takes a free one.")
    ] = None,
    with_gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Serve the gallery, a sample page, on loopback.")
    ] = True,
) -> None:
    """Serve with an embedded MongoDB and S3 of its own, for development and tests."""
    _run(_serve_locally(directory, listen, with_gallery=with_gallery))


@cli.command(
    cls=Command,
    short_help="Print the version.",
    epilog=examples("assetlane-server", "version"),
)
def version() -> None:
    """Print the version."""
    typer.echo(f"assetlane-server {__version__}")


def _supervise(settings: "Settings") -> int:
    from assetlane_server.process.serving import serve as serve_until_signal
    from assetlane_server.process.supervisor import Supervisor, held_port

    with ExitStack() as ports:
        listen = ports.enter_context(held_port(settings.listen))
        shared = settings.model_copy(update={"listen": listen})
        if settings.web_listen is not None:
            shared = shared.model_copy(update={"web_listen": ports.enter_context(held_port(settings.web_listen))})

        def work(pipes: "WorkerPipes") -> None:
            ours = shared.of_worker(pipes.number)
            _run(
                serve_until_signal(
                    ours, lambda _port, _web_port: pipes.report_ready(), supervisor_fd=pipes.supervisor_fd
                )
            )

        _log.info("starting %d workers on %s", settings.workers, listen)
        return Supervisor(work, settings.workers, stop_limit_s=settings.grace_seconds + _STOP_MARGIN_S).run()


async def _serve_locally(directory: Path, listen: str | None, *, with_gallery: bool) -> None:
    from assetlane_server.composition.app import set_up_bucket
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from
    from assetlane_server.local.stack import embedded_stack, keep_keys
    from assetlane_server.process.serving import serve as serve_until_signal

    async with embedded_stack(directory) as stack:
        address = stack.address
        settings = settings_from(
            os.environ if listen is None else {**os.environ, "ASSETLANE_LISTEN": listen},
            **_addresses(address),
            store_probe="quick",  # what the embedded store keeps is known
        )
        log_as_set(sys.stderr, settings)
        await set_up_bucket(settings)
        keys_file = keep_keys(directory, address)
        host = settings.listen.rpartition(":")[0]

        try:
            async with AsyncExitStack() as resources:
                page = None
                if with_gallery:
                    from assetlane_server.gallery import gallery

                    page = await resources.enter_async_context(gallery(settings, directory))

                def greet(port: int, web_port: int | None) -> None:
                    web_host = (settings.web_listen or "").rpartition(":")[0]
                    scheme = "http" if settings.tls_cert_file is None else "https"
                    web_url = "" if web_port is None else f"{scheme}://{web_host}:{web_port}"
                    target = f"{host}:{port}"
                    if page is not None and not settings.has_identity:
                        page.open_target = target
                    gallery_url = "" if page is None else page.url
                    urls = (web_url, gallery_url)
                    _greet(target, urls, address, keys_file, directory, needs_token=settings.has_identity)

                await serve_until_signal(settings, greet)
        except LedgerIsOld as error:
            raise NotReady(
                f"what is in {directory} was written by version 0.1.0: run `assetlane-server migrate --dir {directory}`"
                " once, or remove the folder."
            ) from error


def _addresses(address: "StackAddress") -> dict[str, str]:
    return {
        "mongo_uri": address.mongo_uri,
        "s3_endpoint": address.s3_endpoint,
        "s3_region": address.s3_region,
        "s3_bucket": address.s3_bucket,
        "s3_access_key_id": address.s3_access_key_id,
        "s3_secret_access_key": address.s3_secret_access_key,
    }


def _print(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def _print_text(text: str, indent: int = 2) -> None:
    """Prints lines for people, on a terminal broken between words."""
    columns = _columns()
    for line in text.split("\n"):
        if columns is None or columns < 2 * indent:
            _print(line)
        else:
            broken = textwrap.fill(
                line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
            )
            _print(broken)


def _columns() -> int | None:
    """Returns the width of the terminal, None where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


async def _reconcile(settings: "Settings", delete: bool, asked_age: timedelta | None, as_json: bool) -> bool:
    from assetlane_server.command.operations import reconciling
    from assetlane_server.command.reports import delete_orphans, report_discrepancies
    from assetlane_server.model.reconciliation import least_age

    try:
        age = least_age(asked_age, settings.terms.longest_write_life)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error
    write = _print if as_json else _print_text
    async with reconciling(settings) as reconciler:
        is_clean = await report_discrepancies(reconciler, as_json, write)
        if delete:
            await delete_orphans(reconciler, age, as_json, write)
    return is_clean


async def _migrate(directory: Path | None, as_json: bool) -> bool:
    from assetlane_server.command.operations import migration
    from assetlane_server.command.reports import migration_lines
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from
    from assetlane_server.local.stack import embedded_stack

    async with AsyncExitStack() as resources:
        if directory is None:
            settings = settings_from()
        else:
            stack = await resources.enter_async_context(embedded_stack(directory))
            settings = settings_from(os.environ, **_addresses(stack.address))
        log_as_set(sys.stderr, settings)
        async for report in migration(settings):
            _log.info("%d uploads and %d assets so far", report.uploads, report.assets)
    write = _print if as_json else _print_text
    for line in migration_lines(report, as_json):
        write(line)
    return not report.unreadable


async def _erase(settings: "Settings", uid: str, as_json: bool) -> bool:
    from assetlane_server.command.operations import erasing
    from assetlane_server.command.reports import erasure_lines

    async with erasing(settings) as erasure:
        report = await erasure.erase(uid)
    write = _print if as_json else _print_text
    for line in erasure_lines(uid, report, as_json):
        write(line)
    return not report.records_unreadable


def _greet(
    target: str,
    urls: tuple[str, str],
    address: "StackAddress",
    keys_file: Path,
    directory: Path,
    *,
    needs_token: bool,
) -> None:
    command = _command_beside_us()
    web_url, gallery_url = urls
    where = "" if target == "127.0.0.1:50151" else f" --target {target}"
    database = address.mongo_uri.replace("/?", "/assetlane?")
    typer.echo(
        f"Assetlane {__version__} serves on {target}\n"
        + (f"  web      {web_url}  (gRPC-Web, Connect, JSON: docs/web.md)\n" if web_url else "")
        + f"  MongoDB  {address.mongo_uri}\n"
        f"           mongosh '{database}'\n"
        f"  S3       {address.s3_endpoint}  bucket {address.s3_bucket}\n"
        f"           . {shlex.quote(str(keys_file))} && aws s3 ls --recursive s3://{address.s3_bucket}\n"
        f"  data     {directory}/\n"
        + (f"  gallery  {gallery_url}\n" if gallery_url else "")
        + "Ctrl-C stops it. Try it in another terminal:\n"
        # Without a token it can only be asked how it is.
        + (
            f"{command}{where} status"
            if needs_token
            else f"echo hello | {command}{where} upload - --file-path hello.txt --public"
        )
    )
    sys.stdout.flush()


def _command_beside_us() -> str:
    """Returns how to call the client's command from here: it lies beside this one, which may be on nobody's PATH."""
    beside = Path(sys.executable).parent / "assetlane"
    try:
        return shlex.quote(str(beside.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(beside)) if beside.exists() else "assetlane"


def _described(step: "SetupStep") -> str:
    return f"{step.name:<12} {step.outcome}{f': {step.detail}' if step.detail else ''}"


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    try:
        import uvloop
    except ImportError:  # Windows has none; asyncio's own loop does the same job, slower
        return asyncio.run(work)
    return uvloop.run(work)


def _fail(message: str) -> NoReturn:
    lines = message.splitlines()
    if len(lines) > 1:
        are_settings = all(line.startswith("ASSETLANE_") for line in lines)
        message = "\n  ".join(("the settings are wrong:" if are_settings else "", *lines))
    for line in f"assetlane-server: {message}".split("\n"):
        sys.stderr.write("".join(f"{part}\n" for part in error_lines(line)))
    if {"ASSETLANE_MONGO_URI: is required", "ASSETLANE_S3_BUCKET: is required"} <= set(lines):
        sys.stderr.write("To try it without any settings: assetlane-server local\n")
    raise SystemExit(1)
