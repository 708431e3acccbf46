"""The four clients of this repository: what they need, how they are built, how they are run."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples"
PICTURE: Final = EXAMPLES / "dusk.jpg"


@dataclass(frozen=True, slots=True)
class ClientUnderTest:
    """One language's example, and its conformance program."""

    language: str
    tools: tuple[str, ...]
    """Commands that must be on the PATH, else its tests are skipped."""
    folder: Path
    builds: tuple[tuple[str, ...], ...]
    """Run once, in the folder."""
    conformance: tuple[str, ...]
    example: tuple[str, ...]
    """Run with the path of a picture."""

    @property
    def missing_tools(self) -> tuple[str, ...]:
        """What has to be installed before it can be tested."""
        return tuple(tool for tool in self.tools if shutil.which(tool) is None)


GO: Final = ClientUnderTest(
    language="go",
    tools=("go",),
    folder=EXAMPLES / "go",
    builds=(("go", "build", "-o", "bin/", "./..."),),
    conformance=("bin/conformance",),
    example=("go", "run", "."),
)
CLIENTS: Final = (GO,)
