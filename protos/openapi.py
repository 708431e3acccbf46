"""Writes `docs/openapi.json`, the REST paths of the web gateway, from the contract; `--check` only compares.

OpenAPI 3.1, from the descriptors, their comments and their `google.api.http` annotations: nothing is said here that
the .proto files do not say.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from google.api import annotations_pb2
from reference import PACKAGE, Source, built_files

from assetlane.v1 import access_service_pb2, asset_service_pb2, upload_service_pb2

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "openapi.json"
MODULES: Final = (upload_service_pb2, asset_service_pb2, access_service_pb2)
_MESSAGES, _ENUMS, _SERVICES, _PART = 4, 5, 6, 2

_WELL_KNOWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object"},
}
# Of the gateway itself, not of the contract: what browsers send when they open a stream of events again.
_LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "With `accept: text/event-stream`: the id of the last event seen; the stream goes on after it.",
    "schema": {"type": "string"},
}
_STATUS: Final = {
    "type": "object",
    "description": "google.rpc.Status: the code of gRPC, a message, and details with one google.rpc.ErrorInfo.",
    "properties": {
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object", "properties": {"@type": {"type": "string"}}}},
    },
}


class Comments:
    """The comments of the contract, by the full names of what they are about."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        for name, file in built_files().items():
            if not name.startswith("assetlane/"):
                continue
            source = Source.of(file)
            for kind, key, parts in (
                (_MESSAGES, "messageType", "field"), (_ENUMS, "enumType", "value"), (_SERVICES, "service", "method")
            ):  # fmt: skip
                for index, item in enumerate(source.descriptor.get(key, ())):
                    full = f"{PACKAGE}.{item['name']}"
                    self._of[full] = source.comment(kind, index)
                    for number, part in enumerate(item.get(parts, ())):
                        self._of[f"{full}.{part['name']}"] = source.comment(kind, index, _PART, number)

    def of(self, full_name: str) -> str:
        """Returns a comment in one paragraph."""
        return re.sub(r"\s+", " ", self._of.get(full_name, "")).strip()


class Document:
    """The page while it is written: its schemas are those that its paths need."""

    def __init__(self) -> None:
        self._comments = Comments()
        self._schemas: dict[str, Any] = {"Status": _STATUS}
        self._paths: dict[str, Any] = {}

    def page(self) -> str:
        """Returns the whole page."""
        for module in MODULES:
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    self._add(method)
        page = {
            "openapi": "3.1.0",
            "info": {
                "title": "Assetlane",
                "version": "v1",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
                "description": "The REST paths of the web gateway. Made by `make proto`.",
            },
            "servers": [{"url": "http://127.0.0.1:50152"}],
            "security": [{}, {"bearer": []}],
            "paths": dict(sorted(self._paths.items())),
            "components": {
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
                "schemas": dict(sorted(self._schemas.items())),
            },
        }
        return json.dumps(page, indent=1, ensure_ascii=False) + "\n"

    def _add(self, method: Any) -> None:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        for number, one in enumerate((rule, *rule.additional_bindings)):
            verb = one.WhichOneof("pattern")
            template = getattr(one, verb)
            in_path = re.findall(r"\{(\w+)\}", template)
            path = re.sub(r"\{(\w+)\}", lambda match: "{" + _json_name(method.input_type, match[1]) + "}", template)
            operation = {
                "operationId": method.name + (str(number + 1) if number else ""),
                "tags": [method.containing_service.name],
                "description": self._comments.of(method.full_name),
                "parameters": list(self._parameters(method.input_type, in_path, has_body=bool(one.body))),
                "responses": self._responses(method),
            }
            if method.server_streaming and not one.body:
                operation["parameters"].append(_LAST_EVENT_ID)
            if one.body:
                schema = self._message(method.input_type)
                operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
            self._paths.setdefault(path, {})[verb] = operation

    def _parameters(self, request: Any, in_path: list[str], *, has_body: bool) -> Iterator[Any]:
        for field in request.fields:
            is_in_path = field.name in in_path
            message = field.message_type
            if not is_in_path and (has_body or (message is not None and message.full_name not in _WELL_KNOWN)):
                continue
            yield {
                "name": field.json_name,
                "in": "path" if is_in_path else "query",
                "required": is_in_path,
                "description": self._comments.of(field.full_name),
                "schema": self._field(field),
            }

    def _responses(self, method: Any) -> Any:
        schema = self._message(method.output_type)
        kinds = ("application/x-ndjson", "text/event-stream") if method.server_streaming else ("application/json",)
        failed = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}}
        return {
            "200": {"description": "OK", "content": {kind: {"schema": schema} for kind in kinds}},
            "default": {"description": "The call failed; the description names the reasons.", **failed},
        }

    def _message(self, message: Any) -> Any:
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        if message.name not in self._schemas:
            schema: dict[str, Any] = {"type": "object", "description": self._comments.of(message.full_name)}
            self._schemas[message.name] = schema  # before its fields: they may lead here again
            schema["properties"] = {
                field.json_name: self._field(field) | {"description": self._comments.of(field.full_name)}
                for field in message.fields
            }
        return {"$ref": f"#/components/schemas/{message.name}"}

    def _field(self, field: Any) -> dict[str, Any]:
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._single(message.fields_by_name["value"])}
        single = self._single(field)
        return {"type": "array", "items": single} if field.is_repeated else single

    def _single(self, field: Any) -> dict[str, Any]:
        if field.message_type is not None:
            return dict(self._message(field.message_type))
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        match field.type:
            case field.TYPE_BOOL:
                return {"type": "boolean"}
            case field.TYPE_DOUBLE | field.TYPE_FLOAT:
                return {"type": "number"}
            case field.TYPE_BYTES:
                return {"type": "string", "contentEncoding": "base64"}
            case field.TYPE_STRING:
                return {"type": "string"}
            case field.TYPE_INT64 | field.TYPE_UINT64:
                return {"type": "string", "format": "int64"}
            case _:
                return {"type": "integer", "format": "int32"}


def _json_name(message: Any, name: str) -> str:
    return str(message.fields_by_name[name].json_name)


def main() -> int:
    """Writes the page, or says that it is not what the contract says."""
    page = Document().page()
    if "--check" not in sys.argv:
        PAGE.write_text(page)
        return 0
    if not PAGE.exists() or PAGE.read_text() != page:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)} is not what protos/ say: run `make proto` and commit\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
