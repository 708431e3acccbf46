"""What the README and the pages of settings and metrics say is so."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined
from tests.test_deploy import SERIES

from assetlane_server.config.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
OBSERVABILITY = (ROOT / "docs" / "observability.md").read_text()
MAX_LINES = 200


def shown_default(default: object) -> str:
    """Returns a default as the table writes it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "unset"
    if default in ("", ()):
        return "empty"
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def test_the_table_lists_every_setting_with_its_default_and_meaning() -> None:
    """No setting is missing, none is made up, none is described differently."""
    table = re.findall(r"^\| `(ASSETLANE_\w+)` \| (.+?) \| (.+) \|$", CONFIGURATION, flags=re.MULTILINE)
    settings = [
        (f"ASSETLANE_{name.upper()}", shown_default(field.default), field.description)
        for name, field in Settings.model_fields.items()
    ]
    assert table == settings


def test_the_readme_is_read_in_one_sitting() -> None:
    """It is a page, not a book: the rest is in docs/."""
    assert len(README.splitlines()) <= MAX_LINES


def test_one_sentence_per_line() -> None:
    """Diffs of prose stay readable."""
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if line and not line.startswith(("|", "-", "#"))]
    assert [line for line in lines if re.search(r"[.!?] [A-Z]", line)] == []


def test_the_metrics_are_those_that_there_are() -> None:
    """Each with its labels, none left out."""
    rows = re.findall(r"^\| (`assetlane_[^|]*) \| ([^|]*) ?\| [^|]+ \|$", OBSERVABILITY, flags=re.MULTILINE)
    listed = {
        name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in re.findall(r"`(\w+)`", names)
    }
    there = {
        name.removesuffix("_count"): labels for name, labels in SERIES.items() if not name.endswith(("_sum", "_bucket"))
    }
    assert listed.keys() == there.keys()
    assert {name for name, labels in there.items() if not labels <= listed[name]} == set()
