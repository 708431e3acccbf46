"""`assetlane ls` and `assetlane uploads`: what is there, one line each."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assetlane.cli.commanding import AsJson, Command, examples
from assetlane.cli.completion import complete_partition
from assetlane.cli.finding import listed
from assetlane.cli.output import (
    aged,
    expiring,
    is_terminal,
    named,
    note,
    say_json,
    say_records,
    say_row,
    say_table,
    sized,
    timed,
)
from assetlane.cli.session import Connection, run

if TYPE_CHECKING:
    from assetlane.client import Client

app = typer.Typer()

Long = Annotated[bool, typer.Option("--long", "-l", help="Ids and more, a few lines each; nothing is shortened.")]


@app.command(
    cls=Command,
    short_help="List assets, newest first.",
    epilog=examples(
        "assetlane", "ls", "ls public", "ls public/albums/2026", "ls team/42 --long", "ls public --json | jq .asset_id"
    ),
)
def ls(
    context: typer.Context,
    where: Annotated[
        str,
        typer.Argument(metavar="PARTITION[/FOLDER]", show_default=False, autocompletion=complete_partition),
    ] = "",
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most this many; 0: all.")] = 0,
    long: Long = False,
    as_json: AsJson = False,
) -> None:
    """List the assets of a partition, or of a folder in it, newest first. Default: your own partition.

    In a pipe each asset is one line of id, time, bytes, type, path and title, with tabs between them.
    """
    connection = context.ensure_object(Connection)
    own = connection.own_partition()
    if not where and not own:
        raise typer.BadParameter("name one: the token does not say whose the own one is", param_hint="PARTITION")

    async def work(client: "Client") -> int:
        count = 0
        rows: list[tuple[str, ...]] = []
        is_table = is_terminal() and not as_json
        async with aclosing(listed(client, where or own, own, min(limit, 1000))) as assets:
            async for asset in assets:
                count += 1
                if as_json:
                    say_json(asset)
                elif is_table:
                    rows.append(_asset_cells(asset, long=long))
                else:
                    say_row(_asset_row(asset))
                if count == limit:
                    break
        if rows and long:
            say_records(rows)
        elif rows:
            say_table(("ID", "SIZE", "AGE", "EXPIRES", "PATH"), rows, optional="ID", numbers=("SIZE", "AGE"))
        if not count and not as_json:
            note(f"There is nothing in {where or own}.")
        return 0

    run(context, work)


def _asset_cells(asset: Any, *, long: bool) -> tuple[str, ...]:
    size = sized(asset.variants[0].size_bytes)
    if not long:
        return asset.asset_id, size, aged(asset.create_time), expiring(asset), asset.file_path
    facts = (asset.asset_id, timed(asset.create_time), size, expiring(asset), asset.variants[0].content_type)
    return "  ".join(facts), asset.file_path, asset.details.title


def _asset_row(asset: Any) -> tuple[str, ...]:
    original = asset.variants[0]
    created = timed(asset.create_time)
    size = str(original.size_bytes)
    return asset.asset_id, created, size, original.content_type, asset.file_path, asset.details.title


@app.command(
    cls=Command,
    short_help="List uploads, newest first.",
    epilog=examples("assetlane", "uploads", "uploads --status failed --limit 20", "uploads --json | jq -r .upload_id"),
)
def uploads(
    context: typer.Context,
    session: Annotated[str, typer.Option(metavar="ID", help="Only those of this session.")] = "",
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="Only those with this status, such as failed; repeatable."),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All that you may see, not only your own.")] = False,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most this many; 0: all.")] = 0,
    long: Long = False,
    as_json: AsJson = False,
) -> None:
    """List your uploads, newest first: what is under way, what became an asset, what failed and why.

    In a pipe each upload is one line of id, time, bytes, status, path and reason, with tabs between them.
    """
    from assetlane.v1.upload_pb2 import UploadStatus

    statuses = []
    for text in status or ():
        name = f"UPLOAD_STATUS_{text.upper()}"
        if name not in UploadStatus.keys() or name.endswith("_UNSPECIFIED"):  # noqa: SIM118 - no mapping
            known = ", ".join(key.removeprefix("UPLOAD_STATUS_").lower() for key in UploadStatus.keys()[1:])
            raise typer.BadParameter(f"{text!r} is none of {known}", param_hint="--status")
        statuses.append(UploadStatus.Value(name))

    async def work(client: "Client") -> int:
        count = 0
        rows: list[tuple[str, ...]] = []
        is_table = is_terminal() and not as_json
        found = client.list_uploads(
            uid="" if everybody else None, session_id=session, statuses=statuses, page_size=min(limit, 1000)
        )
        async with aclosing(found) as items:
            async for upload in items:
                count += 1
                if as_json:
                    say_json(upload)
                elif is_table:
                    rows.append(_upload_cells(upload, long=long))
                else:
                    say_row(_upload_row(upload))
                if count == limit:
                    break
        if rows and long:
            say_records(rows)
        elif rows:
            say_table(("ID", "STATUS", "SIZE", "AGE", "PATH"), rows, optional="ID", numbers=("SIZE", "AGE"))
        if not count and not as_json:
            note("There are no such uploads." if session or statuses else "There are no uploads.")
        return 0

    run(context, work)


def _upload_cells(upload: Any, *, long: bool) -> tuple[str, ...]:
    size = sized(sum(promise.size_bytes for promise in upload.variants))
    status = _status(upload)
    if long:
        facts = (upload.upload_id, timed(upload.create_time), size, status)
        return "  ".join(facts), upload.file_path, ": ".join(filter(None, (_reason(upload), upload.failure.message)))
    return upload.upload_id, status, size, aged(upload.create_time), upload.file_path


def _upload_row(upload: Any) -> tuple[str, ...]:
    size = str(sum(promise.size_bytes for promise in upload.variants))
    return upload.upload_id, timed(upload.create_time), size, _status(upload), upload.file_path, _reason(upload)


def _status(upload: Any) -> str:
    from assetlane.v1.upload_pb2 import UploadStatus

    return named(UploadStatus.DESCRIPTOR, upload.status, "UPLOAD_STATUS_")


def _reason(upload: Any) -> str:
    if upload.failure.reason:
        return str(upload.failure.reason)
    return str(upload.history[-1].reason) if upload.history else ""
