"""A Django site in one file: people upload, watch and read files, which lie in object storage.

    pip install django         # and assetlane
    python -m examples.web.django_site runserver
    curl -F file=@photo.jpg http://127.0.0.1:8000/files

One client serves every thread. It opens itself with the first call, so that servers may load this module first and
fork their workers then.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

from assetlane import AssetlaneError, NotFound, UploadStatus, sync

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        MIDDLEWARE=["examples.web.django_site.reasons"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=secrets.token_hex(),
    )

client = sync.Client(os.environ.get("ASSETLANE_TARGET", "127.0.0.1:50151"), uid="django")


def reasons(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answers what Assetlane refuses with its stable reason; 404 for what is not there."""

    def respond(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    def process_exception(request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, AssetlaneError):
            return None
        status = 404 if isinstance(error, NotFound) else 502
        return JsonResponse({"reason": error.reason, "message": str(error)}, status=status)

    respond.process_exception = process_exception  # type: ignore[attr-defined]
    return respond


def upload(request: HttpRequest) -> HttpResponse:
    """Stores the file of a form, with its cuts, and returns where it can be read."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    file = request.FILES["file"]
    asset = client.upload(file, file_path=file.name, partition="public")
    return JsonResponse({"asset_id": asset.asset_id, "variants": [variant.name for variant in asset.variants]})


def read(request: HttpRequest, asset_id: str) -> HttpResponse:
    """Sends the browser to the store: not a byte passes here."""
    variant = request.GET.get("variant", "original")
    return HttpResponseRedirect(client.read_url(client.get_asset(asset_id), variant))


def events(request: HttpRequest, asset_id: str) -> StreamingHttpResponse:
    """Streams each status of an upload as a server-sent event, to the final one."""

    def lines() -> Iterator[str]:
        for event in client.watch_upload(asset_id):
            yield f"data: {json.dumps({'status': UploadStatus.Name(event.upload.status)})}\n\n"

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


urlpatterns = [
    path("files", upload),
    path("files/<asset_id>", read),
    path("files/<asset_id>/events", events),
]
app = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
