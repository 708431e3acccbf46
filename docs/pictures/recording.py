"""Records `make demo` as an animated SVG: its lines appear in the order and at the pace of the program.

    .venv/bin/python docs/pictures/recording.py

Needs `make setup` alone; look at demo.svg before you commit it. Pauses are at most a second, and lines that came at
once follow each other by 80 ms, so that they can be read.
"""

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Final

from rich.text import Text

ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = Path(__file__).parent / "demo.svg"
COMMAND: Final = "make demo"
COLUMNS, ROWS = 92, 26
LETTER_PX, LINE_PX, MARGIN_PX, TITLE_PX = 8.4, 20, 16, 34
SHORTEST_PAUSE_S, LONGEST_PAUSE_S, LAST_PAUSE_S = 0.08, 1.0, 6.0

_FONT: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_TITLE: Final = (
    f"A recording of {COMMAND}: a picture with cuts and a video are uploaded, with live status, and read back."
)
_STYLE: Final = """
    .page { fill: #ffffff; stroke: #8c959f }
    text { fill: #1f2328; white-space: pre }
    .bold { font-weight: 700 }
    .dim { fill: #59636e }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; stroke: #656c76 }
      text { fill: #f0f6fc }
      .dim { fill: #9198a1 }
    }
    @media (prefers-reduced-motion: reduce) {
      .moving, .line { animation: none !important }
    }"""


def recorded() -> Iterator[tuple[float, str]]:
    """Runs the command in a terminal; yields each line with the seconds since the start."""
    end, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    make = shutil.which("make")
    if make is None:
        raise SystemExit("there is no make on this machine")
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [make, "--silent", "demo"], cwd=ROOT, stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    with os.fdopen(end, "rb", buffering=0) as terminal:
        left = b""
        while True:
            try:
                data = terminal.read(65536)
            except OSError:  # EIO: the command has ended
                break
            *lines, left = (left + (data or b"")).split(b"\n")
            yield from ((time.monotonic() - began, line.decode().rstrip("\r")) for line in lines)
    if process.wait():
        raise SystemExit(f"{COMMAND} ended with {process.returncode}")


def paced(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Returns the lines with pauses that a reader can follow."""
    at, shown = 0.0, [(0.0, lines[0][1])]
    for (before, _), (now, line) in pairwise(lines):
        at += max(SHORTEST_PAUSE_S, min(now - before, LONGEST_PAUSE_S))
        shown.append((at, line))
    return shown


def svg(lines: Sequence[tuple[float, str]]) -> str:
    """Returns the picture of lines with their times."""
    total_s = lines[-1][0] + LAST_PAUSE_S
    width, height = round(COLUMNS * LETTER_PX + 2 * MARGIN_PX), ROWS * LINE_PX + TITLE_PX + MARGIN_PX
    top = TITLE_PX + 4
    steps = ["0% { transform: translateY(0) }"]
    keyframes, rows = [], []
    for number, (at, line) in enumerate(lines):
        percent = 100 * at / total_s
        if number >= ROWS:
            steps.append(f"{percent:.2f}% {{ transform: translateY({(ROWS - 1 - number) * LINE_PX}px) }}")
        keyframes.append(
            f"    @keyframes l{number} {{ 0% {{ opacity: 0 }} {max(percent, 0.01):.2f}% {{ opacity: 1 }} }}"
        )
        y = TITLE_PX + (number + 1) * LINE_PX
        rows.append(
            f'    <text class="line" y="{y}" x="{MARGIN_PX}" '
            f'style="animation: l{number} {total_s:.1f}s step-end infinite">{"".join(_spans(line))}</text>'
        )
    last = steps[-1].partition("{")[2]
    attributes = (
        f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title" font-family="{_FONT}" font-size="14"'
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>',
            f'  <title id="title">{_TITLE}</title>',
            f"  <style>{_STYLE}",
            *keyframes,
            f"    @keyframes scroll {{ {' '.join(steps)} 100% {{{last} }}",
            f"    .moving {{ {last.strip(' }')}; animation: scroll {total_s:.1f}s step-end infinite }}",
            "  </style>",
            f'  <rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            f'  <text class="dim" x="{MARGIN_PX}" y="24">$ {COMMAND}</text>',
            f'  <clipPath id="screen"><rect y="{top}" width="{width}" height="{ROWS * LINE_PX + 4}"/></clipPath>',
            '  <g clip-path="url(#screen)"><g class="moving">',
            *rows,
            "  </g></g>",
            "</svg>",
            "",
        )
    )


def _spans(line: str) -> Iterator[str]:
    """The parts of a line: what the terminal shows bold is bold."""
    text = Text.from_ansi(line)
    bold = [
        any(span.start <= at < span.end and "bold" in str(span.style) for span in text.spans) for at in range(len(text))
    ]
    start = 0
    for at in range(1, len(bold) + 1):
        if at == len(bold) or bold[at] != bold[start]:
            part = escape(text.plain[start:at]).replace("  ", "\u00a0\u00a0")
            yield f'<tspan class="bold">{part}</tspan>' if bold[start] else part
            start = at


if __name__ == "__main__":
    PICTURE.write_text(svg(paced(list(recorded()))))
