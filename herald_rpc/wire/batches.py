"""Reads the batch of records of a call, and the mode of their write."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.models import WriteMode
from herald.chat.v1 import chat_service_pb2 as pb

MAX_RECORDS = 1_000

M = TypeVar("M")
T = TypeVar("T")

_MODES = {
    pb.UPSERT_MODE_UNSPECIFIED: WriteMode.REPLACE,
    pb.UPSERT_MODE_REPLACE: WriteMode.REPLACE,
    pb.UPSERT_MODE_INSERT: WriteMode.INSERT,
}


def batch(messages: Sequence[M], field: str, read: Callable[[M, str], T]) -> list[T]:
    """Reads 1 to 1,000 messages, each with its own path for errors."""
    if len(messages) > MAX_RECORDS:
        raise LimitExceededError(field, limit=MAX_RECORDS, given=len(messages))
    if not messages:
        raise InvalidInputError(field, "is required")
    return [read(message, f"{field}[{i}]") for i, message in enumerate(messages)]


def write_mode(value: pb.UpsertMode.ValueType, field: str = "mode") -> WriteMode:
    mode = _MODES.get(value)
    if mode is None:
        raise InvalidInputError(field, f"unknown value {value}")
    return mode
