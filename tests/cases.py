"""Files that failed once, one of each kind: see tests/data/cases/README.md."""

from pathlib import Path

CASES = Path(__file__).parent / "data" / "cases"


def case(name: str) -> Path:
    """Returns the path of a case."""
    return CASES / name
