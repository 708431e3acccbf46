"""JSON over HTTP: the REST paths that `google.api.http` annotations of the contract map methods to.

Streams are lines of JSON (NDJSON) or server-sent events, by what the request accepts. A failure is
`google.rpc.Status` in JSON, as everywhere where gRPC is transcoded; of a stream that has begun it is the last event.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from google.api import annotations_pb2
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message import Message
from multidict import CIMultiDict
from typing_extensions import override

from assetlane_server.rpc.refusals import ContentTypeRefused, FieldRefused, FieldUnreadable, HttpMethodRefused
from assetlane_server.rpc.web.body import body_of, inflated
from assetlane_server.rpc.web.calls import Method, Trailers, header_value
from assetlane_server.rpc.web.codecs import encode, from_json, message_in_json
from assetlane_server.rpc.web.event_ids import HEADER, EventIds, event_ids
from assetlane_server.rpc.web.protocols import WebProtocol
from assetlane_server.rpc.web.statuses import Failure

REST_PREFIX = "/v1/"
_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_SSE = "text/event-stream"
_MAX_PARAMETERS = 200
_VARIABLE = re.compile(r"\{([a-z_]+)\}")
_WEIGHT = re.compile(r"(?:^|;)\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*(?:;|$)")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Their JSON is a text or a number, not an object.
_WRITTEN_AS_TEXT = frozenset(("google.protobuf.Duration", "google.protobuf.Timestamp"))
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class Binding:
    """One REST path of a method."""

    http_method: str
    template: str
    has_body: bool
    method: str  # `/package.Service/Method`

    @property
    def variables(self) -> tuple[str, ...]:
        """The fields of the request that the path holds."""
        return tuple(_VARIABLE.findall(self.template))

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a path as it was sent, escapes and all, matches."""
        parts = _VARIABLE.split(self.template)
        return re.compile("".join(rf"(?P<{p}>[^/]+)" if n % 2 else re.escape(p) for n, p in enumerate(parts)))


def bindings_of(service_name: str) -> Iterator[Binding]:
    """Yields the REST paths that the contract gives a service."""
    pool: Any = descriptor_pool.Default()
    for method in pool.FindServiceByName(service_name).methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for one in (rule, *rule.additional_bindings):
            verb = one.WhichOneof("pattern")
            if verb is not None:
                path = f"/{service_name}/{method.name}"
                yield Binding(verb.upper(), getattr(one, verb), bool(one.body), path)


class Routes:
    """Finds the method and the path's fields of a request."""

    def __init__(self, bindings: Iterable[Binding], methods: Mapping[str, Method]) -> None:
        # A path that ends with a verb such as `:watch` is not one whose last field ends so.
        ordered = sorted(bindings, key=lambda binding: ":" not in binding.template.rpartition("/")[2])
        self._routes = [(one.pattern, one, methods[one.method]) for one in ordered]

    def find(self, http_method: str, path: str, accept: str) -> "RestCall | None":
        """Returns the call at a path, None where there is none. Raises HttpMethodRefused, FieldUnreadable."""
        allowed: list[str] = []
        for pattern, binding, method in self._routes:
            if (match := pattern.fullmatch(path)) is None:
                continue
            if binding.http_method == http_method:
                fields = {name: _unescaped(name, value) for name, value in match.groupdict().items()}
                return RestCall(binding, method, fields, accept)
            allowed.append(binding.http_method)
        if allowed:
            raise HttpMethodRefused(http_method, tuple(dict.fromkeys(allowed)))
        return None


