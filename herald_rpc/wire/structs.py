"""Converts between free JSON in `google.protobuf.Struct` and plain Python values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.struct_pb2 import Struct, Value

from chat_store.errors import InvalidInputError

# from here on, two whole numbers can be one and the same double
_FIRST_INEXACT = 2**53


def json_object(struct: Struct, field: str) -> dict[str, Any]:
    """Reads a Struct; whole numbers become integers.

    Raises `InvalidInputError` at the path of a number that is not finite, of a whole number of 2^53
    or more, where a Struct's doubles have lost digits, and of a text with a NUL, which PostgreSQL
    can't store.
    """
    return {
        _text(key, field): _json(value, f"{field}.{key}") for key, value in struct.fields.items()
    }


def json_objects(structs: Iterable[Struct], field: str) -> tuple[dict[str, Any], ...]:
    return tuple(json_object(struct, f"{field}[{i}]") for i, struct in enumerate(structs))


def to_struct(value: Mapping[str, Any]) -> Struct:
    struct = Struct()
    _fill_struct(struct, value)
    return struct


def to_value(value: Any) -> Value:
    message = Value()
    _fill(message, value)
    return message


def _fill(message: Value, value: Any) -> None:
    """Fills the message in place, because copying would copy a value once for each level."""
    if value is None:
        message.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int | float):
        message.number_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, Mapping):
        # sets the field even for an empty mapping
        message.struct_value.SetInParent()
        _fill_struct(message.struct_value, value)
    else:
        message.list_value.SetInParent()
        values = message.list_value.values
        for item in value:
            _fill(values.add(), item)


def _fill_struct(struct: Struct, value: Mapping[str, Any]) -> None:
    fields = struct.fields
    for key, item in value.items():
        _fill(fields[key], item)


def _json(value: Value, path: str) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value, path)
        case "string_value":
            return _text(value.string_value, path)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return json_object(value.struct_value, path)
        case "list_value":
            return [_json(item, f"{path}[{i}]") for i, item in enumerate(value.list_value.values)]
        case _:
            return None


def _number(value: float, path: str) -> int | float:
    if not math.isfinite(value):
        raise InvalidInputError(path, "must be a finite number")
    if not value.is_integer():
        return value
    if abs(value) >= _FIRST_INEXACT:
        raise InvalidInputError(
            path, "whole numbers of 2^53 and more lose digits: send them as text"
        )
    return int(value)


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise InvalidInputError(path, "must not contain a NUL character")
    return value
