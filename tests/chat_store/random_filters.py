"""Random filters from the whole language, with operands that come from the records they meet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS, Catalogue, Kind
from chat_store.filters.json_values import is_array, is_number, is_object
from chat_store.filters.matching import Record
from chat_store.filters.text_search import has_word
from tests.chat_store.random_records import START, any_time, json, name, number, text

CONNECTIVES = ("$and", "$or", "$nor")
EQUALITIES = ("$eq", "$ne", "$in", "$nin", "$exists")
ORDERS = ("$gt", "$gte", "$lt", "$lte")
SEARCHES = ("$autocomplete", "$q")
OPERATORS: Mapping[Kind, Sequence[str]] = {
    Kind.STRING: (*EQUALITIES, *ORDERS, *SEARCHES),
    Kind.STRINGS: (*EQUALITIES, *SEARCHES, "$contains"),
    Kind.STRING_SET: (*EQUALITIES, *SEARCHES, "$contains"),
    Kind.BOOL: EQUALITIES,
    Kind.DATE: (*EQUALITIES, *ORDERS),
    Kind.NUMBER: (*EQUALITIES, *ORDERS),
    Kind.CUSTOM: (*EQUALITIES, *ORDERS, *SEARCHES, "$contains"),
}
_MANY = {Kind.STRINGS, Kind.STRING_SET}
_CUSTOM = ("a", "a.b", "b.0", 'b\\s.q"t', "none", "a. .é")
_ZONES = [timezone(timedelta(hours=hours)) for hours in (0, 0, -11, 5.75)]
_DEEPEST = 16


@dataclass(frozen=True)
class Fields:
    """The names that filters are made of, besides the custom ones that records have."""

    catalogue: Catalogue
    names: tuple[str, ...]


OF_USERS = Fields(
    USER_FIELDS,
    (
        *("id", "name", "username", "email", "role", "language", "teams", "team"),
        *("banned", "shadow_banned", "created_at", "updated_at", "last_active"),
        *_CUSTOM,
    ),
)
OF_CHANNELS = Fields(
    CHANNEL_FIELDS,
    (
        *("cid", "id", "type", "team", "name", "created_by_id", "filter_tags"),
        *("members", "members", "member.user.name", "member.user.name"),
        *("created_at", "updated_at", "last_message_at", "last_updated"),
        *("member_count", "message_count", "frozen", "disabled", "distinct"),
        *_CUSTOM,
    ),
)


def filter_of(random: Random, fields: Fields, records: Sequence[Record]) -> dict[str, Any]:
    """A filter that meets these records."""
    document = _document(random, fields, records, depth=3)
    if random.random() < 0.05:
        for _ in range(_DEEPEST):
            document = {random.choice(CONNECTIVES): [document]}
    return document


def parts_of(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Simpler filters that are in this one."""
    for key, value in document.items():
        if len(document) > 1:
            yield {key: value}
        elif key in CONNECTIVES:
            yield from value
        elif is_object(value) and len(value) > 1 and all(each.startswith("$") for each in value):
            yield from ({key: {operator: operand}} for operator, operand in value.items())


def _document(
    random: Random, fields: Fields, records: Sequence[Record], depth: int
) -> dict[str, Any]:
    shape = random.random()
    if depth and shape < 0.3:
        parts = range(random.randint(1, 3))
        inner = [_document(random, fields, records, depth - 1) for _ in parts]
        return {random.choice(CONNECTIVES): inner}
    document = _condition(random, fields, records)
    return document | _condition(random, fields, records) if shape < 0.4 else document


def _condition(random: Random, fields: Fields, records: Sequence[Record]) -> dict[str, Any]:
    paths = [path for record in records for path in _paths(record.custom)]
    name = random.choice(paths if paths and random.random() < 0.4 else fields.names)
    field = fields.catalogue.find(name)
    parts = field.alias_of or (field,)
    seen = [v for record in records for part in parts if (v := record.value(part)) is not None]
    operators = random.sample(OPERATORS[field.kind], random.choice((1, 1, 1, 1, 2)))
    tests = {operator: _operand(random, operator, field.kind, seen) for operator in operators}
    if operators == ["$eq"] and random.random() < 0.5:
        return {name: tests["$eq"]}
    return {name: tests}


