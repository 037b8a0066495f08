"""Set-based writes: many rows in one statement, as a handful of bound parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    String,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from chat_store.columns import JsonValue, Key, UtcTime, to_microseconds
from chat_store.database import DialectName

Values = Mapping[str, Sequence[Any]]

_KEYS = "keys"


@dataclass(frozen=True, slots=True)
class RecordSet:
    """Rows that travelled as parameters, to be selected from or joined with in a statement."""

    source: FromClause
    c: Mapping[str, ColumnElement[Any]]


def record_set(
    dialect: DialectName,
    types: Mapping[str, TypeEngine[Any]],
    values: Values,
    name: str = "given",
) -> RecordSet:
    """Reads `values` (column name → one value per row) as a table with the columns of `types`.

    One JSON parameter through `json_each` on SQLite, one array a column through `unnest` on
    PostgreSQL. The statement's text does not depend on the number of rows.
    """
    if dialect == "sqlite":
        return _json_rows(types, values, name)
    return _unnested_arrays(types, values, name)


def _json_rows(types: Mapping[str, TypeEngine[Any]], values: Values, alias: str) -> RecordSet:
    columns = [
        [moment and to_microseconds(moment) for moment in values[name]]
        if isinstance(type_, UtcTime)
        else values[name]
        for name, type_ in types.items()
    ]
    rows = orjson.dumps(list(zip(*columns, strict=True))).decode()
    source = func.json_each(bindparam(None, rows, Text)).table_valued("value", name=alias)
    return RecordSet(
        source,
        {
            name: type_coerce(
                func.json_extract(source.c.value, literal_column(f"'$[{index}]'")), type_
            )
            for index, (name, type_) in enumerate(types.items())
        },
    )


def _unnested_arrays(types: Mapping[str, TypeEngine[Any]], values: Values, alias: str) -> RecordSet:
    arrays: list[ColumnElement[Any]] = []
    for name, type_ in types.items():
        if type_ is JsonValue:
            # as text: casting once in the statement is cheaper than a codec a row
            texts = [None if v is None else orjson.dumps(v).decode() for v in values[name]]
            arrays.append(bindparam(None, texts, ARRAY(Text)))
        else:
            element = Text() if isinstance(type_, String) else type_
            arrays.append(bindparam(None, list(values[name]), ARRAY(element)))
    source = func.unnest(*arrays).table_valued(*types, name=alias).render_derived()
    return RecordSet(
        source,
        {
            name: cast(source.c[name], postgresql.JSONB)
            if type_ is JsonValue
            else type_coerce(source.c[name], type_)
            for name, type_ in types.items()
        },
    )


def key_set(dialect: DialectName) -> tuple[FromClause, ColumnElement[str]]:
    """Keys as a table of one column, for a statement that is built once and run many times.

    They are given with each execution, as `keys` packs them. Building the statement takes
    SQLAlchemy longer than the database takes to look up one key.
    """
    if dialect == "sqlite":
        source = func.json_each(bindparam(_KEYS, type_=Text)).table_valued("value", name="given")
        return source, type_coerce(source.c.value, Key)
    array = bindparam(_KEYS, type_=ARRAY(Text))
    source = func.unnest(array).table_valued("value", name="given").render_derived()
    return source, type_coerce(source.c.value, Key)


def keys(dialect: DialectName, values: Iterable[str]) -> dict[str, Any]:
    """The parameters of a statement with a `key_set`."""
    given = list(values)
    return {_KEYS: orjson.dumps(given).decode() if dialect == "sqlite" else given}


def insert_rows(
    dialect: DialectName,
    table: Table,
    values: Values,
    *,
    constants: Mapping[str, Any] | None = None,
    replace: Iterable[str] = (),
    keep_if_none: Sequence[str] = (),
    default_if_none: Sequence[str] = (),
) -> postgresql.Insert | sqlite.Insert:
    """An INSERT of all rows at once.

    A row whose key is taken is left alone, or has the columns of `replace` overwritten.
    `constants` are the same in every row and travel once. A None in a column of
    `default_if_none` means the constant of the same name; in one of `keep_if_none`, what is
    stored, or else that constant.
    """
    constants = constants or {}
    given = record_set(dialect, {name: table.c[name].type for name in values}, values)
    columns: dict[str, ColumnElement[Any]] = {
        name: bindparam(None, value, table.c[name].type)
        for name, value in constants.items()
        if name not in values
    }
    columns |= given.c
    source: FromClause = given.source
    stored = table.alias("stored")
    if keep_if_none:
        key = [column.name for column in table.primary_key.columns]
        source = source.outerjoin(stored, and_(*(stored.c[name] == columns[name] for name in key)))
    for name in (*default_if_none, *keep_if_none):
        type_ = table.c[name].type
        kept = [stored.c[name]] if name in keep_if_none else []
        default = bindparam(None, constants[name], type_)
        columns[name] = func.coalesce(given.c[name], *kept, default, type_=type_)
    rows = select(*columns.values()).select_from(source).where(text("true"))
    return insert_from(dialect, table, list(columns), rows, replace)


def insert_from(
    dialect: DialectName,
    table: Table,
    columns: Sequence[str],
    rows: Select[Any],
    replace: Iterable[str] = (),
) -> postgresql.Insert | sqlite.Insert:
    """INSERT … SELECT that leaves taken keys alone, or overwrites the columns of `replace`.

    `rows` needs a WHERE: SQLite can't tell ON CONFLICT from a join's ON without one between.
    """
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    replaced = {name: insert.excluded[name] for name in replace}
    insert = insert.from_select(list(columns), rows)
    if not replaced:
        return insert.on_conflict_do_nothing()
    key = [column.name for column in table.primary_key.columns]
    return insert.on_conflict_do_update(index_elements=key, set_=replaced)
