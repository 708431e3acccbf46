"""Finds assets by what people type: an id, a partition, a folder in it, a file's path."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

_ID_LENGTH = 26

if TYPE_CHECKING:
    from assetlane.client import Client
    from assetlane.v1.asset_pb2 import Asset


def places(where: str, own: str) -> list[tuple[str, str]]:
    """Returns what a path may mean, as pairs of a partition and a path below it, the likeliest first.

    A partition as it stands; the beginning of the path as a partition and the rest below it; a path in `own`.
    """
    where = where.strip("/")
    slashes = [position for position, letter in enumerate(where) if letter == "/"]
    found = [(where, ""), *((where[:position], where[position + 1 :]) for position in reversed(slashes))]
    return [*found, (own, where)] if own else found


def is_below(path: str, folder: str) -> bool:
    """Returns whether a file's path is that one or lies in that folder."""
    return not folder or path == folder or path.startswith(f"{folder}/")


async def listed(client: "Client", where: str, own: str, page_size: int) -> "AsyncGenerator[Asset, None]":
    """Yields the assets of the first place that has any, newest first. Raises what the server says of the first."""
    from assetlane.errors import InvalidArgument, NotFound

    refusal: Exception | None = None
    for number, (partition, folder) in enumerate(places(where, own)):
        is_empty = True
        try:
            async with aclosing(client.list_assets(partition, page_size=0 if folder else page_size)) as assets:
                async for asset in assets:
                    if is_below(asset.file_path, folder):
                        is_empty = False
                        yield asset
        except (InvalidArgument, NotFound) as error:
            refusal = error if number == 0 else refusal
        if not is_empty:
            return
    if refusal is not None:
        raise refusal


def may_be_id(named: str) -> bool:
    """Returns whether this looks like the id of an asset, rather than like a path."""
    return len(named) == _ID_LENGTH and named.isalnum()


async def all_found(client: "Client", named: str, own: str) -> "list[Asset]":
    """Returns the assets with that path, of the first place that has any; newest first."""
    from assetlane.errors import NotFound

    for partition, path in places(named, own)[1:]:
        try:
            async with aclosing(client.list_assets(partition)) as assets:
                matching = [asset async for asset in assets if asset.file_path == path]
        except NotFound:
            continue
        if matching:
            return matching
    return []


async def found(client: "Client", named: str, own: str) -> "Asset":
    """Returns the asset of that id, or else the newest one with that path. Raises NotFound for neither."""
    from assetlane.errors import NotFound

    try:
        return await client.get_asset(named)
    except NotFound as error:
        refusal = error
    for partition, path in places(named, own)[1:]:
        try:
            async with aclosing(client.list_assets(partition)) as assets:
                async for asset in assets:
                    if asset.file_path == path:
                        return asset
        except NotFound:
            continue
    raise refusal
