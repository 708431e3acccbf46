"""`assetlane upload`: several files at once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from assetlane.cli.output import Bars, complain, note, say, say_json, sized
from assetlane.cli.session import FAILED, run
from assetlane.client import Client
from assetlane.cuts import CutSize
from assetlane.errors import AssetlaneError
from assetlane.v1.asset_pb2 import Asset

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What holds for every file of one command."""

    options: dict[str, Any]
    jobs: int
    as_json: bool


def _sizes(cuts: bool, custom: Sequence[str]) -> bool | list[CutSize]:
    if not custom:
        return cuts
    sizes = []
    for wish in custom:
        name, _, edge = wish.partition("=")
        if not name or not edge.isdecimal():
            raise typer.BadParameter(f"{wish!r} is not NAME=PIXELS", param_hint="--cut")
        try:
            sizes.append(CutSize(name, int(edge)))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--cut") from None
    return sizes


def _extra(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        extra = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"this is not JSON: {error}", param_hint="--extra") from None
    if not isinstance(extra, dict):
        raise typer.BadParameter("this is not a JSON object", param_hint="--extra")
    return extra


@app.command()
def upload(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    file_path: Annotated[str, typer.Option(help="File it under this path. Default: its name.")] = "",
    partition: Annotated[str, typer.Option(help="Who may see the upload. Default: user/UID.")] = "",
    asset_partition: Annotated[str, typer.Option(help="Who may see the asset. Default: PARTITION.")] = "",
    expiration_hours: Annotated[
        float | None, typer.Option(min=0, help="Hours a read URL lives; 0: public, for ever.")
    ] = None,
    title: Annotated[str, typer.Option(help="A short name for people.")] = "",
    caption: Annotated[str, typer.Option(help="A longer text for people.")] = "",
    extra: Annotated[str, typer.Option(metavar="JSON", help="A JSON object for your own use.")] = "",
    content_type: Annotated[str, typer.Option(help="The media type. Default: by name and content.")] = "",
    cuts: Annotated[
        bool, typer.Option(help="Make small, medium and large cuts of pictures, and a preview of videos.")
    ] = True,
    cut: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PIXELS", help="Make this cut instead; repeatable.")
    ] = None,
    preview_at: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="The instant of a video's preview. Default: 1, or a tenth of a video shorter than 10 s.",
        ),
    ] = None,
    request_id: Annotated[str, typer.Option(help="Go on with an earlier run that used this id.")] = "",
    session_id: Annotated[str, typer.Option(help="The session of the uploads. Default: a new one.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Files at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per asset.")] = False,
) -> None:
    """Upload files, and print their assets.

    Exit code 0: all are in; 1: some are not. Ctrl-C gives unfinished uploads up.
    """
    if len(files) > 1 and (file_path or request_id):
        raise typer.BadParameter("--file-path and --request-id are for one file")
    wishes = Wishes(
        options={
            "file_path": file_path or None,
            "partition": partition,
            "asset_partition": asset_partition,
            "expiration_hours": expiration_hours,
            "title": title,
            "caption": caption,
            "extra": _extra(extra),
            "content_type": content_type or None,
            "cuts": _sizes(cuts, cut or ()),
            "preview_at": None if preview_at is None else timedelta(seconds=preview_at),
            "request_id": request_id or None,
        },
        jobs=jobs,
        as_json=as_json,
    )
    run(context, lambda lane: _upload_all(lane, files, wishes), session_id=session_id or None)


async def _upload_all(lane: Client, files: Sequence[Path], wishes: Wishes) -> int:
    turns = asyncio.Semaphore(wishes.jobs)
    with Bars(shown=not wishes.as_json) as bars:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_upload(lane, file, wishes, turns, bars)) for file in files]
    failed = [task.result() for task in tasks].count(False)
    if len(files) > 1:
        note(f"{len(files) - failed} uploaded, {failed} failed")
    return FAILED if failed else 0


async def _upload(lane: Client, file: Path, wishes: Wishes, turns: asyncio.Semaphore, bars: Bars) -> bool:
    async with turns:
        bar = bars.add(file.name)
        try:
            asset = await lane.upload(file, **wishes.options, on_progress=bar.step if bars.shown else None)
        except (AssetlaneError, OSError) as error:
            complain(error, str(file))
            return False
        finally:
            bar.remove()
    if wishes.as_json:
        say_json(asset)
    else:
        say(_told(file, asset))
    return True


def _told(file: Path, asset: Asset) -> str:
    names = ", ".join(f"{variant.name} {sized(variant.size_bytes)}" for variant in asset.variants)
    seconds = asset.details.duration.ToTimedelta().total_seconds()
    return f"{asset.asset_id}\t{file}\t{names}" + (f", {seconds:.1f} s" if seconds else "")
