"""What the shell offers for ids and partitions: asked of the server, for LIMIT_S at most, and never an error."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from assetlane.cli.session import Connection, Tls, client_of, connection_from

if TYPE_CHECKING:
    from assetlane.client import Client

LIMIT_S = 3.0  # seconds; a shell waits
OFFERED = 50  # newest first

Offer = list[tuple[str, str]]
"""What may be completed to, each with a word of help."""


def complete_asset(context: typer.Context, incomplete: str) -> Offer:
    """Offers the newest assets of the own partition and of `public`, each with its path."""

    async def ask(client: "Client", own: str) -> Offer:
        offer: Offer = []
        for partition in filter(None, (own, "public")):
            async with aclosing(client.list_assets(partition, page_size=OFFERED)) as assets:
                async for asset in assets:
                    if len(offer) >= 2 * OFFERED:
                        break
                    offer.append((asset.asset_id, asset.file_path))
        return offer

    return [(name, text) for name, text in _asked(context, ask) if name.startswith(incomplete)]


def complete_upload(context: typer.Context, incomplete: str) -> Offer:
    """Offers the caller's newest uploads, each with its path."""

    async def ask(client: "Client", own: str) -> Offer:
        return [(upload.upload_id, upload.file_path) for upload in await _newest(client)]

    return [(name, text) for name, text in _asked(context, ask) if name.startswith(incomplete)]


def complete_partition(context: typer.Context, incomplete: str) -> Offer:
    """Offers the own partition, `public`, and those of the newest uploads."""

    async def ask(client: "Client", own: str) -> Offer:
        offer = dict.fromkeys(filter(None, (own, "public")), "")
        for upload in await _newest(client):
            offer.setdefault(upload.asset_partition or upload.partition, "")
        return list(offer.items())

    return [(name, text) for name, text in _asked(context, ask) if name.startswith(incomplete)]


async def _newest(client: "Client") -> list:  # type: ignore[type-arg]  # of uploads
    newest = []
    async with aclosing(client.list_uploads(page_size=OFFERED)) as uploads:
        async for upload in uploads:
            newest.append(upload)
            if len(newest) == OFFERED:
                break
    return newest


def _asked(context: typer.Context, ask: "Callable[[Client, str], Awaitable[Offer]]") -> Offer:
    from assetlane.errors import AssetlaneError

    connection = _connection(context)

    async def work() -> Offer:
        async with asyncio.timeout(LIMIT_S), client_of(connection) as client:
            return await ask(client, connection.own_partition())

    try:
        return asyncio.run(work())
    except (AssetlaneError, OSError, ValueError):  # TimeoutError is an OSError; a shell shows nothing of it
        return []


def _connection(context: typer.Context) -> Connection:
    """Returns the connection of the command that is being typed; its callback has not run."""
    outer = context.find_root().params

    def given(name: str, variable: str) -> str:
        return str(outer.get(name) or os.environ.get(variable, ""))

    def file(name: str, variable: str) -> Path | None:
        text = given(name, variable)
        return Path(text) if text else None

    ca_file, cert_file = file("ca_file", "ASSETLANE_CA_FILE"), file("client_cert_file", "ASSETLANE_CLIENT_CERT_FILE")
    is_secure = given("tls", "ASSETLANE_TLS").lower() in ("1", "true", "yes", "on") or ca_file or cert_file
    tls = Tls(ca_file, cert_file, file("client_key_file", "ASSETLANE_CLIENT_KEY_FILE")) if is_secure else None
    return connection_from(
        target=given("target", "ASSETLANE_TARGET"),
        uid=given("uid", "ASSETLANE_UID"),
        token=given("token", "ASSETLANE_TOKEN"),
        token_file=file("token_file", "ASSETLANE_TOKEN_FILE"),
        timeout=LIMIT_S,
        tls=tls,
    )
