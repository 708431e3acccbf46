"""The Django and the Flask site of examples/web, each under eight threads, on the real server and stores."""

import asyncio
import importlib
import json
import threading
import urllib.error
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest
from examples.picture import photograph
from werkzeug.serving import make_server

from assetlane import sync

pytestmark = pytest.mark.timeout(180)

THREADS = 8
LIMIT_S = 60.0


@pytest.fixture(params=["flask_site", "django_site"])
async def site(request: pytest.FixtureRequest, target: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serves the site with a thread for each request, and yields its URL."""
    module: Any = await asyncio.to_thread(importlib.import_module, f"examples.web.{request.param}")
    # A process has one site; the test's servers come and go.
    monkeypatch.setattr(module, "client", sync.Client(target, uid="ann"))
    with served(module.app) as url:
        yield url
    await asyncio.to_thread(module.client.close)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Runs a WSGI application on a free port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(LIMIT_S)
        server.server_close()


def post(url: str, name: str, body: bytes) -> dict[str, Any]:
    """Sends a form with one file, as a browser does, and returns the answer."""
    edge = b"----edge"
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: image/jpeg'.encode()
    form = b"--" + edge + b"\r\n" + head + b"\r\n\r\n" + body + b"\r\n--" + edge + b"--\r\n"
    request = Request(url, form, {"Content-Type": f"multipart/form-data; boundary={edge.decode()}"})  # noqa: S310
    with urlopen(request, timeout=LIMIT_S) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
        return answer


def visit(site: str, number: int) -> None:
    """Uploads a picture, watches it to its end, and reads it and a cut back."""
    body = photograph(320, 240, seed=number)
    asset = post(f"{site}/files", f"{number}.jpg", body)
    assert asset["variants"][0] == "original"
    page = f"{site}/files/{asset['asset_id']}"
    with urlopen(f"{page}/events", timeout=LIMIT_S) as events:  # noqa: S310
        statuses = [json.loads(line[6:])["status"] for line in events if line.startswith(b"data: ")]
    assert statuses[0] == "UPLOAD_STATUS_PENDING"
    assert statuses[-1] == "UPLOAD_STATUS_COMPLETED"
    with urlopen(page, timeout=LIMIT_S) as original:  # noqa: S310 - urlopen follows to the store
        assert original.read() == body
    with urlopen(f"{page}?variant=small", timeout=LIMIT_S) as small:  # noqa: S310
        assert small.headers["Content-Type"] == "image/jpeg"


async def test_eight_threads_upload_watch_and_read(site: str) -> None:
    """All through one client of the site's module."""

    def all_of_it() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(visit, [site] * 2 * THREADS, range(2 * THREADS)))

    await asyncio.wait_for(asyncio.to_thread(all_of_it), 2 * LIMIT_S)


async def test_what_is_not_there_is_a_404_with_its_reason(site: str) -> None:
    """The site's handler of AssetlaneError."""

    def ask() -> tuple[int, dict[str, Any]]:
        try:
            urlopen(f"{site}/files/01m8cnkd4vv52a8xtt6y9ba9de", timeout=LIMIT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        raise AssertionError("it was found")

    status, answer = await asyncio.to_thread(ask)
    assert (status, answer["reason"]) == (404, "ASSET_NOT_FOUND")
