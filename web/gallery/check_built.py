"""Builds the gallery's page and compares it, byte by byte, with the one that is committed and packed into the wheel.

Ends with 1 when they differ. Needs Node; without it the check is left out, but in CI.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "server/assetlane_server/gallery/page"


def main() -> int:
    """Returns the exit status."""
    if shutil.which("npm") is None:
        print("the built gallery was not compared: there is no Node here")
        return 1 if os.environ.get("CI") else 0
    subprocess.run(["make", "--silent", "web/node_modules/.ready"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "run", "--silent", "build", "-w", "client"], cwd=ROOT / "web", check=True)
        subprocess.run(
            ["npm", "run", "--silent", "build", "-w", "gallery"],
            cwd=ROOT / "web",
            env={**os.environ, "GALLERY_OUT": folder},
            check=True,
        )
        if different := differences(Path(folder), COMMITTED):
            print(f"the committed gallery is not what web/gallery builds ({', '.join(different)}): make gallery")
            return 1
    print("the built gallery is what web/gallery builds")
    return 0


def differences(built: Path, committed: Path) -> list[str]:
    """Returns the names of files that differ, or that only one of both has."""
    names = {path.relative_to(folder) for folder in (built, committed) for path in folder.rglob("*") if path.is_file()}
    return sorted(
        str(name)
        for name in names
        if not ((built / name).is_file() and (committed / name).is_file())
        or not filecmp.cmp(built / name, committed / name, shallow=False)
    )


if __name__ == "__main__":
    sys.exit(main())
