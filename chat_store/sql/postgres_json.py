"""The tests of a filter on a value inside a jsonb column of PostgreSQL.

Equality and containment are written as `column @> …`, for which PostgreSQL can use a GIN index
with jsonb_path_ops on the column. Many choices go into a hash table instead, because each row
would be compared with each of them.
"""

from collections.abc import Collection, Mapping
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Integer,
    Numeric,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    collate,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from chat_store.filters.fields import Kind
from chat_store.filters.json_values import (
    is_array,
    is_number,
    is_object,
    is_scalar,
    without_repeats,
)
from chat_store.filters.predicates import Includes, Order, StartsWord
from chat_store.sql.field_sql import ONE, ORDERS, Holds, by_type, text_matcher

# without the dimension, lists among the values would be read as rows of a matrix
_DOCUMENTS = ARRAY(JSONB(), dimensions=1)
_ROOT: ColumnElement[Any] = literal_column("'{}'", ARRAY(Text()))
_ARRAY: ColumnElement[str] = literal_column("'array'", Text())
_NOTHING: ColumnElement[Any] = literal_column("'{}'", JSONB())
_RANKS = {"number": 0, "string": 1, "boolean": 2}
# PostgreSQL (from 14 on) makes a hash table of more choices than these
_FEW = 8
# compact JSON contains no line end
_LINE_END: ColumnElement[str] = literal_column("E'\\n'", Text())


class PostgresJsonField:
    """The value under `keys` in `column`, which is a NOT NULL jsonb column."""

    def __init__(self, column: ColumnElement[Any], keys: tuple[str, ...], kind: Kind) -> None:
        self._column = column
        self._keys = keys
        self._kind = kind
        # built once, so that its keys are the same parameters wherever the statement uses it
        self._value = column
        for key in keys:
            self._value = self._value.op("->", return_type=JSONB())(bindparam(None, key, Text()))
        self._type: ColumnElement[str] = func.jsonb_typeof(self._value, type_=Text())

    def present(self) -> Holds:
        if self._kind is Kind.CUSTOM:
            return func.coalesce(self._type, "null") != "null"
        return func.jsonb_array_length(self._value) > 0

    def equal_to(self, value: Any) -> Holds:
        if is_scalar(value):
            return self.one_of([value])
        # the first few elements are enough for the index; the comparison decides
        beginning = without_repeats(value[:_FEW] if is_array(value) else value)
        return and_(self._holds_any([beginning]), self._value == _jsonb(value))

    def one_of(self, values: Collection[Any]) -> Holds:
        scalars = all(map(is_scalar, values))
        if len(values) <= _FEW:
            candidates = self._holds_any([*values, *([value] for value in values)])
            return candidates if scalars else and_(candidates, self._among(values, scalars=False))
        return self._among(values, scalars=scalars)

    def _among(self, values: Collection[Any], *, scalars: bool) -> Holds:
        """Looks up each row in a hash table, if the choices are many."""
        choices = any_(_jsonb_array(values))
        each = self._elements()
        whole = func.coalesce(self._value == choices, false())
        element = exists(select(ONE).select_from(each).where(each.c.value == choices))
        return case(
            {_ARRAY: element if scalars else or_(whole, element)}, value=self._type, else_=whole
        )

    def compared(self, order: Order, value: Any) -> Holds:
        if is_number(value):
            return self._by_type({"number": ORDERS[order](self._value, _jsonb(value))})
        limit = bindparam(None, value, Text())
        return self._by_type({"string": ORDERS[order](_text(self._value), limit)})

    def containing(self, value: Any) -> Holds:
        if is_object(value):
            return self._holds_any([[value], value])
        return self._holds_any([value if is_array(value) else [value]])

    def searched(self, test: StartsWord | Includes) -> Holds:
        each = self._elements()
        matches = text_matcher(test, "postgresql")
        found = by_type(
            func.jsonb_typeof(each.c.value, type_=Text()),
            {"string": matches(_text(each.c.value))},
        )
        return self._by_type(
            {
                "string": matches(_text(self._value)),
                "array": exists(select(ONE).select_from(each).where(found)),
            }
        )

    def raw(self) -> ColumnElement[Any]:
        """Returns the whole value, as a result column."""
        return self._value

    def order(self) -> tuple[ColumnElement[Any], ...]:
        """Orders numbers < strings < booleans: by the type's rank, then as a number, as a text."""
        value, type_ = self._value, self._type
        numbers = {
            "number": cast(value, Numeric()),
            "boolean": cast(cast(value, Boolean()), Integer()),
        }
        return (
            case(_RANKS, value=type_),
            case(numbers, value=type_),
            case({"string": _text(value)}, value=type_),
        )

    def order_of(self, value: Any) -> tuple[ColumnElement[Any] | None, ...]:
        """Returns a scalar as the values of `order`; None is NULL."""
        if isinstance(value, str):
            return literal(_RANKS["string"]), None, bindparam(None, value, Text())
        rank = _RANKS["boolean" if isinstance(value, bool) else "number"]
        # through text: a float has more digits than the number as written
        number = cast(bindparam(None, str(float(value)), Text()), Numeric())
        return literal(rank), number, None

    def _holds_any(self, values: Collection[Any]) -> Holds:
        documents = bindparam(None, [self._document(value) for value in values], _DOCUMENTS)
        holds = self._column.bool_op("@>")(any_(documents))
        # implied by the rest, but needed for the index, which leaves empty objects out
        return and_(self._column != _NOTHING, holds) if self._keys else holds

    def _document(self, value: Any) -> Any:
        for key in reversed(self._keys):
            value = {key: value}
        return value

    def _elements(self) -> Any:
        array = case({_ARRAY: self._value}, value=self._type)
        return func.jsonb_array_elements(array).table_valued("value")

    def _by_type(self, holds: Mapping[str, Holds]) -> Holds:
        return by_type(self._type, holds)


def _jsonb(value: Any) -> ColumnElement[Any]:
    return bindparam(None, value, JSONB())


def _jsonb_array(values: Collection[Any]) -> ColumnElement[Any]:
    """Binds the values as one text, a constant array: the planner hashes no other."""
    lines = "\n".join(orjson.dumps(value).decode() for value in values)
    array = func.string_to_array(bindparam(None, lines, Text()), _LINE_END, type_=ARRAY(Text()))
    return cast(array, _DOCUMENTS)


def _text(value: ColumnElement[Any]) -> ColumnElement[str]:
    return collate(value.op("#>>", return_type=Text())(_ROOT), "C")
