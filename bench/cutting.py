"""What the cuts of a camera's picture cost: ours beside Pillow's plain way and pyvips.

Needs `requirements/bench.txt`. Calls no server and no store.
"""

import io
import time
from collections.abc import Callable
from statistics import median

import pyvips
from examples.picture import photograph
from PIL import Image, ImageOps

from assetlane.cuts import STANDARD_CUTS, STANDARD_OPTIONS, make_cuts
from bench.figures import Bound, Figure, Finding, Goal, Measure, Peer

ROUNDS = 9
SIZE = (6000, 4000)  # 24 megapixels
EDGES = tuple(cut.max_edge_px for cut in STANDARD_CUTS)
QUALITY = STANDARD_OPTIONS.quality
LANCZOS = Image.Resampling.LANCZOS

OURS = "make_cuts"
SAME_FILTER, AS_IT_COMES, WHOLE = "thumbnail, same filter", "thumbnail as it comes", "thumbnail of the whole"
VIPS, VIPS_ONCE = "pyvips, three times", "pyvips, decoded once"
A_THIRD = Goal(Bound.AT_MOST, 1 / 3, Measure.RATIO)


async def measure() -> Finding:
    """Holds our cuts of one picture against the others."""
    data = photograph(*SIZE)
    spent_ms = cpu_ms(data)
    ours = spent_ms[OURS]
    peers = [(SAME_FILTER, A_THIRD), (AS_IT_COMES, None), (WHOLE, A_THIRD), (VIPS, None), (VIPS_ONCE, None)]
    notes = (
        f"A JPEG of {SIZE[0]} x {SIZE[1]} pixels, {len(data) / 1e6:.1f} MB, lying on its side, to {EDGES}.",
        f"Quality {QUALITY}, upright, profile kept. Process CPU of all threads, median of {ROUNDS} interleaved rounds.",
        f"{AS_IT_COMES!r} is bicubic, which is cheaper than Lanczos, ours.",
        f"{WHOLE!r} is turned upright first, as many do, so that nothing is skipped in decoding.",
    )
    figures = tuple(Figure(OURS, ours, "ms", Peer(name, spent_ms[name]), goal) for name, goal in peers)
    return Finding("Three cuts of a 24-megapixel JPEG", figures, notes)


def cpu_ms(data: bytes, rounds: int = ROUNDS) -> dict[str, float]:
    """Returns what each way costs, in ms of CPU: rounds are interleaved, so that all meet the same machine."""
    ways: dict[str, Callable[[bytes], object]] = {
        OURS: make_cuts,
        SAME_FILTER: lambda data: [thumbnail(data, edge, LANCZOS) for edge in EDGES],
        AS_IT_COMES: lambda data: [thumbnail(data, edge, Image.Resampling.BICUBIC) for edge in EDGES],
        WHOLE: lambda data: [whole(data, edge) for edge in EDGES],
        VIPS: lambda data: [vips(data, edge) for edge in EDGES],
        VIPS_ONCE: vips_once,
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for make in ways.values():
        make(data)
    for _ in range(rounds):
        for name, make in ways.items():
            begun = time.process_time()
            make(data)
            spent[name].append((time.process_time() - begun) * 1000)
    return {name: median(times) for name, times in spent.items()}


def thumbnail(data: bytes, edge_px: int, resampling: Image.Resampling) -> bytes:
    """One cut as Pillow's documentation makes it: JPEGs are decoded smaller already."""
    with Image.open(io.BytesIO(data)) as image:
        image.thumbnail((edge_px, edge_px), resampling)
        return saved(ImageOps.exif_transpose(image), image.info.get("icc_profile"))


def whole(data: bytes, edge_px: int) -> bytes:
    """One cut of a picture that is turned first."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((edge_px, edge_px), LANCZOS)
        return saved(upright, image.info.get("icc_profile"))


def saved(image: Image.Image, icc: bytes | None) -> bytes:
    """Returns the picture as a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, icc_profile=icc)
    return file.getvalue()


def vips(data: bytes, edge_px: int) -> bytes:
    """One cut as pyvips makes it, decoded smaller, with its own threads."""
    return encoded(pyvips.Image.thumbnail_buffer(data, edge_px))


def vips_once(data: bytes) -> list[bytes]:
    """All cuts as pyvips makes them, each of the one before."""
    image = pyvips.Image.thumbnail_buffer(data, EDGES[-1]).copy_memory()
    made = [encoded(image)]
    for edge in reversed(EDGES[:-1]):
        image = image.thumbnail_image(edge).copy_memory()
        made.append(encoded(image))
    return made


def encoded(image: pyvips.Image) -> bytes:
    """Returns a picture of pyvips as a JPEG."""
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep="icc"))
