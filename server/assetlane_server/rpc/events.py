"""The events of a watch: built once, however many watch."""

from assetlane.v1 import upload_service_pb2 as pb
from assetlane_server.model.upload import Status, Upload, VariantPromise
from assetlane_server.rpc.messages import asset_message, fill_in_targets, fill_in_upload
from assetlane_server.uploads.url_signer import UrlSigner

_KEPT = 64  # events, of a few KiB each


class StatusEvents:
    """Makes messages of status changes. Those who watch the same upload share one message: nobody may change it."""

    def __init__(self, urls: UrlSigner) -> None:
        self._urls = urls
        self._newest: dict[tuple[str, int], tuple[tuple[VariantPromise, ...], pb.WatchUploadResponse]] = {}

    def event_of(self, upload: Upload) -> pb.WatchUploadResponse:
        """Returns the event: the upload, with the ways in when it is INITIALIZED, with its asset when there is one."""
        key = upload.upload_id, upload.revision
        kept = self._newest.get(key)
        # What the hub read at once has its variants in common, as of every revision. What it read at another time
        # is another instance: its asset may be refreshed or deleted, its URLs signed with other credentials.
        if kept is not None and kept[0] is upload.variants:
            return kept[1]
        if len(self._newest) >= _KEPT:
            self._newest.clear()
        event = self._built(upload)
        self._newest[key] = upload.variants, event
        return event

    def _built(self, upload: Upload) -> pb.WatchUploadResponse:
        event = pb.WatchUploadResponse()
        status = event.status
        fill_in_upload(status.upload, upload)
        if upload.status is Status.INITIALIZED:
            fill_in_targets(status.write_targets, self._urls.write_targets(upload))
        if (asset := upload.readable_asset) is not None:
            status.asset.CopyFrom(asset_message(asset, self._urls.read_urls(asset)))
        return event
