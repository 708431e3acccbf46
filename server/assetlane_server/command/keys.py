"""`assetlane-server keys`: the rings of keys that scoped tokens are signed with."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assetlane.cli.commanding import Command, Commands, examples
from assetlane_server.model.errors import LedgerUnavailable, NotReady
from assetlane_server.model.rings import SECRET_BYTES, Ring, RingsUnreadable, RingUnchanged, fault_in_ring_name
from assetlane_server.ports.ring_store import RingStore
from assetlane_server.uploads.rings import change_ring

if TYPE_CHECKING:
    from assetlane_server.config.settings import Settings

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
_RingName = Annotated[str, typer.Argument(metavar="RING", help="Name of the service caller, as in the policy.")]


class _Commands(Commands):
    order = ("list", "add", "retire", "drop")


keys = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode=None)


@keys.callback()
def begin() -> None:
    """Look after the keys of scoped tokens: one ring of keys per service caller.

    Every server reads a change within seconds. To rotate without an outage: `add` a key, wait until it is in use,
    `retire` the old one, and `drop` it once its tokens have expired. To revoke all tokens of a caller: `drop` its ring.
    """


@keys.command(
    "list",
    cls=Command,
    short_help="Print every ring and key.",
    epilog=examples("assetlane-server keys", "list", "list --json"),
)
def list_keys(as_json: _Json = False) -> None:
    """Print every ring and key, oldest first; never a secret.

    In a pipe each key is one line of ring, key, state, and the instants of its creation and first signature, with tabs
    between them.
    """

    async def work(store: RingStore, now: datetime) -> None:
        rings = await store.read_rings()
        for ring in rings.values():
            if damage := ring.damage:
                typer.echo(str(damage), err=True)
        rows = [
            {
                "ring": name,
                "key": key.key_id,
                "state": key.state(now),
                "created": f"{key.create_time:%Y-%m-%dT%H:%M:%SZ}",
                "signs_from": f"{key.use_time:%Y-%m-%dT%H:%M:%SZ}",
            }
            for name, ring in sorted(rings.items())
            for key in ring.keys
        ]
        if as_json:
            for row in rows:
                typer.echo(json.dumps(row))
        elif sys.stdout.isatty():
            for line in _table(rows):
                typer.echo(line)
        else:
            for row in rows:
                typer.echo("\t".join(row.values()))

    _with_store(work)


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Returns a line for each key below their titles, or that there is none."""
    if not rows:
        return ["There are no keys yet: assetlane-server keys add RING"]
    shown = [
        {"ring": row["ring"], "key": row["key"], "state": row["state"], "signs from": row["signs_from"]} for row in rows
    ]
    lines = [{name: name.upper() for name in shown[0]}, *shown]
    widths = {name: max(len(line[name]) for line in lines) for name in shown[0]}
    return ["  ".join(text.ljust(widths[name]) for name, text in line.items()).rstrip() for line in lines]


@keys.command(cls=Command, short_help="Add a key to a ring.", epilog=examples("assetlane-server keys", "add clinic"))
def add(ring: _RingName) -> None:
    """Add a key to a ring, or begin one: in use at once if it is the only one, else after 30 seconds."""
    if fault := fault_in_ring_name(ring):
        raise typer.BadParameter(fault, param_hint="RING")

    async def work(store: RingStore, now: datetime) -> None:
        key_id = f"k{now:%Y%m%d}-{secrets.token_hex(3)}"
        secret = secrets.token_bytes(SECRET_BYTES)
        changed = await change_ring(store, ring, lambda one: one.with_key(key_id, secret, now))
        key = changed.keys[-1]
        when = "now" if key.use_time <= now else f"from {key.use_time:%H:%M:%S} UTC"
        typer.echo(f"Added key {key_id} to ring {ring}. It signs tokens {when}.")

    _with_store(work)


@keys.command(
    cls=Command,
    short_help="Stop signing with a key.",
    epilog=examples("assetlane-server keys", "retire clinic k20260101-a1b2c3"),
)
def retire(
    ring: _RingName, key: Annotated[str, typer.Argument(metavar="KEY", help="The key, as `list` has it.")]
) -> None:
    """Sign no more tokens with a key; those that it has signed stay good until they expire."""

    async def work(store: RingStore, now: datetime) -> None:
        await change_ring(store, ring, lambda one: one.retired(key, now))
        typer.echo(f"Retired key {key} of ring {ring}.\nDrop it once its tokens have expired.")

    _with_store(work)


@keys.command(
    cls=Command,
    short_help="Revoke tokens, within seconds.",
    epilog=examples("assetlane-server keys", "drop clinic", "drop clinic k20260101-a1b2c3"),
)
def drop(
    ring: _RingName,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Only this key; not given: all of the ring.")] = None,
) -> None:
    """Revoke all tokens of a service caller, or those that one key has signed, within seconds."""

    async def work(store: RingStore, _now: datetime) -> None:
        if key is None:
            if not await store.drop_ring(ring):
                raise RingUnchanged("RING_UNKNOWN", f"there is no ring {ring}")
            typer.echo(f"Dropped ring {ring}: tokens of its keys are refused now.")
            typer.echo(f"To begin another: assetlane-server keys add {ring}")
            return

        def without(one: Ring) -> Ring:
            return one.dropped(key)

        await change_ring(store, ring, without)
        typer.echo(f"Dropped key {key} of ring {ring}: tokens that it signed are refused now.")

    _with_store(work)


@asynccontextmanager
async def _opened_rings(settings: "Settings") -> AsyncIterator[RingStore]:
    """Opens where the settings keep the rings of keys. Raises NotReady."""
    # Nothing else of the server is loaded: these commands are waited for.
    from assetlane_server.config.settings import IN_MONGODB

    if settings.token_keys != IN_MONGODB:
        from assetlane_server.access.ring_files import RingFiles

        yield RingFiles(Path(settings.token_keys))
        return
    from assetlane_server.records.mongo import MongoRecords

    limit = timedelta(seconds=settings.mongo_timeout_seconds)
    uri = settings.mongo_uri.get_secret_value()
    async with MongoRecords.open(uri, settings.mongo_database, call_timeout=limit) as records:
        yield records.rings


def _with_store(work: Callable[[RingStore, datetime], Awaitable[None]]) -> None:
    from assetlane_server.composition.observability import log_as_set
    from assetlane_server.config.settings import settings_from

    settings = settings_from()
    log_as_set(sys.stderr, settings)

    async def opened() -> None:
        async with _opened_rings(settings) as store:
            await work(store, datetime.now(UTC).replace(microsecond=0))  # MongoDB keeps milliseconds

    try:
        asyncio.run(opened())
    except (RingUnchanged, RingsUnreadable, LedgerUnavailable) as error:
        raise NotReady(str(error)) from error
