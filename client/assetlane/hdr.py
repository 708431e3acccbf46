"""Shows pictures of high dynamic range (PQ and HLG) on ordinary screens: tone-mapped to sRGB. Pure Pillow.

Reference white, 203 cd/m² in either system (ITU-R BT.2408), becomes white but for a little room above it, into
which all that is brighter is compressed. All three channels are scaled alike, so that hues stay; colours outside of
sRGB lose saturation instead of being cut off.

8 bits are too few levels for PQ: codes are brought to a scale of our own first (`scaled`), those of a video's frame
while they still have 12 bits.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import cache

from PIL import Image, ImageFilter

WHITE_NITS = 203.0  # ITU-R BT.2408, table 1
PEAK_NITS = 1000.0  # the nominal screen of ITU-R BT.2100; what is brighter in PQ is as white as that
PQ_PEAK_NITS = 10_000.0
KNEE = 0.85  # of white: up to here light stays as it is
SCALE_WHITE = 0.75  # where reference white lies on our scale, as in HLG
SCALE_GAMMA = 2.2
EDGE = 65  # points of the table each way

Vector = tuple[float, float, float]


class Transfer(IntEnum):
    """Transfer characteristics that are HDR, by their numbers in ISO/IEC 23091-2."""

    PQ = 16
    HLG = 18


class Primaries(IntEnum):
    """Colour primaries, by their numbers in ISO/IEC 23091-2."""

    BT709 = 1
    BT2020 = 9
    P3_D65 = 12


# Linear light to that of BT.709's primaries; all three have the white of D65.
_TO_BT709 = {
    Primaries.BT709: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    Primaries.BT2020: (
        (1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008349), (-0.018151, -0.100579, 1.118730),
    ),
    Primaries.P3_D65: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098273)),
}  # fmt: skip
_LUMA_BT709 = (0.2126, 0.7152, 0.0722)
_LUMA_BT2020 = (0.2627, 0.6780, 0.0593)


def transfer_of(number: int) -> Transfer | None:
    """Returns the HDR transfer of that number, None for all others."""
    return Transfer(number) if number in Transfer._value2member_map_ else None


def primaries_of(number: int) -> Primaries:
    """Returns the primaries of that number; BT.2020, which HDR has nearly always, for numbers not known here."""
    return Primaries(number) if number in Primaries._value2member_map_ else Primaries.BT2020


def tone_mapped(image: Image.Image, transfer: Transfer, primaries: Primaries) -> Image.Image:
    """Returns an RGB picture on our scale as sRGB."""
    return image.filter(_table(transfer, primaries))


def still_tone_mapped(image: Image.Image, transfer: Transfer, primaries: Primaries) -> Image.Image:
    """Returns an L, RGB or RGBA picture of 8 bits that is coded so as RGB or RGBA in sRGB."""
    shown = tone_mapped(image.convert("RGB").point([*scaled(transfer, 255)] * 3), transfer, primaries)
    if image.mode == "RGBA":
        shown.putalpha(image.getchannel("A"))
    return shown


@cache
def scaled(transfer: Transfer, top: int) -> Sequence[int]:
    """Returns for each code of a channel, 0 to `top`, the one on our scale, 0 to 255. HLG's scale is ours already."""
    codes = (code / top for code in range(top + 1))
    return [round(255 * (_scale_of(_pq_light(code)) if transfer is Transfer.PQ else code)) for code in codes]


@cache
def _table(transfer: Transfer, primaries: Primaries) -> ImageFilter.Color3DLUT:
    """Returns the table from our scale to sRGB. Half a second for the first picture of a process.

    Between its points Pillow interpolates over all eight corners: with fewer points white would be a shade darker.
    """
    matrix = _TO_BT709[primaries]
    codes = [step / (EDGE - 1) for step in range(EDGE)]
    to_light = _hlg_scene if transfer is Transfer.HLG else _light_of
    steps = [to_light(code) for code in codes]
    table: list[float] = []
    for blue in steps:
        for green in steps:
            for red in steps:
                light = (red, green, blue)
                if transfer is Transfer.HLG:
                    light = _on_screen(light)
                table.extend(_encoded(_compressed(_in_gamut(_times(matrix, light)))))
    return ImageFilter.Color3DLUT(EDGE, table)


def _pq_light(code: float) -> float:
    """Returns light relative to reference white: the EOTF of SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = code ** (1 / m2)
    return float((max(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)) * PQ_PEAK_NITS / WHITE_NITS


def _scale_of(light: float) -> float:
    if light <= 1.0:
        return float(SCALE_WHITE * light ** (1 / SCALE_GAMMA))
    return min(1.0, SCALE_WHITE + (1.0 - SCALE_WHITE) * math.log(light) / math.log(PEAK_NITS / WHITE_NITS))


def _light_of(scale: float) -> float:
    if scale <= SCALE_WHITE:
        return float((scale / SCALE_WHITE) ** SCALE_GAMMA)
    return float((PEAK_NITS / WHITE_NITS) ** ((scale - SCALE_WHITE) / (1.0 - SCALE_WHITE)))


def _hlg_scene(code: float) -> float:
    """Returns the light of a scene, at most 1: the inverse OETF of HLG (ITU-R BT.2100)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return code * code / 3 if code <= 0.5 else (math.exp((code - c) / a) + b) / 12


def _on_screen(scene: Vector) -> Vector:
    """Returns light relative to reference white: the OOTF of a screen of 1,000 cd/m² (ITU-R BT.2100)."""
    red, green, blue = scene
    weight_red, weight_green, weight_blue = _LUMA_BT2020
    gain = PEAK_NITS / WHITE_NITS * (weight_red * red + weight_green * green + weight_blue * blue) ** 0.2
    return red * gain, green * gain, blue * gain


def _times(matrix: tuple[Vector, Vector, Vector], light: Vector) -> Vector:
    red, green, blue = light
    (rr, rg, rb), (gr, gg, gb), (br, bg, bb) = matrix
    return rr * red + rg * green + rb * blue, gr * red + gg * green + gb * blue, br * red + bg * green + bb * blue


def _in_gamut(light: Vector) -> Vector:
    """Returns light without negative parts, of the same luminance: less saturated by as much as it takes."""
    least = min(light)
    if least >= 0:
        return light
    red, green, blue = light
    grey = max(0.0, _LUMA_BT709[0] * red + _LUMA_BT709[1] * green + _LUMA_BT709[2] * blue)
    share = grey / (grey - least)
    rest = grey - grey * share
    return max(0.0, rest + red * share), max(0.0, rest + green * share), max(0.0, rest + blue * share)


def _compressed(light: Vector) -> Vector:
    """Returns light of at most 1: what is above the knee is compressed, all parts by the same factor."""
    top = max(light)
    if top <= KNEE:
        return light
    over = (top - KNEE) / (1.0 - KNEE)
    factor = (KNEE + (1.0 - KNEE) * over / (1.0 + over)) / top
    red, green, blue = light
    return red * factor, green * factor, blue * factor


def _encoded(light: Vector) -> Vector:
    """Returns the codes of sRGB (IEC 61966-2-1)."""
    red, green, blue = [12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055 for part in light]
    return red, green, blue
