"""Assetlane: files straight into object storage.

    async with Client("127.0.0.1:50151", uid="ann") as client:
        asset = await client.upload("beach.jpg", partition="public", expiration_hours=0)
        print(await client.read_url(asset, "small"))

Names are loaded when they are first used: importing `assetlane.cuts` alone needs neither gRPC nor aiohttp.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assetlane.version import __version__

if TYPE_CHECKING:
    from assetlane.batch import UploadItem, UploadOptions, UploadOutcome
    from assetlane.client import Client
    from assetlane.cut_sizes import STANDARD_CUTS, CutOptions, CutSize
    from assetlane.errors import (
        AlreadyExists,
        AssetlaneError,
        CallFailed,
        ClientUnusable,
        ContentMismatch,
        CutsRefused,
        DeadlineExceeded,
        FileChanged,
        ImageRefused,
        InvalidArgument,
        MediaRefused,
        NotFound,
        ObjectExists,
        OutOfRange,
        PermissionDenied,
        PreconditionFailed,
        ResourceExhausted,
        ResumeExpired,
        ServerFailed,
        StoreRefused,
        StoreUnavailable,
        TargetUnknown,
        TokenExpired,
        TransferFailed,
        Unauthenticated,
        Unavailable,
        UploadFailed,
        VariantsMissing,
        VideoRefused,
    )
    from assetlane.progress import Progress
    from assetlane.v1.access_service_pb2 import ScopedToken, TokenOptions
    from assetlane.v1.asset_pb2 import Asset, AssetDetails, AssetVariant, Notice
    from assetlane.v1.asset_service_pb2 import AssetChange, RefreshResult, WatchAssetsResponse
    from assetlane.v1.upload_pb2 import Upload, UploadStatus, VariantPromise, WriteTarget
    from assetlane.v1.upload_service_pb2 import ProgressEvent, RequestUploadRequest, StatusEvent

__all__ = [
    "STANDARD_CUTS",
    "AlreadyExists",
    "Asset",
    "AssetChange",
    "AssetDetails",
    "AssetVariant",
    "AssetlaneError",
    "CallFailed",
    "Client",
    "ClientUnusable",
    "ContentMismatch",
    "CutOptions",
    "CutSize",
    "CutsRefused",
    "DeadlineExceeded",
    "FileChanged",
    "ImageRefused",
    "InvalidArgument",
    "MediaRefused",
    "NotFound",
    "Notice",
    "ObjectExists",
    "OutOfRange",
    "PermissionDenied",
    "PreconditionFailed",
    "Progress",
    "ProgressEvent",
    "RefreshResult",
    "RequestUploadRequest",
    "ResourceExhausted",
    "ResumeExpired",
    "ScopedToken",
    "ServerFailed",
    "StatusEvent",
    "StoreRefused",
    "StoreUnavailable",
    "TargetUnknown",
    "TokenExpired",
    "TokenOptions",
    "TransferFailed",
    "Unauthenticated",
    "Unavailable",
    "Upload",
    "UploadFailed",
    "UploadItem",
    "UploadOptions",
    "UploadOutcome",
    "UploadStatus",
    "VariantPromise",
    "VariantsMissing",
    "VideoRefused",
    "WatchAssetsResponse",
    "WriteTarget",
    "__version__",
]

_HOMES = {
    "Client": "assetlane.client",
    "UploadItem": "assetlane.batch",
    "UploadOptions": "assetlane.batch",
    "UploadOutcome": "assetlane.batch",
    "CutOptions": "assetlane.cut_sizes",
    "CutSize": "assetlane.cut_sizes",
    "STANDARD_CUTS": "assetlane.cut_sizes",
    "Progress": "assetlane.progress",
    "ScopedToken": "assetlane.v1.access_service_pb2",
    "TokenOptions": "assetlane.v1.access_service_pb2",
    "Asset": "assetlane.v1.asset_pb2",
    "AssetDetails": "assetlane.v1.asset_pb2",
    "AssetVariant": "assetlane.v1.asset_pb2",
    "Notice": "assetlane.v1.asset_pb2",
    "AssetChange": "assetlane.v1.asset_service_pb2",
    "RefreshResult": "assetlane.v1.asset_service_pb2",
    "WatchAssetsResponse": "assetlane.v1.asset_service_pb2",
    "Upload": "assetlane.v1.upload_pb2",
    "UploadStatus": "assetlane.v1.upload_pb2",
    "VariantPromise": "assetlane.v1.upload_pb2",
    "WriteTarget": "assetlane.v1.upload_pb2",
    "ProgressEvent": "assetlane.v1.upload_service_pb2",
    "RequestUploadRequest": "assetlane.v1.upload_service_pb2",
    "StatusEvent": "assetlane.v1.upload_service_pb2",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "assetlane.errors")), name)
