"""JSON over HTTP: every path of the contract, streams as lines and as server-sent events, and odd requests."""

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest
from tests.web_gateway.conftest import Served
from tests.web_gateway.test_limits import raw
from yarl import URL

from assetlane.v1 import access_service_pb2, asset_service_pb2, upload_service_pb2
from assetlane_server.rpc.web.rest import bindings_of

SERVICES = (
    upload_service_pb2.DESCRIPTOR.services_by_name["UploadService"],
    asset_service_pb2.DESCRIPTOR.services_by_name["AssetService"],
    access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
)
LIMIT_S = 60.0


async def answered(
    session: aiohttp.ClientSession, gateway: Served, path: str, method: str = "GET", **how: Any
) -> tuple[int, Any]:
    """Returns status and JSON of a request; the path is sent as it is written here."""
    url = URL(gateway.url + path, encoded=True)
    async with session.request(method, url, **how) as response:
        text = await response.text()
        assert response.headers["content-type"].startswith("application/json"), text
        return response.status, json.loads(text)


def reason_of(error: Any) -> str:
    """Returns the reason in a google.rpc.Status."""
    infos = [d for d in error["details"] if d["@type"].endswith("google.rpc.ErrorInfo")]
    assert len(infos) == 1
    assert infos[0]["domain"] == "assetlane"
    return str(infos[0]["reason"])


def test_every_method_has_a_path_and_no_path_has_two_methods() -> None:
    """A new RPC without an annotation fails this."""
    for service in SERVICES:
        bindings = list(bindings_of(service.full_name))
        assert {one.method.rpartition("/")[2] for one in bindings} == {method.name for method in service.methods}
        for one in bindings:
            request = service.methods_by_name[one.method.rpartition("/")[2]].input_type
            assert set(one.variables) <= set(request.fields_by_name)
            assert one.has_body == (one.http_method == "POST")
    every = [one for service in SERVICES for one in bindings_of(service.full_name)]
    places = [(one.http_method, re.sub(r"\{\w+\}", "{}", one.template)) for one in every]
    assert len(set(places)) == len(places)


async def test_path_query_and_body_make_one_request(gateway: Served, session: aiohttp.ClientSession) -> None:
    """Names of fields as in JSON or as in the contract; escapes in paths and queries."""

    async def ask(*args: str, **how: Any) -> tuple[int, Any]:
        return await answered(session, gateway, *args, **how)

    assert await ask("/v1/uploads/u7") == (200, {"upload": {"uploadId": "u7"}})
    assert (await ask("/v1/uploads/a%2Fb%20%C3%A4"))[1]["upload"]["uploadId"] == "a/b ä"
    query = "pageSize=7&page_token=a%26b&statuses=UPLOAD_STATUS_COMPLETED&statuses=2&uid=x+y"
    assert await ask(f"/v1/uploads?{query}") == (200, {"nextPageToken": "a&b"})
    listed = gateway.uploads.requests[-1]
    assert (listed.page_size, listed.uid, len(listed.statuses)) == (7, "x y", 2)
    status, body = await ask("/v1/uploads", "POST", json={"filePath": "a/b.jpg", "variants": [{"name": "original"}]})
    assert (status, body["upload"]["filePath"]) == (200, "a/b.jpg")
    assert await ask("/v1/uploads/u7:cancel", "POST") == (200, {"upload": {"uploadId": "u7"}})
    assert await ask("/v1/uploads/u7:cancel", "POST", json={"uploadId": "u7"}) == (200, {"upload": {"uploadId": "u7"}})
    status, body = await ask("/v1/assets/x")
    assert body["asset"]["revision"] == "9007199254740993"


