"""Checks the operands of a filter and converts them to the type of their field.

Numbers may arrive as doubles (from a Struct); whole ones become ints.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chat_store.errors import InvalidFilterError
from chat_store.filters.fields import Kind
from chat_store.filters.json_values import is_array, text_problem

MAX_DEPTH = 20
MAX_OPERANDS = 10_000
FIRST_INEXACT = 2**53
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def scalar_of(kind: Kind, value: Any, path: str) -> Any:
    """Returns one operand for a field of `kind` or for one of its values; never None."""
    match kind:
        case Kind.STRING:
            return string(value, path)
        case Kind.STRINGS | Kind.STRING_SET:
            text = string(value, path)
            if not text:
                raise InvalidFilterError(path, "is an empty string, which is never in a list")
            return text
        case Kind.BOOL:
            return boolean(value, path)
        case Kind.DATE:
            return date(value, path)
        case Kind.NUMBER:
            return number(value, path)
        case Kind.CUSTOM:
            return json(value, path)


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidFilterError(path, f"must be a string, not {_name(value)}")
    if problem := text_problem(value):
        raise InvalidFilterError(path, problem)
    return value


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidFilterError(path, f"must be true or false, not {_name(value)}")
    return value


def number(value: Any, path: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidFilterError(path, f"must be a number, not {_name(value)}")
    if not math.isfinite(value):
        raise InvalidFilterError(path, "is not a finite number")
    if abs(value) >= FIRST_INEXACT:
        raise InvalidFilterError(path, "is of 2^53 or more: whole numbers are not exact there")
    return int(value) if value == int(value) else value


def date(value: Any, path: str) -> datetime:
    """Reads an RFC 3339 time. Drops digits beyond the microsecond."""
    found = _RFC_3339.fullmatch(string(value, path))
    if found is None:
        raise InvalidFilterError(
            path, "must be an RFC 3339 date with a zone (2026-01-31T12:00:00Z)"
        )
    day, time, fraction, zone = found.groups()
    written = f"{day}T{time}{(fraction or '')[:7]}{zone.upper()}"
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidFilterError(path, "is not a valid date") from None


def array(value: Any, path: str) -> list[Any]:
    if not is_array(value):
        raise InvalidFilterError(path, f"must be a list, not {_name(value)}")
    if len(value) > MAX_OPERANDS:
        raise InvalidFilterError(path, f"at most {MAX_OPERANDS} operands, not {len(value)}")
    return list(value)


def json(value: Any, path: str, depth: int = 0) -> Any:
    """Reads any JSON, as stored values may be. Keys are never operators here."""
    if depth > MAX_DEPTH:
        raise InvalidFilterError(path, f"nests deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return string(value, path)
    if is_array(value):
        items = enumerate(array(value, path))
        return [json(item, f"{path}[{index}]", depth + 1) for index, item in items]
    if isinstance(value, Mapping):
        return {
            _key(key, path): json(item, f"{path}.{key}", depth + 1) for key, item in value.items()
        }
    return number(value, path)


def _key(key: str, path: str) -> str:
    if problem := text_problem(key):
        raise InvalidFilterError(path, f"a key {problem}")
    if key.startswith("$"):
        raise InvalidFilterError(
            f"{path}.{key}", "operators are not allowed inside a value: dots reach into objects"
        )
    return key


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return type(value).__name__
