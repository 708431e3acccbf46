"""What can go wrong with the embedded stack. Every message says what to do."""

from pathlib import Path


class LocalStackError(Exception):
    """The embedded stack cannot do what was asked; the message is meant for the person at the terminal."""


class StoreMissingError(LocalStackError):
    """A store's wheel is not installed, or holds no program for this platform."""


class DirectoryInUseError(LocalStackError):
    """Another live stack, or a store that outlived its stack, works in `directory`."""

    def __init__(self, message: str, *, directory: Path) -> None:
        super().__init__(message)
        self.directory = directory


class NotRunningError(LocalStackError):
    """The stack, or one of its stores, is not running: start it first."""


class StoreFailedError(LocalStackError):
    """A store ended early or was not ready in time; the message ends with the last lines of `log`: `log_end`."""

    def __init__(self, message: str, *, store: str, log: Path, log_end: str) -> None:
        super().__init__(f"{message} The end of {log}:\n{log_end}")
        self.store = store
        self.log = log
        self.log_end = log_end
