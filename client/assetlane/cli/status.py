"""`assetlane status`: which server, who calls, and whether both know each other."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from assetlane.cli.commanding import Command, examples
from assetlane.cli.output import say, say_fact, spanned
from assetlane.cli.session import FAILED, Connection, FileUnreadable, client_of
from assetlane.version import __version__

app = typer.Typer()


@app.command(
    cls=Command,
    short_help="Show server, identity and TLS, and whether it answers.",
    epilog=examples(
        "assetlane", "status", "--target files.example.com:443 --tls --token-file ann.token status", "status --json"
    ),
)
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the server, who you are to it, whether TLS protects it, and whether it answers.

    Exit codes: 0, it answers and takes your calls; 1, it does not.
    """
    connection = context.ensure_object(Connection)
    facts: dict[str, Any] = {"command": f"assetlane {__version__}", "server": connection.target}
    facts["tls"] = _tls(connection)
    facts["identity"], facts["partition"] = _identity(connection), ""
    faults: dict[str, str] = {}
    try:
        facts["partition"] = connection.own_partition()
    except FileUnreadable as error:
        faults = {"reason": error.reason, "message": str(error)}

    if not faults:
        faults = asyncio.run(_asked(connection, facts))
    facts["answers"] = not faults
    if as_json:
        say(json.dumps({**facts, **faults}, ensure_ascii=False))
    else:
        for name in ("command", "server", "tls", "identity", "partition"):
            if facts[name]:
                say_fact(name, facts[name])
        answers = f"no. {faults['message']} [{faults['reason']}]" if faults else f"yes, in {facts['milliseconds']} ms"
        say_fact("answers", answers)
    if faults:
        raise typer.Exit(FAILED)


def _tls(connection: Connection) -> str:
    if connection.tls is None:
        return "no"
    trust = f"trusting {connection.tls.ca_file}" if connection.tls.ca_file else "trusting the default authorities"
    shown = f", showing {connection.tls.cert_file}" if connection.tls.cert_file else ""
    return f"yes, {trust}{shown}"


def _identity(connection: Connection) -> str:
    where = str(connection.token_file) if connection.token_file else "--token or ASSETLANE_TOKEN"
    if not connection.has_token:
        return f"{connection.uid}, without a token" if connection.uid else "nobody: no token and no --uid"
    try:
        claims = connection.claims()
    except FileUnreadable:
        return "unknown"
    who = connection.uid or claims.subject or "unknown"
    if claims.subject not in ("", who):
        who = f"{claims.subject}, acting for {who}"
    if not claims.expires:
        return f"{who}, token from {where}"
    ends = f"expires in {spanned(claims.left_seconds)}" if claims.left_seconds > 0 else "EXPIRED"
    return f"{who}, token from {where}, {ends}"


async def _asked(connection: Connection, facts: dict[str, Any]) -> dict[str, str]:
    """Asks the server the smallest question that needs an identity. Returns what is wrong, nothing when it answers."""
    from assetlane.errors import AssetlaneError, InvalidArgument, NotFound

    try:
        async with client_of(connection) as client:
            began = time.monotonic()
            with suppress(InvalidArgument, NotFound):  # it answers, which is all that is asked
                await anext(client.list_uploads(page_size=1), None)
            facts["milliseconds"] = round(1000 * (time.monotonic() - began))
    except AssetlaneError as error:
        return {"reason": error.reason, "message": str(error)}
    return {}
