"""Reads one page by key, and one record more than requested to know whether others follow."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_, false, or_
from sqlalchemy.engine import result_tuple
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.bulk.prepared import prepared
from chat_store.database.columns import from_microseconds, to_microseconds
from chat_store.database.engine import DialectName
from chat_store.filters.fields import Field, Kind
from chat_store.filters.json_values import is_scalar
from chat_store.filters.predicates import EVERYTHING, Predicate, conditions
from chat_store.paging import Cursor, KeyValue, Page, PageRequest, Sort, page_of
from chat_store.sql.field_sql import Holds, bound, may_be_null
from chat_store.sql.filters import FEW_CLAUSES, Binding, where
from chat_store.worker_thread import aside

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Term:
    """An ORDER BY expression in reading direction. `at` is the cursor's value; None is NULL."""

    expression: ColumnElement[Any]
    descending: bool
    nulls_first: bool
    at: ColumnElement[Any] | None = None

    @property
    def nullable(self) -> bool:
        return may_be_null(self.expression)

    def ordering(self) -> ColumnElement[Any]:
        order = self.expression.desc() if self.descending else self.expression.asc()
        if not self.nullable:
            # without NULLS LAST, with which the column's index would not be used
            return order
        return order.nulls_first() if self.nulls_first else order.nulls_last()

    def level(self) -> Holds:
        return self.expression.is_(None) if self.at is None else self.expression == self.at

    def beyond(self) -> Holds:
        if self.at is None:
            return self.expression.is_not(None) if self.nulls_first else false()
        past = self.expression < self.at if self.descending else self.expression > self.at
        if self.nullable and not self.nulls_first:
            return or_(past, self.expression.is_(None))
        return past


async def fetch_page(
    connection: AsyncConnection,
    statement: Select[Any],
    request: PageRequest,
    binding: Binding,
    dialect: DialectName,
    to_item: Callable[[Row[Any]], T],
    *,
    matching: Predicate = EVERYTHING,
    large: bool = False,
) -> Page[T]:
    """Returns a page of the statement's rows, each converted by `to_item`.

    `large`: the statement has many clauses already, so it is compiled in a thread.
    """
    names = [str(column.key) for column in statement.selected_columns]

    def whole() -> Select[Any]:
        narrowed = statement.where(where(matching, binding, dialect))
        return paged(narrowed, request, binding, dialect)

    rows: Sequence[Sequence[Any]]
    if large or len(list(conditions(matching))) > FEW_CLAUSES:
        compiled = await aside(lambda: prepared(whole(), connection.dialect))
        rows = await compiled.rows(connection, {})
    else:
        rows = (await connection.execute(whole())).all()
    item_of = result_tuple(names)
    keyed = [(_key(row[len(names) :]), to_item(item_of(row[: len(names)]))) for row in rows]
    return page_of(keyed, request)


def paged(
    statement: Select[Any], request: PageRequest, binding: Binding, dialect: DialectName
) -> Select[Any]:
    """Adds the order, the cursor's condition, the limit, and the sorted values as last columns."""
    sorts = sort_of(request, binding)
    cursor = request.cursor or Cursor(())
    if cursor.key and len(cursor.key) != len(sorts):
        raise ValueError("a cursor of another sort")
    values: list[ColumnElement[Any]] = []
    terms: list[_Term] = []
    for index, sort in enumerate(sorts):
        column, expressions = _expressions(sort.field, binding, dialect)
        values.append(column.label(f"sort_{index}"))
        cursor_values: Sequence[ColumnElement[Any] | None] = [None] * len(expressions)
        if cursor.key and cursor.key[index] is not None:
            cursor_values = _cursor_values(sort.field, cursor.key[index], binding, dialect)
        terms += [
            _Term(expression, sort.descending != cursor.backward, cursor.backward, at)
            for expression, at in zip(expressions, cursor_values, strict=True)
        ]
    if cursor.key:
        statement = statement.where(_beyond(terms))
    return (
        statement.add_columns(*values)
        .order_by(*(term.ordering() for term in terms))
        .limit(request.size + 1)
    )


def sort_of(request: PageRequest, binding: Binding) -> tuple[Sort, ...]:
    """Returns the request's sort, made total by the unique key."""
    if any(sort.field.name == binding.key for sort in request.sort):
        return request.sort
    return *request.sort, Sort(Field(binding.key, Kind.STRING))


def _expressions(
    field: Field, binding: Binding, dialect: DialectName
) -> tuple[ColumnElement[Any], Sequence[ColumnElement[Any]]]:
    """Returns the value as a result column, and the expressions that it is sorted by."""
    if field.kind is Kind.CUSTOM:
        json_field = binding.json_field(field, dialect)
        return json_field.raw(), json_field.order()
    column = binding.columns[field.name]
    return column, [column]


def _cursor_values(
    field: Field, value: Any, binding: Binding, dialect: DialectName
) -> Sequence[ColumnElement[Any] | None]:
    if field.kind is Kind.CUSTOM:
        return binding.json_field(field, dialect).order_of(value)
    return [bound(from_microseconds(value) if field.kind is Kind.DATE else value, field.kind)]


def _beyond(terms: Sequence[_Term]) -> Holds:
    first = terms[0]
    deeper = [
        and_(*(outer.level() for outer in terms[:depth]), term.beyond())
        for depth, term in enumerate(terms)
    ]
    if len(terms) == 1 or first.nullable:
        return or_(*deeper)
    # implied by the rest, but a range by which an index can be read
    reached = first.expression <= first.at if first.descending else first.expression >= first.at
    return and_(reached, or_(*deeper))


def _key(values: Iterable[Any]) -> tuple[KeyValue, ...]:
    return tuple(
        to_microseconds(value)
        if isinstance(value, datetime)
        else value
        if is_scalar(value)
        else None
        for value in values
    )
