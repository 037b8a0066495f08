"""Functions that SQLite lacks, added to each connection: Unicode text search, whole JSON values.

They are the matcher's own functions, so both agree. Scalars are compared in plain SQL. Operands
are passed once per row; long ones only for rows that may match.
"""

import sqlite3
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from chat_store.filters import text_search
from chat_store.filters.json_values import canonical, value_at
from chat_store.filters.matching import containing


def register(connection: sqlite3.Connection) -> None:
    for name, function in _FUNCTIONS.items():
        count = function.__code__.co_argcount
        connection.create_function(name, count, function, deterministic=True)


def _starts_word(text: Any, folded: str) -> bool:
    return isinstance(text, str) and text_search.starts_word(text, folded)


def _includes(text: Any, folded: str) -> bool:
    return isinstance(text, str) and text_search.includes(text, folded)


def _canonical(json: str) -> str:
    return canonical(orjson.loads(json))


def _containing(held: str, wanted: str) -> bool:
    return containing(orjson.loads(held), _operand(wanted))


def _value_at(document: str, keys: str) -> str | None:
    value = value_at(orjson.loads(document), _operand(keys))
    return None if value is None else orjson.dumps(value).decode()


@lru_cache(maxsize=64)
def _operand(json: str) -> Any:
    return orjson.loads(json)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "herald_starts_word": _starts_word,
    "herald_includes": _includes,
    "herald_canonical": _canonical,
    "herald_containing": _containing,
    "herald_value_at": _value_at,
}
