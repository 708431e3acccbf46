"""A Flask site in one file: people upload, watch and read files, which lie in object storage.

    pip install flask          # and assetlane
    flask --app examples.web.flask_site run
    curl -F file=@photo.jpg http://127.0.0.1:5000/files

One client serves every thread. It opens itself with the first call, so that servers may load this module first and
fork their workers then.
"""

import json
import os
from collections.abc import Iterator

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from assetlane import AssetlaneError, NotFound, UploadStatus, sync

app = Flask(__name__)
client = sync.Client(os.environ.get("ASSETLANE_TARGET", "127.0.0.1:50151"), uid="flask")


@app.post("/files")
def upload() -> Response:
    """Stores the file of a form, with its cuts, and returns where it can be read."""
    file = request.files["file"]
    asset = client.upload(file.stream, file_path=file.filename or "upload", partition="public")
    return jsonify(asset_id=asset.asset_id, variants=[variant.name for variant in asset.variants])


@app.get("/files/<asset_id>")
def read(asset_id: str) -> AnyResponse:
    """Sends the browser to the store: not a byte passes here."""
    variant = request.args.get("variant", "original")
    return redirect(client.read_url(client.get_asset(asset_id), variant))


@app.get("/files/<asset_id>/events")
def events(asset_id: str) -> Response:
    """Streams each status of an upload as a server-sent event, to the final one."""

    def lines() -> Iterator[str]:
        for event in client.watch_upload(asset_id):
            yield f"data: {json.dumps({'status': UploadStatus.Name(event.upload.status)})}\n\n"

    return Response(lines(), mimetype="text/event-stream")


@app.errorhandler(AssetlaneError)
def failed(error: AssetlaneError) -> tuple[Response, int]:
    """Answers with the stable reason; 404 for what is not there."""
    return jsonify(reason=error.reason, message=str(error)), 404 if isinstance(error, NotFound) else 502