def _operand(random: Random, operator: str, kind: Kind, seen: Sequence[Any]) -> Any:
    if operator == "$exists":
        return random.random() < 0.5
    if operator in SEARCHES:
        return _searched(random, operator, seen)
    if operator in {"$in", "$nin"}:
        # of many choices PostgreSQL makes a hash table
        choices = range(random.choice((0, 1, 2, 3, 15)))
        return [None if random.random() < 0.1 else _one(random, kind, seen) for _ in choices]
    if operator in ORDERS:
        return _limit(random, kind, seen)
    if operator != "$contains" and random.random() < 0.1:
        return None
    operand = _several(random, kind, seen) if kind in _MANY else _one(random, kind, seen)
    # an empty object equals nothing: it is refused
    return {"a": 1} if operand == {} and operator != "$contains" else operand


def _several(random: Random, kind: Kind, seen: Sequence[Any]) -> Any:
    arrays = [_strings(value) for value in seen if is_array(value)]
    shape = random.random()
    if arrays and shape < 0.3:
        return [text for text in random.choice(arrays) if text]
    if shape < 0.5:
        return [_one(random, kind, seen) for _ in range(random.randint(0, 2))]
    return _one(random, kind, seen)


def _one(random: Random, kind: Kind, seen: Sequence[Any]) -> Any:
    known = [string for string in _strings(seen) if string] if kind in _MANY else seen
    one = random.choice(known) if known and random.random() < 0.7 else None
    match kind:
        case Kind.STRING:
            return text(random) if one is None else one
        case Kind.STRINGS | Kind.STRING_SET:
            return name(random) if one is None else one
        case Kind.BOOL:
            return random.random() < 0.5
        case Kind.DATE:
            return _date(random, one or any_time(random))
        case Kind.NUMBER:
            return number(random) if one is None else one
        case Kind.CUSTOM:
            return _legal(json(random) if one is None else _piece(random, one))


def _limit(random: Random, kind: Kind, seen: Sequence[Any]) -> Any:
    if kind is not Kind.CUSTOM:
        return _one(random, kind, seen)
    ordered = [value for value in seen if isinstance(value, str) or is_number(value)]
    return random.choice([*ordered, *ordered, text(random), number(random)])


def _date(random: Random, moment: datetime) -> str:
    """In some zone, and in one of the ways to write it."""
    if moment.year == START.year:
        # no other zone has the very first and the very last moment
        moment = moment.astimezone(random.choice(_ZONES))
    written = moment.isoformat()
    if random.random() < 0.5:
        return written.replace("+00:00", "z").replace("T", " ")
    return written


def _searched(random: Random, operator: str, seen: Sequence[Any]) -> str:
    whole = random.choice([*(string for string in _strings(seen) if string), name(random)])
    start = random.randrange(len(whole))
    piece = whole[start : start + random.randint(1, 6)]
    piece = random.choice((piece, piece.upper(), piece.lower(), f" {piece}"))
    return piece if operator == "$q" or has_word(piece) else random.choice("rSkΣßन1")


def _piece(random: Random, value: Any) -> Any:
    """The value, or a part of it."""
    if not value or random.random() < 0.5:
        return value
    if is_array(value):
        part = random.choice(value)
        return random.choice((part, [part]))
    if is_object(value):
        key = random.choice(sorted(value))
        return {key: value[key]}
    return value


def _paths(custom: Mapping[str, Any]) -> Iterator[str]:
    """The custom fields that have a value, also inside of objects."""
    for key, value in custom.items():
        yield key
        if is_object(value):
            yield from (f"{key}.{path}" for path in _paths(value))


def _legal(value: Any) -> Any:
    """Without the keys that would be operators."""
    if is_object(value):
        return {key: _legal(part) for key, part in value.items() if not key.startswith("$")}
    return [_legal(part) for part in value] if is_array(value) else value


def _strings(values: Sequence[Any]) -> list[str]:
    each = [part for value in values for part in (value if is_array(value) else [value])]
    return [part for part in each if isinstance(part, str)]
