"""Messages as bytes: protobuf's binary form and its JSON."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

from assetlane_server.model.errors import MessageTooLarge
from assetlane_server.rpc.refusals import FieldUnreadable
from assetlane_server.rpc.web.calls import Method

_MAX_DEPTH = 32  # the contract's messages are 4 deep
_QUICK_BYTES = 32 * 1024  # of JSON: 30 ms at worst
_MAX_TEXT = 300  # characters of what is wrong: it quotes the request


async def decode(method: Method, data: bytes, max_bytes: int, *, is_json: bool) -> Any:
    """Returns the request message, or a Refusal in its place. Raises MessageTooLarge, FieldUnreadable."""
    if not is_json:
        return method.handler.request_deserializer(data)
    if len(data) > max_bytes:
        raise MessageTooLarge(len(data), max_bytes)
    # As in the binary form, what a newer client sends beside what is known is ignored.
    return await message_in_json(method.request_class, data, ignores_unknown=True)


async def message_in_json(cls: type[Message], data: bytes, *, ignores_unknown: bool) -> Message:
    """Returns the message that a JSON object stands for; nothing at all is an empty one. Raises FieldUnreadable."""
    if len(data) <= _QUICK_BYTES:
        return _parsed(cls, data, ignores_unknown=ignores_unknown)
    # A second for each MiB that is made to be slow: others are served meanwhile.
    return await asyncio.to_thread(_parsed, cls, data, ignores_unknown=ignores_unknown)


def _parsed(cls: type[Message], data: bytes, *, ignores_unknown: bool) -> Message:
    text = data.strip() or b"{}"
    if not text.startswith(b"{"):  # protobuf's parser takes `[]` for an empty message
        raise FieldUnreadable("it must be an object: {…}.")

    def fill(message: Message) -> None:
        json_format.Parse(text, message, ignore_unknown_fields=ignores_unknown, max_recursion_depth=_MAX_DEPTH)

    return from_json(cls, fill)


def from_json(cls: type[Message], fill: Callable[[Message], object]) -> Message:
    """Returns a message that `fill` has filled with the functions of json_format. Raises FieldUnreadable."""
    message = cls()
    try:
        fill(message)
    except json_format.ParseError as error:
        raise FieldUnreadable(_cut(str(error))) from None
    except RecursionError:
        raise FieldUnreadable("it is nested too deeply.") from None
    except (ValueError, TypeError, AttributeError) as error:
        # Broken UTF-8, a lone surrogate, a number with a million digits, a list in the place of a message.
        raise FieldUnreadable(_cut(f"{type(error).__name__}.")) from None
    return message


def encode(message: Any, *, is_json: bool) -> bytes:
    """Returns a response message as the caller reads it."""
    if is_json:
        try:
            return _json_of(message)
        except (json_format.SerializeToJsonError, ValueError):  # of a Struct with a number that JSON does not have
            finite = type(message)()
            finite.CopyFrom(message)
            _name_numbers(finite)
            return _json_of(finite)
    data: bytes = message.SerializeToString()
    return data


def _json_of(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _name_numbers(message: Message) -> None:
    """Turns NaN and infinities in `extra` into the texts that protobuf's JSON has for them in fields of its own."""
    if isinstance(message, Value):
        if message.WhichOneof("kind") == "number_value" and not math.isfinite(number := message.number_value):
            message.string_value = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
        elif message.WhichOneof("kind") == "struct_value":
            _name_numbers(message.struct_value)
        else:
            for value in message.list_value.values if message.HasField("list_value") else ():
                _name_numbers(value)
        return
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            parts = content.values() if field.message_type.fields_by_name["value"].message_type is not None else ()
        else:
            parts = content if field.is_repeated else (content,)
        for part in parts:
            _name_numbers(part)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
