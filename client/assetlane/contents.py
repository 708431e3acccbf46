"""What one upload is going to store: promises, and the bytes behind each."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from assetlane.cuts import STANDARD_CUTS, STANDARD_OPTIONS, Cut, CutOptions, CutSize, make_cuts
from assetlane.errors import CutsRefused, ImageRefused, MediaRefused, VideoRefused
from assetlane.formats import essence, is_picture
from assetlane.media_types import NEUTRAL, TYPESCRIPT, declared_content_type
from assetlane.preview import is_video, make_preview
from assetlane.sources import Source, measured, start_of
from assetlane.v1.asset_pb2 import Notice
from assetlane.v1.upload_pb2 import CutFormat, CutMaker, CutPlan, VariantPromise
from assetlane.v1.upload_pb2 import CutSize as CutSizeMessage

logger = logging.getLogger(__name__)

ORIGINAL = "original"
MAX_NOTICE_BYTES = 1024  # what the contract allows
WITHOUT_CUTS = "upload it without them: --no-cuts on the command line, cuts=False in Python"


@dataclass(frozen=True, slots=True)
class Contents:
    """The promise of each variant, `original` first; its source by name.

    `color`: the average of a picture, or of a video's still; `duration` of a video, None when it is not known.
    `cut_plan`: what the server is to make; None: nothing. `notices`: what could not be made, and why.
    """

    promises: tuple[VariantPromise, ...]
    sources: Mapping[str, Source]
    color: str = ""
    duration: timedelta | None = None
    cut_plan: CutPlan | None = None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Appearance:
    """What is to be seen of a file: its media type, its size as shown, and what is stored beside it."""

    content_type: str
    width_px: int
    height_px: int
    color: str
    beside: tuple[Cut, ...]
    duration: timedelta | None = None


async def read_contents(
    origin: Path | bytes,
    name: str,
    content_type: str | None,
    cuts: bool | Sequence[CutSize],
    preview_at: timedelta | None = None,
    options: CutOptions = STANDARD_OPTIONS,
    cut_maker: Literal["client", "server"] = "client",
    *,
    require_cuts: bool = False,
) -> Contents:
    """Measures, hashes and, for a picture or video, cuts: in threads, none of it on the event loop.

    With `cut_maker` `server`, pictures are left whole and a plan goes with them instead.

    Without `content_type` the type follows from `name`, unless the bytes clearly are something else.
    What cuts or a preview cannot be made of goes without them, with a notice that says why; with `require_cuts` it
    is refused. Raises CutsRefused, ImageRefused, VideoRefused; ImageRefused also for a picture that is not what
    `content_type` says; OSError; ValueError for an instant before the start.
    """
    if preview_at is not None and preview_at < timedelta():
        raise ValueError(f"preview_at is {preview_at.total_seconds():g} s, it must be 0 or more")
    start = await start_of(origin)
    guessed = content_type or declared_content_type(name, start)
    sizes = STANDARD_CUTS if cuts is True else tuple(cuts or ())
    if content_type is None and (sizes or preview_at is not None) and (stranger := _stranger(name, guessed)):
        what = "a preview" if isinstance(stranger, VideoRefused) else "cuts"
        notice = _notice(stranger, what, require_cuts)
        return replace(_contents(await measured(origin), guessed, None), notices=(notice,))
    if cut_maker == "server" and is_picture(guessed) and sizes:
        plan = _plan(() if cuts is True else sizes, options, require_cuts)
        return replace(_contents(await measured(origin), guessed, None), cut_plan=plan)
    look = _way_to_look(guessed, content_type, sizes, preview_at, options)
    if look is None:
        if require_cuts:
            raise CutsRefused("CUTS_NOT_POSSIBLE", f"no cuts can be made of {guessed}: {WITHOUT_CUTS}")
        return _contents(await measured(origin), guessed, None)
    try:
        async with asyncio.TaskGroup() as group:
            source = group.create_task(measured(origin))
            looking = group.create_task(asyncio.to_thread(_looked, look, origin))
    except ExceptionGroup as group_error:
        raise first(group_error) from group_error
    appearance = looking.result()
    if isinstance(appearance, Appearance):
        return _contents(source.result(), content_type or appearance.content_type, appearance)
    notice = _notice(appearance, "a preview" if is_video(guessed) else "cuts", require_cuts)
    return replace(_contents(source.result(), guessed, None), notices=(notice,))


def _looked(look: Callable[[Path | bytes], Appearance], origin: Path | bytes) -> Appearance | MediaRefused:
    """Returns what is to be seen, or why nothing is: the file itself goes in all the same."""
    try:
        return look(origin)
    except MediaRefused as refusal:
        if refusal.reason == "IMAGE_MISLABELLED":  # the type that is promised is wrong: the server refuses that too
            raise
        return refusal
    except Exception as error:  # an extra never keeps a file out, whatever a decoder comes up with
        logger.debug("no cuts or preview could be made", exc_info=True)
        return MediaRefused("CUTS_FAILED", f"making them failed unexpectedly ({type(error).__name__})")


def _notice(refusal: MediaRefused, what: str, required: bool) -> Notice:
    """Returns what to say of a file that goes in without. Raises the refusal where it must not go in so."""
    if required:
        raise type(refusal)(refusal.reason, f"{refusal.message}; {WITHOUT_CUTS}") from refusal
    message = f"Stored without {what}: {refusal.message}."
    return Notice(reason=refusal.reason, message=message.encode()[:MAX_NOTICE_BYTES].decode(errors="ignore"))


def _plan(sizes: Sequence[CutSize], options: CutOptions, required: bool) -> CutPlan:
    """Returns what the server is to make of a picture; no `sizes`: its standard ones."""
    return CutPlan(
        maker=CutMaker.CUT_MAKER_SERVER,
        sizes=[CutSizeMessage(name=size.name, max_edge_px=size.max_edge_px) for size in sizes],
        format=CutFormat.Value(f"CUT_FORMAT_{options.format.upper()}"),
        quality=options.quality,
        required=required,
    )


def _stranger(name: str, found: str) -> MediaRefused | None:
    """Returns why nothing is to be seen of a file that only its name calls a picture or video, None for others."""
    named = declared_content_type(name, b"")
    if is_picture(found) or essence(found).startswith(("audio/", "video/")) or found == TYPESCRIPT:
        return None  # .ts and .mts are endings of programs as well
    content = "of no kind that is known" if found == NEUTRAL else found
    if is_picture(named):
        return ImageRefused("IMAGE_UNRECOGNIZED", f"its name is that of a picture, its content is {content}")
    if is_video(named):
        return VideoRefused("VIDEO_UNRECOGNIZED", f"its name is that of a video, its content is {content}")
    return None


def _way_to_look(
    guessed: str,
    content_type: str | None,
    sizes: Sequence[CutSize],
    preview_at: timedelta | None,
    options: CutOptions,
) -> Callable[[Path | bytes], Appearance] | None:
    """Returns what appearance into a file of that type, None when nothing is to be seen or to be made of it."""
    if is_video(guessed):
        return partial(_video, guessed, sizes, preview_at, options) if sizes or preview_at is not None else None
    if is_picture(guessed) and sizes:
        return partial(_picture, content_type, sizes, options)
    return None


def _picture(
    content_type: str | None, sizes: Sequence[CutSize], options: CutOptions, origin: Path | bytes
) -> Appearance:
    picture = make_cuts(origin, sizes, content_type=content_type, options=options)
    return Appearance(picture.content_type, picture.width_px, picture.height_px, picture.color, picture.cuts)


def _video(
    content_type: str, sizes: Sequence[CutSize], at: timedelta | None, options: CutOptions, origin: Path | bytes
) -> Appearance:
    video = make_preview(origin, sizes, at=at, options=options)
    beside = (video.still, *video.cuts)
    return Appearance(content_type, video.width_px, video.height_px, video.color, beside, video.duration)


def first(group: ExceptionGroup[Exception]) -> Exception:
    """Returns the first single error of a group: callers handle errors, not groups of them."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _contents(source: Source, content_type: str, appearance: Appearance | None) -> Contents:
    promises = [
        VariantPromise(
            name=ORIGINAL,
            content_type=content_type,
            size_bytes=source.size_bytes,
            sha256=source.sha256,
            promises_parts=True,
            width_px=appearance.width_px if appearance else 0,
            height_px=appearance.height_px if appearance else 0,
        )
    ]
    sources = {ORIGINAL: source}
    for cut in appearance.beside if appearance else ():
        stored = Source.of(cut.data)
        sources[cut.name] = stored
        promises.append(
            VariantPromise(
                name=cut.name,
                content_type=cut.content_type,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                promises_parts=True,
                width_px=cut.width_px,
                height_px=cut.height_px,
            )
        )
    if appearance is None:
        return Contents(tuple(promises), sources)
    return Contents(tuple(promises), sources, appearance.color, appearance.duration)
