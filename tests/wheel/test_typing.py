"""A user's program against the wheel: mypy and pyright, both strict, have nothing to say; of a wrong one they have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]

PROGRAM = Path(__file__).with_name("typed_program.py")
PLAIN = Path(__file__).parents[2] / ".venv" / "plain"
LIMIT_S = 240
WRONG = (
    ('client.download(asset, to="x")', 'client.download(asset, too="x")'),
    ('client.read_url(asset, "icon")', "client.read_url(asset, 5)"),
    ('b"hello", file_path', "5, file_path"),
)


@pytest.fixture(params=["right", "wrong"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The program in a folder of its own, as it is or with three mistakes."""
    text = PROGRAM.read_text()
    if request.param == "wrong":
        for right, wrong in WRONG:
            assert right in text
            text = text.replace(right, wrong)
    file = tmp_path / f"{request.param}.py"
    file.write_text(text)
    return file


def mistakes(program: Path, *command: str) -> int:
    """Returns how many lines a checker complains of."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    print(ran.stdout, ran.stderr)
    lines = {line.split(":")[1] for line in ran.stdout.splitlines() if f"{program.name}:" in line and "error" in line}
    assert ran.returncode == (1 if lines else 0), ran.stdout + ran.stderr
    return len(lines)


def test_mypy_is_strict(program: Path) -> None:
    """With nothing but what a plain install brings."""
    options = ("--strict", "--python-executable", str(PLAIN / "bin" / "python"), "--config-file", "")
    assert mistakes(program, "mypy", *options, program.name) == (3 if program.stem == "wrong" else 0)


def test_pyright_is_strict(program: Path) -> None:
    """Likewise."""
    settings = {
        "typeCheckingMode": "strict",
        "include": [program.name],
        "venvPath": str(PLAIN.parent),
        "venv": PLAIN.name,
    }
    (program.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    assert mistakes(program, "pyright") == (3 if program.stem == "wrong" else 0)
