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
from chat_store.sql.field_sql import Holds, Place, Related, RelatedPlace, ScalarPlace
from chat_store.sql.postgres_json import PostgresJsonPlace
from chat_store.sql.sqlite_json import SqliteJsonPlace
from chat_store.sql.tables import channels, members, messages, users

FEW_CLAUSES = 10
"""More of them are compiled aside: each takes SQLAlchemy half a millisecond."""

JsonPlace = SqliteJsonPlace | PostgresJsonPlace


@dataclass(frozen=True, slots=True)
class Binding:
    """Where the fields of one kind of record are.

    `columns`: by field name; a `strings` field is a NOT NULL column with a JSON array. Columns of
    strings order bytewise (see `chat_store.database.columns`). `key` is the unique one that ends
    every sort. `custom` is the NOT NULL JSON column of the custom fields.
    """

    columns: Mapping[str, ColumnElement[Any]]
    key: str = "id"
    custom: ColumnElement[Any] | None = None
    related: Mapping[str, Related] = field(default_factory=dict)

    def json_place(self, of: Field, dialect: DialectName) -> JsonPlace:
        place = SqliteJsonPlace if dialect == "sqlite" else PostgresJsonPlace
        if of.kind is not Kind.CUSTOM:
            return place(self.columns[of.name], (), of.kind)
        if self.custom is None:
            raise ValueError(f"no custom fields here: {of.name}")
        return place(self.custom, of.keys, of.kind)

    def place(self, of: Field, dialect: DialectName) -> Place:
        if of.kind in {Kind.CUSTOM, Kind.STRINGS}:
            return self.json_place(of, dialect)
        if of.kind is Kind.STRING_SET:
            return RelatedPlace(self.related[of.name], dialect)
        return ScalarPlace(self.columns[of.name], of.kind, dialect)


def where(predicate: Predicate, binding: Binding, dialect: DialectName) -> Holds:
    """True or false on every row, never NULL. Filters of the same shape give the same SQL text."""
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
    fields = condition.field.stands_for or (condition.field,)
    places = [binding.place(of, dialect) for of in fields]
    holds = or_(*(_passes(test, place) for place in places))
    if isinstance(test, OneOf) and test.or_missing:
        holds = or_(holds, not_(or_(*(place.present() for place in places))))
    return not_(holds) if condition.negated else holds


def _passes(test: Test, place: Place) -> Holds:
    match test:
        case Present():
            return place.present()
        case EqualTo(value):
            return place.equal_to(value)
        case OneOf(values):
            return place.one_of(values) if values else false()
        case Compared(order, value):
            return place.compared(order, value)
        case Containing(value):
            return place.containing(value)
        case StartsWord() | Includes():
            return place.searched(test)
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
        "members": Related(members, members.c.user_id, _of_channel, owner=channels),
        "member.user.name": Related(
            members.join(_member_users, _member_users.c.id == members.c.user_id),
            _member_users.c.name,
            _of_channel,
            owner=channels,
        ),
    },
)

MEMBER_BINDING = Binding(columns=dict(members.c), key="user_id")
MESSAGE_BINDING = Binding(columns=dict(messages.c))
