"""Reads and checks single fields of messages, and writes fields that are set."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.ids import MAX_ID
from chat_store.models import (
    MAX_CUSTOM_BYTES,
    MAX_TEXTS_BYTES,
    Channel,
    Device,
    User,
    texts_bytes,
)

# nested objects and lists, the outermost being the first: protobuf parsers accept 100 nested
# messages, and an object takes three
MAX_JSON_DEPTH = 20

R = TypeVar("R", User, Channel, Device)


def text(value: str, field: str, longest: int | None = None) -> str:
    """Refuses more than `longest` Unicode characters, and NUL, which PostgreSQL can't store."""
    if longest is not None and len(value) > longest:
        raise LimitExceededError(field, limit=longest, given=len(value))
    if "\0" in value:
        raise InvalidInputError(field, "must not contain a NUL character")
    return value


def required(value: str, field: str, longest: int | None = None) -> str:
    if not value:
        raise InvalidInputError(field, "is required")
    return text(value, field, longest)


def refuse(problem: str | None, field: str) -> None:
    """Raises `InvalidInputError` where there is one."""
    if problem:
        raise InvalidInputError(field, problem)


def ids(
    values: Sequence[str], field: str, most: int, *, least: int = 1, longest: int = MAX_ID
) -> list[str]:
    """Reads `least` to `most` ids, none of them empty."""
    if len(values) > most:
        raise LimitExceededError(field, limit=most, given=len(values))
    if len(values) < least:
        raise InvalidInputError(field, "is required")
    return [required(value, f"{field}[{i}]", longest) for i, value in enumerate(values)]


def small(custom: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Refuses a custom object that has more than 5 KiB as JSON or nests deeper than 20."""
    check_depth(custom, field)
    size = len(orjson.dumps(custom))
    if size > MAX_CUSTOM_BYTES:
        raise LimitExceededError(field, limit=MAX_CUSTOM_BYTES, given=size)
    return custom


def check_depth(value: Any, field: str, around: int = 0) -> None:
    """Raises `InvalidInputError` for deep nesting; the value is inside `around` containers."""
    if not isinstance(value, dict | list):
        return
    if around == MAX_JSON_DEPTH:
        raise InvalidInputError(field, f"nests deeper than {MAX_JSON_DEPTH}")
    for item in value.values() if isinstance(value, dict) else value:
        check_depth(item, field, around + 1)


def in_bounds(record: R, field: str) -> R:
    """Refuses a record with more than 128 KiB of strings in all."""
    size = texts_bytes(record)
    if size > MAX_TEXTS_BYTES:
        raise LimitExceededError(field, limit=MAX_TEXTS_BYTES, given=size)
    return record


def moment(message: Message, name: str, field: str) -> datetime | None:
    """Returns the time in the message's field `name`; None if it is unset."""
    if not message.HasField(name):
        return None
    try:
        found: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(field, "must be a time between the years 1 and 9999") from error
    return found


def timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    result = Timestamp()
    result.FromDatetime(value)
    return result
