"""Free JSON on the wire: `google.protobuf.Struct` and plain Python values."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.struct_pb2 import Struct, Value

from chat_store.errors import InvalidInputError

_LARGEST_WHOLE = 2**53


def json_object(struct: Struct, field: str) -> dict[str, Any]:
    """Reads a Struct; whole numbers become integers.

    Raises `InvalidInputError` at the path of a number that is not finite, or whole and beyond
    2^53 (a Struct's doubles have lost digits there), and of a text with a NUL, which PostgreSQL
    can't hold.
    """
    return {
        _text(key, field): _json(value, f"{field}.{key}") for key, value in struct.fields.items()
    }


def json_objects(structs: Iterable[Struct], field: str) -> tuple[dict[str, Any], ...]:
    return tuple(json_object(struct, f"{field}[{i}]") for i, struct in enumerate(structs))


def to_struct(value: Mapping[str, Any]) -> Struct:
    struct = Struct()
    for key, item in value.items():
        struct.fields[key].CopyFrom(to_value(item))
    return struct


def to_value(value: Any) -> Value:
    if value is None:
        return Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int | float):
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, Mapping):
        return Value(struct_value=to_struct(value))
    result = Value()
    result.list_value.values.extend(to_value(item) for item in value)
    return result


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
    if abs(value) > _LARGEST_WHOLE:
        raise InvalidInputError(path, "whole numbers beyond 2^53 lose digits: send them as text")
    return int(value)


def _text(value: str, path: str) -> str:
    if "\0" in value:
        raise InvalidInputError(path, "must not contain a NUL character")
    return value
