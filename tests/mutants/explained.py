"""Why a mutant is not caught: each one is looked at, and tested elsewhere or no fault at all."""

from typing import Final

EXPLAINED: Final[dict[str, str]] = {}
