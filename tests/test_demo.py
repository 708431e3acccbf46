"""`make demo FILE=…`, as it is typed: every file goes in, and what cannot be shown is one line."""

import asyncio
import os
import re
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from examples.picture import photograph
from tests.everyday import archive, film, heic, picture

ROOT = Path(__file__).parents[1]
LIMIT_S = 280.0
LARGE_BYTES = 200 * 1024 * 1024

pytestmark = [
    pytest.mark.timeout(LIMIT_S + 20),
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
]


async def demo(file: Path) -> tuple[int, str, str]:
    """Runs `make demo` with a file as a person does; returns its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        "make", "-s", "demo", f"FILE={file}", cwd=ROOT, stdout=PIPE, stderr=PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "200"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode(errors="surrogateescape")


async def shown(file: Path, first_line: str) -> list[str]:
    """Returns the lines of a demo that shows a file to its good end."""
    code, out, err = await demo(file)
    assert (code, err) == (0, "")
    assert f"1. Uploading {first_line}" in out
    assert "Everything arrived, was proved and was read back." in out
    assert [line.partition(".")[0] for line in out.splitlines() if line[1:3] == ". "] == list("123456")
    return out.splitlines()


@pytest.mark.parametrize("name", ["missing.jpg", "a folder", "a pipe", "nested/missing [1].jpg"])
async def test_what_cannot_be_shown_is_one_line(name: str, tmp_path: Path) -> None:
    """Said before anything is started, by its name."""
    (tmp_path / "a folder").mkdir()
    os.mkfifo(tmp_path / "a pipe")
    code, out, err = await demo(tmp_path / name)
    assert (code, out) == (2, "")
    line, *rest = err.splitlines()
    assert line.startswith(f"demo: {tmp_path / name}: ")
    assert [re.match(r"make(\[\d+\])?: \*\*\*", left) is not None for left in rest] == [True]


async def test_a_picture_with_an_odd_name_is_shown(tmp_path: Path) -> None:
    """Blanks, brackets, quotes, dollars, umlauts and emoji in its name; cut by client and server."""
    name = "my 'photo' (1) [red] $HOME `x` grün 😀.jpg"
    (tmp_path / name).write_bytes(photograph(600, 400))
    lines = await shown(tmp_path / name, f"{name}, image/jpeg, ")
    assert sum(line.startswith("small ") for line in lines) == 3  # of the picture twice, and of the video
    assert sum(name in line for line in lines) == 2


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "data", "content_type", "stored"),
    [
        ("notes.txt", b"hello", "text/plain", 1),
        ("empty.jpg", b"", "image/jpeg", 1),
        ("empty", b"", "application/octet-stream", 1),
        ("film.mp4", film("mp4", "mpeg4"), "video/mp4", 4),
        ("IMG_0001.HEIC", heic(), "image/heic", 4),
        ("letter.docx", archive(word__document=b"a"), "application/vnd.openxmlformats-officedocument", 1),
        ("data.csv.gz", b"\x1f\x8b\x08" + bytes(30), "application/gzip", 1),
        ("page.html", b"<script>alert(1)</script>", "text/html", 1),
        ("saved.jpg", picture("PNG"), "image/png", 4),
    ],
)
async def test_a_file_of_any_type_is_shown(
    name: str, data: bytes, content_type: str, stored: int, tmp_path: Path
) -> None:
    """A text, nothing at all, a video, a phone's picture, an office file, an archive, a page."""
    (tmp_path / name).write_bytes(data)
    lines = await shown(tmp_path / name, f"{name}, {content_type}")
    start = next(number for number, line in enumerate(lines) if line.startswith("variant "))
    end = next(number for number, line in enumerate(lines) if number > start and "asset 0" in line)
    variants = [line for line in lines[start + 1 : end] if line.rstrip().endswith("same SHA-256")]
    assert len(variants) == stored


@pytest.mark.faults
async def test_a_large_file_is_shown(tmp_path: Path) -> None:
    """It goes in parts, which leave no hash of the whole: it is compared with the file itself."""
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(LARGE_BYTES)
        file.seek(LARGE_BYTES // 2)
        file.write(b"in the middle")
    lines = await shown(path, f"large.bin, application/octet-stream, {LARGE_BYTES:,} bytes")
    assert any(f"{LARGE_BYTES:,}" in line and "same bytes as the file, sent in parts" in line for line in lines)
