"""Draws the pictures of the documentation: boxes and arrows as SVG, readable on a light and on a dark page.

    python docs/pictures/drawings.py

A test compares the files with what this script draws.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent

_STYLE: Final = """
    .page { fill: #ffffff }
    .box { fill: #f6f8fa; stroke: #8c959f }
    .own { fill: #ddf4ff; stroke: #0969da }
    text { fill: #1f2328 }
    .name { font-size: 16px; font-weight: 600 }
    .note { fill: #59636e; font-size: 12px }
    .call { stroke: #59636e; fill: none; stroke-width: 1.5 }
    .live { stroke: #0969da; fill: none; stroke-width: 1.5; stroke-dasharray: 5 4 }
    .bytes { stroke: #1a7f37; fill: none; stroke-width: 4 }
    .call-head { fill: #59636e }
    .live-head { fill: #0969da }
    .bytes-head { fill: #1a7f37 }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 }
      .box { fill: #151b23; stroke: #656c76 }
      .own { fill: #121d2f; stroke: #4493f8 }
      text { fill: #f0f6fc }
      .note { fill: #9198a1 }
      .call { stroke: #9198a1 }
      .live { stroke: #4493f8 }
      .bytes { stroke: #3fb950 }
      .call-head { fill: #9198a1 }
      .live-head { fill: #4493f8 }
      .bytes-head { fill: #3fb950 }
    }"""
_HEADS: Final = {"call": (9, 9), "live": (9, 9), "bytes": (8, 15)}  # where the tip is, and its size
_FONT: Final = "ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"


class Drawing:
    """A picture of a width and a height in pixels, with a title for those who cannot see it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size = (width, height)
        self._title = title
        self._elements: list[str] = []

    def box(self, x: int, y: int, width: int, height: int, name: str, note: str = "", kind: str = "box") -> None:
        """Adds a box with a name and a note below it."""
        middle, line = x + width // 2, y + height // 2
        self._elements.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        self.text(middle, line if note else line + 6, name, "name", "middle")
        if note:
            self.text(middle, line + 20, note, "note", "middle")

    def text(self, x: int, y: int, text: str, kind: str = "", anchor: str = "start") -> None:
        """Adds a line of text."""
        attributes = f' class="{kind}"' if kind else ""
        attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._elements.append(f'<text x="{x}" y="{y}"{attributes}>{escape(text)}</text>')

    def across(self, start: int, end: int, y: int, label: str = "", kind: str = "call") -> None:
        """Adds a horizontal arrow with a label above it."""
        self._elements.append(f'<path class="{kind}" d="M{start} {y}H{end}" marker-end="url(#{kind})"/>')
        if label:
            self.text((start + end) // 2, y - (11 if kind == "bytes" else 7), label, anchor="middle")

    def down(self, x: int, start: int, end: int, *labels: str, kind: str = "call") -> None:
        """Adds a vertical arrow with labels to its right."""
        self._elements.append(f'<path class="{kind}" d="M{x} {start}V{end}" marker-end="url(#{kind})"/>')
        first = (start + end) // 2 + 4 - 9 * (len(labels) - 1)
        for number, label in enumerate(labels):
            self.text(x + 11, first + 18 * number, label)

    def bent(self, path: str, kind: str = "call") -> None:
        """Adds an arrow along an SVG path."""
        self._elements.append(f'<path class="{kind}" d="{path}" marker-end="url(#{kind})"/>')

    def svg(self) -> str:
        """Returns the picture."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        width, height = self._size
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-labelledby="title" font-family="{_FONT}" font-size="13">'
        )
        yield f'  <title id="title">{escape(self._title)}</title>'
        yield f"  <style>{_STYLE}\n  </style>"
        yield "  <defs>"
        for kind, (tip, size) in _HEADS.items():
            yield (
                f'    <marker id="{kind}" viewBox="0 0 10 10" refX="{tip}" refY="5" markerWidth="{size}" '
                f'markerHeight="{size}" markerUnits="userSpaceOnUse" orient="auto">'
                f'<path class="{kind}-head" d="M0 0 10 5 0 10z"/></marker>'
            )
        yield "  </defs>"
        yield f'  <rect class="page" width="{width}" height="{height}" rx="8"/>'
        yield from (f"  {element}" for element in self._elements)
        yield "</svg>"


def how_it_works() -> Drawing:
    """The way of one upload through all parts."""
    drawing = Drawing(
        880, 410,
        "A back end requests an upload from Assetlane and receives presigned write targets; the device PUTs the bytes "
        "straight into S3; Assetlane checks the objects, records the asset in MongoDB and streams every status.",
    )  # fmt: skip
    drawing.box(20, 30, 170, 140, "Your back end", "any language")
    drawing.box(415, 30, 170, 140, "Assetlane", "signs, checks, records", "own")
    drawing.box(715, 30, 145, 140, "MongoDB", "uploads and assets")
    drawing.box(20, 290, 170, 95, "Phone, browser", "your user")
    drawing.box(415, 290, 170, 95, "S3", "your bucket")
    drawing.across(190, 413, 56, "1  RequestUpload")
    drawing.across(415, 192, 90, "2  presigned write targets")
    drawing.across(190, 413, 124, "4  CompleteUpload")
    drawing.across(415, 192, 158, "WatchUpload: every status, live", "live")
    drawing.down(105, 170, 288, "the write targets")
    drawing.across(190, 413, 322, "3  PUT the bytes", "bytes")
    drawing.across(415, 192, 362, "7  GET by read URL", "bytes")
    drawing.down(500, 170, 288, "5  HEAD and first bytes:", "is it what was promised?")
    drawing.across(585, 713, 100, "6  the asset exists")
    drawing.across(640, 698, 334, kind="bytes")
    drawing.text(712, 330, "bytes: they never pass")
    drawing.text(712, 348, "through Assetlane")
    return drawing


def a_user_calls() -> Drawing:
    """A user with the identity provider's token."""
    drawing = Drawing(
        880, 250, "A phone or browser calls Assetlane with the user's token, issued by the identity provider."
    )
    drawing.box(20, 20, 190, 70, "Identity provider", "issues tokens (JWT)")
    drawing.box(20, 160, 190, 70, "Phone, browser", "the user ann")
    drawing.box(420, 160, 190, 70, "Assetlane", "policy: user/ann", "own")
    drawing.box(720, 160, 140, 70, "S3", "your bucket")
    drawing.down(115, 90, 158, "token with sub: ann")
    drawing.across(210, 418, 190, "Bearer: the user's token")
    drawing.across(610, 718, 190, "signs, checks")
    drawing.text(515, 128, "verified with the provider's keys", "note", "middle")
    drawing.bent("M210 55H515V108", "live")
    drawing.text(362, 46, "public keys (JWKS)", anchor="middle")
    return drawing


def a_back_end_calls() -> Drawing:
    """A service caller that acts for its users."""
    drawing = Drawing(
        880, 170, "A phone talks to your back end; it calls Assetlane with its own token and names the user."
    )
    drawing.box(20, 40, 170, 90, "Phone, browser", "the user ann")
    drawing.box(330, 40, 190, 90, "Your back end", "service caller: clinic")
    drawing.box(690, 40, 170, 90, "Assetlane", "policy: clinic acts for ann", "own")
    drawing.across(190, 328, 78, "your own API")
    drawing.across(520, 688, 70, "Bearer: its own token,")
    drawing.text(604, 89, 'uid: "ann"', anchor="middle")
    drawing.text(604, 122, "or its client certificate", "note", "middle")
    return drawing


def a_device_calls() -> Drawing:
    """A device with a scoped token that its back end has made."""
    drawing = Drawing(
        880, 330,
        "A back end requests an upload and a scoped token, and hands them to a device, which PUTs the bytes "
        "into S3 and calls Assetlane with the scoped token.",
    )  # fmt: skip
    drawing.box(20, 30, 180, 90, "Your back end", "service caller: clinic")
    drawing.box(20, 220, 180, 90, "Device", "no account at all")
    drawing.box(480, 30, 190, 250, "Assetlane", "checks token and maker", "own")
    drawing.box(740, 220, 120, 90, "S3", "your bucket")
    drawing.across(200, 478, 60, 'RequestUpload(uid: "ann", issue_token)')
    drawing.across(480, 202, 98, "upload, write targets, scoped token")
    drawing.down(110, 120, 218, "upload, targets, scoped token")
    drawing.across(200, 478, 246, "Bearer: the scoped token")
    drawing.text(339, 264, "WatchUpload, CompleteUpload …", "note", "middle")
    drawing.bent("M200 290H240V306H700V265H738", "bytes")
    drawing.text(339, 297, "PUT the bytes", anchor="middle")
    return drawing


DRAWINGS: Final = {
    "how-it-works.svg": how_it_works,
    "a-user-calls.svg": a_user_calls,
    "a-back-end-calls.svg": a_back_end_calls,
    "a-device-calls.svg": a_device_calls,
}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (FOLDER / name).write_text(draw().svg())