class RestCall(WebProtocol):
    """One call by a REST path."""

    def __init__(self, binding: Binding, method: Method, fields: Mapping[str, str], accept: str) -> None:
        self.method = method
        self._binding = binding
        self._fields = fields
        self._is_sse = _prefers_sse(accept)
        self._event_ids: EventIds | None = None

    @override
    async def read(self, request: web.BaseRequest, method: Method, max_bytes: int) -> Message:
        """Makes one message of the path, the query and the body."""
        message = await self._message(request, method.request_class, max_bytes)
        if self._is_sse and (ids := event_ids(message)) is not None:
            self._event_ids = ids
            if last_id := request.headers.get(HEADER, ""):
                ids.resume(last_id)
        return message

    async def _message(self, request: web.BaseRequest, cls: type[Message], max_bytes: int) -> Message:
        body = await body_of(request, max_bytes)
        query = request.raw_path.partition("?")[2]
        if self._binding.has_body:
            if query:
                raise FieldRefused(query.partition("=")[0], "this path takes no query: send it in the body")
            return await self._from_body(cls, body, request, max_bytes)
        if body:
            raise FieldUnreadable("this path takes no body: send the fields in the query.")
        values = {**_values(cls, query, self._fields), **self._fields}
        return from_json(cls, lambda message: json_format.ParseDict(values, message))

    async def _from_body(self, cls: type[Message], body: bytes, request: web.BaseRequest, max_bytes: int) -> Message:
        if body:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != _JSON:
                raise ContentTypeRefused(kind[:128], (_JSON,))
            body = inflated(body, request.headers.get("content-encoding", ""), max_bytes)
        message = await message_in_json(cls, body, ignores_unknown=False)
        for name, value in self._fields.items():
            sent = getattr(message, name)
            if sent and sent != value:
                raise FieldRefused(name, "the path and the body name different ones")
            setattr(message, name, value)
        return message

    @override
    def unary(self, message: Any, leading: Trailers, trailers: Trailers) -> web.Response:
        return web.Response(body=encode(message, is_json=True) + b"\n", headers=_headers(_JSON, leading, trailers))

    @override
    def failed(self, failure: Failure, leading: Trailers = ()) -> web.Response:
        return rest_failure(failure, leading)

    @override
    def stream_headers(self, leading: Trailers) -> CIMultiDict[str]:
        return _headers(_SSE if self._is_sse else _NDJSON, leading, ())

    @override
    def message(self, message: Any) -> bytes:
        last_id = "" if self._event_ids is None else self._event_ids.after(message)
        return self._event(encode(message, is_json=True), f"id: {last_id}\n" if last_id else "")

    @override
    def end(self, trailers: Trailers) -> bytes:
        # A browser would open server-sent events again after a mere end.
        return self._event(b"{}", "event: end\n") if self._is_sse else b""

    @override
    def broken(self, failure: Failure) -> bytes:
        seconds = failure.rest_headers.get("retry_after")
        lines = f"retry: {int(seconds) * 1000}\n" if seconds else ""
        return self._event(json.dumps({"error": failure.rest_json()}).encode(), lines + "event: error\n")

    def _event(self, data: bytes, lines: str) -> bytes:
        return lines.encode() + b"data: " + data + b"\n\n" if self._is_sse else data + b"\n"


def rest_failure(failure: Failure, leading: Trailers = ()) -> web.Response:
    """Returns a failure as plain HTTP clients read it."""
    headers = _headers(_JSON, leading, failure.metadata)
    headers.update({name.replace("_", "-"): value for name, value in failure.rest_headers.items()})
    body = json.dumps(failure.rest_json(), ensure_ascii=False).encode() + b"\n"
    return web.Response(status=failure.rest_status, body=body, headers=headers)


def _headers(content_type: str, leading: Trailers, trailers: Trailers) -> CIMultiDict[str]:
    headers = CIMultiDict((name, header_value(value)) for name, value in (*leading, *trailers))
    headers.update({**_HEADERS, "content-type": content_type})
    return headers


def _prefers_sse(accept: str) -> bool:
    """Returns whether a client takes server-sent events, and JSON not rather (RFC 9110, 12.5.1)."""
    weights = dict.fromkeys((_SSE, _NDJSON, _JSON), 0.0)
    for one in accept.lower().split(","):
        kind, _, parameters = one.partition(";")
        match = _WEIGHT.search(parameters)
        weights[kind.strip()] = float(match[1]) if match is not None else 1.0
    return weights[_SSE] > 0 and weights[_SSE] >= max(weights[_NDJSON], weights[_JSON])


def _unescaped(name: str, value: str) -> str:
    """Returns a value of the path. Raises FieldRefused for escapes that stand for no text."""
    if _BROKEN_ESCAPE.search(value):
        raise FieldRefused(name, "has a % that no two hexadecimal digits follow: escape it as %25")
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise FieldRefused(name, "its escapes are not UTF-8") from None


def _values(cls: type[Message], query: str, in_path: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields in a query as json_format takes them. Raises FieldRefused, FieldUnreadable."""
    if _BROKEN_ESCAPE.search(query):
        raise FieldUnreadable("the query has a % that no two hexadecimal digits follow: escape it as %25.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise FieldUnreadable("the escapes of the query are not UTF-8.") from None
    except ValueError:
        raise FieldUnreadable(f"the query has more than {_MAX_PARAMETERS} parameters.") from None
    values: dict[str, Any] = {}
    for name, text in pairs:
        field = _field(cls.DESCRIPTOR, name)
        if field.name in in_path:
            raise FieldRefused(name, "is in the path already")
        if field.is_repeated:
            values.setdefault(field.name, []).append(text)
        elif field.name in values:
            raise FieldRefused(name, "may be there once")
        else:
            values[field.name] = text
    return values


def _field(descriptor: Any, name: str) -> Any:
    """Returns the field that a parameter names, as in JSON or as in the contract. Raises FieldRefused."""
    found = next((one for one in descriptor.fields if name in (one.json_name, one.name)), None)
    if found is None:
        raise FieldRefused(name[:128], "there is no such field")
    message = found.message_type
    if message is not None and message.full_name not in _WRITTEN_AS_TEXT:
        raise FieldRefused(name, "cannot stand in a query: use the path that takes a body")
    return found
