"""The four clients of this repository: what they need, how they are built, how they are run."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples"


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
)
JAVA: Final = ClientUnderTest(
    language="java",
    tools=("java", "mvn"),
    folder=EXAMPLES / "java",
    builds=(("mvn", "-q", "-B", "-ntp", "compile"),),
    # The class path is in a file that the build writes.
    conformance=("sh", "-c", 'exec java -cp "target/classes:$(cat target/classpath)" assetlane.example.Conformance'),
)
TYPESCRIPT: Final = ClientUnderTest(
    language="typescript",
    tools=("node", "npm"),
    folder=EXAMPLES / "typescript",
    builds=(("npm", "ci", "--no-audit", "--no-fund"), ("npm", "run", "build")),
    conformance=("node", "dist/conformance.js"),
)
PYTHON: Final = ClientUnderTest(
    language="python",
    tools=(),
    folder=ROOT,
    builds=(),
    conformance=(sys.executable, "-m", "examples.python.conformance"),
)
CLIENTS: Final = (GO, TYPESCRIPT, JAVA, PYTHON)
