"""The requests that load generators send: a picture with three cuts, as a mobile app's back end asks for it."""

import hashlib
import secrets
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from assetlane.v1.asset_pb2 import AssetDetails
from assetlane.v1.upload_pb2 import VariantPromise
from assetlane.v1.upload_service_pb2 import RequestUploadRequest

_USERS: Final = 9973
_CUTS: Final = {
    "original": (3_456_789, 4032, 3024),
    "large": (123_456, 900, 675),
    "medium": (65_432, 600, 450),
    "small": (21_098, 300, 225),
}
_EXTRA: Final[dict[str, Any]] = {
    "album": "summer 2026",
    "camera": {"make": "Example", "model": "X100", "iso": 200, "flash": False},
    "tags": ["beach", "family", "evening"],
    "favourite": True,
}


def picture_requests(count: int) -> list[RequestUploadRequest]:
    """Returns requests of as many users, alike but for their ids; nobody has sent them before."""
    extra = Struct()
    extra.update(_EXTRA)
    request = RequestUploadRequest(
        file_path="albums/2026/summer/IMG_20260719_183042.jpg",
        expiration_hours=24,
        details=AssetDetails(
            title="Evening at the beach",
            caption="The last light of the day, seen from the pier.",
            color="#d08a4e",
            duration=Duration(seconds=3),
            extra=extra,
        ),
        variants=[
            VariantPromise(
                name=name,
                content_type="image/jpeg",
                size_bytes=size_bytes,
                sha256=hashlib.sha256(name.encode()).digest(),
                width_px=width_px,
                height_px=height_px,
            )
            for name, (size_bytes, width_px, height_px) in _CUTS.items()
        ],
    )
    requests = []
    for number in secrets.SystemRandom().sample(range(_USERS), count):
        one = RequestUploadRequest()
        one.CopyFrom(request)
        one.uid = f"user-{number:06}"
        one.partition = f"user/{one.uid}"
        one.session_id = f"session-{number:06}"
        one.request_id = secrets.token_hex(12)
        requests.append(one)
    return requests
