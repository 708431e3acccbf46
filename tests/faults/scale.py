"""How large the storage half of the fault suite is: 1 is what the issue asks for, in minutes instead of seconds."""

import os
from typing import Final

SCALE: Final = float(os.environ.get("FAULTS_SCALE", "0.25"))


def scaled(count: int) -> int:
    """Returns so many, to scale."""
    return max(1, round(count * SCALE))
