"""Pictures to look at, drawn by numbers: landscapes in many lights. The same seed gives the same picture."""

import io
import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

# Sky above, sky below, the light, what is far, what is near.
PALETTES: Final[Sequence[tuple[Colour, Colour, Colour, Colour, Colour]]] = (
    ((38, 62, 120), (250, 176, 120), (255, 236, 190), (150, 110, 140), (28, 26, 48)),
    ((110, 170, 205), (236, 240, 230), (255, 252, 236), (140, 170, 180), (36, 66, 70)),
    ((20, 24, 58), (88, 62, 120), (240, 236, 214), (60, 52, 104), (10, 12, 30)),
    ((246, 190, 120), (255, 236, 190), (255, 250, 230), (224, 150, 96), (110, 44, 34)),
    ((60, 120, 130), (220, 226, 180), (255, 248, 210), (90, 140, 124), (16, 48, 44)),
    ((150, 84, 110), (246, 170, 150), (255, 226, 200), (170, 96, 116), (64, 26, 52)),
    ((92, 140, 210), (206, 224, 240), (255, 255, 248), (150, 178, 206), (40, 60, 96)),
    ((196, 210, 206), (240, 232, 216), (255, 255, 250), (170, 180, 170), (70, 80, 74)),
)
SHAPES: Final = ((1200, 800), (1200, 900), (900, 1200), (1200, 675), (1000, 1000), (1400, 700), (800, 1100))


def scene(seed: int, size: tuple[int, int] | None = None) -> bytes:
    """Returns a JPEG."""
    chance = random.Random(seed)
    palette = PALETTES[chance.randrange(len(PALETTES))]
    size = size or SHAPES[chance.randrange(len(SHAPES))]
    draw = _KINDS[seed % len(_KINDS)]
    picture = _sky(size, palette[0], palette[1])
    draw(picture, chance, palette)
    grain = Image.effect_noise(size, 14).convert("RGB")
    picture = ImageChops.soft_light(picture.filter(ImageFilter.GaussianBlur(0.8)), grain)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=86)
    return out.getvalue()


def small_scene(seed: int) -> bytes:
    """Returns a small JPEG, for a gallery of thousands."""
    return scene(seed, ((300, 200), (240, 240), (200, 280))[seed % 3])


Palette = tuple[Colour, Colour, Colour, Colour, Colour]


def _sky(size: tuple[int, int], above: Colour, below: Colour) -> Image.Image:
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, below), Image.new("RGB", size, above), mask)


