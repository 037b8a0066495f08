"""Matches one record in memory: the reference for what SQL answers, and ExplainTarget's eyes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, assert_never

from chat_store.filters import words
from chat_store.filters.fields import Field, Kind
from chat_store.filters.json_values import (
    contains,
    identity,
    is_array,
    is_number,
    is_object,
    is_scalar,
    same,
    value_at,
)
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
    Order,
    Predicate,
    Present,
    StartsWord,
    Test,
)
from chat_store.models import Channel, User

_ORDERS: Mapping[Order, Callable[[Any, Any], bool]] = {
    Order.GREATER: gt,
    Order.GREATER_OR_EQUAL: ge,
    Order.LESS: lt,
    Order.LESS_OR_EQUAL: le,
}


@dataclass(frozen=True, slots=True)
class Record:
    """What a filter sees of a record: built-in fields by name (None = missing), and customs."""

    built_in: Mapping[str, Any]
    custom: dict[str, Any]

    def value(self, field: Field) -> Any:
        if field.kind is Kind.CUSTOM:
            return value_at(self.custom, field.keys)
        return self.built_in.get(field.name)


@dataclass(frozen=True, slots=True)
class Clause:
    """How one condition of a filter fared, its negation included.

    `seen` is the value it looked at: None if missing, a datetime for a date, else JSON.
    """

    path: str
    held: bool
    seen: Any


def user_record(user: User) -> Record:
    names = ("id", "name", "username", "email", "role", "language", "banned", "shadow_banned")
    dates = ("created_at", "updated_at", "last_active")
    fields = {name: getattr(user, name) for name in (*names, *dates)}
    return Record(fields | {"teams": list(user.teams)}, dict(user.custom))


def channel_record(
    channel: Channel, member_ids: Collection[str], member_names: Collection[str]
) -> Record:
    """`member_names` are the names of those members that have one."""
    names = ("cid", "id", "type", "team", "name", "created_by_id")
    states = ("frozen", "disabled", "distinct", "member_count", "message_count")
    dates = ("created_at", "updated_at", "last_message_at")
    fields = {name: getattr(channel, name) for name in (*names, *states, *dates)}
    fields |= {
        "members": sorted(member_ids),
        "member.user.name": sorted(member_names),
        "filter_tags": list(channel.filter_tags),
        "last_updated": channel.last_message_at or channel.created_at,
    }
    return Record(fields, dict(channel.custom))


def matches(predicate: Predicate, record: Record) -> bool:
    match predicate:
        case AllOf(_, parts):
            return all(matches(part, record) for part in parts)
        case AnyOf(_, parts):
            return any(matches(part, record) for part in parts)
        case NoneOf(_, parts):
            return not any(matches(part, record) for part in parts)
        case Condition():
            return _holds(predicate, record)
        case _:
            assert_never(predicate)


def explain(predicate: Predicate, record: Record) -> list[Clause]:
    """Every condition in written order, also those that `matches` would not come to."""
    return [
        Clause(condition.path, _holds(condition, record), _seen(condition.field, record))
        for condition in _conditions(predicate)
    ]


def equal_to(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, frozenset):
        return is_array(value) and set(value) == wanted
    return same(value, wanted) or (is_array(value) and is_scalar(wanted) and _has(value, wanted))


def one_of(value: Any, wanted: Collection[Any]) -> bool:
    choices = set(map(identity, wanted))
    elements = value if is_array(value) else ()
    return identity(value) in choices or any(identity(element) in choices for element in elements)


def containing(value: Any, wanted: Any) -> bool:
    if is_array(value):
        return contains(value, wanted if is_array(wanted) else [wanted])
    return is_object(value) and contains(value, wanted)


def _has(elements: Collection[Any], wanted: Any) -> bool:
    return any(same(element, wanted) for element in elements)


def _conditions(predicate: Predicate) -> Iterator[Condition]:
    if isinstance(predicate, Condition):
        yield predicate
    else:
        for part in predicate.parts:
            yield from _conditions(part)


def _parts(field: Field) -> tuple[Field, ...]:
    return field.stands_for or (field,)


def _seen(field: Field, record: Record) -> Any:
    values = [
        record.value(part) for part in _parts(field) if _present(record.value(part), part.kind)
    ]
    if field.stands_for:
        return values[0] if len(values) == 1 else values or None
    return record.value(field)


def _holds(condition: Condition, record: Record) -> bool:
    test = condition.test
    values = [(record.value(part), part.kind) for part in _parts(condition.field)]
    held = any(_passes(test, value, kind) for value, kind in values)
    if isinstance(test, OneOf) and test.or_missing:
        held = held or not any(_present(value, kind) for value, kind in values)
    return held != condition.negated


def _present(value: Any, kind: Kind) -> bool:
    return value is not None and (kind is Kind.CUSTOM or value != [])


def _passes(test: Test, value: Any, kind: Kind) -> bool:
    match test:
        case Present():
            return _present(value, kind)
        case EqualTo(wanted):
            return equal_to(value, wanted)
        case OneOf(wanted):
            return one_of(value, wanted)
        case Compared(order, limit):
            alike = is_number(value) if is_number(limit) else isinstance(value, type(limit))
            return alike and _ORDERS[order](value, limit)
        case Containing(wanted):
            return containing(value, wanted)
        case StartsWord(text):
            return any(words.starts_word(string, text) for string in _strings(value))
        case Includes(text):
            return any(words.includes(string, text) for string in _strings(value))
        case _:
            assert_never(test)


def _strings(value: Any) -> Iterator[str]:
    for string in value if is_array(value) else (value,):
        if isinstance(string, str):
            yield string
