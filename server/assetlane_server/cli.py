"""The `assetlane-server` command: serve, local, setup, doctor, reconcile, config."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from assetlane.version import __version__
from assetlane_server.app import set_up_bucket
from assetlane_server.config import Settings, settings_from
from assetlane_server.effective import effective
from assetlane_server.local.errors import LocalStackError
from assetlane_server.local.stack import DEFAULT_DIRECTORY, StackAddress, embedded_stack
from assetlane_server.objects.bucket import Outcome, SetupStep
from assetlane_server.observability import log_as_set
from assetlane_server.operations import examination, reconciling
from assetlane_server.reports import delete_orphans, report_discrepancies, report_findings
from assetlane_server.serving import serve as serve_until_signal
from assetlane_server.supervisor import Post, Supervisor, held_port
from assetlane_server.uploads.errors import NotReady
from assetlane_server.uploads.reconciliation import least_age

T = TypeVar("T")
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]

# What a worker may take beyond its grace period to close its connections.
_STOP_MARGIN_S = 15.0

_log = logging.getLogger(__name__)

cli = typer.Typer(
    name="assetlane-server",
    help="Lanes straight into object storage. Settings come from ASSETLANE_* variables; the README lists them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command; what is not ready ends it with status 1 and a sentence, not a traceback."""
    try:
        cli()
    except (NotReady, LocalStackError) as error:
        _fail(str(error))


@cli.command()
def serve(
    workers: Annotated[int | None, typer.Option(help="Processes that share the port; wins over the setting.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = settings_from() if workers is None else settings_from(workers=workers)
    log_as_set(sys.stderr, settings)
    if settings.workers == 1:
        _run(serve_until_signal(settings))
    else:
        raise typer.Exit(_supervise(settings))


@cli.command()
def setup(
    allow_public_policy: Annotated[
        bool,
        typer.Option("--allow-public-policy", help="Lift what Block Public Access of the bucket has against it."),
    ] = False,
) -> None:
    """Create the bucket if need be, and set its policy, CORS and lifecycle. Safe to repeat."""
    settings = settings_from()
    log_as_set(sys.stderr, settings)
    steps = _run(set_up_bucket(settings, allow_public_policy=allow_public_policy))
    for step in steps:
        typer.echo(_told(step))
    if any(step.outcome is Outcome.REFUSED for step in steps):
        raise typer.Exit(1)


@cli.command()
def doctor(as_json: _Json = False) -> None:
    """Check the whole set-up for real and say how to mend it; exit 1 if anything FAILED. Leaves nothing behind."""
    if not _run(report_findings(examination(os.environ), as_json, _print)):
        raise typer.Exit(1)


@cli.command()
def reconcile(
    delete: Annotated[bool, typer.Option("--delete-orphans", help="Delete orphans, after the report.")] = False,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Hours since an orphan was stored; 48 if not given.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Compare ledger and bucket both ways; exit 1 if they differ. Changes nothing unless told to."""
    settings = settings_from()
    log_as_set(sys.stderr, settings)
    age = None if older_than is None else timedelta(hours=older_than)
    if not _run(_reconcile(settings, delete, age, as_json)):
        raise typer.Exit(1)


@cli.command()
def config(as_json: _Json = False) -> None:
    """Print the settings that a server would have here, and where each comes from; secrets are masked."""
    for setting in effective(settings_from()):
        typer.echo(setting.json() if as_json else setting.line())


@cli.command()
def local(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where the embedded stores keep their data.")
    ] = DEFAULT_DIRECTORY,
    listen: Annotated[str | None, typer.Option(help="Address and port to serve on; port 0 takes a free one.")] = None,
) -> None:
    """Serve with an embedded MongoDB and S3 of its own, for development and tests."""
    _run(_serve_locally(directory, listen))


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _supervise(settings: Settings) -> int:
    with held_port(settings.listen) as listen:
        shared = settings.model_copy(update={"listen": listen})

        def work(post: Post) -> None:
            ours = shared.of_worker(post.number)
            _run(serve_until_signal(ours, lambda port: post.report_ready(), leash_fd=post.leash_fd))

        _log.info("starting %d workers on %s", settings.workers, listen)
        return Supervisor(work, settings.workers, stop_limit_s=settings.grace_seconds + _STOP_MARGIN_S).run()


async def _serve_locally(directory: Path, listen: str | None) -> None:
    async with embedded_stack(directory) as stack:
        address = stack.address
        settings = settings_from(
            os.environ if listen is None else {**os.environ, "ASSETLANE_LISTEN": listen},
            mongo_uri=address.mongo_uri,
            s3_endpoint=address.s3_endpoint,
            s3_region=address.s3_region,
            s3_bucket=address.s3_bucket,
            s3_access_key_id=address.s3_access_key_id,
            s3_secret_access_key=address.s3_secret_access_key,
            store_probe="quick",  # what the embedded store keeps is known
        )
        log_as_set(sys.stderr, settings)
        await set_up_bucket(settings)
        host = settings.listen.rpartition(":")[0]
        await serve_until_signal(settings, lambda port: _greet(f"{host}:{port}", address, directory))


def _print(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


async def _reconcile(settings: Settings, delete: bool, asked_age: timedelta | None, as_json: bool) -> bool:
    try:
        age = least_age(asked_age, settings.terms.write_url_lifetime)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error
    async with reconciling(settings) as reconciler:
        is_clean = await report_discrepancies(reconciler, as_json, _print)
        if delete:
            await delete_orphans(reconciler, age, as_json, _print)
    return is_clean


def _greet(target: str, address: StackAddress, directory: Path) -> None:
    typer.echo(
        f"Assetlane {__version__} serves on {target}\n"
        f"  MongoDB  {address.mongo_uri}\n"
        f"  S3       {address.s3_endpoint}  bucket {address.s3_bucket}\n"
        f"  data     {directory}/\n"
        f"Try it: assetlane --target {target} upload photo.jpg    (Ctrl-C stops)"
    )
    sys.stdout.flush()


def _told(step: SetupStep) -> str:
    return f"{step.name:<12} {step.outcome}{f': {step.detail}' if step.detail else ''}"


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:  # Windows has none; asyncio's own loop does the same job, slower
        return asyncio.run(work)
    return uvloop.run(work)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"assetlane-server: {message}\n")
    raise SystemExit(1)
