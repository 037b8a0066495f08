"""Records that come many in a call, and how they are to be written."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from chat_store.distinct import user_id_problem
from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.models import User, WriteMode
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald_wire.fields import small
from herald_wire.users import user_from_proto

MAX_RECORDS = 1_000

M = TypeVar("M")
T = TypeVar("T")

_MODES = {
    pb.UPSERT_MODE_UNSPECIFIED: WriteMode.REPLACE,
    pb.UPSERT_MODE_REPLACE: WriteMode.REPLACE,
    pb.UPSERT_MODE_INSERT: WriteMode.INSERT,
}


def batch(messages: Sequence[M], field: str, read: Callable[[M, str], T]) -> list[T]:
    """Reads 1 to 1,000 messages, each at its own path."""
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


def new_user_from_proto(message: chat_pb2.User, field: str) -> User:
    """As `user_from_proto`, for a user who is to be written."""
    user = user_from_proto(message, field)
    if problem := user_id_problem(user.id):
        raise InvalidInputError(f"{field}.id", problem)
    small(user.push_preferences, f"{field}.push_preferences")
    return user
