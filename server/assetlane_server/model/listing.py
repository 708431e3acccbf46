"""What a listing of the object store returns: plain values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing of the store."""

    key: str
    size_bytes: int
    modify_time: datetime


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """Some objects in the store's own order, and how to ask for those after them."""

    objects: tuple[ListedObject, ...]
    after: str  # empty: there are no more
