"""The embedded stack: real stores from wheels, started as child processes on loopback.

For `make run`, `make demo` and the tests. Standard library only: the stores are run, never imported.
"""

from assetlane_server.local.errors import (
    DirectoryInUseError,
    LocalStackError,
    NotRunningError,
    StoreFailedError,
    StoreMissingError,
)
from assetlane_server.local.stack import EmbeddedStack, StackAddress, embedded_stack

__all__ = [
    "DirectoryInUseError",
    "EmbeddedStack",
    "LocalStackError",
    "NotRunningError",
    "StackAddress",
    "StoreFailedError",
    "StoreMissingError",
    "embedded_stack",
]
