"""What can go wrong with the embedded stack. Every message says what to do."""


class LocalStackError(Exception):
    """The embedded stack cannot do what was asked; the message is meant for the person at the terminal."""


class StoreMissingError(LocalStackError):
    """A store's wheel is not installed, or holds no program for this platform."""


class DirectoryInUseError(LocalStackError):
    """Another live stack works in this directory."""


class StoreFailedError(LocalStackError):
    """A store ended early or was not ready in time; the message ends with the last lines of its log."""
