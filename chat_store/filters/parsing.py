"""Parses a filter's JSON document into a predicate. Errors carry the path of the mistake."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from chat_store.errors import InvalidFilterError
from chat_store.filters import operands, text_search
from chat_store.filters.fields import Catalogue, Field, FieldNameError, Kind
from chat_store.filters.json_values import identity, is_array, text_problem, without_repeats
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

MAX_CLAUSES = 250
MAX_BYTES = 1024 * 1024
MAX_TEXT = 1000

_EMPTY = "an empty object is no condition"

_CONNECTIVES: Mapping[str, Callable[[str, tuple[Predicate, ...]], Predicate]] = {
    "$and": AllOf,
    "$or": AnyOf,
    "$nor": NoneOf,
}
_OF_EVERY_KIND = {"$eq", "$ne", "$in", "$nin", "$exists"}
_ORDERS = {order.value for order in Order}
_TEXT_SEARCHES = {"$autocomplete", "$q"}
_ALL = _OF_EVERY_KIND | _ORDERS | _TEXT_SEARCHES | {"$contains"}
OPERATORS = frozenset({*_ALL, *_CONNECTIVES})
_OPERATORS: Mapping[Kind, set[str]] = {
    Kind.STRING: _OF_EVERY_KIND | _ORDERS | _TEXT_SEARCHES,
    Kind.STRINGS: _OF_EVERY_KIND | _TEXT_SEARCHES | {"$contains"},
    Kind.STRING_SET: _OF_EVERY_KIND | _TEXT_SEARCHES | {"$contains"},
    Kind.BOOL: _OF_EVERY_KIND,
    Kind.DATE: _OF_EVERY_KIND | _ORDERS,
    Kind.NUMBER: _OF_EVERY_KIND | _ORDERS,
    Kind.CUSTOM: _ALL,
}


def parse_filter(
    document: Mapping[str, Any], catalogue: Catalogue, path: str = "filter"
) -> Predicate:
    """Parses the filter. An empty document matches everything. Raises `InvalidFilterError`.

    The document is at depth 1 and an item of its `$and` at 2; 20 is the deepest. A document of
    1 MB takes seconds.
    """
    size = json_size(document)
    if size > MAX_BYTES:
        raise InvalidFilterError(path, f"at most {MAX_BYTES} bytes of JSON, not {size}")
    return _Reading(catalogue).document(document, path, 1)


def json_size(document: Mapping[str, Any]) -> int:
    """Returns the bytes as JSON; 0 if it is not JSON, which the parser refuses at its path."""
    try:
        return len(orjson.dumps(document))
    except orjson.JSONEncodeError:
        return 0


class _Reading:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._clauses = 0

    def document(self, document: Any, path: str, depth: int) -> Predicate:
        if not isinstance(document, Mapping):
            raise InvalidFilterError(path, "must be an object")
        if depth > operands.MAX_DEPTH:
            raise InvalidFilterError(path, f"nests deeper than {operands.MAX_DEPTH}")
        if not document:
            if depth > 1:
                raise InvalidFilterError(path, _EMPTY)
            self._count(path)
        parts: list[Predicate] = []
        for key, value in document.items():
            if problem := text_problem(key):
                raise InvalidFilterError(path, f"a field's name {problem}")
            here = f"{path}.{key}"
            if key in _CONNECTIVES:
                items = operands.array(value, here)
                if not items:
                    raise InvalidFilterError(here, "must be a non-empty list")
                read = (
                    self.document(item, f"{here}[{index}]", depth + 1)
                    for index, item in enumerate(items)
                )
                parts.append(_CONNECTIVES[key](here, tuple(read)))
            elif key.startswith("$"):
                raise InvalidFilterError(
                    here, f"unknown operator; allowed are {', '.join(_CONNECTIVES)}"
                )
            else:
                parts += self._conditions(self._field(key, here), value, here)
        return parts[0] if len(parts) == 1 else AllOf(path, tuple(parts))

    def _field(self, name: str, path: str) -> Field:
        try:
            return self._catalogue.find(name)
        except FieldNameError as error:
            raise InvalidFilterError(path, str(error)) from None

    def _conditions(self, field: Field, value: Any, path: str) -> list[Predicate]:
        if isinstance(value, Mapping) and any(key.startswith("$") for key in value):
            return [
                self._condition(field, operator, operand, path)
                for operator, operand in value.items()
            ]
        self._count(path)
        return [Condition(path, field, *_equality(field, value, path))]

    def _condition(self, field: Field, operator: str, operand: Any, path: str) -> Condition:
        here = path if text_problem(operator) else f"{path}.{operator}"
        allowed = _OPERATORS[field.kind]
        if operator not in allowed:
            problem = f"is not for {field.name}" if operator in _ALL else "unknown operator"
            choice = ", ".join(sorted(allowed))
            raise InvalidFilterError(here, f"{problem}; allowed are {choice}")
        self._count(here)
        return Condition(here, field, *_test(field, operator, operand, here))

    def _count(self, path: str) -> None:
        self._clauses += 1
        if self._clauses > MAX_CLAUSES:
            raise InvalidFilterError(path, f"more than {MAX_CLAUSES} clauses")


def _test(field: Field, operator: str, operand: Any, path: str) -> tuple[Test, bool]:
    """Returns the test, and whether it is negated."""
    kind = field.kind
    match operator:
        case "$eq":
            return _equality(field, operand, path)
        case "$ne":
            test, negated = _equality(field, operand, path)
            return test, not negated
        case "$in" | "$nin":
            return _choice(field, operand, path), operator == "$nin"
        case "$exists":
            return Present(), not operands.boolean(operand, path)
        case "$contains":
            return Containing(_contained(kind, operand, path)), False
        case "$autocomplete":
            text = _searched(operand, path)
            if not text_search.has_word(text):
                raise InvalidFilterError(path, "needs a letter or a digit")
            return StartsWord(text_search.fold(text_search.trim_to_words(text))), False
        case "$q":
            return Includes(text_search.fold(_searched(operand, path))), False
        case _:
            return Compared(Order(operator), _ordered(kind, operand, path)), False


def _equality(field: Field, operand: Any, path: str) -> tuple[Test, bool]:
    kind = field.kind
    if operand is None:
        return Present(), True
    if isinstance(operand, Mapping) and not operand:
        raise InvalidFilterError(path, _EMPTY)
    if is_array(operand) and kind in {Kind.STRINGS, Kind.STRING_SET}:
        values = _each(kind, operand, path)
        return EqualTo(values if kind is Kind.STRINGS else frozenset(values)), False
    return EqualTo(_one_value(field, operand, path)), False


def _one_value(field: Field, operand: Any, path: str) -> Any:
    value = operands.scalar_of(field.kind, operand, path)
    if field.words and value not in field.words:
        raise InvalidFilterError(
            path, f"is not a {field.name}; allowed are {', '.join(field.words)}"
        )
    return value


def _choice(field: Field, operand: Any, path: str) -> OneOf:
    choices = operands.array(operand, path)
    values = [
        _one_value(field, choice, f"{path}[{index}]")
        for index, choice in enumerate(choices)
        if choice is not None
    ]
    unique = {identity(value): value for value in values}
    return OneOf(tuple(unique.values()), or_missing=len(values) < len(choices))


def _contained(kind: Kind, operand: Any, path: str) -> Any:
    if is_array(operand) and kind is not Kind.CUSTOM:
        return without_repeats(_each(kind, operand, path))
    return without_repeats(operands.scalar_of(kind, operand, path))


def _each(kind: Kind, operand: Any, path: str) -> list[Any]:
    items = enumerate(operands.array(operand, path))
    return [operands.scalar_of(kind, item, f"{path}[{index}]") for index, item in items]


def _ordered(kind: Kind, operand: Any, path: str) -> Any:
    if kind is Kind.CUSTOM and not isinstance(operand, str):
        if isinstance(operand, bool) or not isinstance(operand, int | float):
            raise InvalidFilterError(path, "must be a number or a string")
        return operands.number(operand, path)
    return operands.scalar_of(kind, operand, path)


def _searched(operand: Any, path: str) -> str:
    text = operands.string(operand, path)
    if not text:
        raise InvalidFilterError(path, "must not be empty")
    if len(text) > MAX_TEXT:
        raise InvalidFilterError(path, f"at most {MAX_TEXT} characters, not {len(text)}")
    return text
