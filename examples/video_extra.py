"""The extra `video`, installed when the first video comes: it is large, and pictures do without it."""

import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

INSTALLER = Path(__file__).parent.parent / "requirements" / "install.py"


def install_video_extra() -> None:
    """Installs PyAV as it is pinned, unless it is there. Raises SystemExit when that fails."""
    if find_spec("av") is not None:
        return
    if subprocess.run([sys.executable, str(INSTALLER), sys.prefix, "video"], check=False).returncode:
        raise SystemExit("the demo needs PyAV for its video, and it could not be installed")
    importlib.invalidate_caches()
