"""Reads the keys of an imported record one by one. The remaining keys are custom data."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import orjson

from chat_store.errors import InvalidFilterError
from chat_store.filters import operands
from chat_store.filters.json_values import is_object
from chat_store.models import MAX_ATTACHMENTS_BYTES, MAX_CUSTOM_BYTES

T = TypeVar("T", bound=StrEnum)

MAX_DEPTH = 20
FIRST_INEXACT = 2**53

# PostgreSQL can't store a NUL. After an even number of backslashes, \u is an escape
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class RecordError(ValueError):
    """A record can't be imported. The text is that of Stream's validator where it has one."""


class Fields:
    """Reads a record of one kind. Treats null as missing; removes each key that is read."""

    def __init__(self, kind: str, data: Mapping[str, Any]) -> None:
        self.kind = kind
        self._rest = dict(data)

    def refuse(self, reserved: Iterable[str]) -> None:
        for name in self._rest.keys() & reserved:
            raise RecordError(f"{self.kind}.{name} is a reserved field")

    def pass_over(self, names: Iterable[str]) -> None:
        """Drops keys of the format that the store does not keep, not even as custom data."""
        for name in self._rest.keys() & names:
            del self._rest[name]

    def text(
        self, name: str, longest: int | None = None, pattern: re.Pattern[str] | None = None
    ) -> str | None:
        value = self._rest.pop(name, None)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise RecordError(f"{self.kind}.{name} must be a string")
        if longest is not None and len(value) > longest:
            raise RecordError(f"{self.kind}.{name} max length exceeded ({longest})")
        if pattern is not None and not pattern.fullmatch(value):
            raise RecordError(f'{self.kind}.{name} invalid ("^{pattern.pattern}$" allowed)')
        if "\0" in value:
            raise RecordError(f"{self.kind}.{name} contains a NUL character")
        return value

    def required(
        self, name: str, longest: int | None = None, pattern: re.Pattern[str] | None = None
    ) -> str:
        value = self.text(name, longest, pattern)
        if value is None:
            raise RecordError(f"{self.kind}.{name} required")
        return value

    def choice(self, name: str, among: type[T]) -> T:
        value = self.required(name)
        try:
            return among(value)
        except ValueError:
            allowed = "|".join(among)
            raise RecordError(f'{self.kind}.{name} invalid ("{allowed}" allowed)') from None

    def flag(self, name: str) -> bool:
        value = self._rest.pop(name, None)
        if not isinstance(value, bool | None):
            raise RecordError(f"{self.kind}.{name} must be a boolean")
        return value or False

    def time(self, name: str) -> datetime | None:
        value = self._rest.pop(name, None)
        if value is None or value == "":
            return None
        try:
            return operands.date(value, name)
        except InvalidFilterError as error:
            raise RecordError(f"{self.kind}.{name} {error.problem}") from None

    def texts(self, name: str, most: int, longest_bytes: int) -> tuple[str, ...]:
        values = self._list(name, most)
        for value in values:
            if not isinstance(value, str) or not value:
                raise RecordError(f"{self.kind}.{name} must be a list of strings")
            if len(value.encode()) > longest_bytes:
                raise RecordError(f"{self.kind}.{name} max length exceeded ({longest_bytes})")
            if "\0" in value:
                raise RecordError(f"{self.kind}.{name} contains a NUL character")
        return tuple(values)

    def objects(self, name: str, most: int) -> tuple[dict[str, Any], ...]:
        values = self._list(name, most)
        if not all(map(is_object, values)):
            raise RecordError(f"{self.kind}.{name} must be a list of objects")
        if self._checked_size(values, name) > MAX_ATTACHMENTS_BYTES:
            raise RecordError(f"{self.kind}.{name} max size exceeded ({MAX_ATTACHMENTS_BYTES})")
        return tuple(values)

    def small_object(self, name: str) -> dict[str, Any]:
        value = self._rest.pop(name, None)
        if not isinstance(value, dict | None):
            raise RecordError(f"{self.kind}.{name} must be an object")
        return self._small(value or {}, name)

    def custom(self) -> dict[str, Any]:
        """Returns all keys that have not been read."""
        return self._small(self._rest, "custom")

    def _list(self, name: str, most: int) -> list[Any]:
        values = self._rest.pop(name, None)
        if not isinstance(values, list | None):
            raise RecordError(f"{self.kind}.{name} must be a list")
        if values and len(values) > most:
            raise RecordError(f"{self.kind}.{name} max items exceeded ({most})")
        return values or []

    def _small(self, value: dict[str, Any], name: str) -> dict[str, Any]:
        if value and self._checked_size(value, name) > MAX_CUSTOM_BYTES:
            raise RecordError(f"{self.kind}.{name} max size exceeded ({MAX_CUSTOM_BYTES})")
        return value

    def _checked_size(self, value: Any, name: str) -> int:
        """Returns the bytes as JSON. Raises if the value could not be stored or read again."""
        if problem := _problem(value):
            raise RecordError(f"{self.kind}.{name} {problem}")
        written = orjson.dumps(value)
        if _NUL.search(written):
            raise RecordError(f"{self.kind}.{name} contains a NUL character")
        return len(written)


def _problem(value: Any, depth: int = 0) -> str | None:
    if depth == MAX_DEPTH:
        return f"max depth exceeded ({MAX_DEPTH})"
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, list | dict):
            if problem := _problem(item, depth + 1):
                return problem
        elif isinstance(item, int | float) and abs(item) >= FIRST_INEXACT:
            return "whole numbers of 2^53 and more lose digits"
    return None
