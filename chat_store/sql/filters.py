"""Compiles a predicate to SQL, over a binding of its fields to columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from chat_store.database.engine import DialectName
from chat_store.filters.fields import Field, Kind
from chat_store.filters.predicates import (
    AllOf,
    AnyOf,
    Compared,
    Condition,
    Containing,
    EqualTo,
    Includes,
    NoneOf,
    OneOf,
    Predicate,
    Present,
    StartsWord,
    Test,
)
from chat_store.sql.field_sql import FieldSql, Holds, RelatedField, Relation, ScalarField
from chat_store.sql.postgres_json import PostgresJsonField
from chat_store.sql.sqlite_json import SqliteJsonField
from chat_store.sql.tables import channels, members, messages, users

FEW_CLAUSES = 10
"""Larger predicates are compiled in a thread: SQLAlchemy takes 0.5 ms per clause."""

JsonField = SqliteJsonField | PostgresJsonField


@dataclass(frozen=True, slots=True)
class Binding:
    """The columns of the fields of one kind of record.

    `columns` is by field name; a `strings` field is a NOT NULL column with a JSON array. Columns
    of strings order bytewise (see `chat_store.database.columns`). `key` is the unique field that
    ends every sort. `custom` is the NOT NULL JSON column of the custom fields.
    """

    columns: Mapping[str, ColumnElement[Any]]
    key: str = "id"
    custom: ColumnElement[Any] | None = None
    related: Mapping[str, Relation] = field(default_factory=dict)

    def json_field(self, of: Field, dialect: DialectName) -> JsonField:
        json_field = SqliteJsonField if dialect == "sqlite" else PostgresJsonField
        if of.kind is not Kind.CUSTOM:
            return json_field(self.columns[of.name], (), of.kind)
        if self.custom is None:
            raise ValueError(f"no custom fields here: {of.name}")
        return json_field(self.custom, of.keys, of.kind)

    def field_sql(self, of: Field, dialect: DialectName) -> FieldSql:
        if of.kind in {Kind.CUSTOM, Kind.STRINGS}:
            return self.json_field(of, dialect)
        if of.kind is Kind.STRING_SET:
            return RelatedField(self.related[of.name], dialect)
        return ScalarField(self.columns[of.name], of.kind, dialect)


def where(predicate: Predicate, binding: Binding, dialect: DialectName) -> Holds:
    """Compiles the predicate: never NULL on a row, same SQL text for filters of the same shape."""
    match predicate:
        case AllOf(_, parts):
            return and_(true(), *(where(part, binding, dialect) for part in parts))
        case AnyOf(_, parts):
            return or_(*(where(part, binding, dialect) for part in parts))
        case NoneOf(_, parts):
            return not_(or_(*(where(part, binding, dialect) for part in parts)))
        case Condition():
            return _holds(predicate, binding, dialect)
        case _:
            assert_never(predicate)


def _holds(condition: Condition, binding: Binding, dialect: DialectName) -> Holds:
    test = condition.test
    fields = condition.field.alias_of or (condition.field,)
    sources = [binding.field_sql(of, dialect) for of in fields]
    holds = or_(*(_passes(test, source) for source in sources))
    if isinstance(test, OneOf) and test.or_missing:
        holds = or_(holds, not_(or_(*(source.present() for source in sources))))
    return not_(holds) if condition.negated else holds


def _passes(test: Test, source: FieldSql) -> Holds:
    match test:
        case Present():
            return source.present()
        case EqualTo(value):
            return source.equal_to(value)
        case OneOf(values):
            return source.one_of(values) if values else false()
        case Compared(order, value):
            return source.compared(order, value)
        case Containing(value):
            return source.containing(value)
        case StartsWord() | Includes():
            return source.searched(test)
        case _:
            assert_never(test)


USER_BINDING = Binding(columns=dict(users.c), custom=users.c.custom)

_member_users = users.alias("member_users")
_of_channel = members.c.cid == channels.c.cid

CHANNEL_BINDING = Binding(
    columns={
        **dict(channels.c),
        "last_updated": func.coalesce(channels.c.last_message_at, channels.c.created_at),
    },
    key="cid",
    custom=channels.c.custom,
    related={
        "members": Relation(members, members.c.user_id, _of_channel, owner=channels),
        "member.user.name": Relation(
            members.join(_member_users, _member_users.c.id == members.c.user_id),
            _member_users.c.name,
            _of_channel,
            owner=channels,
        ),
    },
)

MEMBER_BINDING = Binding(columns=dict(members.c), key="user_id")
MESSAGE_BINDING = Binding(columns=dict(messages.c))
