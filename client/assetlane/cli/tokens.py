"""`assetlane token`: tokens that a back end makes for devices."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from assetlane.cli.commanding import AsJson, Command, Commands, examples
from assetlane.cli.output import note, say, say_json, timed
from assetlane.cli.session import Connection, run

if TYPE_CHECKING:
    from assetlane.client import Client

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LIFETIME = re.compile(r"(\d{1,6})([smhd])")

app = typer.Typer(cls=Commands, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def begin() -> None:
    """Make tokens for devices, as a back end that the server's policy names.

    A token opens one upload, or partitions of one user; never more than the back end itself may do.
    """


@app.command(
    cls=Command,
    short_help="Make a token, and print it.",
    epilog=examples(
        "assetlane --token-file my.token",
        "token create --upload UPLOAD_ID",
        "--act-for ann token create --read user/ann",
    ),
)
def create(
    context: typer.Context,
    upload_id: Annotated[str, typer.Option("--upload", metavar="UPLOAD_ID", help="For this upload alone.")] = "",
    read: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Partitions to read; may be given several times.")
    ] = None,
    write: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Partitions to write to; likewise.")
    ] = None,
    lifetime: Annotated[
        str, typer.Option(metavar="TIME", help="How long it is valid: 90s, 30m, 8h, 1d. Default: 1h, or the deadline.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token for one upload, or for partitions of the user of --act-for, and print it."""
    if bool(upload_id) == bool(read or write):
        raise typer.BadParameter("give either --upload, or --read and --write")
    if not upload_id and not context.ensure_object(Connection).uid:
        raise typer.BadParameter("say for whom: assetlane --act-for UID token create", param_hint="--act-for")
    asked = None
    if lifetime:
        if (match := _LIFETIME.fullmatch(lifetime)) is None:
            raise typer.BadParameter(f"{lifetime!r} is not a time such as 90s, 30m, 8h or 1d", param_hint="--lifetime")
        asked = timedelta(**{_UNITS[match[2]]: int(match[1])})

    async def work(client: "Client") -> int:
        made = await client.create_token(upload_id=upload_id, read=read or (), write=write or (), lifetime=asked)
        if as_json:
            say_json(made)
        else:
            say(made.token)
            note(f"assetlane: valid until {timed(made.expire_time)}; anybody who has it can use it")
        return 0

    run(context, work)
