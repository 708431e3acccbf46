"""`assetlane watch`: an upload, a session, or what is in a partition."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from assetlane.cli.commanding import AsJson, Command, examples
from assetlane.cli.completion import complete_partition, complete_upload
from assetlane.cli.output import Bar, Bars, counted, is_terminal, named, say, say_event, timed, width
from assetlane.cli.session import FAILED, run
from assetlane.cli.tables import LEAST_CELLS, cells, shortened

if TYPE_CHECKING:
    from assetlane.client import Client
    from assetlane.v1.asset_service_pb2 import WatchAssetsResponse
    from assetlane.v1.upload_service_pb2 import ProgressEvent, StatusEvent

CHANGE_CELLS = len("REFRESHED")
SIZE_CELLS = len("999.9 kB")

app = typer.Typer()


@app.command(
    cls=Command,
    short_help="Watch an upload, a session, or what is in a partition.",
    epilog=examples(
        "assetlane", "watch UPLOAD_ID", "watch --partition public", "watch --partition public --json | jq .kind"
    ),
)
def watch(
    context: typer.Context,
    upload_id: Annotated[
        str, typer.Argument(metavar="UPLOAD_ID", show_default=False, autocompletion=complete_upload)
    ] = "",
    session: Annotated[str, typer.Option(metavar="ID", help="Watch all uploads of this session instead.")] = "",
    partition: Annotated[
        str,
        typer.Option(
            metavar="PARTITION",
            help="Watch the assets of this partition instead.",
            autocompletion=complete_partition,
        ),
    ] = "",
    resume_token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN", help="With --partition: begin after this event of an earlier watch (--json prints it)."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print every status change, or what happens to the assets of a partition, as it comes.

    Progress is a live line for each upload on a terminal, and plain lines in a pipe.
    The watch of one upload ends with its final status: exit code 0 for COMPLETED, 1 for any other.
    """
    if (bool(upload_id), bool(session), bool(partition)).count(True) != 1:
        raise typer.BadParameter("give one of UPLOAD_ID, --session and --partition")
    if resume_token and not partition:
        raise typer.BadParameter("only a watch of a --partition has one", param_hint="--resume-token")
    if partition:
        run(context, lambda client: _watch_assets(client, partition, resume_token, as_json))
    else:
        run(context, lambda client: _watch_uploads(client, upload_id, session, as_json))


async def _watch_uploads(client: "Client", upload_id: str, session: str, as_json: bool) -> int:
    from assetlane.v1.upload_pb2 import UploadStatus
    from assetlane.v1.upload_service_pb2 import StatusEvent

    # A watch waits for a server for ever; a call fails soon when there is none.
    if upload_id:
        await client.get_upload(upload_id)
        events = client.watch_upload(upload_id, progress=True)
    else:
        await anext(client.list_uploads(session_id=session, page_size=1), None)
        events = client.watch_session(session, progress=True)
    status = UploadStatus.UPLOAD_STATUS_COMPLETED
    with Bars(shown=not as_json, beside_results=True) as bars:
        screen = _Screen(bars)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, StatusEvent):
                    status = event.upload.status
                if as_json:
                    say_event(event)
                else:
                    screen.show(event)
    return 0 if status == UploadStatus.UPLOAD_STATUS_COMPLETED else FAILED


class _Screen:
    """Status changes as lines; progress as one live line for each upload, or as lines where nothing is live."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._names: dict[str, str] = {}  # of the uploads that are not over
        self._lines: dict[str, Bar] = {}

    def show(self, event: "StatusEvent | ProgressEvent") -> None:
        """Shows an event."""
        from assetlane.v1.upload_service_pb2 import StatusEvent

        if isinstance(event, StatusEvent):
            self._take(event)
            say(_status_line(event))
        elif not self._bars.shown:
            say(_progress_line(event))
        elif event.upload_id in self._names:
            self._draw(event)

    def _take(self, event: "StatusEvent") -> None:
        from assetlane.watching import FINAL_STATUSES

        upload = event.upload
        if upload.status not in FINAL_STATUSES:
            self._names[upload.upload_id] = upload.file_path
            return
        self._names.pop(upload.upload_id, None)
        if (line := self._lines.pop(upload.upload_id, None)) is not None:
            line.remove()

    def _draw(self, event: "ProgressEvent") -> None:
        line = self._lines.get(event.upload_id)
        if line is None:
            line = self._lines[event.upload_id] = self._bars.add(self._names[event.upload_id], event.size_bytes)
        line.show(event.sent_bytes, event.size_bytes, _stage(event))


def _status_line(event: "StatusEvent") -> str:
    from assetlane.v1.upload_pb2 import UploadStatus

    upload = event.upload
    change = next((c for c in upload.history if c.revision == upload.revision), None)
    words = [
        timed(change.time if change else upload.update_time),
        upload.upload_id,
        named(UploadStatus.DESCRIPTOR, upload.status, "UPLOAD_STATUS_"),
        change.reason if change and change.reason else upload.failure.reason,
        upload.failure.message,
    ]
    return "  ".join(word for word in words if word)


def _progress_line(event: "ProgressEvent") -> str:
    percent = 100 * event.sent_bytes // max(event.size_bytes, 1)
    sent = f"{counted(event.sent_bytes)} of {counted(event.size_bytes)}"
    return f"{timed(event.time)}  {event.upload_id}  {_stage(event)}  {percent} %  {sent}"


def _stage(event: "ProgressEvent") -> str:
    from assetlane.v1.upload_service_pb2 import ProgressStage

    return named(ProgressStage.DESCRIPTOR, event.stage, "PROGRESS_STAGE_")


async def _watch_assets(client: "Client", partition: str, resume_token: str, as_json: bool) -> int:
    await anext(client.list_assets(partition, page_size=1), None)  # fails soon when there is no server
    async with aclosing(client.watch_assets(partition, resume_token)) as events:
        async for event in events:
            if as_json:
                say_event(event)
            else:
                say(_asset_line(event))
    return 0


def _asset_line(event: "WatchAssetsResponse") -> str:
    from assetlane.v1.asset_service_pb2 import AssetChange

    if event.HasField("synced"):
        return "SYNCED"
    if event.HasField("deleted"):
        return f"{'DELETED':<{CHANGE_CELLS if is_terminal() else 0}}  {event.deleted.asset_id}"
    asset = event.asset.asset
    original = asset.variants[0]
    change = named(AssetChange.DESCRIPTOR, event.asset.change, "ASSET_CHANGE_")
    size = counted(original.size_bytes)
    if not is_terminal():
        return f"{change}  {asset.asset_id}  {size}  {original.content_type}  {asset.file_path}"
    begun = f"{change:<{CHANGE_CELLS}}  {asset.asset_id}  {size:>{SIZE_CELLS}}  "
    return begun + shortened(asset.file_path, max(width() - cells(begun), LEAST_CELLS))