async def test_errors_are_google_rpc_status(gateway: Served, session: aiohttp.ClientSession) -> None:
    """With HTTP's own status, and the reason in the details."""
    status, error = await answered(session, gateway, "/v1/uploads/gone")
    assert (status, error["code"], reason_of(error)) == (404, 5, "UPLOAD_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v1/nothing", 404, "METHOD_UNKNOWN"),
        ("GET", "/v1//uploads", 404, "METHOD_UNKNOWN"),
        ("GET", "/v1/uploads/", 404, "METHOD_UNKNOWN"),
        ("GET", "/v1/uploads/../assets/x", 404, "METHOD_UNKNOWN"),
        ("GET", "/v1/uploads/x/variants/y", 404, "METHOD_UNKNOWN"),
        ("PUT", "/v1/uploads/x", 405, "HTTP_METHOD_REFUSED"),
        ("POST", "/v1/uploads/x:watch", 405, "HTTP_METHOD_REFUSED"),
        ("GET", "/v1/uploads/%zz", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads/%ff", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads/%", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?page_size=seven", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?page_size=99999999999", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?pageSize=1&page_size=2", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?statuses=SOME", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?nobody=1", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?uid=%ff", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?uid=%", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads/x?uploadId=y", 400, "INVALID_FIELD"),
        ("GET", "/v1/uploads?" + "&".join(["statuses=1"] * 500), 400, "INVALID_FIELD"),
        ("POST", "/v1/uploads?filePath=x", 400, "INVALID_FIELD"),
    ],
)
async def test_odd_paths_and_queries_are_refused_by_name(
    gateway: Served, session: aiohttp.ClientSession, method: str, path: str, status: int, reason: str
) -> None:
    """Never 500, and nothing reaches a handler."""
    answer = await answered(session, gateway, path, method)
    assert (answer[0], reason_of(answer[1])) == (status, reason)
    assert gateway.uploads.requests == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b"{", "application/json", 400, "INVALID_FIELD"),
        (b"[]", "application/json", 400, "INVALID_FIELD"),
        (b"7", "application/json", 400, "INVALID_FIELD"),
        (b"null", "application/json", 400, "INVALID_FIELD"),
        (b'"x"', "application/json", 400, "INVALID_FIELD"),
        (b'{"filePath": 7}', "application/json", 400, "INVALID_FIELD"),
        (b'{"filePath": "\\ud800"}', "application/json", 400, "INVALID_FIELD"),
        (b'{"filePath": "\xff"}', "application/json", 400, "INVALID_FIELD"),
        (b'{"file": "x"}', "application/json", 400, "INVALID_FIELD"),
        (b'{"filePath": "x", "filePath": "y"}', "application/json", 400, "INVALID_FIELD"),
        (b'{"variants": [{"sizeBytes": 1e400}]}', "application/json", 400, "INVALID_FIELD"),
        (b'{"variants": [{"sizeBytes": ' + b"9" * 5000 + b"}]}", "application/json", 400, "INVALID_FIELD"),
        (b"[" * 100_000, "application/json", 400, "INVALID_FIELD"),
        (b'{"a":' * 20_000, "application/json", 400, "INVALID_FIELD"),
        (b'{"filePath": "x"}', "text/plain", 415, "CONTENT_TYPE_REFUSED"),
        (b'{"filePath": "x"}', "", 415, "CONTENT_TYPE_REFUSED"),
        (b" " * (2**17 + 1), "application/json", 413, "MESSAGE_TOO_LARGE"),
    ],
    ids=lambda value: str(value)[:32],
)
async def test_odd_bodies_are_refused(
    gateway: Served, session: aiohttp.ClientSession, body: bytes, kind: str, status: int, reason: str
) -> None:
    """In JSON with a reason, whatever they are."""
    answer = await answered(session, gateway, "/v1/uploads", "POST", data=body, headers={"content-type": kind})
    assert (answer[0], reason_of(answer[1])) == (status, reason)
    assert gateway.uploads.requests == []


async def test_a_stream_is_lines_of_json(gateway: Served, session: aiohttp.ClientSession) -> None:
    """One event a line; an error is the last line, or the status where there was no event before it."""
    async with session.get(gateway.url + "/v1/assets:watch?partition=p") as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) async for line in response.content]
    assert lines == [{"synced": {}, "resumeToken": "t1"}, {"heartbeat": {}, "resumeToken": "t2"}]
    async with session.get(gateway.url + "/v1/uploads/breaks:watch") as response:
        event, last = [json.loads(line) async for line in response.content]
    assert (event, reason_of(last["error"])) == ({"heartbeat": {}}, "SHUTTING_DOWN")
    status, error = await answered(session, gateway, "/v1/uploads/gone:watch")
    assert (status, reason_of(error)) == (404, "UPLOAD_NOT_FOUND")


