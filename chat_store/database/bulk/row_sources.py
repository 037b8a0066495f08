"""Many rows or keys as a few bound parameters."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    FromClause,
    String,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from chat_store.database.columns import JsonValue, UtcTime, to_microseconds
from chat_store.database.engine import DialectName
from chat_store.models import Values

Types = Mapping[str, TypeEngine[Any]]
Parameters = dict[str, Any]

_KEYS = "keys"


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows sent as parameters, which a statement can select from or join with."""

    source: FromClause
    c: Mapping[str, ColumnElement[Any]]


def inline_rows(
    dialect: DialectName, types: Types, values: Values, name: str = "given"
) -> RowSource:
    """Reads `values` (column name → one value per row) as a table with the columns of `types`.

    On SQLite through `json_each` of one JSON parameter, on PostgreSQL through `unnest` of one
    array per column. The statement's text does not depend on the number of rows.
    """
    given = row_parameters(dialect, types, values, name)
    return _row_source(dialect, types, name, lambda key, type_: bindparam(None, given[key], type_))


def row_source(dialect: DialectName, types: Types, name: str = "given") -> RowSource:
    """Does as `inline_rows` for a statement built once, which `row_parameters` are passed to.

    Building a statement takes SQLAlchemy longer than writing a hundred rows takes the database.
    """
    return _row_source(dialect, types, name, lambda key, type_: bindparam(key, type_=type_))


def row_parameters(
    dialect: DialectName, types: Types, values: Values, name: str = "given"
) -> Parameters:
    """Returns the parameters of `row_source`."""
    if dialect == "sqlite":
        columns = [
            [moment and to_microseconds(moment) for moment in values[column]]
            if isinstance(type_, UtcTime)
            else values[column]
            for column, type_ in types.items()
        ]
        rows = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        return {name: orjson.dumps(list(rows)).decode()}
    return {
        f"{name}_{column}": [
            # as text: one cast in the statement is cheaper than a codec call per row
            None if value is None else orjson.dumps(value).decode()
            for value in values[column]
        ]
        if type_ is JsonValue
        else list(values[column])
        for column, type_ in types.items()
    }


def _row_source(
    dialect: DialectName,
    types: Types,
    name: str,
    bind: Callable[[str, TypeEngine[Any]], BindParameter[Any]],
) -> RowSource:
    if dialect == "sqlite":
        source = func.json_each(bind(name, Text())).table_valued("value", name=name)
        row = source.c.value
        values = (
            # with a single column, each row is its value
            func.json_extract(row, literal_column(f"'$[{index}]'")) if len(types) > 1 else row
            for index in range(len(types))
        )
        columns = zip(types.items(), values, strict=True)
        return RowSource(
            source, {column: type_coerce(value, type_) for (column, type_), value in columns}
        )
    arrays = (bind(f"{name}_{column}", ARRAY(_element(type_))) for column, type_ in types.items())
    table = func.unnest(*arrays).table_valued(*types, name=name).render_derived()
    return RowSource(
        table,
        {
            column: cast(table.c[column], postgresql.JSONB)
            if type_ is JsonValue
            else type_coerce(table.c[column], type_)
            for column, type_ in types.items()
        },
    )


def _element(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    return Text() if type_ is JsonValue or isinstance(type_, String) else type_


def in_keys(dialect: DialectName, column: ColumnElement[str]) -> ColumnElement[bool]:
    """Tests whether the column is one of the statement's `key_parameters`."""
    if dialect == "sqlite":
        given = func.json_each(bindparam(_KEYS, type_=Text)).table_valued("value", name="given")
        return column.in_(select(given.c.value))
    # not a join, for which PostgreSQL reads a table of some ten thousand rows as a whole
    return column == any_(bindparam(_KEYS, type_=ARRAY(Text)))


def key_parameters(dialect: DialectName, values: Iterable[str]) -> Parameters:
    """Returns the parameters of a statement with `in_keys`."""
    given = list(values)
    return {_KEYS: orjson.dumps(given).decode() if dialect == "sqlite" else given}
