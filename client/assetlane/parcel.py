"""What one upload is going to store: promises, and the bytes behind each."""

import asyncio
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from assetlane.cuts import STANDARD_CUTS, STANDARD_OPTIONS, Cut, CutOptions, CutSize, make_cuts
from assetlane.formats import HEIF_HINT, is_picture, opened, readable
from assetlane.media_types import declared_content_type
from assetlane.preview import VIDEO_HINT, has_video, is_video, make_preview
from assetlane.sources import Source, measured, start_of
from assetlane.v1.upload_pb2 import CutFormat, CutMaker, CutPlan, VariantPromise
from assetlane.v1.upload_pb2 import CutSize as CutSizeMessage

logger = logging.getLogger(__name__)

ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The promise of each variant, `original` first; its source by name.

    `color`: the average of a picture, or of a video's still; `duration` of a video, None when it is not known.
    `cut_plan`: what the server is to make; None: nothing.
    """

    promises: tuple[VariantPromise, ...]
    sources: Mapping[str, Source]
    color: str = ""
    duration: timedelta | None = None
    cut_plan: CutPlan | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """What is to be seen of a file: its media type, its size as shown, and what is stored beside it."""

    content_type: str
    width_px: int
    height_px: int
    color: str
    beside: tuple[Cut, ...]
    duration: timedelta | None = None


async def packed(
    origin: Path | bytes,
    name: str,
    content_type: str | None,
    cuts: bool | Sequence[CutSize],
    preview_at: timedelta | None = None,
    options: CutOptions = STANDARD_OPTIONS,
    cut_maker: Literal["client", "server"] = "client",
) -> Parcel:
    """Measures, hashes and, for a picture or video, cuts: in threads, none of it on the event loop.

    With `cut_maker` `server`, pictures are left whole and a plan goes with them instead.

    Without `content_type` the type is what `name` tells, unless the bytes surely are something else.
    Only formats that can be read are cut. What wants an extra that is not installed goes without cuts, unless
    sizes or an instant are asked for. Raises ImageRefused, VideoRefused, InvalidArgument, OSError.
    """
    start = await start_of(origin)
    guessed = content_type or declared_content_type(name, start)
    sizes = STANDARD_CUTS if cuts is True else tuple(cuts or ())
    if cut_maker == "server" and is_picture(guessed) and sizes:
        return await _planned(origin, guessed, content_type, () if cuts is True else sizes, options)
    look = _way_to_look(guessed, content_type, sizes, preview_at, options)
    wants_it_so = cuts is not True or (preview_at is not None and is_video(guessed))
    if look is not None and not wants_it_so and (hint := _missing(guessed)):
        logger.warning("%s is uploaded without cuts: %s", name, hint)
        look = None
    if look is None:
        return _parcel(await measured(origin), guessed, None)
    try:
        async with asyncio.TaskGroup() as group:
            source = group.create_task(measured(origin))
            looking = group.create_task(asyncio.to_thread(look, origin))
    except ExceptionGroup as group_error:
        raise first(group_error) from group_error
    looks = looking.result()
    return _parcel(source.result(), content_type or looks.content_type, looks)


async def _planned(
    origin: Path | bytes, guessed: str, content_type: str | None, sizes: Sequence[CutSize], options: CutOptions
) -> Parcel:
    """Returns a picture that the server is to cut; no `sizes`: the server's standard ones."""
    if content_type is None and readable(guessed):
        guessed = await asyncio.to_thread(_type_of, origin)
    plan = CutPlan(
        maker=CutMaker.CUT_MAKER_SERVER,
        sizes=[CutSizeMessage(name=size.name, max_edge_px=size.max_edge_px) for size in sizes],
        format=CutFormat.Value(f"CUT_FORMAT_{options.format.upper()}"),
        quality=options.quality,
    )
    return replace(_parcel(await measured(origin), guessed, None), cut_plan=plan)


def _type_of(origin: Path | bytes) -> str:
    """Returns the media type that a picture really has. Raises ImageRefused, OSError."""
    with io.BytesIO(origin) if isinstance(origin, bytes) else origin.open("rb") as stream:
        image, content_type = opened(stream)
        image.close()
        return content_type


def _way_to_look(
    guessed: str,
    content_type: str | None,
    sizes: Sequence[CutSize],
    preview_at: timedelta | None,
    options: CutOptions,
) -> Callable[[Path | bytes], Looks] | None:
    """Returns what looks into a file of that type, None when nothing is to be seen or to be made of it."""
    if is_video(guessed):
        return partial(_video, guessed, sizes, preview_at, options) if sizes or preview_at is not None else None
    if is_picture(guessed) and sizes:
        return partial(_picture, content_type, sizes, options)
    return None


def _missing(content_type: str) -> str:
    """Returns how to get what is missing to look into such a file; empty when nothing is."""
    if is_video(content_type):
        return "" if has_video() else VIDEO_HINT
    return "" if readable(content_type) else HEIF_HINT


def _picture(content_type: str | None, sizes: Sequence[CutSize], options: CutOptions, origin: Path | bytes) -> Looks:
    picture = make_cuts(origin, sizes, content_type=content_type, options=options)
    return Looks(picture.content_type, picture.width_px, picture.height_px, picture.color, picture.cuts)


def _video(
    content_type: str, sizes: Sequence[CutSize], at: timedelta | None, options: CutOptions, origin: Path | bytes
) -> Looks:
    video = make_preview(origin, sizes, at=at, options=options)
    beside = (video.still, *video.cuts)
    return Looks(content_type, video.width_px, video.height_px, video.color, beside, video.duration)


def first(group: ExceptionGroup[Exception]) -> Exception:
    """Returns the first single error of a group: callers handle errors, not groups of them."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _parcel(source: Source, content_type: str, looks: Looks | None) -> Parcel:
    promises = [
        VariantPromise(
            name=ORIGINAL,
            content_type=content_type,
            size_bytes=source.size_bytes,
            sha256=source.sha256,
            promises_parts=True,
            width_px=looks.width_px if looks else 0,
            height_px=looks.height_px if looks else 0,
        )
    ]
    sources = {ORIGINAL: source}
    for cut in looks.beside if looks else ():
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
    if looks is None:
        return Parcel(tuple(promises), sources)
    return Parcel(tuple(promises), sources, looks.color, looks.duration)
