"""Whether bytes are what their declared type says, by their first few kilobytes. Pure.

The detector is the client's own (`assetlane.detection`): what a client recognises is accepted here. Only types that
browsers and players act on are looked at: pictures, sound, video and PDF.
"""

from assetlane.detection import SNIFFED_BYTES, detected, fits
from assetlane.detection import is_sniffed as is_sniffed_type
from assetlane_server.model.media_types import essence
from assetlane_server.model.upload import Failure, VariantPromise

__all__ = ["SNIFFED_BYTES", "is_sniffed", "mislabelled"]


def is_sniffed(content_type: str) -> bool:
    """Whether anything can be said about bytes of this type."""
    return is_sniffed_type(essence(content_type))


def mislabelled(promise: VariantPromise, start: bytes) -> Failure | None:
    """Returns how the first bytes of an object contradict its declared type, None if they do not.

    An empty object fits every type.
    """
    declared = essence(promise.content_type)
    if fits(declared, start):
        return None
    found = detected(start)
    arrived = f"looks like {found}" if found else "has no such signature"
    return Failure("CONTENT_TYPE_MISMATCH", f"{promise.name}: {declared} was declared, what arrived {arrived}.")
