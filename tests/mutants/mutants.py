"""Small wrong changes of the product, one a patch: what the simulation does not notice, it does not prove."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = Path(__file__).parent


class PatchMisfit(Exception):  # noqa: N818 - what is wrong with it
    """The text that a patch replaces is not in its file exactly once: the product has changed since."""


@dataclass(frozen=True)
class Mutant:
    """One wrong change."""

    name: str
    path: str  # of the file, from the root
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Returns the changed text of the file. Raises PatchMisfit. Line numbers do not count, the text does."""
        if text.count(self.old) != 1:
            raise PatchMisfit(f"{self.name}: its text is in {self.path} {text.count(self.old)} times: make it again")
        return text.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """Returns all mutants, by name."""
    return [mutant_of(path) for path in sorted(PATCHES.glob("*.patch"))]


def mutant_of(path: Path) -> Mutant:
    """Returns what a patch says. It has one file and one hunk, as `git diff` writes them."""
    lines = path.read_text().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith("@@"))
    target = next(line for line in lines if line.startswith("+++ b/")).removeprefix("+++ b/").strip()
    hunk = lines[start + 1 :]
    if any(line.startswith("@@") for line in hunk):
        raise PatchMisfit(f"{path.name} has more than one hunk")
    old = "".join(line[1:] for line in hunk if line[0] in " -")
    new = "".join(line[1:] for line in hunk if line[0] in " +")
    return Mutant(path.stem, target, old, new)


def copy_with(mutant: Mutant, folder: Path) -> Path:
    """Copies the server with a mutant's change into a folder; returns what to put before the others on the path."""
    server = folder / "server"
    shutil.copytree(ROOT / "server", server, ignore=shutil.ignore_patterns("__pycache__"))
    target = folder / mutant.path
    target.write_text(mutant.applied(target.read_text()))
    return server
