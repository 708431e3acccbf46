"""`assetlane upload`: files, folders and standard input, several at once."""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from assetlane.cli.commanding import Command, examples
from assetlane.cli.completion import complete_partition
from assetlane.cli.output import Bars, complain, counted, expiring, is_terminal, note, say, say_json, sized
from assetlane.cli.selection import Item, selected
from assetlane.cli.session import FAILED, run

if TYPE_CHECKING:
    from assetlane.batch import Attempt
    from assetlane.client import Client
    from assetlane.cut_sizes import CutSize
    from assetlane.v1.asset_pb2 import Asset

app = typer.Typer()

STDIN = Path("-")
STDIN_NUMBER = 0
QUALITY = 85  # of the library, which is not loaded for help; a test compares them
MOST_NAMED = 10  # files, after Ctrl-C


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What holds for every file of one command."""

    options: dict[str, Any]
    jobs: int
    as_json: bool
    as_url: bool
    resume: bool

    @property
    def is_resumable(self) -> bool:
        """Whether the same command goes on with what was interrupted."""
        return self.resume or "request_id" in self.options


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


def _sizes(cuts: bool, custom: Sequence[str]) -> "bool | list[CutSize]":
    from assetlane.cut_sizes import CutSize

    if not custom:
        return cuts
    sizes = []
    for size in custom:
        name, _, edge = size.partition("=")
        if not name or not edge.isdecimal():
            raise typer.BadParameter(f"{size!r} is not NAME=PIXELS", param_hint="--cut")
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


@app.command(
    cls=Command,
    short_help="Upload files and folders, and print their assets.",
    epilog=examples(
        "assetlane",
        "upload photo.jpg",
        "upload photo.jpg --public --url",
        "upload holiday/ --to albums/2026 --partition team/42",
        "upload holiday/ --resume        continue where Ctrl-C stopped it",
        "upload - --file-path dump.sql.gz < dump.sql.gz",
    ),
)
def upload(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
    partition: Annotated[
        str,
        typer.Option(metavar="PARTITION", help="Who may see it. Default: user/UID.", autocompletion=complete_partition),
    ] = "",
    public: Annotated[
        bool, typer.Option("--public", help="Anybody may read it, for ever: as --expiration-hours 0.")
    ] = False,
    expiration_hours: Annotated[
        float | None,
        typer.Option(min=0, metavar="HOURS", help="How long a read URL lives; 0: public, for ever. Default: 24."),
    ] = None,
    folder: Annotated[str, typer.Option("--to", metavar="FOLDER", help="Store everything under this folder.")] = "",
    file_path: Annotated[str, typer.Option(metavar="PATH", help="Path of the asset. Default: its name.")] = "",
    as_url: Annotated[bool, typer.Option("--url", help="Print the read URL of each asset, and nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per asset.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue where an earlier run of this command stopped; Ctrl-C cancels nothing."),
    ] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="In folders, include names that begin with a dot.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, metavar="N", help="Files at once.")] = 4,
    title: Annotated[str, typer.Option(metavar="TEXT", help="A short name for people.")] = "",
    caption: Annotated[str, typer.Option(metavar="TEXT", help="A longer text for people.")] = "",
    extra: Annotated[str, typer.Option(metavar="JSON", help="A JSON object for your own use.")] = "",
    content_type: Annotated[
        str, typer.Option(metavar="TYPE", help="The media type. Default: by name and content.")
    ] = "",
    cuts: Annotated[
        bool, typer.Option(help="Make small, medium and large cuts of pictures, and a preview of videos.")
    ] = True,
    require_cuts: Annotated[
        bool, typer.Option("--require-cuts", help="Refuse a file that can have no cuts or preview.")
    ] = False,
    cut: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PIXELS", help="Make this cut instead; repeatable.")
    ] = None,
    server_cuts: Annotated[
        bool, typer.Option("--server-cuts", help="Let the server make the cuts of pictures.")
    ] = False,
    cut_format: Annotated[
        Literal["auto", "jpeg", "webp", "png"],
        typer.Option(metavar="FORMAT", help="Format of cuts: jpeg, webp, png, or auto."),
    ] = "auto",
    cut_quality: Annotated[
        int, typer.Option(min=1, max=95, metavar="N", help="Quality of JPEG and WebP cuts, 1 to 95.")
    ] = QUALITY,
    preview_at: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Second that a video's preview shows. Default: 1, or a tenth of a video shorter than 10 s.",
        ),
    ] = None,
    asset_partition: Annotated[
        str, typer.Option(metavar="PARTITION", help="Who may see the asset. Default: as --partition.")
    ] = "",
    request_id: Annotated[str, typer.Option(metavar="ID", help="Continue an earlier run that used this id.")] = "",
    session_id: Annotated[
        str,
        typer.Option(metavar="ID", help="The session of the uploads. Default: a new one; none with --resume."),
    ] = "",
) -> None:
    """Upload files and folders, and print their assets with their read URLs.

    A folder is taken with all that is in it, filed under its name; - is standard input.

    In a pipe each asset is one line of id, file and variants with their bytes, with tabs between them.

    Exit codes: 0, all are in; 1, some are not, each reported with its reason; 2, wrong usage; 130, Ctrl-C.
    Ctrl-C gives unfinished uploads up; with --resume it leaves them to the next run.
    """
    from assetlane.cut_sizes import CutOptions

    if (len(files) > 1 or (files[0] != STDIN and files[0].is_dir())) and (file_path or request_id):
        raise typer.BadParameter("--file-path and --request-id are for one file")
    if file_path and folder:
        raise typer.BadParameter("give --file-path or --to, not both")
    if require_cuts and not (cuts or cut or preview_at is not None):
        raise typer.BadParameter("give one of --require-cuts and --no-cuts, not both")
    if request_id and resume:
        raise typer.BadParameter("--resume makes its own request ids")
    if as_url and as_json:
        raise typer.BadParameter("give --url or --json, not both")
    if public and expiration_hours:
        raise typer.BadParameter("--public never expires: leave --expiration-hours out")
    if STDIN in files:
        _check_stdin(files, file_path, resume=resume)
        if sys.stdin.isatty():
            note("assetlane: reading what you type, to Ctrl-D")
    items = [Item(files[0], file_path)] if file_path else _items(files, folder, hidden)
    common = BatchOptions(
        options={
            "partition": partition,
            "asset_partition": asset_partition,
            "expiration_hours": 0.0 if public else expiration_hours,
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
        as_url=as_url,
        resume=resume,
    )
    # A session of its own for each run would make the next run's request another one.
    session = session_id if session_id or resume or request_id else None
    batch = _Batch(items, common)
    run(context, batch.run, session_id=session, on_interrupt=batch.interrupted)


def _check_stdin(files: Sequence[Path], file_path: str, *, resume: bool) -> None:
    if len(files) > 1:
        raise typer.BadParameter("- is standard input: give no other file with it")
    if not file_path:
        raise typer.BadParameter("standard input has no name: give --file-path")
    if resume:
        raise typer.BadParameter("standard input cannot be read again: leave --resume out")


def _items(files: Sequence[Path], folder: str, hidden: bool) -> list[Item]:
    items = list(selected(files, folder, hidden=hidden))
    if not items:
        raise typer.BadParameter("there is no file in it" if len(files) == 1 else "there is no file in them")
    return items


class _Batch:
    """The files of one command: which are under way, and what is said of each."""

    def __init__(self, items: Sequence[Item], common: BatchOptions) -> None:
        self._items = items
        self._common = common
        self._bars = Bars(shown=not common.as_json)
        self._sizes = [_size(item.path) for item in items]
        self._sent = dict.fromkeys(range(len(items)), 0)  # bytes by item, of those that are begun or over
        self._under_way: dict[int, str] = {}  # the upload's id, empty until it has one
        self._over = 0
        self.summary = Summary()

    async def run(self, client: "Client") -> int:
        """Uploads all of them, some at a time; whatever is wrong with one never ends the others."""
        from assetlane.batch import attempted

        async def work(number: int) -> "tuple[Asset, bool]":
            return await self._upload(client, number)

        with self._bars:
            if len(self._items) > 1:
                self._bars.add_total(len(self._items), sum(self._sizes))
            async with aclosing(attempted(range(len(self._items)), work, self._common.jobs)) as attempts:
                async for attempt in attempts:
                    await self._report(client, attempt)
        if len(self._items) > 1 or self._common.resume:
            note(str(self.summary))
        return FAILED if self.summary.failed else 0

    async def _upload(self, client: "Client", number: int) -> "tuple[Asset, bool]":
        """Returns the asset, and whether an earlier run had brought it in already."""
        from assetlane.cli.resuming import resumed

        item, common = self._items[number], self._common
        if item.error is not None:
            raise item.error
        name = item.file_path if item.path == STDIN else item.path.name
        bar = self._bars.add(name, self._sizes[number] or None)
        options = {**common.options, "file_path": item.file_path}
        self._under_way[number] = ""

        def step(progress: Any) -> None:
            self._under_way[number] = progress.upload_id
            self._sent[number] = min(progress.sent_bytes, self._sizes[number])
            self._bars.show_total(self._over, sum(self._sent.values()))
            bar.step(progress)

        try:
            if common.resume:
                result = await resumed(client, item, options, step)
            elif item.path == STDIN:
                # Raw: a buffer's lock would be held by a read that never ends, until the end of the process.
                with open(STDIN_NUMBER, "rb", buffering=0, closefd=False) as stdin:  # noqa: ASYNC230
                    result = await client.upload(stdin, **options, on_progress=step), False
            else:
                result = await client.upload(item.path, **options, on_progress=step), False
        except Exception:
            del self._under_way[number]  # what is left was interrupted
            raise
        finally:
            bar.remove()
        del self._under_way[number]
        return result

    async def _report(self, client: "Client", attempt: "Attempt[int, tuple[Asset, bool]]") -> None:
        """Prints what became of a file, and counts it."""
        number, summary, common = attempt.item, self.summary, self._common
        self._over += 1
        self._sent[number] = self._sizes[number]
        self._bars.show_total(self._over, sum(self._sent.values()))
        name = self._name(number)
        if attempt.result is None:
            summary.failed += 1
            complain(attempt.error or RuntimeError("unknown"), name)
            return
        asset, is_known = attempt.result
        if is_known:
            summary.known += 1
        else:
            summary.uploaded += 1
            summary.sent_bytes += sum(variant.size_bytes for variant in asset.variants)
        if common.as_json:
            say_json(asset)
        elif common.as_url:
            say(await client.read_url(asset))
        elif is_terminal():
            say(f"{name}: {_variants(asset)}")
            say(f"  {asset.asset_id} in {asset.partition}, {_life(asset)}")
            say(f"  {await client.read_url(asset)}")
        else:
            say(f"{asset.asset_id}\t{name}\t{_variants(asset)}")
        for notice in asset.notices:
            note(f"assetlane: {name}: {notice.message} [{notice.reason}]")

    def _name(self, number: int) -> str:
        item = self._items[number]
        return item.file_path if item.path == STDIN else str(item.path)

    def interrupted(self) -> Iterator[str]:
        """Yields what is to be said after Ctrl-C: what was given up, and how to go on."""
        summary = self.summary
        waiting = len(self._items) - self._over - len(self._under_way)
        if len(self._items) > 1:
            in_already = summary.uploaded + summary.known
            yield f"{in_already} of {len(self._items)} files are in, {waiting} not begun."
        names = [self._name(number) for number in self._under_way]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        if self._common.is_resumable:
            yield "Nothing was cancelled. To continue, run the same command again:"
            yield f"  {shlex.join(['assetlane', *sys.argv[1:]])}"
            return
        if names:
            yield f"Cancelled: {', '.join(names[:MOST_NAMED])}{more}."
        if STDIN not in (item.path for item in self._items):
            yield "The same command uploads all of it again; with --resume it continues where Ctrl-C stopped it."


def _size(path: Path) -> int:
    """Returns the size of a file, nothing for one that cannot be looked at: opening it says why."""
    try:
        return path.stat().st_size if path != STDIN else 0
    except OSError:
        return 0


def _variants(asset: "Asset") -> str:
    names = ", ".join(f"{variant.name} {counted(variant.size_bytes)}" for variant in asset.variants)
    seconds = asset.details.duration.ToTimedelta().total_seconds()
    return names + (f", {seconds:.1f} s" if seconds else "")


def _life(asset: "Asset") -> str:
    if not asset.HasField("expire_time"):
        return "PUBLIC: anybody may read it, for ever"
    return f"private: its URL ends {expiring(asset)}"
