"""The SQL of a filter's fields and tests, over columns and relations.

Every expression is two-valued, also on NULL. Its text depends only on the kinds of the operands,
which are bound parameters.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, Protocol

import orjson
from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Text,
    and_,
    any_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy.types import TypeEngine

from chat_store.database.columns import UtcTime, to_microseconds
from chat_store.database.engine import DialectName
from chat_store.filters import text_search
from chat_store.filters.fields import Kind
from chat_store.filters.predicates import Includes, Order, StartsWord

Holds = ColumnElement[bool]

ORDERS: Mapping[Order, Callable[[Any, Any], Holds]] = {
    Order.GREATER: gt,
    Order.GREATER_OR_EQUAL: ge,
    Order.LESS: lt,
    Order.LESS_OR_EQUAL: le,
}
_TYPES: Mapping[Kind, TypeEngine[Any]] = {
    Kind.STRING: Text(),
    Kind.STRINGS: Text(),
    Kind.STRING_SET: Text(),
    Kind.BOOL: Boolean(),
    Kind.DATE: UtcTime(),
    # counts are whole, but their operands need not be
    Kind.NUMBER: Double(),
}
# literals, so that they are no parameters; true and false stay parameters, as they are values too
_TYPE_NAMES: Mapping[str, ColumnElement[str]] = {
    name: literal_column(f"'{name}'")
    for name in ("array", "object", "text", "integer", "real", "string", "number")
}
ONE: ColumnElement[int] = literal_column("1")


def by_type(type_: ColumnElement[str], holds: Mapping[str, Holds]) -> Holds:
    """Picks the test for the JSON type `type_`. Types without a test do not hold."""
    tests = {_TYPE_NAMES.get(name, name): test for name, test in holds.items()}
    return case(tests, value=type_, else_=false())


class FieldSql(Protocol):
    """The tests of `chat_store.filters.predicates` on one field."""

    def present(self) -> Holds: ...
    def equal_to(self, value: Any) -> Holds: ...
    def one_of(self, values: Collection[Any]) -> Holds: ...
    def compared(self, order: Order, value: Any) -> Holds: ...
    def containing(self, value: Any) -> Holds: ...
    def searched(self, test: StartsWord | Includes) -> Holds: ...


class ScalarField:
    """A column or an expression with one value of `kind` in every row, or NULL."""

    def __init__(self, column: ColumnElement[Any], kind: Kind, dialect: DialectName) -> None:
        self._column = column
        self._kind = kind
        self._dialect = dialect

    def present(self) -> Holds:
        return self._column.is_not(None)

    def equal_to(self, value: Any) -> Holds:
        return self._known(self._column == bound(value, self._kind))

    def one_of(self, values: Collection[Any]) -> Holds:
        return self._known(is_one_of(self._column, values, self._kind, self._dialect))

    def compared(self, order: Order, value: Any) -> Holds:
        return self._known(ORDERS[order](self._column, bound(value, self._kind)))

    def containing(self, _value: Any) -> Holds:
        return false()

    def searched(self, test: StartsWord | Includes) -> Holds:
        return self._known(text_matcher(test, self._dialect)(self._column))

    def _known(self, holds: Holds) -> Holds:
        # not coalesce(), with which the column's index would not be used
        return and_(holds, self._column.is_not(None)) if may_be_null(self._column) else holds


@dataclass(frozen=True, slots=True)
class Relation:
    """Many values of a record, in rows of their own: `value` in the rows of `rows` that match `of`.

    `owner` is the record's own table, from which the enclosing statement selects.
    """

    rows: FromClause
    value: ColumnElement[Any]
    of: ColumnElement[bool]
    owner: FromClause


class RelatedField:
    """The distinct, non-NULL values of a relation, as a set of strings."""

    def __init__(self, related: Relation, dialect: DialectName) -> None:
        self._related = related
        self._dialect = dialect

    def present(self) -> Holds:
        return self._some(self._related.value.is_not(None))

    def equal_to(self, value: Any) -> Holds:
        if isinstance(value, frozenset):
            other = and_(self._related.value.is_not(None), not_(self._in(value)))
            return and_(self.containing(value), not_(self._some(other)))
        return self._some(self._related.value == bound(value, Kind.STRING_SET))

    def one_of(self, values: Collection[Any]) -> Holds:
        return self._some(self._in(values))

    def compared(self, order: Order, value: Any) -> Holds:
        return self._some(ORDERS[order](self._related.value, bound(value, Kind.STRING_SET)))

    def containing(self, value: Any) -> Holds:
        if isinstance(value, str):
            return self.equal_to(value)
        found = select(func.count(self._related.value.distinct()))
        count = self._of_owner(found, self._in(value)).scalar_subquery()
        holds: Holds = count == bindparam(None, len(set(value)))
        return holds

    def searched(self, test: StartsWord | Includes) -> Holds:
        value = self._related.value
        return self._some(and_(value.is_not(None), text_matcher(test, self._dialect)(value)))

    def _in(self, values: Collection[str]) -> Holds:
        return is_one_of(self._related.value, values, Kind.STRING_SET, self._dialect)

    def _some(self, condition: Holds) -> Holds:
        return exists(self._of_owner(select(ONE), condition))

    def _of_owner(self, statement: Any, condition: Holds) -> Any:
        related = self._related
        rows = statement.select_from(related.rows).where(related.of, condition)
        return rows.correlate(related.owner)


def may_be_null(column: ColumnElement[Any]) -> bool:
    return bool(getattr(column, "nullable", True))


def bound(value: Any, kind: Kind) -> ColumnElement[Any]:
    return bindparam(None, value, _TYPES[kind])


def bound_json(value: Any) -> ColumnElement[str]:
    """Binds a value as JSON text, for a JSON function."""
    return bindparam(None, orjson.dumps(value).decode(), Text())


def is_one_of(
    column: ColumnElement[Any], values: Collection[Any], kind: Kind, dialect: DialectName
) -> Holds:
    """Binds all values as one parameter, so their number hits no limit and keeps the text."""
    if dialect == "sqlite":
        given = [to_microseconds(v) if isinstance(v, datetime) else v for v in values]
        return column.in_(select(func.json_each(bound_json(given)).table_valued("value").c.value))
    return column == any_(bindparam(None, list(values), ARRAY(_TYPES[kind])))


def text_matcher(
    test: StartsWord | Includes, dialect: DialectName
) -> Callable[[ColumnElement[Any]], Holds]:
    """Makes the test of texts, one parameter for all; on PostgreSQL for the collation "C"."""
    starts_word = isinstance(test, StartsWord)
    if dialect == "sqlite":
        name = "herald_starts_word" if starts_word else "herald_includes"
        searched = bindparam(None, test.text, Text())
        return lambda text: getattr(func, name)(text, searched, type_=Boolean())
    pattern = (text_search.starts_word_pattern if starts_word else text_search.includes_pattern)(
        test.text
    )
    found = bindparam(None, pattern, Text())
    return lambda text: text.bool_op("~")(found)
