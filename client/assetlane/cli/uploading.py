"""`assetlane upload`: files and folders, several at once."""

import json
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from assetlane.batch import Attempt, attempted
from assetlane.cli.output import Bars, complain, note, say, say_json, sized
from assetlane.cli.resuming import resumed
from assetlane.cli.selection import Item, selected
from assetlane.cli.session import FAILED, run
from assetlane.client import Client
from assetlane.cuts import STANDARD_OPTIONS, CutOptions, CutSize
from assetlane.v1.asset_pb2 import Asset

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What holds for every file of one command."""

    options: dict[str, Any]
    jobs: int
    as_json: bool
    resume: bool


@dataclass
class Summary:
    """What has become of the files so far."""

    uploaded: int = 0
    known: int = 0  # in already, from an earlier run
    failed: int = 0
    sent_bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        seconds = time.monotonic() - self.began
        speed = f"{sized(self.sent_bytes)} in {seconds:.1f} s, {sized(round(self.sent_bytes / seconds))}/s"
        known = f", {self.known} in already" if self.known else ""
        return f"{self.uploaded} uploaded{known}, {self.failed} failed ({speed})"


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
    files: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", show_default=False)],
    file_path: Annotated[str, typer.Option(help="File it under this path. Default: its name.")] = "",
    folder: Annotated[str, typer.Option("--to", metavar="FOLDER", help="File all of it under this folder.")] = "",
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
    require_cuts: Annotated[
        bool, typer.Option("--require-cuts", help="Refuse a file that no cuts or preview can be made of.")
    ] = False,
    cut: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PIXELS", help="Make this cut instead; repeatable.")
    ] = None,
    server_cuts: Annotated[
        bool, typer.Option("--server-cuts", help="Let the server make the cuts of pictures.")
    ] = False,
    cut_format: Annotated[
        Literal["auto", "jpeg", "webp", "png"], typer.Option(help="What cuts are encoded as; auto: as fits.")
    ] = "auto",
    cut_quality: Annotated[int, typer.Option(min=1, max=95, help="Of JPEG and WebP cuts.")] = STANDARD_OPTIONS.quality,
    preview_at: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="The instant of a video's preview. Default: 1, or a tenth of a video shorter than 10 s.",
        ),
    ] = None,
    request_id: Annotated[str, typer.Option(help="Go on with an earlier run that used this id.")] = "",
    session_id: Annotated[
        str, typer.Option(help="The session of the uploads. Default: a new one; none with --resume.")
    ] = "",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where an earlier run of this command stopped; Ctrl-C gives nothing up."),
    ] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Of folders, also what begins with a dot.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Files at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per asset.")] = False,
) -> None:
    """Upload files and folders, and print their assets.

    A folder is taken with all that is in it, filed under its name.

    Exit codes: 0, all are in; 1, some are not, each told with its reason; 2, wrong usage; 130, Ctrl-C.
    Ctrl-C gives unfinished uploads up; with --resume it leaves them to the next run.
    """
    if (len(files) > 1 or files[0].is_dir()) and (file_path or request_id):
        raise typer.BadParameter("--file-path and --request-id are for one file")
    if file_path and folder:
        raise typer.BadParameter("tell --file-path or --to, not both")
    if require_cuts and not (cuts or cut or preview_at is not None):
        raise typer.BadParameter("give one of --require-cuts and --no-cuts, not both")
    if request_id and resume:
        raise typer.BadParameter("--resume makes its own request ids")
    items = [Item(files[0], file_path)] if file_path else _items(files, folder, hidden)
    wishes = Wishes(
        options={
            "partition": partition,
            "asset_partition": asset_partition,
            "expiration_hours": expiration_hours,
            "title": title,
            "caption": caption,
            "extra": _extra(extra),
            "content_type": content_type or None,
            "cuts": _sizes(cuts, cut or ()),
            "cut_maker": "server" if server_cuts else "client",
            "require_cuts": require_cuts,
            "cut_options": CutOptions(cut_format, cut_quality),
            "preview_at": None if preview_at is None else timedelta(seconds=preview_at),
            **({"request_id": request_id} if request_id else {}),
        },
        jobs=jobs,
        as_json=as_json,
        resume=resume,
    )
    # A session of its own for each run would make the next run's request another one.
    session = session_id if session_id or resume or request_id else None
    run(context, lambda lane: _upload_all(lane, items, wishes), session_id=session)


def _items(files: Sequence[Path], folder: str, hidden: bool) -> list[Item]:
    items = list(selected(files, folder, hidden=hidden))
    if not items:
        raise typer.BadParameter("there is no file in it" if len(files) == 1 else "there is no file in them")
    return items


async def _upload_all(lane: Client, items: Sequence[Item], wishes: Wishes) -> int:
    """Uploads all items, some at a time; whatever is wrong with one of them never ends the others."""
    summary = Summary()
    with Bars(shown=not wishes.as_json) as bars:

        async def work(item: Item) -> tuple[Asset, bool]:
            return await _upload(lane, item, wishes, bars)

        async with aclosing(attempted(items, work, wishes.jobs)) as attempts:
            async for attempt in attempts:
                _report(attempt, wishes, summary)
    if len(items) > 1 or wishes.resume:
        note(str(summary))
    return FAILED if summary.failed else 0


async def _upload(lane: Client, item: Item, wishes: Wishes, bars: Bars) -> tuple[Asset, bool]:
    """Returns the asset, and whether an earlier run had brought it in already."""
    if item.error is not None:
        raise item.error
    bar = bars.add(item.path.name)
    options = {**wishes.options, "file_path": item.file_path}
    on_progress = bar.step if bars.shown else None
    try:
        if wishes.resume:
            return await resumed(lane, item, options, on_progress)
        return await lane.upload(item.path, **options, on_progress=on_progress), False
    finally:
        bar.remove()


def _report(attempt: Attempt[Item, tuple[Asset, bool]], wishes: Wishes, summary: Summary) -> None:
    """Prints what became of a file, and counts it."""
    if attempt.result is None:
        summary.failed += 1
        complain(attempt.error or RuntimeError("unknown"), str(attempt.item.path))
        return
    asset, is_known = attempt.result
    if is_known:
        summary.known += 1
    else:
        summary.uploaded += 1
        summary.sent_bytes += sum(variant.size_bytes for variant in asset.variants)
    if wishes.as_json:
        say_json(asset)
    else:
        say(_told(attempt.item.path, asset))
    for notice in asset.notices:
        note(f"assetlane: {attempt.item.path}: {notice.message} [{notice.reason}]")


def _told(file: Path, asset: Asset) -> str:
    names = ", ".join(f"{variant.name} {sized(variant.size_bytes)}" for variant in asset.variants)
    seconds = asset.details.duration.ToTimedelta().total_seconds()
    return f"{asset.asset_id}\t{file}\t{names}" + (f", {seconds:.1f} s" if seconds else "")
