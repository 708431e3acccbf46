"""Presigned requests, and the URLs made of them: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PresignedRequest:
    """A request that a caller sends to the store as it stands."""

    method: str
    url: str
    headers: Mapping[str, str]  # exactly these, names in lower case
    expire_time: datetime  # the instant from which the store refuses it


@dataclass(frozen=True, slots=True)
class WriteTarget:
    """How to put one variant into the store."""

    variant: str
    single_put: PresignedRequest | None  # None: in parts
    part_size_bytes: int = 0
    part_count: int = 0


@dataclass(frozen=True, slots=True)
class ReadUrls:
    """The URLs of an asset's variants, in their order."""

    urls: tuple[str, ...]
    download_urls: tuple[str, ...]  # of the same objects, as attachments
    expire_time: datetime | None  # of `urls`; None: never
