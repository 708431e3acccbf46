"""Rings of keys in a folder: one JSON file per ring, such as a mounted secret holds them.

    {"revision": 2, "keys": [{"key_id": "k1…", "secret": "<base64>", "create_time": "…", "use_time": "…"}]}

Files are written whole, with mode 0600, and renamed into place: a reader never meets half of one.
"""

import asyncio
import base64
import binascii
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typing_extensions import override

from assetlane_server.model.rings import MAX_KEYS, SECRET_BYTES, Ring, RingKey, RingsUnreadable
from assetlane_server.model.rings import fault_in_ring_name as fault_in_name
from assetlane_server.ports.ring_store import RingStore

_MAX_BYTES = 256 * 1024
_MAX_RINGS = 1000


class RingFiles(RingStore):
    """A folder of rings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    async def read_rings(self) -> Mapping[str, Ring]:
        return await asyncio.to_thread(self._read)

    @override
    async def write_ring(self, ring: Ring) -> bool:
        return await asyncio.to_thread(self._write, ring)

    @override
    async def drop_ring(self, name: str) -> bool:
        return await asyncio.to_thread(self._drop, name)

    def _read(self) -> dict[str, Ring]:
        try:
            files = sorted(self._folder.glob("*.json"))
            if len(files) > _MAX_RINGS:
                raise RingsUnreadable(f"{self._folder} holds more than {_MAX_RINGS:,} rings")
        except OSError as error:
            raise _unreadable(self._folder, error) from error
        return {file.stem: _ring_in(file) for file in files}

    def _write(self, ring: Ring) -> bool:
        with self._locked():
            file = self._file(ring.name)
            stored = ring_of(ring.name, _content(file)).revision if file.exists() else 0
            if stored != ring.revision - 1:
                return False
            _replace(file, json.dumps(ring_document(ring), indent=1).encode())
            return True

    def _drop(self, name: str) -> bool:
        with self._locked():
            file = self._file(name)
            if not file.exists():
                return False
            file.unlink()
            return True

    def _file(self, name: str) -> Path:
        if fault := fault_in_name(name):
            raise RingsUnreadable(f"the name of a ring {fault}")
        return self._folder / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other writers out, on this machine. Raises RingsUnreadable for what the system refuses."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._folder / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise _unreadable(self._folder, error) from error


def _ring_in(file: Path) -> Ring:
    try:
        return ring_of(file.stem, _content(file))
    except RingsUnreadable as error:
        return Ring(file.stem, fault=str(error))
    except OSError as error:
        return Ring(file.stem, fault=f"ring {file.stem}: it cannot be read: {error.strerror or type(error).__name__}")


def ring_document(ring: Ring) -> dict[str, Any]:
    """Returns a ring as JSON holds it."""
    return {
        "revision": ring.revision,
        "keys": [
            {
                "key_id": key.key_id,
                "secret": base64.b64encode(key.secret).decode(),
                "create_time": key.create_time.isoformat(),
                "use_time": key.use_time.isoformat(),
                **({} if key.retire_time is None else {"retire_time": key.retire_time.isoformat()}),
            }
            for key in ring.keys
        ],
    }


def ring_of(name: str, content: bytes) -> Ring:
    """Returns the ring of a file. Raises RingsUnreadable, which quotes nothing of the content."""
    if fault := fault_in_name(name):
        raise RingsUnreadable(f"ring {name!r}: its name {fault}", ring=name)
    try:
        document = json.loads(content)
        keys = tuple(_key_of(one) for one in document["keys"])
        revision = document["revision"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RingsUnreadable(f"ring {name}: this is not a ring of keys ({type(error).__name__})", ring=name) from error
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1:
        raise RingsUnreadable(f"ring {name}: revision is not a number from 1", ring=name)
    if len(keys) > MAX_KEYS or len({key.key_id for key in keys}) != len(keys):
        raise RingsUnreadable(f"ring {name}: it has more than {MAX_KEYS} keys, or one twice", ring=name)
    return Ring(name, keys, revision)


def _key_of(document: Mapping[str, Any]) -> RingKey:
    key_id, secret = document["key_id"], base64.b64decode(document["secret"], validate=True)
    if not isinstance(key_id, str) or fault_in_name(key_id):
        raise ValueError("key_id")
    if len(secret) < SECRET_BYTES:
        raise binascii.Error("secret")
    retire_time = document.get("retire_time")
    return RingKey(
        key_id,
        secret,
        _instant(document["create_time"]),
        _instant(document["use_time"]),
        None if retire_time is None else _instant(retire_time),
    )


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _content(file: Path) -> bytes:
    with file.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise RingsUnreadable(f"ring {file.stem}: its file has more than {_MAX_BYTES:,} bytes", ring=file.stem)
    return content


def _replace(file: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=file.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _unreadable(folder: Path, error: OSError) -> RingsUnreadable:
    return RingsUnreadable(f"{folder} cannot be read or written: {error.strerror or type(error).__name__}")
