"""The tests of a filter on a value inside a JSON column of SQLite.

SQLite caches the parsed JSON of a row for all functions of a statement, so a document is parsed
once per row, however many conditions read it. Numeric operands go through the same parser as
stored numbers, so that its rounding is the same for both.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    LargeBinary,
    Text,
    bindparam,
    case,
    exists,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.types import NullType

from chat_store.database.columns import JsonValue
from chat_store.filters.fields import Kind
from chat_store.filters.json_values import canonical, is_array, is_number, is_object, is_scalar
from chat_store.filters.predicates import Includes, Order, StartsWord
from chat_store.sql.field_sql import ONE, ORDERS, Holds, bound_json, by_type, text_matcher

_FALSE: ColumnElement[Any] = literal_column("x'00'", LargeBinary())
_TRUE: ColumnElement[Any] = literal_column("x'01'", LargeBinary())
_ESCAPED_IN_JSON = {'"', "\\", *map(chr, range(0x20))}


class SqliteJsonField:
    """The value under `keys` in `column`, which is a NOT NULL column of JSON text."""

    def __init__(self, column: ColumnElement[Any], keys: tuple[str, ...], kind: Kind) -> None:
        self._kind = kind
        self._document = column
        path = "$" + "".join(f'."{key}"' for key in keys)
        if any(character in _ESCAPED_IN_JSON for key in keys for character in key):
            # these keys can't be written in a path
            self._document = func.herald_value_at(column, bound_json(keys))
            path = "$"
        self._path = bindparam(None, path, Text())
        self._type: ColumnElement[str] = func.json_type(self._document, self._path, type_=Text())
        self._value: ColumnElement[Any] = func.json_extract(
            self._document, self._path, type_=NullType()
        )

    def present(self) -> Holds:
        if self._kind is Kind.CUSTOM:
            return func.coalesce(self._type, "null") != "null"
        return func.json_array_length(self._document) > 0

    def equal_to(self, value: Any) -> Holds:
        if is_object(value) or is_array(value):
            type_ = "object" if is_object(value) else "array"
            text = bindparam(None, canonical(value), Text())
            return self._by_type({type_: _canonical(self._value) == text})
        return self.one_of([value])

    def one_of(self, values: Collection[Any]) -> Holds:
        among = _among(self._value, values)
        element = self._some_element(values)
        return self._by_type(among | {"array": or_(among.get("array", false()), element)})

    def compared(self, order: Order, value: Any) -> Holds:
        if is_number(value):
            holds = ORDERS[order](self._value, _number(value))
            return self._by_type({"integer": holds, "real": holds})
        return self._by_type({"text": ORDERS[order](self._value, bindparam(None, value, Text()))})

    def containing(self, value: Any) -> Holds:
        if value is not None and is_scalar(value):
            return self._by_type({"array": self._some_element([value])})
        whole: Holds = func.herald_containing(self._value, bound_json(value), type_=Boolean())
        long_enough = func.length(self._value) >= bindparam(None, _least_length(value))
        # CASE, because SQLite may evaluate the operands of AND in any order
        holds = case((long_enough, whole), else_=false())
        return self._by_type({"array": holds, "object": holds})

    def searched(self, test: StartsWord | Includes) -> Holds:
        each = self._elements()
        matches = text_matcher(test, "sqlite")
        found = each.c.type == "text", matches(each.c.value)
        return self._by_type(
            {
                "text": matches(self._value),
                "array": exists(select(ONE).select_from(each).where(*found)),
            }
        )

    def _some_element(self, values: Collection[Any]) -> Holds:
        each = self._elements()
        found = by_type(each.c.type, _among(each.c.value, values))
        return exists(select(ONE).select_from(each).where(found))

    def _elements(self) -> Any:
        each = func.json_each(self._document, self._path)
        return each.table_valued("type", "value")

    def _by_type(self, holds: Mapping[str, Holds]) -> Holds:
        return by_type(self._type, holds)

    def raw(self) -> ColumnElement[Any]:
        """Returns the whole value, as a result column."""
        json = self._document.op("->", return_type=JsonValue)(self._path)
        return type_coerce(json, JsonValue)

    def order(self) -> tuple[ColumnElement[Any], ...]:
        """Orders numbers < strings < booleans: SQLite's own order of numbers, texts and blobs."""
        value = self._value
        scalars = {"integer": value, "real": value, "text": value, "false": _FALSE, "true": _TRUE}
        return (case(scalars, value=self._type),)

    def order_of(self, value: Any) -> tuple[ColumnElement[Any], ...]:
        """Returns a scalar as the value of `order`."""
        if isinstance(value, bool):
            return (bindparam(None, b"\1" if value else b"\0", LargeBinary()),)
        return (_number(value) if is_number(value) else bindparam(None, value, Text()),)


def _among(value: ColumnElement[Any], choices: Collection[Any]) -> dict[str, Holds]:
    """Returns, by JSON type, the test for `value` being one of the choices of that type."""
    strings = [choice for choice in choices if isinstance(choice, str)]
    numbers = [choice for choice in choices if is_number(choice)]
    holds: dict[str, Holds] = {
        "true" if choice else "false": true() for choice in choices if isinstance(choice, bool)
    }
    if strings:
        string = bindparam(None, strings[0], Text())
        holds["text"] = value == string if len(choices) == 1 else value.in_(_listed(strings))
    if numbers:
        number = _number(numbers[0])
        found = value == number if len(choices) == 1 else value.in_(_listed(numbers))
        holds |= {"integer": found, "real": found}
    documents = [canonical(choice) for choice in choices if not is_scalar(choice)]
    if documents:
        found = _canonical(value).in_(_listed(documents))
        holds |= {"array": found, "object": found}
    return holds


def _listed(choices: Collection[Any]) -> Any:
    return select(func.json_each(bound_json(choices)).table_valued("value").c.value)


def _number(value: float) -> ColumnElement[Any]:
    return func.json_extract(bound_json(value), "$", type_=NullType())


def _canonical(value: ColumnElement[Any]) -> ColumnElement[str]:
    text: ColumnElement[str] = func.herald_canonical(value, type_=Text())
    return text


def _least_length(value: Any) -> int:
    """Returns the least number of characters of a JSON text that contains the value."""
    if is_object(value):
        return sum(len(key) + _least_length(part) for key, part in value.items())
    if is_array(value):
        scalars = sum(_least_length(part) for part in value if is_scalar(part))
        return max(scalars, *(_least_length(part) for part in value if not is_scalar(part)), 0)
    return len(value) if isinstance(value, str) else 1
