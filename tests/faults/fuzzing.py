"""Request messages of every shape, built from their descriptors: what is added to the contract is covered by itself."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from hypothesis import strategies as st

_DEPTH: Final = 4  # of messages in messages, but for the Structs that are nested on purpose
_WORDS: Final = (
    "", "a", "a/b.jpg", "../x", "/", "//", ".", "a\x00b", "a\nb", "\u202e", "\uffff", "\U0010ffff", "e\u0301", "\u0131",
    "original", "small", "preview", "image/jpeg", "video/mp4", "text/plain; charset=utf-8", "text/html", "#80a0c0",
    "public", "user/ann", "user/bob", "user/{uid}", "team/*/**", "$where", "a.b", "{}", "%2e%2e%2f", "' OR 1=1",
)  # fmt: skip
_SIZES: Final = (129, 1025, 20_000, 1_100_000)
_SIGNED, _UNSIGNED = (-(2**63), 2**63 - 1), (0, 2**64 - 1)
_RANGES: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: _SIGNED,
    FieldDescriptor.TYPE_SINT64: _SIGNED,
    FieldDescriptor.TYPE_SFIXED64: _SIGNED,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED,
    FieldDescriptor.TYPE_FIXED64: _UNSIGNED,
}
_DOUBLES: Final = (0.0, -0.0, 1.0, 24.0, 168.0, 168.0000001, 1e-300, 1e300, -1.0, float("nan"), float("inf"))

Pool = Callable[[], Sequence[str]]


def requests(descriptor: Descriptor, pool: Pool, good: Message | None = None) -> st.SearchStrategy[bytes]:
    """Returns requests as they travel: well-formed messages nine times of ten, else broken ones and any bytes.

    `pool` returns texts that mean something to the server right now, such as ids. Half of the messages are the `good`
    one, if there is one, with a field or two exchanged.
    """
    messages = _messages(descriptor, pool, _DEPTH)
    if good is not None:
        messages = st.one_of(messages, _exchanged(descriptor, pool, good))
    whole = messages.map(lambda message: message.SerializeToString())
    broken = st.builds(lambda data, end: data[: end % (len(data) + 1)], whole, st.integers(0, 2**16))
    deep = st.builds(lambda data, levels: data + _deep(descriptor, levels), whole, st.sampled_from((10, 33, 100, 5000)))
    return st.integers(0, 19).flatmap(
        lambda number: broken if number == 0 else st.binary(max_size=64) if number == 1 else
        deep if number == 2 else whole
    )  # fmt: skip


def _deep(descriptor: Descriptor, levels: int) -> bytes:
    """Returns a Struct in so many Structs, deeper than protobuf's own library would make it, where there is room."""
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        if field.message_type.full_name == "google.protobuf.Struct":
            struct = b""
            for _ in range(levels):  # Struct.fields = 1, its key = 1 and value = 2, Value.struct_value = 5
                struct = _framed(1, _framed(1, b"deeper") + _framed(2, _framed(5, struct)))
            return _framed(field.number, struct)
        if not _is_map(field) and (inner := _deep(field.message_type, levels)):
            return _framed(field.number, inner)
    return b""


def _framed(number: int, data: bytes) -> bytes:
    """Returns a field of the wire type LEN."""
    size, length = len(data), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def _exchanged(descriptor: Descriptor, pool: Pool, good: Message) -> st.SearchStrategy[Message]:
    def exchanged(changes: list[tuple[str, Any]]) -> Message:
        message = GetMessageClass(descriptor)()
        message.CopyFrom(good)
        for name, _ in changes:
            message.ClearField(name)
        return _filled(message, dict(changes))

    def change(field: FieldDescriptor) -> st.SearchStrategy[tuple[str, Any]]:
        return _values(field, pool, _DEPTH).map(lambda value: (field.name, value))

    return st.lists(st.sampled_from(list(descriptor.fields)).flatmap(change), max_size=2).map(exchanged)


def _messages(descriptor: Descriptor, pool: Pool, depth: int) -> st.SearchStrategy[Message]:
    if descriptor.full_name == "google.protobuf.Struct":
        return st.one_of(_structs(descriptor, pool, depth), st.integers(1, 25).map(_nested))
    return _structs(descriptor, pool, depth)


def _structs(descriptor: Descriptor, pool: Pool, depth: int) -> st.SearchStrategy[Message]:
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    optional = {field.name: _values(field, pool, depth) for field in fields}
    return st.fixed_dictionaries({}, optional=optional).map(
        lambda values: _filled(GetMessageClass(descriptor)(), values)
    )


def _filled(message: Message, values: dict[str, Any]) -> Message:
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        place = getattr(message, name)
        if _is_map(field):
            for key, item in value:
                if isinstance(item, Message):
                    place[key].CopyFrom(item)
                else:
                    place[key] = item
        elif isinstance(value, list):
            place.extend(value)
        elif isinstance(value, Message):
            place.CopyFrom(value)
            place.SetInParent()
        else:
            setattr(message, name, value)
    return message


def _values(field: FieldDescriptor, pool: Pool, depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field) and field.message_type is not None:
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        pairs = st.tuples(_single(key, pool, depth - 1), _single(value, pool, depth - 1))
        return st.lists(pairs, max_size=4)
    one = _single(field, pool, depth)
    if field.is_repeated:
        many = st.builds(lambda value, count: [value] * count, one, st.sampled_from((20, 101, 1001)))
        return st.integers(0, 29).flatmap(lambda number: many if number == 0 else st.lists(one, max_size=4))
    return one


def _single(field: FieldDescriptor, pool: Pool, depth: int) -> st.SearchStrategy[Any]:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return _texts(pool)
        case FieldDescriptor.TYPE_BYTES:
            return st.one_of(st.just(b"\x01" * 32), st.binary(max_size=40), st.just(b"x" * 5000))
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_DOUBLE:
            return st.one_of(st.sampled_from(_DOUBLES), st.floats())
        case FieldDescriptor.TYPE_FLOAT:
            return st.floats(width=32)
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            known = [value.number for value in field.enum_type.values]
            return st.one_of(st.sampled_from(known), st.integers(-(2**31), 2**31 - 1))
        case FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type is not None
            return _messages(field.message_type, pool, depth - 1)
        case _:
            least, most = _RANGES[field.type]
            edges = [number for number in (least, -1, 0, 1, 5, 300, 5 * 2**30, most) if least <= number <= most]
            return st.one_of(st.sampled_from(edges), st.integers(least, most))


def _texts(pool: Pool) -> st.SearchStrategy[str]:
    ours = st.integers(0, 2**16).map(lambda number: pool()[number % len(pool())])
    huge = st.builds(lambda unit, size: unit * size, st.sampled_from(("x", "ü", "a/")), st.sampled_from(_SIZES))
    return st.integers(0, 99).flatmap(
        lambda number: ours if number < 45 else st.sampled_from(_WORDS) if number < 75 else
        st.text(max_size=40) if number < 98 else huge
    )  # fmt: skip


def _nested(levels: int) -> Struct:
    struct = inner = Struct()
    for _ in range(levels):
        inner = inner.fields["deeper"].struct_value
    inner.fields["end"].null_value = 0  # type: ignore[assignment]
    return struct


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
