"""Debian's Chromium, which the browser tests drive."""

import os
import shutil

import pytest


def chromium_path() -> str:
    """Returns where it is; skips the test where there is none, and fails it in CI."""
    path = shutil.which("chromium")
    if path is None:
        missing = "there is no chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path