def _light(picture: Image.Image, colour: Colour, centre: tuple[float, float], share: float) -> None:
    """A sun or a moon with its glow."""
    width, height = picture.size
    glow_px = int(max(picture.size) * share * 9)
    glow = ImageChops.invert(Image.radial_gradient("L").resize((glow_px, glow_px)))
    edge = 75  # what a radial gradient has at the middle of its sides
    place = (int(width * centre[0]) - glow_px // 2, int(height * centre[1]) - glow_px // 2)
    picture.paste(Image.new("RGB", glow.size, colour), place, glow.point(lambda value: max(0, value - edge) * 2 // 3))
    radius = max(picture.size) * share / 2
    x, y = width * centre[0], height * centre[1]
    disc = Image.new("L", picture.size, 0)
    ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=235)
    picture.paste(Image.new("RGB", picture.size, colour), (0, 0), disc.filter(ImageFilter.GaussianBlur(1.5)))


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _ridge(
    picture: Image.Image, chance: random.Random, colour: Colour, base: float, rough: float, waves: float
) -> None:
    width, height = picture.size
    phases = [(chance.uniform(0, 7), waves * 2**octave * chance.uniform(0.8, 1.2)) for octave in range(6)]
    points = [(0.0, float(height))]
    for x in range(0, width + 4, 4):
        level = sum(math.sin(phase + times * 6.28 * x / width) / 1.9**octave
                    for octave, (phase, times) in enumerate(phases))  # fmt: skip
        points.append((float(x), height * (base - rough * level)))
    points.append((float(width), float(height)))
    ImageDraw.Draw(picture).polygon(points, fill=colour)


def _ridges(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    _light(picture, palette[2], (chance.uniform(0.2, 0.8), chance.uniform(0.22, 0.5)), chance.uniform(0.05, 0.1))
    layers = chance.randint(4, 6)
    for layer in range(layers):
        share = layer / (layers - 1)
        _ridge(picture, chance, _mix(palette[3], palette[4], share), 0.5 + 0.42 * share, 0.07 - 0.02 * share, 1.1)


def _sea(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    width, height = picture.size
    horizon = chance.uniform(0.5, 0.62)
    _light(picture, palette[2], (chance.uniform(0.3, 0.7), horizon - chance.uniform(0.04, 0.2)), 0.09)
    _ridge(picture, chance, _mix(palette[1], palette[3], 0.6), horizon, 0.025, 0.9)
    shore = int(height * horizon)
    above = picture.crop((0, max(0, 2 * shore - height), width, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirrored = above.resize((width, height - shore)).filter(ImageFilter.GaussianBlur(5))
    picture.paste(Image.blend(mirrored, Image.new("RGB", mirrored.size, palette[4]), 0.34), (0, shore))
    strokes = ImageDraw.Draw(picture)
    for _ in range(260):
        y = shore + (height - shore) * chance.random() ** 1.6
        x, length = chance.uniform(0, width), chance.uniform(8, 70) * (y - shore + 30) / height
        strokes.line((x, y, x + length * 3, y), fill=_mix(palette[2], palette[4], chance.uniform(0.2, 0.75)), width=1)


def _dunes(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    _light(picture, palette[2], (chance.uniform(0.15, 0.85), 0.24), 0.06)
    for layer in range(4):
        share = layer / 3
        colour = _mix(_mix(palette[1], palette[3], 0.7), palette[4], share * 0.85)
        _ridge(picture, chance, colour, 0.52 + 0.16 * layer, 0.055, 0.55)
        shade = picture.copy()
        _ridge(shade, chance, _mix(colour, palette[4], 0.45), 0.62 + 0.17 * layer, 0.07, 0.5)
        picture.paste(Image.blend(picture, shade, 0.5))


def _night(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    width, height = picture.size
    dark = _sky(picture.size, (8, 10, 28), _mix(palette[0], (30, 34, 80), 0.7))
    picture.paste(dark)
    strokes = ImageDraw.Draw(picture)
    for _ in range(420):
        x, y = chance.uniform(0, width), height * chance.random() ** 1.5
        size = chance.choice((0.6, 0.6, 0.9, 1.5))
        strokes.ellipse(
            (x - size, y - size, x + size, y + size), fill=_mix((255, 250, 235), (90, 100, 150), chance.random())
        )
    _light(
        picture, (246, 240, 220), (chance.uniform(0.15, 0.85), chance.uniform(0.12, 0.4)), chance.uniform(0.03, 0.08)
    )
    for layer in range(3):
        _ridge(picture, chance, _mix((34, 38, 74), (6, 8, 18), layer / 2), 0.66 + 0.12 * layer, 0.06, 1.3)
    for tree in range(40):
        x, foot = width * (tree + chance.random()) / 40, height * chance.uniform(0.97, 1.02)
        tall = height * chance.uniform(0.08, 0.2)
        strokes.polygon([(x - tall / 6, foot), (x, foot - tall), (x + tall / 6, foot)], fill=(4, 6, 12))


def _fields(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    """Seen from above."""
    width, height = picture.size
    strokes = ImageDraw.Draw(picture)
    tilt = chance.uniform(-0.35, 0.35)
    step = width / chance.randint(5, 8)
    for column in range(-3, 14):
        for row in range(-1, 2 + int(height / step / 0.6)):
            x, y = column * step + row * step * tilt, row * step * 0.8
            colour = _mix(_mix(palette[1], palette[3], chance.random()), palette[4], chance.random() * 0.6)
            corners = [(x, y), (x + step, y + step * 0.1), (x + step + step * tilt, y + step * 0.9),
                       (x + step * tilt, y + step * 0.8)]  # fmt: skip
            strokes.polygon(corners, fill=colour)
            for line in range(1, 9):
                share = line / 9
                start = (x + step * share, y + step * 0.1 * share)
                strokes.line((*start, start[0] + step * tilt, start[1] + step * 0.8),
                             fill=_mix(colour, palette[4], 0.16), width=2)  # fmt: skip
    picture.paste(picture.filter(ImageFilter.GaussianBlur(1)))


def _bokeh(picture: Image.Image, chance: random.Random, palette: Palette) -> None:
    """Lights out of focus."""
    width, height = picture.size
    picture.paste(_sky(picture.size, palette[4], _mix(palette[3], palette[4], 0.5)))
    for _ in range(46):
        radius = min(width, height) * chance.uniform(0.03, 0.12)
        x, y = chance.uniform(0, width), chance.uniform(0, height)
        disc = Image.new("L", picture.size, 0)
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(disc).ellipse(box, fill=chance.randint(40, 130), outline=170, width=3)
        colour = chance.choice((palette[1], palette[2], palette[3], palette[0]))
        picture.paste(Image.new("RGB", picture.size, colour), (0, 0), disc.filter(ImageFilter.GaussianBlur(2)))


_KINDS: Final[Sequence[Callable[[Image.Image, random.Random, Palette], None]]] = (
    _ridges, _sea, _dunes, _night, _fields, _bokeh,
)  # fmt: skip