async def test_a_stream_is_server_sent_events_where_they_are_accepted(
    gateway: Served, session: aiohttp.ClientSession
) -> None:
    """As EventSource reads it; the end has a name too, since a browser would call again after a mere end."""
    accept = {"accept": "text/event-stream"}
    async with session.get(gateway.url + "/v1/sessions/three:watch?afterRevision=1", headers=accept) as response:
        assert response.headers["content-type"] == "text/event-stream"
        text = await response.text()
    assert text == 'data: {"heartbeat": {}}\n\n' * 3 + "event: end\ndata: {}\n\n"
    assert gateway.uploads.requests[-1].after_revision == 1
    async with session.get(gateway.url + "/v1/uploads/breaks:watch", headers=accept) as response:
        *_, last = (await response.text()).strip().split("\n\n")
    retry, kind, data = last.split("\n")
    assert (retry, kind) == ("retry: 1000", "event: error")
    assert reason_of(json.loads(data.removeprefix("data: "))["error"]) == "SHUTTING_DOWN"


async def test_server_sent_events_go_on_after_the_last_event_id(
    gateway: Served, session: aiohttp.ClientSession
) -> None:
    """A browser opens the same URL again with the id that it has seen last; one that is none is refused."""
    accept = {"accept": "text/event-stream"}
    url = f"{gateway.url}/v1/assets:watch?partition=p&resumeToken=t0"
    async with session.get(url, headers=accept) as response:
        first, second, _ = (await response.text()).strip().split("\n\n")
    assert (first.split("\n")[0], second.split("\n")[0]) == ("id: t1", "id: t2")
    for sent, token in ((accept | {"last-event-id": "t2"}, "t2"), ({"last-event-id": "t2"}, "t0"), (accept, "t0")):
        async with session.get(url, headers=sent) as response:
            await response.read()
        assert gateway.assets.requests[-1].resume_token == token
    path = "/v1/uploads/three:watch"
    async with session.get(gateway.url + path, headers=accept | {"last-event-id": "7"}) as response:
        await response.read()
    assert gateway.uploads.requests[-1].after_revision == 7
    answer = await answered(session, gateway, path, headers=accept | {"last-event-id": "seven"})
    assert (answer[0], reason_of(answer[1])) == (400, "INVALID_FIELD")
    assert "last-event-id" in answer[1]["message"]


async def test_after_revisions_travel_in_a_body(gateway: Served, session: aiohttp.ClientSession) -> None:
    """A map does not fit a query."""
    body = {"sessionId": "three", "afterRevisions": {"u1": "7"}}
    async with session.post(gateway.url + "/v1/uploads:watch", json=body) as response:
        assert len((await response.text()).splitlines()) == 3
    assert dict(gateway.uploads.requests[-1].after_revisions) == {"u1": 7}
    answer = await answered(session, gateway, "/v1/sessions/s:watch?afterRevisions=u1")
    assert (answer[0], reason_of(answer[1])) == (400, "INVALID_FIELD")


async def test_a_closed_curl_frees_its_watch(gateway: Served, session: aiohttp.ClientSession) -> None:
    """As a closed tab does."""
    response = await session.get(gateway.url + "/v1/uploads/quiet:watch")
    assert await response.content.readline() == b'{"heartbeat": {}}\n'
    response.close()
    async with asyncio.timeout(LIMIT_S):
        await gateway.uploads.until_open(0)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (["TEXT/Event-Stream"], "text/event-stream"),
        (["application/json", "text/event-stream"], "text/event-stream"),
        (["*/*;q=0.1, text/event-stream ; q=0.9"], "text/event-stream"),
        (["text/event-stream;q=0, application/x-ndjson"], "application/x-ndjson"),
        (["text/event-stream;q=0.5, application/x-ndjson"], "application/x-ndjson"),
        (["text/event-streams"], "application/x-ndjson"),
        (["application/xml"], "application/x-ndjson"),
        (["*/*", ";;q=,,"], "application/x-ndjson"),
        ([], "application/x-ndjson"),
    ],
)
async def test_what_a_client_accepts_decides_the_form_of_a_stream(
    gateway: Served, accept: list[str], kind: str
) -> None:
    """In any case, on several lines, with weights; what is not understood leaves lines of JSON."""
    lines = "".join(f"accept: {one}\r\n" for one in accept)
    answer = await raw(gateway, f"GET /v1/uploads/three:watch HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n".encode())
    assert f"content-type: {kind}\r\n" in answer.decode().lower()
