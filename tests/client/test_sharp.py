"""Cuts show what sharp shows: the same way up, the same parts transparent, the same colours."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from tests.client.picture_table import ALONE, TABLE
from tests.client.pictures import decoded

from assetlane.cuts import CutOptions, CutSize, make_cuts

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / "tests" / "sharp"
CELLS = 16  # as in look.mjs
IS_REQUIRED = bool(os.environ.get("CI"))
WHOLE = 10_000


@pytest.fixture(scope="module")
def sharp() -> Path:
    """Gives the folder in which sharp is installed: once for each lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _missing("there is no Node here")
    lock = (ORACLE / "package-lock.json").read_bytes()
    home = ROOT / ".sharp" / hashlib.sha256(lock).hexdigest()[:16]
    if not home.exists():
        home.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(ORACLE / name, folder)
            ci = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(ci, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                _missing(f"sharp cannot be installed: {done.stderr[-500:]}")
            try:
                Path(folder).rename(home)
            except OSError:  # another process of the tests was faster
                assert home.is_dir()
            else:
                Path(folder).mkdir()  # what the context removes
    return home


def _missing(why: str) -> None:
    if IS_REQUIRED:
        pytest.fail(f"{why}, and CI must compare with sharp")
    pytest.skip(why)


@pytest.fixture(scope="module")
def seen(sharp: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Any]]:
    """Gives what sharp sees of each picture."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}
    for number, (name, make) in enumerate(TABLE.items()):
        paths[name] = folder / f"{number}{Path(name).suffix}"
        paths[name].write_bytes(make())
    shutil.copy(ORACLE / "look.mjs", sharp)
    done = subprocess.run(
        ["node", str(sharp / "look.mjs")],  # noqa: S607 - whichever Node is there
        input=json.dumps([str(path) for path in paths.values()]),
        capture_output=True,
        text=True,
        check=True,
    )
    looks = json.loads(done.stdout)
    return {name: looks[str(path)] for name, path in paths.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in TABLE if name not in ALONE])
def test_a_cut_shows_what_sharp_shows(name: str, seen: Mapping[str, Mapping[str, Any]]) -> None:
    """Size, and 16 x 16 places: transparency within 12 of 255 on average, colour within 8, the mean colour within 4."""
    expected = seen[name]
    assert "error" not in expected, expected
    picture = make_cuts(TABLE[name](), [CutSize("whole", WHOLE)], options=CutOptions(format="png"))
    assert (picture.width_px, picture.height_px) == (expected["width"], expected["height"])
    ours = _cells(_in_srgb(decoded(picture.cuts[0])))
    theirs = [tuple(expected["cells"][at : at + 4]) for at in range(0, 4 * CELLS * CELLS, 4)]
    assert _mean(abs(one[3] - other[3]) for one, other in zip(ours, theirs, strict=True)) < 12
    weights = [min(one[3], other[3]) / 255 for one, other in zip(ours, theirs, strict=True)]
    whole = sum(weights)
    assert whole > 0, "nothing to see"
    for channel in range(3):
        pairs = [(one[channel], other[channel]) for one, other in zip(ours, theirs, strict=True)]
        apart = sum(weight * abs(one - other) for weight, (one, other) in zip(weights, pairs, strict=True))
        assert apart / whole < 8
        mean = sum(weight * (one - other) for weight, (one, other) in zip(weights, pairs, strict=True))
        assert abs(mean) / whole < 4


def _cells(image: Image.Image) -> list[tuple[int, ...]]:
    small = image.convert("RGBA").resize((CELLS, CELLS), Image.Resampling.BOX)
    plain = small.tobytes()
    return [tuple(plain[at : at + 4]) for at in range(0, len(plain), 4)]


def _mean(numbers: Any) -> float:
    values = list(numbers)
    return float(sum(values) / len(values))


def _in_srgb(image: Image.Image) -> Image.Image:
    """Returns a cut as its profile says it looks."""
    icc = image.info.get("icc_profile")
    if icc is None:
        return image
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
    shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=image.mode)
    assert shown is not None
    return shown
