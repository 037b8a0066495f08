"""Matches one record in memory, for ExplainTarget and as the reference for the SQL."""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any, assert_never

from chat_store.filters import text_search
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
    conditions,
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
    """A record as filters see it: built-in fields by name (None = missing), and custom data."""

    built_in: Mapping[str, Any]
    custom: dict[str, Any]

    def value(self, field: Field) -> Any:
        if field.kind is Kind.CUSTOM:
            return value_at(self.custom, field.keys)
        return self.built_in.get(field.name)


@dataclass(frozen=True, slots=True)
class Clause:
    """The outcome of one condition of a filter, its negation included.

    `seen` is the value that was tested: None if missing, a datetime for a date, else JSON.
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
    """Makes a channel's record. `member_names` are the names of the members that have one."""
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
    return _matches(predicate, _Sight(record))


def explain(predicate: Predicate, record: Record) -> list[Clause]:
    """Evaluates every condition in written order, also those that `matches` would skip."""
    sight = _Sight(record)
    return [
        Clause(condition.path, _holds(condition, sight), _seen(condition.field, sight))
        for condition in conditions(predicate)
    ]


def containing(value: Any, wanted: Any) -> bool:
    if is_array(value):
        return contains(value, wanted if is_array(wanted) else [wanted])
    return is_object(value) and contains(value, wanted)


class _Seen:
    """A value, with lazily computed forms that many conditions share."""

    def __init__(self, value: Any, kind: Kind) -> None:
        self.value = value
        self.present = value is not None and (kind is Kind.CUSTOM or value != [])

    @cached_property
    def elements(self) -> frozenset[Hashable]:
        return frozenset(map(identity, self.value)) if is_array(self.value) else frozenset()

    @cached_property
    def text(self) -> str:
        strings = self.value if is_array(self.value) else (self.value,)
        return text_search.joined(string for string in strings if isinstance(string, str))

    @cached_property
    def marked_text(self) -> str:
        return text_search.marked(self.text)

    def equal_to(self, wanted: Any) -> bool:
        if isinstance(wanted, frozenset):
            return is_array(self.value) and self.elements == wanted
        return same(self.value, wanted) or (is_scalar(wanted) and identity(wanted) in self.elements)

    def one_of(self, wanted: Collection[Any]) -> bool:
        choices = set(map(identity, wanted))
        return identity(self.value) in choices or not self.elements.isdisjoint(choices)

    def containing(self, wanted: Any) -> bool:
        if is_array(self.value) and is_array(wanted) and all(map(is_scalar, wanted)):
            return self.elements.issuperset(map(identity, wanted))
        return containing(self.value, wanted)


class _Sight:
    """A record's values, each looked up once."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._seen: dict[Field, _Seen] = {}

    def of(self, field: Field) -> list[_Seen]:
        """Returns the values of the field, or of those that it is an alias of."""
        return [self._one(part) for part in field.alias_of or (field,)]

    def _one(self, field: Field) -> _Seen:
        if field not in self._seen:
            self._seen[field] = _Seen(self._record.value(field), field.kind)
        return self._seen[field]


def _matches(predicate: Predicate, sight: _Sight) -> bool:
    match predicate:
        case AllOf(_, parts):
            return all(_matches(part, sight) for part in parts)
        case AnyOf(_, parts):
            return any(_matches(part, sight) for part in parts)
        case NoneOf(_, parts):
            return not any(_matches(part, sight) for part in parts)
        case Condition():
            return _holds(predicate, sight)
        case _:
            assert_never(predicate)


def _seen(field: Field, sight: _Sight) -> Any:
    seen = sight.of(field)
    if field.alias_of:
        values = [each.value for each in seen if each.present]
        return values[0] if len(values) == 1 else values or None
    return seen[0].value if seen[0].present else None


def _holds(condition: Condition, sight: _Sight) -> bool:
    test = condition.test
    seen = sight.of(condition.field)
    held = any(_passes(test, each) for each in seen)
    if isinstance(test, OneOf) and test.or_missing:
        held = held or not any(each.present for each in seen)
    return held != condition.negated


def _passes(test: Test, seen: _Seen) -> bool:
    match test:
        case Present():
            return seen.present
        case EqualTo(wanted):
            return seen.equal_to(wanted)
        case OneOf(wanted):
            return seen.one_of(wanted)
        case Compared(order, limit):
            value = seen.value
            alike = is_number(value) if is_number(limit) else isinstance(value, type(limit))
            return alike and _ORDERS[order](value, limit)
        case Containing(wanted):
            return seen.containing(wanted)
        case StartsWord(text):
            return text_search.marked(text) in seen.marked_text
        case Includes(text):
            return text in seen.text
        case _:
            assert_never(test)
