"""The extreme values of each type of field, and messages that have one of them in each field."""

import math
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

# a character of four bytes
FOX = "🦊"
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799

TEXTS = ("", FOX * 255, FOX * 256, "a\0b", "\uffff\U0010ffff", "\ufeff\x01\x7f%_\\'\"", "x" * 5_000)
# what JSON and both databases can hold
NUMBERS = (-0.0, 0.1, 5e-324, -5e-324, 2.2250738585072014e-308, 1e15 + 0.5, 2.0**53 - 1)
NO_NUMBERS = (math.nan, math.inf, 2.0**53 + 2, -1.7976931348623157e308)
TIMES = (
    Timestamp(seconds=FIRST_SECOND),
    Timestamp(seconds=FIRST_SECOND - 1, nanos=999_999_999),
    Timestamp(seconds=-1, nanos=999_999_999),
    Timestamp(seconds=LAST_SECOND, nanos=999_998_000),
    Timestamp(seconds=LAST_SECOND, nanos=999_999_999),
    Timestamp(seconds=LAST_SECOND + 1),
    Timestamp(nanos=-1),
    Timestamp(seconds=-(2**63)),
    Timestamp(seconds=2**63 - 1, nanos=2**31 - 1),
)
_DEEPEST = 30

# ignored on input; messages among them are not gone into
OUTPUT_ONLY = {
    *(
        f"herald.chat.v1.User.{name}"
        for name in ("updated_at", "last_active", "deactivated_at", "deleted_at")
    ),
    *(
        f"herald.chat.v1.Channel.{name}"
        for name in (
            *("cid", "distinct", "member_count", "message_count", "updated_at"),
            *("last_message_at", "deleted_at"),
        )
    ),
    *(f"herald.chat.v1.Device.{name}" for name in ("disabled", "disabled_reason")),
    *(f"herald.chat.v1.Member.{name}" for name in ("cid", "hidden", "archived_at", "created_at")),
    *(
        f"herald.segment.v1.Segment.{name}"
        for name in (
            *("size", "size_updated_at", "created_at", "updated_at", "deleted_at"),
            *("created_by", "updated_by"),
        )
    ),
    *(
        f"herald.campaign.v1.Campaign.{name}"
        for name in (
            *("status", "status_reason", "sender", "segments", "users", "scheduled_for"),
            *("stop_at", "stats", "created_at", "updated_at", "deleted_at"),
            *("created_by", "updated_by"),
        )
    ),
}
_WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), -1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), -1, 2**63 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_STRING: TEXTS,
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 99, -1, 2**31 - 1),
}


def structs() -> Iterator[Struct]:
    yield Struct()
    yield Struct(fields={"kind": Value()})
    kept = [Value(string_value=text) for text in TEXTS if text != "a\0b" and len(text) < 256]
    kept += [Value(number_value=number) for number in NUMBERS]
    kept += [Value(bool_value=False), Value(null_value=NULL_VALUE), Value(struct_value=Struct())]
    yield Struct(fields={"a": Value(list_value=ListValue(values=kept))})
    yield Struct(fields={f"a{number}": value for number, value in enumerate(kept)})
    yield Struct(fields={text: Value(bool_value=True) for text in TEXTS if text != "a\0b"})
    yield Struct(fields={"a\0b": Value(bool_value=True)})
    yield Struct(fields={"a": Value(string_value="a\0b")})
    for number in NO_NUMBERS:
        yield Struct(fields={"a": Value(number_value=number)})
    for depth in (20, 21, 30):
        deep = Value(null_value=NULL_VALUE)
        for _ in range(depth - 1):
            deep = Value(struct_value=Struct(fields={"a": deep}))
        yield Struct(fields={"a": deep})


# a preview reads its campaign as a create does
_READ_AS_ELSEWHERE = {"herald.campaign.v1.PreviewCampaignRequest.campaign"}

_MESSAGES: dict[str, tuple[Message, ...]] = {
    Timestamp.DESCRIPTOR.full_name: TIMES,
    Struct.DESCRIPTOR.full_name: tuple(structs()),
    FieldMask.DESCRIPTOR.full_name: tuple(
        FieldMask(paths=[path]) for path in ("", "a\0b", FOX * 256, "*", "name", "id")
    ),
}


def variations(message: Message) -> Iterator[tuple[str, Any, Message]]:
    """Copies of the message with one field changed: its path, its value, and the copy."""
    for field in message.DESCRIPTOR.fields:
        for path, value, of_field in _values(message, field):
            changed = type(message)()
            changed.CopyFrom(message)
            changed.ClearField(field.name)
            if field.is_repeated:
                getattr(changed, field.name).extend([of_field])
            elif field.message_type:
                getattr(changed, field.name).CopyFrom(of_field)
            else:
                setattr(changed, field.name, of_field)
            yield path, value, changed


def _values(message: Message, field: Any) -> Iterator[tuple[str, Any, Any]]:
    """What the field holds, and the path and the value of what is extreme in it."""
    path = f"{field.name}[0]" if field.is_repeated else field.name
    if field.full_name in OUTPUT_ONLY | _READ_AS_ELSEWHERE:
        return
    if field.message_type is None:
        for value in _WHOLE[field.cpp_type]:
            yield path, value, value
    elif field.message_type.full_name in _MESSAGES:
        for value in _MESSAGES[field.message_type.full_name]:
            yield path, value, value
    else:
        held = getattr(message, field.name)
        if field.is_repeated:
            held = held[0] if held else GetMessageClass(field.message_type)()
        for inside, value, changed in variations(held):
            yield f"{path}.{inside}", value, changed
