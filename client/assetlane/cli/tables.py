"""Tables and sentences that fit a terminal of any width. Pure."""

import unicodedata
from collections.abc import Sequence

GAP = "  "
LEAST_CELLS = 8  # of a text that is shortened


def cells(text: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Returns the text with blanks around it, that many columns wide at least."""
    blanks = " " * max(0, width - cells(text))
    return blanks + text if right else text + blanks


def shortened(text: str, width: int) -> str:
    """Returns the text, with `…` for its middle where it is wider: its beginning and its end say most."""
    if cells(text) <= width:
        return text
    ending = ""
    for letter in reversed(text):
        if cells(ending) + _width(letter) > (width - 1) * 2 // 3:
            break
        ending = letter + ending
    beginning = ""
    for letter in text:
        if cells(beginning) + _width(letter) > width - 1 - cells(ending):
            break
        beginning += letter
    return f"{beginning}…{ending}"


def wrapped(text: str, width: int, indent: int = 2) -> list[str]:
    """Returns the lines of a text, broken at blanks, all but the first indented. A longer word stays whole."""
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        if cells(lines[-1]) + 1 + cells(word) <= width or not lines[-1].strip():
            lines[-1] += f" {word}"
        elif word:  # of several blanks the break takes all
            lines.append(" " * indent + word)
    return [line.rstrip() for line in lines]


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    optional: str = "",
    numbers: Sequence[str] = (),
) -> list[str]:
    """Returns the lines of a table whose last column takes what is left of the width.

    The column named `optional` is left out where the last one would be shortened beside it; `numbers` are aligned to
    the right. No line is longer than the width.
    """
    kept = list(range(len(columns)))
    if optional and not _fits(columns, rows, kept, width):
        kept.remove(columns.index(optional))
    widths = [max(cells(columns[n]), *(cells(row[n]) for row in rows)) for n in kept[:-1]]
    left = width - sum(widths) - len(GAP) * len(widths)

    def line(row: Sequence[str]) -> str:
        parts = [padded(row[n], wide, right=columns[n] in numbers) for n, wide in zip(kept[:-1], widths, strict=True)]
        return GAP.join([*parts, shortened(row[kept[-1]], max(left, LEAST_CELLS))]).rstrip()

    return [line(columns), *(line(row) for row in rows)]


def _fits(columns: Sequence[str], rows: Sequence[Sequence[str]], kept: Sequence[int], width: int) -> bool:
    widths = [max(cells(columns[n]), *(cells(row[n]) for row in rows)) for n in kept]
    return sum(widths) + len(GAP) * (len(widths) - 1) <= width
