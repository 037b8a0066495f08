"""Single fields of messages: read with their rules, written where they are set."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.models import MAX_CUSTOM_BYTES

MAX_ID = 255


def text(value: str, field: str, longest: int | None = None) -> str:
    """At most `longest` Unicode characters, and no NUL, which PostgreSQL can't hold."""
    if longest is not None and len(value) > longest:
        raise LimitExceededError(field, limit=longest, given=len(value))
    if "\0" in value:
        raise InvalidInputError(field, "must not contain a NUL character")
    return value


def required(value: str, field: str, longest: int | None = None) -> str:
    if not value:
        raise InvalidInputError(field, "is required")
    return text(value, field, longest)


def ids(values: Sequence[str], field: str, most: int, *, least: int = 1) -> list[str]:
    """Between `least` and `most` ids, none of them empty."""
    if len(values) > most:
        raise LimitExceededError(field, limit=most, given=len(values))
    if len(values) < least:
        raise InvalidInputError(field, "is required")
    return [required(value, f"{field}[{i}]", MAX_ID) for i, value in enumerate(values)]


def small(custom: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Refuses a custom object of more than 5 KB as JSON."""
    size = len(orjson.dumps(custom))
    if size > MAX_CUSTOM_BYTES:
        raise LimitExceededError(field, limit=MAX_CUSTOM_BYTES, given=size)
    return custom


def moment(message: Message, name: str, field: str) -> datetime | None:
    """The time in the message's field `name`; None when it is unset."""
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
