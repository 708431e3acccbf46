"""Which files a command is about: files as they are named, folders with all that is in them."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Item:
    """A file to upload, and the path to file it under; or a folder, with the error that kept it from being read."""

    path: Path
    file_path: str
    error: OSError | None = None


def selected(paths: Sequence[Path], folder: str, *, hidden: bool) -> Iterator[Item]:
    """Yields every file, those of a folder in the order of their names, filed under the folder's own name.

    `folder` is put before every path. Without `hidden`, what begins with a dot is left out of folders, and links
    to folders are never followed. A path that is not there is yielded too: opening it reports why it cannot be read.
    So is a folder that cannot be read, with its error: the others go on.
    """
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            yield Item(path, _joined(folder, path.name))
            continue
        root = Path(os.path.abspath(path))  # noqa: PTH100 - `.` and `..` have no name, and links stay links
        for found, error in _files(root, hidden):
            yield Item(path / found, _joined(folder, root.name, *found.parts), error)


def _files(root: Path, hidden: bool) -> Iterator[tuple[Path, OSError | None]]:
    errors: list[OSError] = []
    for place, folders, names in os.walk(root, onerror=errors.append):
        yield from _unread(errors, root)
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        for name in sorted(names):
            if hidden or not name.startswith("."):
                yield Path(place, name).relative_to(root), None
    yield from _unread(errors, root)


def _unread(errors: list[OSError], root: Path) -> Iterator[tuple[Path, OSError]]:
    for error in errors:
        yield Path(error.filename or root).relative_to(root), error
    errors.clear()


def _joined(*parts: str) -> str:
    # NFC is what the contract wants; some systems hand out NFD.
    return unicodedata.normalize("NFC", "/".join(part.strip("/") for part in parts if part.strip("/")))
