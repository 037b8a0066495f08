"""INSERTs of many rows, each built once per shape of rows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Insert,
    Select,
    Table,
    and_,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from chat_store.database.bulk.row_sources import Parameters, row_parameters, row_source
from chat_store.database.engine import DialectName
from chat_store.models import Values


def insert_rows(
    dialect: DialectName,
    table: Table,
    values: Values,
    *,
    constants: Mapping[str, Any] | None = None,
    replace: Iterable[str] = (),
    keep_if_none: Sequence[str] = (),
    default_if_none: Sequence[str] = (),
    returning: Sequence[str] = (),
    raise_on_conflict: bool = False,
) -> tuple[Insert, Parameters]:
    """Returns an INSERT of all rows at once, and its parameters.

    A row whose key is taken is left alone, or has the columns of `replace` overwritten. With
    `raise_on_conflict` it is an error instead, and PostgreSQL does not look up each key first.
    `constants` are the same in every row and are sent once. A None in a column of
    `default_if_none` means the constant of that name; in a column of `keep_if_none`, the stored
    value or else that constant. `returning` names the columns to return of written rows.
    """
    constants = constants or {}
    statement = _insert(
        dialect,
        table,
        tuple(values),
        tuple(constants),
        tuple(replace),
        tuple(keep_if_none),
        tuple(default_if_none),
        tuple(returning),
        raise_on_conflict=raise_on_conflict,
    )
    types = {name: table.c[name].type for name in values}
    same = {_constant_name(name): value for name, value in constants.items()}
    return statement, {**row_parameters(dialect, types, values), **same}


def insert_records(
    dialect: DialectName,
    table: Table,
    names: Iterable[str],
    given: Sequence[object],
    now: datetime,
    *,
    replace: Iterable[str] = (),
    returning: Sequence[str] = (),
) -> tuple[Insert, Parameters]:
    """Returns `insert_rows` of records with the fields `names`.

    A record without `created_at` keeps the stored one, or gets `now`.
    """
    return insert_rows(
        dialect,
        table,
        {name: [getattr(record, name) for record in given] for name in names},
        constants={"created_at": now},
        keep_if_none=["created_at"],
        replace=replace,
        returning=returning,
    )


@lru_cache(maxsize=256)
def _insert(
    dialect: DialectName,
    table: Table,
    names: Sequence[str],
    constants: Sequence[str],
    replace: Sequence[str],
    keep_if_none: Sequence[str],
    default_if_none: Sequence[str],
    returning: Sequence[str],
    *,
    raise_on_conflict: bool,
) -> Insert:
    given = row_source(dialect, {name: table.c[name].type for name in names})
    same = {name: bindparam(_constant_name(name), type_=table.c[name].type) for name in constants}
    columns: dict[str, ColumnElement[Any]] = {**same, **given.c}
    source: FromClause = given.source
    stored = table.alias("stored")
    if keep_if_none:
        key = [column.name for column in table.primary_key.columns]
        source = source.outerjoin(stored, and_(*(stored.c[name] == columns[name] for name in key)))
    for name in (*default_if_none, *keep_if_none):
        kept = [stored.c[name]] if name in keep_if_none else []
        columns[name] = func.coalesce(given.c[name], *kept, same[name], type_=table.c[name].type)
    rows = select(*columns.values()).select_from(source).where(text("true"))
    # PostgreSQL: in the order of `row_locks`, because rows wait for others of the same key. SQLite
    # stores records in this order, in which targets are read: 1,000 users lie on 100 pages of the
    # file then, and not on 800.
    if dialect == "postgresql" or keep_if_none:
        key = [column.name for column in table.primary_key.columns]
        rows = rows.order_by(*(given.c[name] for name in key if name in given.c))
    insert: Insert
    if raise_on_conflict:
        insert = table.insert().from_select(list(columns), rows)
    else:
        insert = insert_from(dialect, table, list(columns), rows, replace)
    return insert.returning(*(table.c[name] for name in returning)) if returning else insert


def _constant_name(name: str) -> str:
    return f"every_{name}"


def insert_from(
    dialect: DialectName,
    table: Table,
    columns: Sequence[str],
    rows: Select[Any],
    replace: Iterable[str] = (),
) -> postgresql.Insert | sqlite.Insert:
    """Builds INSERT … SELECT that skips taken keys, or overwrites the columns of `replace`.

    `rows` needs a WHERE, without which SQLite takes ON CONFLICT for the ON of a join.
    """
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    replaced = {name: insert.excluded[name] for name in replace}
    insert = insert.from_select(list(columns), rows)
    if not replaced:
        return insert.on_conflict_do_nothing()
    key = [column.name for column in table.primary_key.columns]
    return insert.on_conflict_do_update(index_elements=key, set_=replaced)
