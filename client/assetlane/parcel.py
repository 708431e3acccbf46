"""What one upload is going to store: promises, and the bytes behind each."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assetlane.cuts import STANDARD_CUTS, CutSize, Picture, make_cuts, readable
from assetlane.sources import Source, guessed_content_type, measured
from assetlane.v1.upload_pb2 import VariantPromise

ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class Parcel:
    """The promise of each variant, `original` first; its source by name; the average colour of a picture."""

    promises: tuple[VariantPromise, ...]
    sources: Mapping[str, Source]
    color: str = ""


async def packed(origin: Path | bytes, name: str, content_type: str | None, cuts: bool | Sequence[CutSize]) -> Parcel:
    """Measures, hashes and, for a picture, cuts: in threads, none of it on the event loop.

    Without `content_type` the type is guessed from `name`; a picture then gets the type that it really has.
    Only formats that can be read are cut. Raises ImageRefused, InvalidArgument, OSError.
    """
    guessed = content_type or guessed_content_type(name)
    sizes = STANDARD_CUTS if cuts is True else tuple(cuts or ())
    if not sizes or not readable(guessed):
        return _parcel(await measured(origin), guessed, None)
    try:
        async with asyncio.TaskGroup() as group:
            source = group.create_task(measured(origin))
            picture = group.create_task(asyncio.to_thread(make_cuts, origin, sizes, content_type=content_type))
    except ExceptionGroup as group_error:
        raise first(group_error) from group_error
    cut = picture.result()
    return _parcel(source.result(), content_type or cut.content_type, cut)


def first(group: ExceptionGroup[Exception]) -> Exception:
    """Returns the first single error of a group: callers handle errors, not groups of them."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _parcel(source: Source, content_type: str, picture: Picture | None) -> Parcel:
    promises = [
        VariantPromise(
            name=ORIGINAL,
            content_type=content_type,
            size_bytes=source.size_bytes,
            sha256=source.sha256,
            promises_parts=True,
            width_px=picture.width_px if picture else 0,
            height_px=picture.height_px if picture else 0,
        )
    ]
    sources = {ORIGINAL: source}
    for cut in picture.cuts if picture else ():
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
    return Parcel(tuple(promises), sources, picture.color if picture else "")
