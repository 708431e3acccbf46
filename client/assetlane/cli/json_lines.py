"""Messages of the contract as JSON for programs: numbers are numbers, hashes are hex, an event says its kind."""

import json
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp


def as_line(message: Message, **more: object) -> str:
    """Returns a message as one line of JSON, every plain field present; `more` comes first."""
    return json.dumps({**more, **fields_of(message)}, ensure_ascii=False)


def event_line(event: Message) -> str:
    """Returns an event of a watch with its `kind`: `status`, `progress`, `asset`, `deleted` or `synced`.

    What belongs to the kind stands beside it; an asset event has its `resume_token` there too.
    """
    name = type(event).__name__
    if name == "StatusEvent":
        return as_line(event, kind="status")
    if name == "ProgressEvent":
        return as_line(event, kind="progress")
    kind = event.WhichOneof("event") or "unknown"
    fields = fields_of(event)
    inner = fields.pop(kind, {})
    return json.dumps({"kind": kind, **inner, **fields}, ensure_ascii=False)


def fields_of(message: Message) -> dict[str, Any]:
    """Returns the fields of a message by their names in the contract.

    Integers of any width are numbers, bytes hexadecimal, instants RFC 3339, durations seconds, enumerations their
    names. A field that can be absent is left out when it is.
    """
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if not field.is_repeated:
            fields[field.name] = _plain(field, value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            fields[field.name] = {str(key): _plain(inner, value[key]) for key in value}
        else:
            fields[field.name] = [_plain(field, one) for one in value]
    return fields


def _plain(field: Any, value: Any) -> Any:
    match value:
        case Timestamp():
            return value.ToJsonString()
        case Duration():
            return value.seconds + value.nanos / 1e9
        case Struct():
            return MessageToDict(value)
        case Message():
            return fields_of(value)
        case bytes():
            return value.hex()
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return value
